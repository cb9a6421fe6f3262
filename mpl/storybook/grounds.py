"""The backgrounds that stand on the ground: meadow, desert, snow, city, wall."""

import torch
from torch import Tensor

from .scenery import Range, clouds, hills, pines, soft_shadow
from .sdf import cover, detail, length, soft_dot
from .view import LOWEST, RGB, View, blend, cell_noise, gradient, paint, wave


def meadow(view: View) -> Tensor:
    """Pale sky, blue hills, a rolling bright meadow with blades and dots of flowers."""
    picture = view.fill(gradient(view.y, (0.5, (0.62, 0.83, 0.93)), (0.0, (0.96, 0.96, 0.86))))
    clouds(view, picture, 3, 0.5, view.rnd(0, 0.22, 0.32), 0.06, 0.8)
    hills(view, picture, Range(4, 0.5, 0.03, 0.06), (0.60, 0.76, 0.72), (0.52, 0.72, 0.60))
    far = Range(6, 0.75, -0.06, 0.04)
    hills(view, picture, far, (0.58, 0.76, 0.42), (0.50, 0.70, 0.34))
    pines(view, picture, far, 0.13, (0.34, 0.56, 0.40), None)
    profile = Range(8, 1.0, -0.16, 0.045).heights(view)
    view, ground = view.band(picture, LOWEST, float(profile.max()))
    grass = view.fill(gradient(view.y, (-0.12, (0.72, 0.84, 0.40)), (-0.5, (0.46, 0.68, 0.26))))
    _blades(view, grass)
    _flowers(view, grass)
    soft_shadow(view, grass, -0.40, 0.38)
    blend(ground, grass, cover(view.y - profile, view.px))
    return picture


def _blades(view: View, grass: Tensor) -> None:
    """Rows of grass blades, larger to the front; light and dark rows keep the mean."""
    shade = None
    for index, (level, tall) in enumerate(
        ((-0.17, 0.020), (-0.22, 0.026), (-0.28, 0.034), (-0.35, 0.044), (-0.43, 0.055))
    ):
        weight = detail(view.px, 0.5 * tall)
        if weight is None:
            continue
        x = view.x(1.0) + 0.004 * wave(view.time * 0.8 + view.x(1.0) * 0.7)
        blade = ((x / (0.5 * tall) + 0.37 * index) % 1.0 - 0.5).abs() * 2.0
        lengths = 0.55 + 0.45 * wave(x / (3.1 * tall) + 0.3 * index)
        inside = ((level + tall * (blade * lengths - 0.5) - view.y) / tall * 3.0 + 0.5).clamp_(0.0, 1.0)
        fade = (1.6 - (view.y - level).abs() / tall).clamp(0.0, 1.0)
        # The mean over x of `inside` (fitted): without it the rows would show as lines from afar.
        mean = torch.exp(-((((view.y - level) / tall + 0.65).clamp_min(0.0) / 0.44) ** 1.5))
        own = (inside - mean) * fade * (0.26 * weight)
        shade = own if shade is None else shade + own
    if shade is not None:
        grass.mul_((1.0 + shade).unsqueeze(1))


def _flowers(view: View, grass: Tensor) -> None:
    """Small flowers on the grass, red, white and yellow."""
    cell_size = 0.11
    fine = detail(view.px, 0.035)
    if fine is None:
        return
    x = view.x(1.0)
    column, row = torch.floor(x / cell_size), torch.floor(view.y / (0.6 * cell_size))
    a = cell_noise(column, row, view.seed)
    b = cell_noise(column, row, view.seed + 77)
    dx = x - (column + 0.2 + 0.6 * a) * cell_size
    dy = (view.y - (row + 0.3 + 0.4 * b) * cell_size * 0.6) * 1.3
    d2 = dx * dx + dy * dy
    size = 0.010 * (0.3 - view.y).clamp(0.3, 0.8) / 0.6
    kind = (a * 7.0) % 1.0
    colour = torch.stack((0.95 + 0.0 * kind, 0.55 + 0.40 * kind, 0.50 + 0.45 * (1.0 - kind)), dim=1)
    present = torch.where(b < 0.55, 0.9, 0.0) * (view.clutter * fine)
    blend(grass, colour, soft_dot(d2, size, view.px).mul_(present))


