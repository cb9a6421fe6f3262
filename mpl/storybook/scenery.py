"""Things that several settings show: hills, clouds, stars, trees, the subject's soft shadow.

Hills and clouds are areas under a height profile over x: the profile costs one line of pixels, only its coverage the
whole picture. Steep profiles widen the anti-aliasing by their slope.
"""

import dataclasses

import torch
from torch import Tensor

from .sdf import cover, detail, length, soft_dot
from .view import LOWEST, RGB, View, blend, cell_noise, gradient, wave

WHITE: RGB = (0.99, 0.99, 1.0)


@dataclasses.dataclass(frozen=True)
class Range:
    """A rolling line of hills: its layer's depth, mean height and swing; `index` picks the scene's own phases."""

    index: int
    depth: float
    level: float
    swing: float

    def heights(self, view: View, x: Tensor | None = None) -> Tensor:
        """Heights at the layer's coordinates `x`, by default one per column of pixels; three sines."""
        x = view.x(self.depth) if x is None else x
        first, second = view.rnd(self.index), view.rnd(self.index + 1)
        rolling = wave(0.42 * x + first) + 0.55 * wave(0.97 * x + second) + 0.18 * wave(2.3 * x + 3.0 * first)
        return rolling * self.swing + self.level


def hills(view: View, picture: Tensor, line: Range, top: RGB, bottom: RGB) -> None:
    """Paints a range of hills, `top` at its crest to `bottom` 0.3 lower."""
    profile = line.heights(view)
    view, picture = view.band(picture, LOWEST, float(profile.max()))
    below = profile - view.y
    blend(picture, gradient(below, (0.0, top), (0.3, bottom)), cover(-below, view.px))


def clouds(
    view: View,
    picture: Tensor,
    index: int,
    depth: float,
    base: Tensor,
    size: float,
    strength: float,
    light: RGB = WHITE,
    shade: RGB = (0.78, 0.86, 0.94),
) -> None:
    """Paints one row of flat-bottomed clouds with their feet at height `base` (R, 1, 1), drifting slowly."""
    view, picture = view.band(picture, float(base.min()) - size, float(base.max()) + 2.8 * size)
    period = 6.5 * size
    x = view.x(depth) + view.rnd(index) * 7.0 + 0.06 * depth * view.time
    cell = torch.floor(x / period)
    noise = cell_noise(cell, view.seed, index)
    across = (x / period - cell - 0.5) * 6.5
    up = (view.y - base) / size - 0.7 * noise
    heap = None
    for offset, puff in ((-1.25, 0.50), (-0.55, 0.95), (0.35, 0.80), (1.15, 0.55)):
        reach = puff * (0.75 + 0.5 * torch.remainder(noise * 7.0 * puff, 1.0))
        ball = length(across - offset - 0.5 * (noise - 0.5), up - 0.3 * reach) - reach
        heap = ball if heap is None else torch.minimum(heap, ball)
    weight = cover(heap, view.px / size + 0.05) * (up * 2.0 + 0.6).clamp(0.0, 1.0)
    weight = weight * (strength * (0.35 + 0.65 * view.clutter))
    blend(picture, gradient(up, (-0.1, shade), (1.0, light)), weight)


def starfield(view: View, picture: Tensor) -> None:
    """Paints large and small stars that twinkle slowly; the small ones melt into the sky at low resolution."""
    x = view.x(0.6)
    for index, cell_size, radius, glow in ((10, 0.24, 0.011, 0.9), (11, 0.075, 0.0042, 0.75)):
        fine = detail(view.px, 0.035) if radius < 0.01 else 1.0
        if fine is None:
            continue
        column, row = torch.floor(x / cell_size), torch.floor(view.y / cell_size)
        a = cell_noise(column, row, view.seed + index)
        b = cell_noise(column, row, view.seed + index + 500)
        dx = x - (column + 0.2 + 0.6 * a) * cell_size
        dy = view.y - (row + 0.2 + 0.6 * b) * cell_size
        twinkle = 0.75 + 0.25 * wave(view.time * (0.5 + a) + b)
        light = soft_dot(dx * dx + dy * dy, radius * (0.6 + 0.4 * b), view.px)
        blend(picture, (1.0, 0.97, 0.86), light.mul_(twinkle).mul_(torch.where(a + b > 0.7, glow, 0.0) * fine))


def pines(view: View, picture: Tensor, line: Range, tall: float, colour: RGB, snow: RGB | None) -> None:
    """Paints a loose row of fir trees that stand on a range of hills."""
    index, reach = line.index + 8, 1.9 * line.swing
    view, picture = view.band(picture, line.level - reach - 0.03, line.level + reach + 1.2 * tall)
    period = 0.62 * tall + 0.10
    shift = view.rnd(index) * 5.0
    x = view.x(line.depth) + shift
    cell = torch.floor(x / period)
    noise = cell_noise(cell, view.seed, index)
    middle = cell + 0.4 + 0.2 * noise
    ground = line.heights(view, middle * period - shift)
    height = torch.where(noise < 0.62, tall * (0.65 + 0.55 * noise), torch.zeros_like(noise))
    height = height * (0.4 + 0.6 * view.clutter)
    side = (x - middle * period).abs()
    up = view.y - ground + 0.02
    level = (up / height.clamp_min(0.02)).clamp(0.0, 1.0)
    tier = torch.remainder(level * 3.0, 1.0)
    half = height * 0.34 * (1.0 - level) * (1.12 - 0.35 * tier)
    d = torch.maximum((side - half) * 0.92, torch.maximum(up - height, -up))
    weight = cover(d, view.px)
    blend(picture, colour, weight)
    if snow is None:
        return
    caps: Tensor | float = 0.28  # what the caps cover on average
    fine = detail(view.px, 0.05)
    if fine is not None:
        caps = caps + fine * (((0.42 - tier) * 6.0).clamp(0.0, 1.0) * 0.8 - caps)
    blend(picture, snow, weight * caps)


def soft_shadow(view: View, picture: Tensor, ground: float, strength: float) -> None:
    """Darkens the ground below the subject; fainter and wider the higher the subject floats."""
    x, y, half = view.subject()
    foot = torch.minimum(y - half * 0.95, torch.full_like(y, ground))
    lift = (y - half - foot).clamp_min(0.0)
    wide = half * (0.95 + 0.5 * lift)
    dx = (view.screen_x / view.zoom - x) / wide
    dy = (view.y - foot) / (0.20 * wide)
    weight = torch.exp(-1.6 * (dx * dx)) * torch.exp(-1.6 * (dy * dy)) * (strength / (1.0 + 1.6 * lift))
    picture.mul_((1.0 - weight).unsqueeze(1))
