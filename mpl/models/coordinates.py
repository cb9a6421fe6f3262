"""Where a pixel is in the picture, told to convolutions, which cannot count."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WAVES = 3  # per axis; the longest wave is twice the picture, the shortest half of it


class Coordinates(nn.Module):
    """Adds a learned map of the place in the picture to the first feature map (CoordConv, Liu et al. 2018).

    Convolutions know places from the zeros beyond the border alone, and of a noisy picture not even that: without this
    "on the left" was not learned from 200,000 pictures. It begins at random, not at zero: a place says nothing without
    a text that asks for it, nor the text without places, so from zero each would wait for the other.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_channels = nn.Linear(2 + 4 * WAVES, channels, bias=False)
        nn.init.normal_(self.to_channels.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, c, h, w)` to the same; any size, for places count from -1 to 1 across the picture."""
        height, width = x.shape[-2:]
        y, x_ = torch.meshgrid(_places(height, x), _places(width, x), indexing="ij")
        both = torch.stack([y, x_], dim=-1)
        waves = [f(math.pi * 2.0 ** (i - 1) * both) for i in range(WAVES) for f in (torch.sin, torch.cos)]
        features = torch.cat([both, *waves], dim=-1)  # (h, w, 2 + 4 WAVES)
        return x + self.to_channels(features).permute(2, 0, 1)


def _places(count: int, like: Tensor) -> Tensor:
    """Middles of `count` pixels, from -1 to 1."""
    return ((torch.arange(count, device=like.device) + 0.5) * (2 / count) - 1).to(like.dtype)
