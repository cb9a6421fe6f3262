"""Trains the judge on renders of all combinations: it is the oracle of evaluation and must know them all."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.judge import Judge

from .data import Batch, StorybookData
from .files import save_bf16
from .task import Task, find_part


class JudgeTask(Task):
    """Cross entropy on every attribute, with pictures disturbed as generated ones are: blur, noise, colour."""

    model: Judge

    def build(self, init_from: Path | None) -> Judge:
        from mpl.storybook.scene import ATTRIBUTES

        self.data = StorybookData(self.options.data, split="all")
        self.hidden = set(self.options.model.get("hidden", ()))  # attributes this size cannot show
        if init_from:
            judge = Judge.from_pretrained(find_part(init_from, "."), torch_dtype=torch.float32)
            self.check_start(judge.config, init_from, ("hidden",))
            return judge
        settings = {k: v for k, v in self.options.model.items() if k != "hidden"}
        values = {k: len(v) for k, v in ATTRIBUTES.items() if k not in self.hidden}
        return self.construct(Judge, attributes=values, **settings)

    def draw(self, seed: int, progress: float) -> Batch:
        """Whole clips on the keyframes' clock, lightly disturbed."""
        batch = self.data.draw(seed, progress)
        return replace(batch, clip=disturb(batch.clip, random.Random(seed))).to(self.device)

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.clip)
        wanted = self.wanted(batch)
        losses = [F.cross_entropy(logits[k], wanted[k]) for k in logits]
        right = {f"right_{k}": (logits[k].argmax(1) == wanted[k]).float().mean() for k in logits}
        return torch.stack(losses).mean(), right

    def wanted(self, batch: Batch) -> dict[str, Tensor]:
        from mpl.storybook.scene import ATTRIBUTES

        return {
            k: torch.tensor([values.index(s.labels[k]) for s in batch.scenes], device=batch.clip.device)
            for k, values in ATTRIBUTES.items()
            if k not in self.hidden
        }

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        """Accuracy on undisturbed renders of scenes it has not met."""
        right: dict[str, list[Tensor]] = {}
        for seed in range(16):
            batch = self.data.draw(10**9 + seed).to(self.device)
            logits, wanted = self.model(batch.clip), self.wanted(batch)
            for k in logits:
                right.setdefault(k, []).append(logits[k].argmax(1) == wanted[k])
        return {f"{k} right": round(torch.cat(v).float().mean().item(), 4) for k, v in right.items()}

    def save(self, folder: Path) -> None:
        save_bf16(self.model, folder)


def disturb(clip: Tensor, rng: random.Random) -> Tensor:
    """A little noise, blur, contrast and brightness, the same over a clip: (b 3 f h w) in and out."""
    generator = torch.Generator().manual_seed(rng.getrandbits(31))
    b = len(clip)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((b, 1, 1, 1, 1), generator=generator)

    kernel = torch.ones(3, 1, 1, 3, 3) / 9
    blurred = F.conv3d(clip, kernel, padding=(0, 1, 1), groups=3)
    clip = torch.lerp(clip, blurred, draw(-0.5, 1.0))
    clip = clip * draw(0.85, 1.1) + draw(-0.08, 0.08)
    return clip + draw(0.0, 0.12) * torch.randn(clip.shape, generator=generator)
