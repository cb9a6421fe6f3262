"""Autoencoders on frames larger than they were trained on: in tiles of that size, blended where they overlap.

diffusers' own tiles begin at a fixed step from the top left, so the last ones are cut short: of 576 pixels in steps of
112 the sixth is 16 wide, and what a network's normalisation and attention make of so little is another picture. Here
all tiles are whole and spread evenly, which needs no more of them.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

OVERLAP = 0.25  # of neighbouring tiles, as a share of their side: diffusers' own


def encode_frames(
    vae: AutoencoderKL, frames: Tensor, tiling: bool = False, overlap: float = OVERLAP
) -> DiagonalGaussianDistribution:
    """The posterior of frames `(n, 3, h, w)` in [-1, 1]: of latents `(n, c, h / 8, w / 8)`, not scaled.

    Args:
        tiling: in tiles of the autoencoder's `sample_size`; otherwise whole.
        overlap: of neighbouring tiles, at least so much of their side.
    """
    if not tiling:
        return vae.encode(frames).latent_dist
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    def work(tile: Tensor) -> Tensor:
        return vae.encode(tile).latent_dist.parameters

    return DiagonalGaussianDistribution(in_tiles(work, frames, vae.config.sample_size, overlap, _factor(vae)))


def decode_frames(vae: AutoencoderKL, latents: Tensor, tiling: bool = False, overlap: float = OVERLAP) -> Tensor:
    """Latents `(n, c, h, w)`, not scaled -> frames `(n, 3, 8 h, 8 w)`, not clamped; options as for `encode_frames`."""
    if not tiling:
        return vae.decode(latents).sample
    return in_tiles(lambda tile: vae.decode(tile).sample, latents, vae.config.sample_size // _factor(vae), overlap)


def in_tiles(work: Callable[[Tensor], Tensor], x: Tensor, side: int, overlap: float, unit: int = 1) -> Tensor:
    """What `work` makes of `x (n, c, h, w)`, tile by tile; of all at once where it is no larger than a tile.

    Neighbours fade into each other linearly over all that they share.

    Args:
        work: `(n, c, th, tw)` to `(n, d, th * r, tw * r)` for one ratio r; a tile's sides are `side`, or those of `x`
            where they are shorter.
        overlap: of neighbouring tiles, at least so much of `side`.
        unit: tiles begin at its multiples, of which `side` and the sides of `x` are some; `unit * r` is whole.

    Returns:
        `(n, d, h * r, w * r)`; float32, where there are several tiles.
    """
    tops, lefts = (_starts(length, side, overlap, unit) for length in x.shape[2:])
    if len(tops) == len(lefts) == 1:
        return work(x)
    made = [[work(x[:, :, top : top + side, left : left + side]) for left in lefts] for top in tops]
    tile = made[0][0]
    ratio = tile.shape[3] / min(side, x.shape[3])
    tops, lefts = ([round(start * ratio) for start in starts] for starts in (tops, lefts))
    size = (round(length * ratio) for length in x.shape[2:])
    out = tile.new_zeros(*tile.shape[:2], *size, dtype=torch.float32)
    rows, columns = _shares(tops, tile.shape[2], tile), _shares(lefts, tile.shape[3], tile)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            place = out[:, :, top : top + tile.shape[2], left : left + tile.shape[3]]
            place += made[i][j] * rows[i][:, None] * columns[j]
    return out


def _factor(vae: AutoencoderKL) -> int:
    """Pixels along a side for one latent."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


def _starts(length: int, side: int, overlap: float, unit: int) -> list[int]:
    """Where tiles begin: as few as reach, evenly."""
    if length <= side:
        return [0]
    step = max(unit, int(side * (1 - overlap)) // unit * unit)
    count = ceil((length - side) / step)
    return [round(i * (length - side) / count / unit) * unit for i in range(count + 1)]


def _shares(starts: list[int], side: int, like: Tensor) -> list[Tensor]:
    """What each tile gives to its places along one side, `(side,)` each; at every place the tiles together give one."""
    weights = torch.zeros(len(starts), starts[-1] + side)
    for i, start in enumerate(starts):
        weight = torch.ones(side)
        if i:
            shared = starts[i - 1] + side - start
            weight[:shared] *= _ramp(shared)
        if i < len(starts) - 1:
            shared = start + side - starts[i + 1]
            weight[side - shared :] *= _ramp(shared).flip(0)
        weights[i, start : start + side] = weight
    weights = (weights / weights.sum(0)).to(like.device)
    return [weight[start : start + side] for weight, start in zip(weights, starts, strict=True)]


def _ramp(length: int) -> Tensor:
    """From nearly 0 to nearly 1."""
    return (torch.arange(length) + 0.5) / max(length, 1)