def desert(view: View) -> Tensor:
    """Turquoise to cream sky, a pale sun, ridged dunes with ripples, cacti."""
    picture = view.fill(gradient(view.y, (0.5, (0.46, 0.74, 0.78)), (-0.05, (0.98, 0.92, 0.76))))
    dx, dy = view.x(0.3) - view.rnd(0, -0.6, 0.6), view.y - view.rnd(1, 0.28, 0.36)
    d2 = dx * dx + dy * dy
    blend(picture, (1.0, 0.98, 0.86), soft_dot(d2, 0.16, view.px).mul_(0.6))
    blend(picture, (1.0, 0.99, 0.90), cover(d2.sqrt() - 0.065, view.px))
    middle = Range(6, 0.8, -0.13, 0.055)
    _dunes(view, picture, Range(4, 0.6, 0.0, 0.05), (0.95, 0.80, 0.56), (0.86, 0.66, 0.46))
    _dunes(view, picture, middle, (0.93, 0.74, 0.46), (0.80, 0.57, 0.36))
    _cacti(view, picture, middle)
    _dunes(view, picture, Range(8, 1.0, -0.30, 0.05), (0.95, 0.78, 0.50), (0.84, 0.60, 0.36), shadow=True)
    return picture


def _dune_line(view: View, line: Range, x: Tensor) -> tuple[Tensor, Tensor]:
    """Heights of a row of dunes at the layer's coordinates `x`, and where in its dune each lies (crest at 0.68)."""
    turn = 0.62 * x + view.rnd(line.index)
    inside = turn - torch.floor(turn)
    crest = torch.minimum(inside / 0.68, (1.0 - inside) / 0.32)
    crest = crest * crest * (3.0 - 2.0 * crest)
    rolling = 0.3 * wave(0.37 * x + view.rnd(line.index + 1))
    return (2.0 * crest - 1.0 + rolling) * line.swing + line.level, inside


def _dunes(view: View, picture: Tensor, line: Range, lit: RGB, dark: RGB, shadow: bool = False) -> None:
    """One row of dunes: a sharp crest line, its lee side in shade, fine ripples."""
    x = view.x(line.depth)
    profile, inside = _dune_line(view, line, x)
    view, picture = view.band(picture, LOWEST, float(profile.max()))
    below = profile - view.y
    sand = gradient(below, (0.0, lit), (0.35, dark))
    phase = view.rnd(line.index)
    edge = inside - 0.68 - 0.10 * wave(view.y * 1.2 + phase) - 0.35 * below.clamp_min(0.0)
    fade = (1.0 - below / (2.2 * line.swing)).clamp(0.0, 1.0) * ((1.0 - inside) / 0.2).clamp_max(1.0)
    shade = paint(dark) * 0.88
    sand = torch.lerp(sand, shade, (cover(edge / -0.62, view.px) * fade * 0.85).unsqueeze(1))
    period = 0.022 * line.depth
    weight = detail(view.px, period)
    if weight is not None:
        mark = wave((below + 0.012 * wave(x * 2.4 + phase) + 0.004 * wave(x * 9.0)) / period)
        sand.mul_((1.0 + 0.045 * weight * mark).unsqueeze(1))
    if shadow:
        soft_shadow(view, sand, -0.41, 0.35)
    blend(picture, sand, cover(-below, view.px))


def _cacti(view: View, picture: Tensor, line: Range) -> None:
    """Cacti with two arms on the dunes, on about half of the places."""
    view, picture = view.band(picture, line.level - 0.15, line.level + 0.32)
    period = 0.62
    shift = view.rnd(14) * 3.0
    x = view.x(line.depth) + shift
    cell = torch.floor(x / period)
    noise = cell_noise(cell, view.seed, 14)
    tall = torch.where(noise < 0.6, 0.14 + 0.14 * noise, 0.0) * view.clutter
    middle = (cell + 0.3 + 0.4 * noise) * period
    ground, _ = _dune_line(view, line, middle - shift)
    dx, up = x - middle, view.y - ground + 0.03
    half = 0.16 * tall
    trunk = length(dx, (up - tall).clamp_min(0.0)) - half
    side = (dx.abs() - 2.6 * half).abs()
    arm = length(side, (up - 0.80 * tall).clamp_min(0.0) + (0.52 * tall - up).clamp_min(0.0)) - 0.62 * half
    elbow = length((dx.abs() - 2.6 * half).clamp_min(0.0), up - 0.50 * tall) - 0.62 * half
    d = torch.maximum(torch.minimum(trunk, torch.minimum(arm, elbow)), -up)
    weight = torch.minimum(cover(d, view.px), 2.0 * half / view.px)
    blend(picture, (0.42, 0.60, 0.42), weight)


