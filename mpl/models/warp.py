"""Frames between two given ones as these two moved: what convolutions would have to carry far and paint anew."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 8.0  # pixels that an output of 1 moves: the motions of four frames at 64×40 are a few to a dozen


class Warp(nn.Module):
    """Where every pixel of a frame comes from in the first and in the last frame, and which of both it shows.

    As in networks for frame interpolation (Jiang et al. 2018, "Super SloMo", section 3.1): two flows and a visibility,
    here read off the last features of the blocks. A fresh one gives the linear blend of both frames.
    """

    def __init__(self, channels: int, patch_size: int) -> None:
        """Takes the width of the features, and how many pixels their grid has to a side of a cell."""
        super().__init__()
        self.patch_size = patch_size
        self.head = nn.Conv2d(channels, 5 * patch_size**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, ends: Tensor) -> Tensor:
        """Moves the ends of a clip to its frames.

        Args:
            features: `(b*f, channels, h / patch_size, w / patch_size)`.
            ends: a clip whose first and last frames count, `(b, c, f, h, w)`.

        Returns:
            A clip of its shape, float32.
        """
        frames = ends.shape[2]
        out = F.pixel_shuffle(self.head(features).float(), self.patch_size)  # (b*f, 5, h, w)
        from_first, from_last, seen = out.split((2, 2, 1), dim=1)
        first, last = (
            end.float().expand(-1, -1, frames, -1, -1).transpose(1, 2).flatten(0, 1)
            for end in (ends[:, :, :1], ends[:, :, -1:])
        )
        time = torch.linspace(0, 1, frames, device=ends.device).repeat(len(ends)).view(-1, 1, 1, 1)
        share = torch.sigmoid(seen + torch.logit(time, eps=1e-4))
        mixed = torch.lerp(moved(first, SCALE * from_first), moved(last, SCALE * from_last), share)
        return mixed.unflatten(0, (-1, frames)).transpose(1, 2)


def warp_loss(moved: Tensor, truth: Tensor) -> Tensor:
    """Mean squared errors of moved ends against a clip `(b, c, f, h, w)`, as they are and blurred by 9 pixels, (b,).

    The blurred one tells a subject which way to go that is not yet near its place, where single pixels say nothing.
    """
    error = (moved - truth).transpose(1, 2).flatten(0, 1)
    coarse = F.avg_pool2d(error, 9, stride=2, padding=4)
    fine, coarse = (e.square().unflatten(0, (len(moved), -1)).flatten(1).mean(1) for e in (error, coarse))
    return fine + coarse


def moved(pictures: Tensor, flow: Tensor) -> Tensor:
    """Pictures `(n, c, h, w)` read where the flow `(n, 2, h, w)`, x and y in pixels, points; the border repeats."""
    height, width = pictures.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0] + 0.5
    y = torch.arange(height, device=flow.device).view(-1, 1) + flow[:, 1] + 0.5
    places = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1)
    return F.grid_sample(pictures, places, mode="bilinear", padding_mode="border", align_corners=False)
