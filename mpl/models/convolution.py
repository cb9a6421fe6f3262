"""Convolutions in the forms that run fast on CPUs in channels-last memory; the numbers are those of the plain ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def patches(clip: Tensor, side: int) -> Tensor:
    """Frames with patches of side x side pixels as channels, `(b, c, f, h, w)` to `(b*f, c*side*side, h/side, w/side)`.

    As `pixel_unshuffle` has them, in channels-last memory: two copies in runs, a third of its time.
    """
    if side == 1:
        return clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    b, c, f, h, w = clip.shape
    rows = clip.reshape(b, c, f, h // side, side, w).permute(0, 2, 3, 1, 4, 5).contiguous()
    cells = rows.unflatten(-1, (w // side, side)).permute(0, 1, 2, 5, 3, 4, 6)
    return cells.reshape(b * f, h // side, w // side, c * side * side).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1x1 convolution as a matrix product over channels-last memory, `(n, i, h, w)` to `(n, o, h, w)`.

    The library's own weight gradient of a 1x1 convolution reaches a fifth of a matrix product's speed.
    """
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def _plain_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether the CPU forms below apply: single precision, no autocast."""
    float32 = x.dtype == torch.float32 == weight.dtype
    return float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _FrameConv(torch.autograd.Function):
    """The 3x1 convolution whose weight gradient is three batched matrix products, two to three times faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=(1, 0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # The input's gradient is the same convolution with mirrored taps and exchanged channels.
            grad_x = F.conv2d(grad, weight.transpose(0, 1).flip(2), padding=(1, 0))
        if ctx.needs_input_grad[1]:
            size = x.shape[3]
            tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # (b, f*h*w, i)
            outer = grad.permute(0, 2, 3, 1).flatten(1, 2).transpose(1, 2)  # (b, o, f*h*w)
            before = torch.bmm(outer[:, :, size:], tokens[:, :-size]).sum(0)
            after = torch.bmm(outer[:, :, :-size], tokens[:, size:]).sum(0)
            grad_weight = torch.stack([before, torch.bmm(outer, tokens).sum(0), after], -1)[..., None]
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias


def frame_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """1-D convolution over frames, `(b, i, f, h*w)` to `(b, o, f, h*w)`; frames beyond either end count as zero.

    Args:
        weight: `(o, i, 3, 1, 1)`, the shape it has in the published checkpoints.
    """
    weight = weight.squeeze(-1)
    if x.requires_grad and x.shape[2] > 1 and _plain_cpu(x, weight):
        return _FrameConv.apply(x, weight, bias)
    return F.conv2d(x, weight, bias, padding=(1, 0))


def doubled_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """3x3 convolution of the image doubled by repetition, `(n, i, h, w)` to `(n, o, 2*h, 2*w)`.

    Repeated pixels let each output see only 2x2 different inputs. A transposed convolution, whose 4x4 taps are sums of
    the nine, gives the same at 4/9 of the cost, and never makes the doubled image.
    """
    if not _plain_cpu(x, weight):
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    taps = F.pad(weight.flip(2, 3), (1, 1, 1, 1))
    taps = taps[:, :, 1:] + taps[:, :, :-1]  # a pixel is seen by two rows of outputs at once
    taps = taps[..., 1:] + taps[..., :-1]
    return F.conv_transpose2d(x, taps.transpose(0, 1), bias, stride=2, padding=1)
