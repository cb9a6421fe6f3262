"""A few layers at full resolution, after blocks that see the picture in large patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.blocks import Conditions, LayerSpec, Resnet


class Refiner(nn.Module):
    """Mends a predicted picture beside the input it was predicted from: edges, and noise that patches let through.

    Blocks on patches of 4 pixels decide what is where, and are cheap for it; that a pixel is noise its neighbours tell.
    A fresh one changes nothing.
    """

    def __init__(self, spec: LayerSpec, in_channels: int, out_channels: int, width: int, layers: int = 2) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels + out_channels, width, 3, padding=1)
        self.resnets = nn.ModuleList([Resnet(spec, width, width) for _ in range(layers)])
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, picture: Tensor, sample: Tensor, conditions: Conditions) -> Tensor:
        """`picture (b, out, f, h, w)`, and the model's input `sample (b, in, f, h, w)`, to the picture mended."""
        both = torch.cat([picture, sample.to(picture.dtype)], dim=1).transpose(1, 2).flatten(0, 1)
        x = self.conv_in(both.contiguous(memory_format=torch.channels_last))
        for resnet in self.resnets:
            x = resnet(x, conditions)
        change = self.conv_out(F.silu(x))
        return picture + change.unflatten(0, (len(picture), -1)).transpose(1, 2)


class InputSkip(nn.Linear):
    """The input's channels, mixed pixel by pixel by a matrix that the condition vector says, added to the output.

    What patches cannot carry, a pixel as it was, goes past the blocks. A fresh one adds nothing.
    """

    def __init__(self, time_dim: int, in_channels: int, out_channels: int) -> None:
        super().__init__(time_dim, in_channels * out_channels)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, sample: Tensor, conditions: Conditions) -> Tensor:
        """`(b, in_channels, f, h, w)` to `(b, out_channels, f, h, w)`."""
        mix = super().forward(conditions.time).unflatten(1, (sample.shape[1], -1)).mT  # (b or b*f, out, in)
        per_frame = len(mix) > len(sample)
        pixels = sample.transpose(1, 2).flatten(0, 1) if per_frame else sample
        mixed = torch.bmm(mix, pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        return mixed.unflatten(0, (-1, conditions.frames)).transpose(1, 2) if per_frame else mixed
