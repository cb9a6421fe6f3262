"""The backgrounds that are mostly sky, air or water, and the table of all settings.

Each setting has its own layout and palette, calmer than the subjects' colours, and fine detail that only a high
resolution shows. Coordinates and layers: see `view.View`; ground settings are in `grounds`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import grounds
from .scenery import Range, clouds, hills, soft_shadow, starfield
from .sdf import cover, detail, length, soft_dot
from .view import LOWEST, View, blend, cell_noise, gradient, wave


def draw_setting(view: View) -> Tensor:
    """Draws rows that share a setting: (R, 3, h, w), about [0, 1]."""
    picture = _DRAWINGS[view.rows[0].scene.setting](view)
    light = torch.tensor([row.scene.light for row in view.rows]).view(-1, 1, 1, 1)
    return picture.mul_(1.0 + 0.05 * light)


def _sunny_sky(view: View) -> Tensor:
    picture = view.fill(gradient(view.y, (0.5, (0.38, 0.68, 0.93)), (-0.5, (0.80, 0.93, 0.98))))
    side = torch.where(view.rnd(0) < 0.5, -1.0, 1.0)
    dx = view.x(0.35) - side * view.rnd(1, 0.45, 0.65)
    dy = view.y - view.rnd(2, 0.24, 0.34)
    d2 = dx * dx + dy * dy
    blend(picture, (1.0, 0.95, 0.72), soft_dot(d2, 0.22, view.px).mul_(0.75))
    blend(picture, (1.0, 0.88, 0.42), cover(d2.sqrt() - 0.10, view.px))
    layers = ((3, 0.5, 0.20, 0.075, 0.62), (5, 0.8, -0.10, 0.10, 0.80), (7, 1.1, -0.40, 0.15, 0.95))
    for index, depth, height, size, strength in layers:
        clouds(view, picture, index, depth, height + view.rnd(index, -0.05, 0.05), size, strength)
    return picture


def _starry_night(view: View) -> Tensor:
    sky = gradient(view.y, (0.5, (0.05, 0.06, 0.20)), (-0.1, (0.14, 0.14, 0.38)), (-0.5, (0.36, 0.27, 0.52)))
    picture = view.fill(sky)
    x = view.x(0.6)
    band = (view.y - 0.12 - 0.35 * x * view.rnd(0, -1.0, 1.0)) / 0.22
    blend(picture, (0.45, 0.42, 0.70), torch.exp(-band * band).mul_(0.30))
    starfield(view, picture)
    side = torch.where(view.rnd(1) < 0.5, -1.0, 1.0)
    dx = x - side * view.rnd(2, 0.42, 0.62)
    dy = view.y - view.rnd(3, 0.22, 0.30)
    d2 = dx * dx + dy * dy
    blend(picture, (0.95, 0.90, 0.70), soft_dot(d2, 0.20, view.px).mul_(0.30))
    moon = torch.maximum(d2.sqrt() - 0.125, 0.115 - length(dx - side * -0.065, dy - 0.03))
    blend(picture, (0.99, 0.95, 0.78), cover(moon, view.px))
    hills(view, picture, Range(4, 0.9, -0.36, 0.05), (0.12, 0.12, 0.28), (0.07, 0.08, 0.20))
    hills(view, picture, Range(6, 1.2, -0.43, 0.04), (0.07, 0.09, 0.20), (0.04, 0.05, 0.13))
    return picture


def _sunset_sea(view: View) -> Tensor:
    horizon = -0.10
    sky = gradient(view.y, (0.5, (0.52, 0.36, 0.62)), (0.18, (0.94, 0.58, 0.52)), (horizon, (1.0, 0.82, 0.56)))
    picture = view.fill(sky)
    x = view.x(0.4)
    sun = view.rnd(0, -0.35, 0.35)
    dx, dy = x - sun, view.y - horizon - 0.03
    d2 = dx * dx + dy * dy
    blend(picture, (1.0, 0.88, 0.58), soft_dot(d2, 0.34, view.px).mul_(0.7))
    blend(picture, (1.0, 0.95, 0.74), cover(d2.sqrt() - 0.17, view.px))
    clouds(view, picture, 3, 0.6, view.rnd(1, 0.22, 0.30), 0.055, 0.55, (0.98, 0.70, 0.62), (0.80, 0.48, 0.58))
    view, water = view.band(picture, LOWEST, horizon)
    dx = view.x(0.4) - sun
    sea = view.fill(
        gradient(view.y, (horizon, (0.80, 0.55, 0.56)), (-0.24, (0.42, 0.36, 0.56)), (-0.5, (0.17, 0.22, 0.44)))
    )
    depth = (horizon - view.y).clamp_min(0.0)
    glow = torch.exp(-((dx / (0.10 + 0.55 * depth)) ** 2)) * torch.exp(-depth * 2.0)
    ripples = _ripples(view, depth)
    glitter = 0.62 + ripples
    blend(sea, (1.0, 0.84, 0.58), (glow * glitter).clamp_(0.0, 1.0))
    soft_shadow(view, sea, -0.40, 0.30)
    sea.mul_((1.0 + 0.22 * ripples).unsqueeze(1))
    blend(water, sea, cover(view.y - horizon, view.px).expand(-1, -1, view.width))
    return picture


def _ripples(view: View, depth: Tensor) -> Tensor:
    """Waves on the sea in perspective, in [-1, 1], fading where they would be finer than the pixels."""
    x = view.x(1.0)
    far = depth + 0.06
    period = 0.32 * far
    weight = ((period / view.px - 1.4) / 1.6).clamp(0.0, 1.0)
    lines = torch.log(far) * 3.4
    waves = wave(lines + 0.22 * wave(x / (far * 2.2) + 0.6 * view.time) - view.time * 0.9)
    return waves * wave(x / (far * 3.1) + lines * 0.7 + view.rnd(9)).mul_(0.5).add_(0.5) * weight


def _under_water(view: View) -> Tensor:
    water = gradient(view.y, (0.5, (0.42, 0.85, 0.84)), (0.05, (0.14, 0.56, 0.68)), (-0.5, (0.05, 0.28, 0.50)))
    picture = view.fill(water)
    x = view.x(0.7)
    slant = x + 0.35 * view.y
    rays = wave(slant * 1.3 + view.rnd(0) + 0.15 * view.time) + 0.7 * wave(slant * 2.7 + view.rnd(1) - 0.2 * view.time)
    blend(picture, (0.80, 0.97, 0.92), (rays * 0.10 + 0.04).clamp_min_(0.0) * (view.y + 0.6).clamp_min(0.0) * 1.6)
    _bubbles(view, picture)
    hills(view, picture, Range(4, 0.9, -0.34, 0.05), (0.30, 0.56, 0.58), (0.16, 0.42, 0.50))
    _seaweed(view, picture)
    top = -0.40 + 0.03 * wave(view.x(1.2) * 0.45 + view.rnd(6))
    view, ground = view.band(picture, LOWEST, -0.37)
    sand = view.fill(gradient(view.y, (-0.36, (0.86, 0.80, 0.60)), (-0.5, (0.66, 0.64, 0.52))))
    soft_shadow(view, sand, -0.44, 0.35)
    weight = detail(view.px, 0.03)
    if weight is not None:
        sand.mul_((1.0 + 0.05 * weight * wave((view.y + 0.02 * wave(view.x(1.2) * 2.0)) / 0.03)).unsqueeze(1))
    blend(ground, sand, cover(view.y - top, view.px))
    return picture


def _bubbles(view: View, picture: Tensor) -> None:
    """Columns of rising bubbles."""
    x = view.x(1.0)
    for index, period, radius in ((10, 0.46, 0.026), (12, 0.31, 0.014)):
        column_index = torch.floor(x / period)
        offset = cell_noise(column_index, view.seed, index)
        y = view.y - (view.time * 0.45 + offset)
        row_index = torch.floor(y / 0.55)
        noise = cell_noise(column_index, row_index, view.seed + index)
        drift = 0.012 * wave(view.time * 1.5 + noise)
        dx = x - (column_index + 0.25 + 0.5 * noise) * period - drift
        dy = y - (row_index + 0.5) * 0.55
        distance = length(dx, dy)
        size = radius * (0.55 + 0.45 * noise)
        fill = cover(distance - size, view.px) * 0.30
        ring = torch.minimum(cover((distance - size * 0.88).abs() - size * 0.12, view.px), 0.24 * size / view.px)
        glint = soft_dot((dx + 0.35 * size) ** 2 + (dy - 0.4 * size) ** 2, 0.25 * radius, view.px) * 0.8
        blend(picture, (0.93, 1.0, 0.99), (fill + 0.45 * ring + glint).clamp_(0.0, 1.0))


def _seaweed(view: View, picture: Tensor) -> None:
    """Swaying blades that stand in tufts on the ground."""
    view, picture = view.band(picture, LOWEST, -0.08)
    for index, depth, shade in ((14, 0.95, (0.10, 0.46, 0.42)), (16, 1.15, (0.16, 0.56, 0.34))):
        x = view.x(depth)
        height = (view.y + 0.5).clamp_min(0.0)
        bent = x + 0.035 * wave(view.time * 0.8 + height * 1.6 + view.rnd(index)) * height * 3.0
        bent = bent + view.rnd(index + 1)
        cell = torch.floor(bent / 0.21)
        noise = cell_noise(cell, view.seed, index)
        tall = torch.where(noise < 0.72, 0.14 + 0.34 * noise, 0.0) * (0.4 + 0.6 * view.clutter)
        middle = (bent / 0.21 - cell - 0.3 - 0.4 * noise).abs() * 0.21
        half = 0.026 * ((tall - height) / tall.clamp_min(0.05)).clamp(0.0, 1.0).sqrt()
        blend(picture, shade, torch.minimum(cover(middle - half, view.px), 2.0 * half / view.px))


_DRAWINGS: dict[str, Callable[[View], Tensor]] = {
    "sunny sky": _sunny_sky,
    "starry night": _starry_night,
    "sunset sea": _sunset_sea,
    "meadow": grounds.meadow,
    "desert": grounds.desert,
    "snowy hills": grounds.snowy_hills,
    "city at night": grounds.city_at_night,
    "brick wall": grounds.brick_wall,
    "under water": _under_water,
}
