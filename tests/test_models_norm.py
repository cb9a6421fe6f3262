"""Group norm in its fast forms against the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.norm import GroupNorm


def sample(channels: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(3, channels, height, width, generator=generator) * 2 + 0.5
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def norm_of(channels: int, groups: int) -> GroupNorm:
    norm = GroupNorm(groups, channels, eps=1e-5)
    generator = torch.Generator().manual_seed(1)
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1.0, 0.3, generator=generator)
    return norm


def exact(norm: GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    weight, bias = norm.weight.double(), norm.bias.double()
    out = F.group_norm(x.double(), norm.num_groups, weight, bias, norm.eps)
    return out if scale is None else out * (1 + scale.double()[..., None, None]) + shift.double()[..., None, None]


@pytest.mark.parametrize("size", [(8, 10), (40, 64)], ids=["small", "large"])
@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("rows", [1, 3])
def test_scale_and_shift_are_those_of_the_plain_form(channels: int, size: tuple[int, int], rows: int) -> None:
    norm, x = norm_of(channels, 8), sample(channels, *size)
    scale, shift = torch.randn(2, rows, channels, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        out = norm(x, scale, shift)
    assert (out - exact(norm, x, scale, shift)).abs().max() < 2e-5
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(8, 10), (40, 64)], ids=["small", "large"])
@pytest.mark.parametrize("learning", [False, True])
def test_half_precision_is_as_near_as_its_own_rounding(size: tuple[int, int], learning: bool) -> None:
    norm, x = norm_of(48, 8), sample(48, *size, torch.bfloat16).requires_grad_(learning)
    out = norm.to(torch.bfloat16)(x)
    assert out.dtype == torch.bfloat16
    error = (out.double() - exact(norm, x)).abs()
    assert (error <= 0.02 + 0.01 * exact(norm, x).abs()).all()  # 8 bits of the result, and of what goes into it


def test_gradients_are_those_of_the_plain_form() -> None:
    norm, scale, shift = norm_of(16, 4), torch.full((3, 16), 0.3), torch.full((3, 16), -0.2)
    found = []
    for way in (norm, lambda x, a, b: exact(norm, x, a, b)):
        x, a, b = (t.clone().requires_grad_() for t in (sample(16, 8, 10), scale, shift))
        way(x, a, b).square().sum().backward()
        found.append([t.grad for t in (x, a, b)])
    for ours, plain in zip(*found, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-3, atol=1e-3)
