"""Patterns: a darker shade of the same hue, fine enough that 64x40 shows only the mean.

The lighter and the darker tone average to the plain colour, so that a picture too coarse to show a pattern does not
betray it by its brightness either.
"""

import math

import torch
from torch import Tensor

from .scene import ATTRIBUTES
from .sdf import cover, detail, length
from .view import Row, column

PERIOD = 0.034  # frame heights at the subject's largest size: 1.3 pixels at 64x40, 5.4 at 256x160
CONTRAST = 0.5
_SPOT_RADIUS = 0.33
_MEAN = {"striped": 0.5, "spotted": math.pi * _SPOT_RADIUS**2, "checked": 0.5}


def pattern_shade(rows: list[Row], u: Tensor, v: Tensor, px: Tensor) -> Tensor | None:
    """Factor (R, h, w) on the coat's colour, with mean 1; None where no row shows a pattern.

    `u`, `v` are the subject's own coordinates (its box is [-1, 1]), `px` the pixel's width in them.
    """
    period = column([2.0 * PERIOD / row.scene.size for row in rows])
    visible = detail(px, period)
    if visible is None:
        return None
    shade = None
    for name in ATTRIBUTES["pattern"][1:]:
        chosen = [row.scene.pattern == name for row in rows]
        if not any(chosen):
            continue
        weight = visible * column(chosen) * -CONTRAST
        own = (_dark(name, u / period, v / period, px / period) - _MEAN[name]) * weight
        shade = own if shade is None else shade + own
    return None if shade is None else shade + 1.0


def _dark(name: str, u: Tensor, v: Tensor, px: Tensor) -> Tensor:
    """Coverage by the darker tone; coordinates in periods."""
    if name == "striped":
        return _bars(u * 0.8 + v * 0.6, px)
    if name == "checked":
        a, b = _bars(u * 0.5, px * 0.5), _bars(v * 0.5, px * 0.5)
        return a + b - 2.0 * a * b
    row = torch.floor(v)
    u = u + 0.5 * torch.remainder(row, 2.0)
    return cover(length(u - torch.floor(u) - 0.5, v - row - 0.5) - _SPOT_RADIUS, px)


def _bars(u: Tensor, px: Tensor) -> Tensor:
    """Half of every period dark."""
    return cover((u - torch.floor(u) - 0.5).abs_() - 0.25, px)
