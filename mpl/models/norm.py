"""Group norm in the forms that run fast on CPUs; the numbers are those of the plain one, or nearer to the truth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW = 32  # channels below which the library's loop over them is too short to be fast
_WHOLE_ROWS = 1024  # pixels from which the library reads a half-precision map row by row, and not group by group


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, which also takes a scale and a shift for what it gives (AdaGN, 2105.05233, 3.1).

    On the CPU half-precision maps go through float32 where that is two to three times faster: small ones, whose groups
    the library reads number by number, and all that a gradient comes back through.
    """

    def forward(self, input: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """`(n, c, ...)` to the same, normed; `(n, c, h, w)` then times `1 + scale`, plus `shift`.

        Both are `(n, c)`, or `(1, c)` for all samples.
        """
        weight, bias = self.weight, self.bias
        if scale is not None and shift is not None and len(scale) == 1:  # the norm's own factors can hold these
            weight, bias = (weight * (1 + scale)).flatten(), (bias * (1 + scale) + shift).flatten()
            scale = shift = None
        if self._slow(input):
            out = F.group_norm(input.float(), self.num_groups, weight.float(), bias.float(), self.eps).to(input.dtype)
        else:
            out = F.group_norm(input, self.num_groups, weight, bias, self.eps)
        if scale is None or shift is None:
            return out
        return _modulated(out, 1 + scale, shift)

    def _slow(self, x: Tensor) -> bool:
        half = x.device.type == "cpu" and x.is_floating_point() and x.element_size() < 4
        return half and (x.requires_grad or (self.num_groups > 1 and x[0, 0].numel() < _WHOLE_ROWS))


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`x (n, c, h, w)` times `scale (n, c)` plus `shift`, in channels-last memory."""
    n, channels, height, width = x.shape
    if channels >= _FEW:
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])
    rows = x.permute(0, 2, 3, 1).reshape(n, height, width * channels)
    out = torch.addcmul(shift.repeat(1, width)[:, None], rows, scale.repeat(1, width)[:, None])
    return out.view(n, height, width, channels).permute(0, 3, 1, 2)
