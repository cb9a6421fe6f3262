"""Frames between two as these two moved."""

from __future__ import annotations

import pytest
import torch
from unet_configs import SMALL, inputs, small_model

from mpl.models import VideoUNet
from mpl.models.warp import SCALE, Warp, moved, warp_loss
from mpl.stages.interpolation import gap_condition, linear_blend


def clip(frames: int = 5, height: int = 8, width: int = 16) -> torch.Tensor:
    return torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_fresh_warp_blends_its_ends_linearly() -> None:
    given = clip()
    blend = linear_blend(given[:, :, [0, -1]], 3)
    result = Warp(4, 2)(torch.randn(10, 4, 4, 8), given)
    torch.testing.assert_close(result, blend, atol=5e-4, rtol=0)


def test_pixels_come_from_where_the_flow_says() -> None:
    pictures = clip()[:, :, 0]
    flow = torch.zeros(2, 2, 8, 16)
    flow[:, 0], flow[:, 1] = 3.0, -1.0  # from three pixels to the right, one up
    result = moved(pictures, flow)
    torch.testing.assert_close(result[:, :, 1:, :-3], pictures[:, :, :-1, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(result[:, :, 0, :-3], pictures[:, :, 0, 3:], atol=1e-5, rtol=0)  # the border again


def test_a_warp_learns_to_carry_a_subject() -> None:
    """A square that moves 8 pixels: the frame between shows it half way, which no blend of both ends does."""
    given = torch.full((1, 3, 3, 8, 32), -1.0)
    for frame, left in enumerate((4, 8, 12)):
        given[:, :, frame, 2:6, left : left + 8] = 1.0
    warp = Warp(8, 4)
    features = torch.randn(3, 8, 2, 8, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(warp.parameters(), lr=0.02)
    for _ in range(300):
        error = (warp(features, given) - given)[:, :, 1].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    blend = (given[:, :, 0] + given[:, :, 2]) / 2
    assert error < 0.5 * (blend - given[:, :, 1]).square().mean()
    assert SCALE * warp.head(features).abs().max() > 2


def test_the_loss_of_what_was_moved_sees_it_from_afar() -> None:
    """A bar three pixels off its place: nearer is better, which single pixels alone would not say."""
    bars = torch.full((4, 1, 1, 8, 16), -1.0)
    for i, left in enumerate((8, 7, 6, 4)):
        bars[i, ..., left : left + 1] = 1.0
    losses = warp_loss(bars, bars[:1].expand_as(bars)).tolist()
    assert losses[0] == 0 and losses[3] > losses[2] and losses[2] > 0
    fine = (bars - bars[:1]).square().flatten(1).mean(1)
    assert fine[1] == fine[3]


def test_a_model_with_a_fresh_warp_gives_what_it_gave_without() -> None:
    config = SMALL | {"in_channels": 7, "prior_std": 0.1}
    plain = small_model(**{"in_channels": 7, "prior_std": 0.1})
    model = VideoUNet(**config, warped_ends=True).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(key.startswith("warp.") for key in missing)
    sample, steps, text = inputs(7)
    ends = sample[:, 3:6, 0], sample[:, 3:6, -1]
    sample[:, 3:] = gap_condition(*ends, sample.shape[2] - 2, "linear")
    with torch.no_grad():
        expected = plain(sample, steps, text).sample
        out = model(sample, steps, text)
        torch.testing.assert_close(out.sample, expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(out.moved, sample[:, 3:6], atol=2e-3, rtol=0)
        model.warp.head.bias += 0.3
        assert not torch.allclose(model(sample, steps, text).sample, expected, atol=1e-2)


@pytest.mark.parametrize("changes", [{"prior_std": None, "in_channels": 7}, {"prior_std": 0.1, "in_channels": 3}])
def test_a_warp_needs_a_guess_and_a_condition(changes: dict) -> None:
    with pytest.raises(ValueError, match="warped_ends=True"):
        VideoUNet(**SMALL | changes, warped_ends=True)
