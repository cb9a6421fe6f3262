"""What stage 4 meets in place of renders: results of a smaller stage, or an imitation of them."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.config import SuperresOptions, WeightsOptions
from mpl.noise import NoiseSource
from mpl.sampling import fold, last_of, unfold
from mpl.stages.superres import superres
from mpl.stages.text import TextStates
from mpl.stages.translation import resize_frames
from mpl.weights import Weights

from .language import FrozenText

FACTOR = 4  # of superresolution


def blur(clip: Tensor, rng: random.Random) -> Tensor:
    """An imitation: reduced 2 to 3 times and enlarged again, (b 3 f h w)."""
    frames = fold(clip)
    factor = rng.uniform(2.0, 3.0)
    size = (round(frames.shape[-2] / factor), round(frames.shape[-1] / factor))
    small = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return unfold(F.interpolate(small, size=frames.shape[-2:], mode="bilinear"), clip.shape[2])


class Enlarger:
    """Stage 3 itself, with weights that are there already: small clips in, what stage 4 would be given of them out.

    It samples in 2 steps, as near to renders as in 4 or nearly so, and half the time.
    """

    def __init__(self, superres_folder: Path, text: FrozenText) -> None:
        self.weights = Weights(WeightsOptions(superres=str(superres_folder), offload="none"))
        self.text = text
        with self.weights.borrow("superres"):  # now: loading draws random numbers, which a step's are not to follow
            pass

    def __call__(self, small: Tensor, captions: list[str], height: int, width: int, seed: int) -> Tensor:
        """Clips `(b, 3, f, h, w)` enlarged four times, then resized to the size of stage 4; on the CPU, clamped."""
        frames = small.shape[2]
        window = {"window": max(frames, 2), "stride": max(frames, 2) - 1}
        size = {"height": FACTOR * small.shape[3], "width": FACTOR * small.shape[4]}
        options = SuperresOptions(steps=2, snr=30.0, **size, **window)
        clips = []
        for i, caption in enumerate(captions):
            noise = NoiseSource(seed).spawn(i)
            states = TextStates(t5=self.text([caption]).cpu())
            clips.append(last_of(superres(small[i : i + 1], states, options, self.weights, noise)))
        large = torch.cat(clips).clamp(-1, 1)
        return unfold(resize_frames(fold(large), height, width, "bilinear"), frames)
