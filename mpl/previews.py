"""Previews while a stage runs: rarely enough to cost next to nothing, cheaply even for latents."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mpl.video import to_frames

if TYPE_CHECKING:
    from torch import Tensor

    from mpl.events import Frames

LatentRgb = Callable[[], tuple[np.ndarray, np.ndarray]]


class Previews:
    """Decides when a stage's estimate becomes frames, and makes them.

    At most one every `pause` seconds, and together at most `share` of the stage's time, judged by what the
    last one cost; the first step always gets one.
    """

    def __init__(self, latent_rgb: LatentRgb, pause: float = 0.5, share: float = 0.05) -> None:
        """Takes `latent_rgb`, asked for factors and offset (`Weights.latent_rgb`) when latents come."""
        self.latent_rgb, self.pause, self.share = latent_rgb, pause, share
        self.spent = 0.0  # seconds on previews so far
        self._cost = 0.0
        self._last = -pause

    def take(self, estimate: Callable[[], Tensor], seconds: float) -> Frames | None:
        """Frames of the estimate, or None where it is not time for them.

        Args:
            estimate: gives the clip `1 3 f h w` or scaled latents `1 c f h w`.
            seconds: the stage's own time so far.
        """
        if seconds - self._last < self.pause:
            return None
        if self.spent + self._cost > self.share * seconds:
            return None
        begin = time.perf_counter()
        current = estimate()
        is_clip = current.shape[1] == 3
        frames = to_frames(current) if is_clip else latents_to_frames(current, *self.latent_rgb())
        self._cost = time.perf_counter() - begin
        self.spent += self._cost
        self._last = seconds
        return frames


def latents_to_frames(latents: Tensor, factors: np.ndarray, bias: np.ndarray) -> Frames:
    """Frames `f h w 3` as small as the latents `1 c f h w`: each pixel a linear map (c, 3) of its latent."""
    pixels = latents[0].permute(1, 2, 3, 0).float().cpu().numpy() @ factors + bias
    return ((pixels.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
