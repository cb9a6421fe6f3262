"""The safety checker: whether frames show what should not be shown.

It is Stable Diffusion's (Rando et al. 2022, "Red-Teaming the Stable Diffusion Safety Filter", describes it): a CLIP's
view of a picture is compared with 20 concepts, each with a threshold of its own. The paper's ethics statement promises
a safety checker and names none; this is the published one that diffusers carries. It knows sexual content only, sees
the square middle of a frame, and errs in both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mpl.pictures import clip_pictures

if TYPE_CHECKING:
    from mpl.events import Frames
    from mpl.weights import Weights

MOST = 8  # frames of a stage's result that are looked at


class Flagged(Exception):
    """The checker flagged the result of `stage`; the message is for people and shows nothing of it."""

    def __init__(self, stage: str) -> None:
        what = "keyframes" if stage == "keyframes" else f"result of {stage}"
        super().__init__(
            f"The safety checker flagged the {what}, so the result is withheld. Try other words or another seed."
        )
        self.stage = stage


def sampled(count: int, most: int = MOST) -> list[int]:
    """Which of `count` frames are looked at: the first, the last, evenly spaced ones between; all where few."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


@torch.no_grad()
def check(stage: str, frames: Frames, weights: Weights) -> list[int]:
    """Looks at some frames (uint8 `f h w 3`) of a stage's result; returns which.

    Raises:
        Flagged: one of them is flagged.
        ValueError: the checker cannot be loaded.
    """
    chosen = sampled(len(frames))
    preparation = weights.preparation("safety")
    with weights.borrow("safety") as checker:
        size = checker.config.vision_config.image_size
        pictures = clip_pictures(frames[chosen], size, preparation).to(weights.device)
        _, flags = checker(pictures, np.zeros((len(chosen), 1)))  # the second it blackens in place: nothing of ours
    if any(flags):
        raise Flagged(stage)
    return chosen
