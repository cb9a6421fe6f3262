"""Renders whose subjects are turned the wrong way: what keyframes are not to believe of their own noise."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .data import Batch

if TYPE_CHECKING:
    from mpl.storybook.scene import Scene

LOWEST, HIGHEST = 400, 900  # timesteps: below, sampling has shapes that it keeps; above, no angle can be seen
_WRONG = 2  # clips that are turned, besides the right one


def with_turned(batch: Batch, seed: int, share: float) -> Batch:
    """The batch with `drawn` clips: a share of samples mixed, frame by frame, of renders as they are and turned.

    A noisy render shows its angle, so that a denoiser reads it there, and need not know it from text and time. Noise
    that a sampler begins with shows any angle, or all of them: what was drawn so stayed so. Position, size and the
    camera are those of the scene, so that what is asked for differs in the subject's turn alone.
    """
    rng = random.Random(f"{seed}/turned")
    chosen = [rng.random() < share for _ in batch.scenes]
    if not any(chosen):
        return batch
    scenes = [scene for scene, wrong in zip(batch.scenes, chosen, strict=True) if wrong]
    times = [times for times, wrong in zip(batch.times, chosen, strict=True) if wrong]
    drawn, which = batch.clip.clone(), torch.tensor(chosen)
    drawn[which] = _mixed(scenes, times, batch.clip[which].cpu(), rng).to(drawn)
    return replace(batch, drawn=drawn, drawn_at=(LOWEST, HIGHEST))


def _mixed(
    scenes: Sequence[Scene], times: Sequence[Sequence[float]], right: torch.Tensor, rng: random.Random
) -> torch.Tensor:
    """Convex mixtures `(n, 3, f, h, w)` of clips as they are and turned, of other parts in every frame."""
    from mpl.storybook.render import render

    clips = [right]
    for _ in range(_WRONG):
        turned = [replace(scene, turn=rng.uniform(-math.pi, math.pi)) for scene in scenes]
        clips.append(render(turned, times, *right.shape[-2:]))
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    # Four times normal: often one of them alone, and often two through each other, as lumps are.
    parts = (4 * torch.randn(len(clips), len(right), 1, right.shape[2], 1, 1, generator=generator)).softmax(0)
    return (torch.stack(clips) * parts).sum(0)
