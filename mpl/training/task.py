"""What the training loop asks of a model: its batches, its loss, its samples, its files."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpl.limits import shown

from .data import VideoData, open_data
from .options import TASKS, DataOptions, TaskOptions
from .recompute import recompute_layers


class Task(abc.ABC):
    """One training. Subclasses build `model`; the loop knows nothing else of what is trained.

    `assets` is the folder of sibling components (frozen text encoders, the VAE, initial weights); `init_from` a folder
    saved by an earlier run of the same task, or None for a fresh start. Random numbers are drawn on the CPU from seeded
    generators and moved to `device`, where the model is.

    Raises ValueError where a component that the task needs is not there, or the model cannot do what the options ask.
    """

    model: nn.Module
    encode_seconds: float = 0.0  # of the latest `draw`: what its frozen networks took, which is no drawing
    undecayed: tuple[str, ...] = ()  # weights that only their gradients may move

    def __init__(self, options: TaskOptions, assets: Path, init_from: Path | None) -> None:
        self.options = options
        self.assets = assets
        self.device = torch.device("cpu")
        drawn = self.drawn(options.data)
        self.data, self.heldout = open_data(drawn), open_data(drawn, "heldout")
        if isinstance(self.heldout, VideoData):  # figures and samples of the end need one that can be read
            self.heldout.draw(0, count=1)
        self.model = self.build(init_from)
        if options.gradient_checkpointing:
            recompute_layers(self.model, f"{options.name}.gradient_checkpointing")

    def drawn(self, options: DataOptions) -> DataOptions:
        """What `data` and `heldout` draw by: the preset's own options, but for tasks that cut their crops later."""
        return options

    @abc.abstractmethod
    def build(self, init_from: Path | None) -> nn.Module:
        """The trainable module: from an earlier run, from a sibling component, or fresh."""

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss, and figures to log (NaN where there is none); `model` may be wrapped for distributed training.

        A wrapped model must be called itself, not through other methods, or its gradients are not shared.
        """

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Writes self.model in the published layout under `folder` (the component's own folder)."""

    def frozen(self) -> tuple[nn.Module, ...]:
        """Networks that help and are not trained."""
        return ()

    def to(self, device: torch.device | str) -> None:
        """Moves all networks; batches follow."""
        self.device = torch.device(device)
        for module in (self.model, *self.frozen()):
            module.to(self.device)

    def draw(self, seed: int, progress: float) -> Any:
        """A batch on the device; it has `captions`, one per sample."""
        return self.data.draw(seed, progress).to(self.device)

    def sample(self, path: Path) -> None:  # noqa: B027 - a model without samples has nothing to show
        """Writes fixed-prompt samples to `path` (PNG)."""

    def prepare(self) -> None:  # noqa: B027 - most have nothing to learn before
        """What a run learns before its first step, on the device; one that goes on has learned it."""

    def home(self, folder: Path) -> Path:
        """Where the weights end up, and their card with them: the component's folder, but for parts of another."""
        return folder

    @property
    def stored(self) -> str:
        """The class of the network that `save` writes."""
        return type(self.model).__name__

    def figures(self) -> dict[str, Any]:
        """Held-out figures for the model card, measured once at the end."""
        return {}

    def construct(self, kind: Callable[..., nn.Module], **settings: Any) -> nn.Module:
        """A network from the preset's model block; raises ValueError where the block has keys that it lacks."""
        try:
            return kind(**settings)
        except TypeError as error:
            raise ValueError(f"{self.options.name}.model: {error}") from error

    def check_start(self, found: Mapping[str, Any], folder: Path, besides: Collection[str] = ()) -> None:
        """Raises ValueError where weights to start from are not those of the network that the preset describes."""
        for key, value in _flat(self.options.model).items():
            have = _flat(found).get(key)
            if key not in besides and (list(have) if isinstance(have, tuple) else have) != value:
                raise ValueError(f"{self.options.name}.model.{key} = {shown(value)}: {folder} has {have}")

    def sibling(self, path: str, maker: str) -> Path:
        """A folder of another component, which training `maker` writes. Raises ValueError where it is not there."""
        folder = self.assets / path
        if folder.is_dir():
            return folder
        hint = f"`python -m mpl train {maker}` makes it; " if maker in TASKS else ""
        raise ValueError(
            f"train {self.options.name} needs {folder}, which is not there; {hint}--assets names another folder"
        )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the keys of its blocks beside its own, as "text.hidden_size"."""
    found = dict(config)
    for block, values in config.items():
        if isinstance(values, Mapping):
            found |= {f"{block}.{key}": value for key, value in values.items()}
            found.pop(block)
    return found


def find_part(init_from: Path, part: str) -> Path:
    """The folder of a model: `part` of the component `init_from`, or that folder itself.

    Raises ValueError saying what was looked for.
    """
    for folder in (init_from / part, init_from):
        if (folder / "config.json").is_file():
            return folder
    looked = " or ".join(dict.fromkeys(str(Path(inner) / "config.json") for inner in (part, ".")))
    raise ValueError(f"--init-from {init_from}: no model there; looked for {looked}")
