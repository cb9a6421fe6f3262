"""Down, middle and up blocks of the pixel UNet: DeepFloyd IF's image blocks with temporal layers between.

Every layer is ResNet, temporal convolution, then (in blocks with attention) joint attention, temporal transformer.
Keys without `temp_` are those of diffusers' 2-D blocks. Resizing ResNets get no temporal layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.activations import get_activation
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.attention import JointAttention, Known
from mpl.models.convolution import doubled_conv, pointwise
from mpl.models.norm import GroupNorm
from mpl.models.temporal import TemporalConv, TemporalTransformer


@dataclass(frozen=True)
class LayerSpec:
    """What all layers of a model share.

    Attributes:
        time_dim: width of the time embedding.
        text_dim: width of the (projected) text states.
        groups, temporal_groups, text_groups: group counts of spatial norms, temporal convolutions, text norms.
        eps: of the ResNets' norms.
        act: name of the activation.
        text_norm: see `JointAttention`.
        scale_shift: the time embedding scales and shifts after the second norm (else it is added before it).
        temporal: build temporal layers.
        temporal_heads: of the temporal attention; None takes the spatial head size for it, as published.
        temporal_dropout: of the temporal convolutions.
    """

    time_dim: int
    text_dim: int
    groups: int
    temporal_groups: int
    text_groups: int
    eps: float
    act: str
    text_norm: bool
    scale_shift: bool
    temporal: bool
    temporal_heads: int | None
    temporal_dropout: float

    @classmethod
    def of(cls, config: Any) -> LayerSpec:
        """That of a `VideoUNet` with this config."""
        return cls(
            time_dim=config.time_embedding_dim or 4 * config.block_out_channels[0],
            text_dim=config.cross_attention_dim,
            groups=config.norm_num_groups,
            temporal_groups=config.temporal_norm_num_groups,
            text_groups=config.cross_attention_norm_num_groups,
            eps=config.norm_eps,
            act=config.act_fn,
            text_norm=config.cross_attention_norm is not None,
            scale_shift=config.resnet_time_scale_shift == "scale_shift",
            temporal=config.temporal,
            temporal_heads=config.temporal_attention_heads,
            temporal_dropout=config.temporal_dropout,
        )


@dataclass(frozen=True)
class Conditions:
    """What every layer of one call reads: `time (b, time_dim)`, or `(b*f, time_dim)` where frames are told their
    places, `text (b, tokens, text_dim)`, frames per video, and the logits of a `Layout` and an `Outline`, if there are.

    Without `temporal` the layers over frames are passed by, where there are any. `known` is what earlier calls with
    the same text found of it.
    """

    time: Tensor
    text: Tensor
    frames: int
    temporal: bool = True
    draft: Tensor | None = None
    outline: Tensor | None = None
    known: Known | None = None


class Resnet(nn.Module):
    """Two 3x3 convolutions with norms, time modulation and a skip, divided by `out_scale` (diffusers `ResnetBlock2D`).

    `resize` "down" halves height and width by averaging, "up" doubles them by repetition, before the first convolution.
    """

    def __init__(
        self,
        spec: LayerSpec,
        in_channels: int,
        channels: int,
        out_scale: float = 1.0,
        resize: str | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm(spec.groups, in_channels, eps=spec.eps)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(spec.time_dim, 2 * channels if spec.scale_shift else channels)
        self.norm2 = GroupNorm(spec.groups, channels, eps=spec.eps)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else None
        self.act = get_activation(spec.act)
        self.scale_shift, self.out_scale, self.resize = spec.scale_shift, out_scale, resize

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resize == "up" else x

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        """`(b*f, in_channels, h, w)` to `(b*f, channels, h', w')`."""
        branch = self.act(self.norm1(x))
        if self.resize == "up":
            branch = doubled_conv(branch, self.conv1.weight, self.conv1.bias)
        else:
            branch = self.conv1(self._resized(branch))
        time = self.time_emb_proj(conditions.time)
        if len(time) > 1:
            time = time.repeat_interleave(len(x) // len(time), 0)
        branch = (
            self.norm2(branch, *time.chunk(2, 1)) if self.scale_shift else self.norm2(branch + time[..., None, None])
        )
        branch = self.conv2(self.act(branch))
        x = self._resized(x)
        if self.conv_shortcut is not None:
            x = pointwise(x, self.conv_shortcut.weight, self.conv_shortcut.bias)
        x = x + branch
        return x if self.out_scale == 1.0 else x / self.out_scale


def run_blocks(
    down: Sequence[DownBlock],
    middle: MidBlock | None,
    up: Sequence[UpBlock],
    x: Tensor,
    conditions: Conditions,
    deep: dict[str, Tensor] | None = None,
) -> Tensor:
    """Down, through the middle and up again: `(b*f, c, h, w)` to the same.

    Args:
        deep: what the last block up gets from below, kept from one call to the next. Where it is empty it is filled;
            else the first block down and the last one up alone are computed (Ma et al. 2023, "DeepCache", 3.2).
    """
    skips = [x]
    x, outputs = down[0](x, conditions, resize=not deep)
    skips += outputs
    if deep:
        x = deep["x"]
    else:
        for block in down[1:]:
            x, outputs = block(x, conditions)
            skips += outputs
        if middle is not None:
            x = middle(x, conditions)
        for block in up[:-1]:
            x = block(x, skips, conditions)
        if deep is not None:
            deep["x"] = x
    return up[-1](x, skips, conditions)


class Block(nn.Module):
    """A row of layers at one resolution, the base of down, middle and up blocks.

    Args:
        spec: what all layers share.
        widths: input width of each ResNet.
        channels: output width of each ResNet.
        out_scale: see `Resnet`.
        attentions: number of attention layers, 0 for a block without.
        head_dim: size of a spatial head, and number of temporal heads unless the spec has one.
        only_text, over_frames: see `JointAttention`.
    """

    def __init__(
        self,
        spec: LayerSpec,
        widths: list[int],
        channels: int,
        out_scale: float,
        attentions: int = 0,
        head_dim: int = 1,
        only_text: bool = False,
        over_frames: bool = False,
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(spec, width, channels, out_scale) for width in widths])
        if attentions:
            text = (spec.text_dim, spec.groups, spec.text_norm, spec.text_groups, only_text, over_frames)
            self.attentions = nn.ModuleList([JointAttention(channels, head_dim, *text) for _ in range(attentions)])
        if spec.temporal:
            conv = (channels, spec.temporal_groups, spec.temporal_dropout)
            self.temp_convs = nn.ModuleList([TemporalConv(*conv) for _ in widths])
        if spec.temporal and attentions:
            heads = spec.temporal_heads or head_dim  # count and size swapped relative to the spatial attention
            shape = (channels, heads, channels // heads, spec.groups)
            self.temp_attentions = nn.ModuleList([TemporalTransformer(*shape) for _ in range(attentions)])
        self.has_attention, self.temporal = attentions > 0, spec.temporal

    def convolve(self, index: int, x: Tensor, conditions: Conditions) -> Tensor:
        """ResNet and temporal convolution number `index`."""
        x = self.resnets[index](x, conditions)
        return self.temp_convs[index](x, conditions.frames) if self.temporal and conditions.temporal else x

    def attend(self, index: int, x: Tensor, conditions: Conditions) -> Tensor:
        """Attention and temporal transformer number `index`."""
        x = self.attentions[index](x, conditions.text, conditions.known, conditions.temporal)
        return self.temp_attentions[index](x, conditions.frames) if self.temporal and conditions.temporal else x


class DownBlock(Block):
    """Layers, then a halving of height and width unless this is the last level."""

    def __init__(
        self, spec: LayerSpec, in_channels: int, channels: int, layers: int, resize: bool, **kwargs: Any
    ) -> None:
        attentions = layers if kwargs.pop("attention") else 0
        super().__init__(spec, [in_channels] + [channels] * (layers - 1), channels, attentions=attentions, **kwargs)
        self.downsamplers = None
        if resize:
            self.downsamplers = nn.ModuleList([Resnet(spec, channels, channels, self.resnets[0].out_scale, "down")])

    def forward(self, x: Tensor, conditions: Conditions, resize: bool = True) -> tuple[Tensor, list[Tensor]]:
        """The output and what the up path gets: every layer's output and, unless without `resize`, the halved one."""
        skips = []
        for index in range(len(self.resnets)):
            x = self.convolve(index, x, conditions)
            if self.has_attention:
                x = self.attend(index, x, conditions)
            skips.append(x)
        if self.downsamplers is not None and resize:
            x = self.downsamplers[0](x, conditions)
            skips.append(x)
        return x, skips