def snowy_hills(view: View) -> Tensor:
    """Grey-blue winter sky, white hills with firs, falling snow."""
    picture = view.fill(gradient(view.y, (0.5, (0.40, 0.46, 0.66)), (-0.05, (0.74, 0.76, 0.88))))
    hills(view, picture, Range(4, 0.4, 0.10, 0.08), (0.70, 0.76, 0.90), (0.56, 0.64, 0.84))
    far = Range(6, 0.7, -0.06, 0.05)
    hills(view, picture, far, (0.82, 0.88, 0.98), (0.64, 0.75, 0.92))
    pines(view, picture, far, 0.20, (0.24, 0.42, 0.42), (0.95, 0.97, 1.0))
    profile = Range(8, 1.0, -0.25, 0.05).heights(view)
    whole, sky = view, picture
    view, picture = view.band(picture, LOWEST, float(profile.max()))
    snow = gradient(profile - view.y, (0.0, (0.90, 0.95, 1.0)), (0.30, (0.66, 0.77, 0.94)))
    soft_shadow(view, snow, -0.41, 0.30)
    fine = detail(view.px, 0.012)
    if fine is not None:
        sparkle = cell_noise(torch.floor(view.x(1.0) / 0.006), torch.floor(view.y / 0.006), view.seed)
        snow.mul_((1.0 + (sparkle - 0.5) * 0.05 * fine).unsqueeze(1))
    blend(picture, snow, cover(view.y - profile, view.px))
    _snowfall(whole, sky)
    return sky


def _snowfall(view: View, picture: Tensor) -> None:
    """Three layers of flakes that fall and drift."""
    for index, depth, cell_size, radius in ((10, 0.6, 0.13, 0.0055), (11, 1.0, 0.22, 0.009), (12, 1.3, 0.40, 0.015)):
        fine = detail(view.px, 0.035) if radius < 0.01 else 1.0
        if fine is None:
            continue
        y = view.y + view.time * (0.28 * depth)
        row = torch.floor(y / cell_size)
        x = view.x(depth) + 0.02 * wave(view.time * 0.8 + 0.37 * row)
        column = torch.floor(x / cell_size)
        a = cell_noise(column, row, view.seed + index)
        b = cell_noise(row, column, view.seed + index)
        dx = x - (column + 0.15 + 0.7 * a) * cell_size
        dy = y - (row + 0.15 + 0.7 * b) * cell_size
        flakes = soft_dot(dx * dx + dy * dy, radius, view.px)
        blend(picture, (1.0, 1.0, 1.0), flakes.mul_((0.4 + 0.6 * view.clutter) * 0.85 * fine))


def city_at_night(view: View) -> Tensor:
    """Violet sky with a warm glow, two rows of buildings with lit windows, a street with lamps."""
    sky = gradient(view.y, (0.5, (0.12, 0.11, 0.28)), (-0.15, (0.62, 0.36, 0.46)), (-0.4, (0.86, 0.55, 0.42)))
    picture = view.fill(sky)
    _skyline(view, picture, 4, 0.6, 0.24, 0.16, 0.30, (0.30, 0.22, 0.42), 0.45)
    _skyline(view, picture, 8, 0.9, 0.32, -0.04, 0.26, (0.13, 0.12, 0.26), 0.85)
    whole = picture
    view, picture = view.band(picture, LOWEST, -0.35)
    street = view.fill(gradient(view.y, (-0.36, (0.30, 0.28, 0.38)), (-0.5, (0.20, 0.19, 0.28))))
    lamp = (torch.remainder(view.x(1.0) + view.rnd(2), 0.7) - 0.35) / 0.18
    pool = torch.exp(-lamp * lamp) * torch.exp(-(((view.y + 0.40) / 0.05) ** 2))
    blend(street, (0.98, 0.80, 0.46), pool * 0.55)
    soft_shadow(view, street, -0.42, 0.40)
    dash = cover((torch.remainder(view.x(1.0), 0.26) - 0.13).abs() - 0.075, view.px)
    line = torch.minimum(cover((view.y + 0.45).abs() - 0.006, view.px), 0.012 / view.px)
    blend(street, (0.92, 0.86, 0.62), dash * line * 0.8)
    blend(picture, street, cover(view.y + 0.36, view.px).expand(-1, -1, view.width))
    kerb = torch.minimum(cover((view.y + 0.362).abs() - 0.008, view.px), 0.016 / view.px)
    blend(picture, (0.56, 0.50, 0.54), kerb.expand(-1, -1, view.width))
    return whole


