"""Pure plans of frame spans: interpolation gaps, superres windows, batches. Numbers only, no tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Span:
    """Frames `start` to `stop` (not included) of the output clip, span number `index` (from 0) of a plan."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def frames(self) -> slice:
        return slice(self.start, self.stop)


def filled_length(keyframes: int, between: int) -> int:
    """Frames after `between` new ones were put between each pair of `keyframes`: 8 and 3 give 29."""
    _at_least("keyframes", keyframes, 1)
    _at_least("interpolation.between", between, 1)
    return (keyframes - 1) * (between + 1) + 1


def gaps(keyframes: int, between: int) -> list[Span]:
    """One span per pair of neighbouring keyframes, both keyframes included.

    Span i runs from keyframe i to keyframe i + 1; neighbours share a frame. One keyframe has no gaps.
    """
    stride = between + 1
    last = filled_length(keyframes, between) - 1
    return [Span(i, start, start + stride + 1) for i, start in enumerate(range(0, last, stride))]


def superres_windows(frames: int, window: int = 8, stride: int = 7) -> list[Span]:
    """Windows of at most `window` frames covering `frames`; neighbours share `window - stride` frames.

    Where windows of exactly `window` frames at distance `stride` fit (8, 15, 22, 29, ... for 8 and 7), the
    plan is the published one. Any other count takes as few windows and makes them as equal as possible, so
    that none is a stub of two frames, no frame is generated a third time, and each window still starts at a
    frame that is already upscaled: 9 frames are two windows of 5. (The published loop leaves the remaining
    frames grey; moving the last window back would put a seam inside it, where its new frames meet those of
    the window before.)

    Args:
        frames: length of the clip, at least 1.
        window: frames that the model handles at a time, at least 2.
        stride: 1 ... window - 1.

    Raises:
        ValueError: naming the argument.
    """
    _at_least("frames", frames, 1)
    _at_least("superres.window", window, 2)
    if not 1 <= stride < window:
        raise ValueError(f"superres.stride is {stride}; 1 to superres.window - 1 = {window - 1} is accepted")
    if frames <= window:
        return [Span(0, 0, frames)]
    shared = window - stride
    count = 1 + -(-(frames - window) // stride)
    short, longer = divmod(frames - shared, count)
    starts = [0]
    for i in range(count):
        starts.append(starts[-1] + short + (i < longer))
    return [Span(i, start, stop + shared) for i, (start, stop) in enumerate(pairwise(starts))]


def batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """`items` in order, in slices of at most `size`."""
    _at_least("batch size", size, 1)
    return [items[i : i + size] for i in range(0, len(items), size)]


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; {least} or more is accepted")
