"""Frames as the pictures that published CLIPs look at, prepared as their `preprocessor_config.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from mpl.events import Frames


def clip_pictures(frames: Frames, size: int, preparation: Mapping[str, Any]) -> Tensor:
    """Frames (uint8 `f h w 3`) as `(f, 3, size, size)`: resized, the middle cut out, normed.

    As CLIP's own preprocessing does it (Radford et al. 2021, `clip.load`): the shorter side bicubically to `size`.

    Args:
        preparation: the content of `preprocessor_config.json`; its `image_mean` and `image_std` are used.
    """
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    height, width = x.shape[2:]
    scale = size / min(height, width)
    tall, wide = round(height * scale), round(width * scale)
    x = F.interpolate(x, (tall, wide), mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (tall - size) // 2, (wide - size) // 2
    x = x[:, :, top : top + size, left : left + size]
    mean, std = (torch.tensor(preparation[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
    return (x - mean) / std


def check_preparation(values: Mapping[str, Any]) -> None:
    """Raises ValueError unless the values hold what `clip_pictures` reads."""
    for key, above in (("image_mean", -1e6), ("image_std", 0)):
        numbers = values.get(key)
        right = isinstance(numbers, list) and len(numbers) == 3
        if not right or not all(isinstance(n, int | float) and above < n < 1e6 for n in numbers):
            raise ValueError(f"{key} must be three numbers{' above 0' if above == 0 else ''}")
