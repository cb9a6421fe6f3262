"""Which frames of a video a network looks at, and in which size: pure functions of uint8 frames `f h w 3`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from .protocols import Start, VideoOptions

if TYPE_CHECKING:
    from mpl.events import Frames


def frame_places(count: int, rate: float, frames: int, fps: float, start: Start, seed: str = "") -> list[int]:
    """Places of `frames` frames at `fps` per second in a video of `count` frames at `rate` per second.

    Each is the frame nearest in time.

    Args:
        start: where the span begins: with the first frame, so that it lies in the middle, or anywhere, by `seed`.

    Raises:
        ValueError: the video is shorter than the span, or has fewer frames per second.
    """
    step = rate / fps
    needed = int((frames - 1) * step + 0.5) + 1
    if step < 0.99:  # 29.97 may be asked for 30
        raise ValueError(f"{count} frames at {rate:g} per second hold no {frames} at {fps:g} per second")
    if count < needed:
        raise ValueError(f"{count} frames at {rate:g} per second are too short for {frames} at {fps:g} per second")
    spare = count - needed
    first = {"first": 0, "middle": spare // 2, "random": random.Random(f"start:{seed}").randint(0, spare)}[start]
    return [first + int(i * step + 0.5) for i in range(frames)]


def alike(frames: Frames, options: VideoOptions) -> Frames:
    """Frames cut and resized as a protocol says, bilinearly; rounded to 8 bits again."""
    height, width = frames.shape[1:3]
    if options.crop == "square":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        frames = frames[:, top : top + side, left : left + side]
    if not options.height or frames.shape[1:3] == (options.height, options.width):
        return frames
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    size = (options.height, options.width)
    pixels = F.interpolate(pixels, size, mode="bilinear", antialias=options.antialias)
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


def as_clip(frames: Frames) -> Tensor:
    """Frames `f h w 3` as `3 f h w`, uint8."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous()


def resize(clips: Tensor, size: int, mode: str) -> Tensor:
    """Every frame of clips `b c f h w` stretched to a square, without antialias; float32."""
    b, _, f = clips.shape[:3]
    flat = clips.transpose(1, 2).flatten(0, 1).float()
    flat = F.interpolate(flat, (size, size), mode=mode, align_corners=False)
    return flat.unflatten(0, (b, f)).transpose(1, 2)
