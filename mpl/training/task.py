"""What the training loop asks of a model: its batches, its loss, its samples, its files."""

from __future__ import annotations

import abc
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data import Batch, open_data
from .options import TaskOptions


class Task(abc.ABC):
    """One training. Subclasses build `model`; the loop knows nothing else of what is trained.

    `assets` is the folder of sibling components (frozen text encoders, the VAE, initial weights); `init_from` a folder
    saved by an earlier run of the same task, or None for a fresh start.
    """

    model: nn.Module

    def __init__(self, options: TaskOptions, assets: Path, init_from: Path | None) -> None:
        self.options = options
        self.assets = assets
        self.data = open_data(options.data)
        self.model = self.build(init_from)

    @abc.abstractmethod
    def build(self, init_from: Path | None) -> nn.Module:
        """The trainable module: from an earlier run, from a sibling component, or fresh."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss and figures to log. `model` may be wrapped for distributed training."""

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Writes self.model in the published layout under `folder` (the component's own folder)."""

    def draw(self, seed: int, progress: float) -> Batch:
        return self.data.draw(seed, progress)

    def sample(self, path: Path) -> None:  # noqa: B027 - a model without samples has nothing to show
        """Writes fixed-prompt samples to `path` (PNG)."""

    def home(self, folder: Path) -> Path:
        """Where the weights end up, and their card with them: the component's folder, but for parts of another."""
        return folder

    def figures(self) -> dict[str, Any]:
        """Held-out figures for the model card, measured once at the end."""
        return {}


def save_bf16(model: Any, folder: Path) -> None:
    """Writes a diffusers or transformers model as bfloat16 safetensors in shards that stay under 9 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        stale.unlink()
    kept = {name: p.detach().clone() for name, p in model.state_dict().items()}
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="8MB")
    model.to(torch.float32).load_state_dict(kept)
    config = folder / "config.json"
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)  # a path of the machine that trained it
    config.write_text(json.dumps(values, indent=2) + "\n")
