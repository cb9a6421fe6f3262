"""Autoencoders in tiles: whole ones, evenly spread, blended."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.models.tiles import decode_frames, encode_frames, in_tiles

SIDE = 32  # of the autoencoder's pictures


@pytest.fixture(scope="module")
def vae() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    sizes = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 1, "layers_per_block": 1, "sample_size": SIDE}
    kinds = {
        f"{way}_block_types": (f"{kind}2D",) * 4
        for way, kind in (("down", "DownEncoderBlock"), ("up", "UpDecoderBlock"))
    }
    return AutoencoderKL(**sizes, **kinds).eval().requires_grad_(False)


@pytest.mark.parametrize("overlap", [0.0, 0.125, 0.25, 0.5])
@pytest.mark.parametrize("size", [(128, 128), (320, 576), (40, 136), (136, 1000)])
def test_what_needs_no_neighbours_comes_out_as_from_the_whole(size: tuple[int, int], overlap: float) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    small = F.avg_pool2d(x, 8)
    torch.testing.assert_close(in_tiles(lambda tile: F.avg_pool2d(tile, 8), x, 128, overlap, unit=8), small)
    large = F.interpolate(small, scale_factor=8.0)
    torch.testing.assert_close(in_tiles(lambda tile: F.interpolate(tile, scale_factor=8.0), small, 16, overlap), large)


@pytest.mark.parametrize(("overlap", "rows", "columns"), [(0.0, 3, 5), (0.125, 3, 5), (0.25, 3, 6), (0.5, 4, 8)])
def test_tiles_are_whole_and_no_more_than_reach(overlap: float, rows: int, columns: int) -> None:
    shapes = []

    def work(tile: Tensor) -> Tensor:
        shapes.append(tuple(tile.shape[2:]))
        return tile

    in_tiles(work, torch.zeros(1, 1, 320, 576), 128, overlap, unit=8)
    assert shapes == [(128, 128)] * rows * columns


def test_neighbours_fade_into_each_other() -> None:
    values = iter([0.0, 1.0])
    out = in_tiles(lambda tile: torch.full_like(tile, next(values)), torch.zeros(1, 1, 8, 12), 8, 0.5)
    expected = torch.tensor([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1])
    torch.testing.assert_close(out, expected.expand(1, 1, 8, 12))


def test_a_picture_of_the_autoencoder_s_size_is_one_tile(vae: Any) -> None:
    picture = torch.randn(1, 3, SIDE, SIDE)
    latent = vae.encode(picture).latent_dist.mean
    assert torch.equal(encode_frames(vae, picture, tiling=True).mean, latent)
    assert torch.equal(decode_frames(vae, latent, tiling=True), vae.decode(latent).sample)


def test_of_a_larger_one_what_a_tile_alone_decides_is_that_tile_s_own(vae: Any) -> None:
    picture = torch.randn(1, 3, 64, 96)
    whole, tiled = (encode_frames(vae, picture, tiling).mean for tiling in (False, True))
    assert torch.equal(whole, vae.encode(picture).latent_dist.mean)
    assert tiled.shape == whole.shape and not torch.allclose(tiled, whole)
    corner = vae.encode(picture[..., :SIDE, :SIDE]).latent_dist.mean
    torch.testing.assert_close(tiled[..., :2, :2], corner[..., :2, :2])  # the next one begins at 16 pixels
    pixels = decode_frames(vae, tiled, tiling=True)
    assert pixels.shape == picture.shape
    alone = vae.decode(tiled[..., -4:, -4:]).sample
    torch.testing.assert_close(pixels[..., -16:, -16:], alone[..., -16:, -16:])
    other = encode_frames(vae, picture, tiling=True, overlap=0.5).mean
    assert not torch.allclose(other, tiled)