def _skyline(
    view: View,
    picture: Tensor,
    index: int,
    depth: float,
    width: float,
    level: float,
    swing: float,
    colour: RGB,
    light: float,
) -> None:
    """A row of buildings, each with its own height, and a grid of windows of which some are lit."""
    x = view.x(depth) + view.rnd(index) * 5.0
    cell = torch.floor(x / width)
    noise = cell_noise(cell, view.seed, index)
    inside = x / width - cell
    roof = level + swing * (noise - 0.5)
    gap = 0.06 * cell_noise(cell, view.seed, index + 1)
    view, picture = view.band(picture, LOWEST, float(roof.max()) + 0.09)
    mast = torch.where(noise > 0.6, 0.05, 0.0)
    spire = torch.where((inside - 0.5).abs() * width < 0.012, mast, torch.zeros_like(mast))
    across = cover((inside - 0.5).abs() * width - (0.5 - gap) * width, view.px)
    body = cover(view.y - roof - spire, view.px) * across
    tint = (noise * 5.0) % 1.0
    tone = paint(colour) * (0.85 + 0.30 * tint).unsqueeze(1)
    blend(picture, tone, body)
    pitch_x, pitch_y = width / 6.0, 0.052
    column, row = torch.floor(inside * 6.0), torch.floor((roof - view.y) / pitch_y)
    wx = (inside * 6.0 - column - 0.5).abs() * pitch_x - 0.27 * pitch_x
    wy = ((roof - view.y) / pitch_y - row - 0.55).abs() * pitch_y - 0.30 * pitch_y
    lit = cell_noise(cell * 8 + column, row, view.seed + index)
    edge = (column > 0) & (column < 5)
    warm = torch.where((lit < 0.45) & (row >= 0) & edge, light * (0.6 + lit), 0.0)
    shape: Tensor | float = 0.32  # the share of a lit cell that its window fills
    weight = detail(view.px, 0.085)
    if weight is not None:
        window = torch.minimum(cover(wx, view.px), 0.54 * pitch_x / view.px)
        window = window * torch.minimum(cover(wy, view.px), 0.60 * pitch_y / view.px)
        shape = shape + weight * (window - shape)
    blend(picture, (1.0, 0.84, 0.48), (warm * shape * body).clamp_(0.0, 1.0))


def brick_wall(view: View) -> Tensor:
    """Courses of bricks with mortar, each brick in its own tone; a strip of pavement below; soft light from above."""
    x, tall, wide = view.x(1.0), 0.088, 0.235
    row = torch.floor(view.y / tall)
    shifted = x / wide + 0.5 * torch.remainder(row, 2.0)
    column = torch.floor(shifted)
    tone = cell_noise(column, row, view.seed)
    d = torch.maximum(
        (shifted - column - 0.5).abs() * wide - (0.5 * wide - 0.009),
        (view.y / tall - row - 0.5).abs() * tall - (0.5 * tall - 0.009),
    )
    brick = torch.stack((0.62 + 0.12 * tone, 0.40 + 0.11 * tone, 0.34 + 0.09 * tone), dim=1)
    grain = detail(view.px, 0.014)
    if grain is not None:
        speck = cell_noise(torch.floor(x / 0.007), torch.floor(view.y / 0.007), view.seed)
        bevel = (d / 0.012 + 1.0).clamp(0.0, 1.0)
        brick = brick * (1.0 + grain * ((speck - 0.5) * 0.10 - 0.08 * (bevel - 0.25))).unsqueeze(1)
    mortar = paint((0.80, 0.74, 0.66))
    picture = torch.lerp(mortar.expand_as(brick), brick, cover(d, view.px).unsqueeze(1))
    x, y, half = view.subject()
    dx, dy = view.screen_x / view.zoom - x - 0.05, view.y - y + half * 0.15 + 0.05
    picture.mul_((1.0 - 0.42 * torch.exp(-1.1 * ((dx * dx + dy * dy) / (half * half)) ** 2)).unsqueeze(1))
    lamp = view.x(1.0) - view.rnd(0, -0.5, 0.5)
    glow = torch.exp(-(lamp * lamp + (view.y - 0.45) ** 2) * 2.2)
    picture.mul_((0.90 + 0.22 * glow).unsqueeze(1))
    whole = picture
    view, picture = view.band(picture, LOWEST, -0.41)
    pavement = view.fill(gradient(view.y, (-0.40, (0.66, 0.64, 0.64)), (-0.5, (0.54, 0.53, 0.56))))
    joint = torch.minimum(
        cover((torch.remainder(view.x(1.0) + 0.3 * view.y, 0.42) - 0.21).abs() - 0.004, view.px), 0.008 / view.px
    )
    blend(pavement, (0.40, 0.39, 0.43), joint * 0.7)
    blend(picture, pavement, cover(view.y + 0.41, view.px).expand(-1, -1, view.width))
    return whole