class MidBlock(Block):
    """ResNet, attention, ResNet, each with its temporal layer."""

    def __init__(self, spec: LayerSpec, channels: int, **kwargs: Any) -> None:
        super().__init__(spec, [channels, channels], channels, attentions=1, **kwargs)

    def forward(self, x: Tensor, conditions: Conditions) -> Tensor:
        """`(b*f, c, h, w)` to the same."""
        x = self.convolve(0, x, conditions)
        x = self.attend(0, x, conditions)
        return self.convolve(1, x, conditions)


class UpBlock(Block):
    """Layers, each on its input joined with a skip of the down path, then a doubling unless this is the last level."""

    def __init__(
        self, spec: LayerSpec, in_channels: int, channels: int, skips: list[int], resize: bool, **kwargs: Any
    ) -> None:
        attentions = len(skips) if kwargs.pop("attention") else 0
        inputs = [in_channels] + [channels] * (len(skips) - 1)
        widths = [width + skip for width, skip in zip(inputs, skips, strict=True)]
        super().__init__(spec, widths, channels, attentions=attentions, **kwargs)
        self.upsamplers = None
        if resize:
            self.upsamplers = nn.ModuleList([Resnet(spec, channels, channels, self.resnets[0].out_scale, "up")])

    def forward(self, x: Tensor, skips: list[Tensor], conditions: Conditions) -> Tensor:
        """Takes its skips from the end of the list."""
        for index in range(len(self.resnets)):
            x = self.convolve(index, torch.cat([x, skips.pop()], 1), conditions)
            if self.has_attention:
                x = self.attend(index, x, conditions)
        return x if self.upsamplers is None else self.upsamplers[0](x, conditions)
