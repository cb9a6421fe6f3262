"""The figures: vector art made of signed distances, one function per subject, each with its own silhouette.

Every function draws on a `Canvas`: the figure looks right, its box is [-1, 1], +v is up. The coat's colour covers
most of a figure, so that the colour can be told at 64x40.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .canvas import CREAM, DARK, INK, ROSY, WHITE, Canvas
from .sdf import box, capsule, circle, convex, ellipse, heart, length, petals, rotated, smooth_union, star
from .view import RGB, Row, wave

GLASS: RGB = (0.74, 0.90, 0.97)
TYRE: RGB = (0.20, 0.19, 0.24)
METAL: RGB = (0.82, 0.83, 0.86)
WOOD: RGB = (0.62, 0.42, 0.25)
BEAK: RGB = (0.98, 0.66, 0.16)
LEAF: RGB = (0.33, 0.62, 0.25)


def draw_subject(rows: list[Row], x: Tensor, y: Tensor, px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draws rows of one subject at screen coordinates x (R, 1, w) and y (R, h, 1).

    Returns the premultiplied picture (R, 3, h, w), its coverage and the weight of the pale rim below it (R, 1, h, w).
    """
    canvas = Canvas(rows, x, y, px)
    _DRAWINGS[rows[0].scene.subject](canvas)
    return canvas.finish()


def _car(c: Canvas) -> None:
    u, v = c.u, c.v
    cabin = convex(u, v, ((-0.80, 0.0), (0.62, 0.0), (0.26, 0.66), (-0.52, 0.66)), 0.10)
    c.part(smooth_union(cabin, box(u, v, 0.0, -0.22, 1.12, 0.36, 0.24), 0.12))
    c.detail(box(u, v, 0.0, -0.50, 1.06, 0.06, 0.05), METAL)
    for left, right, top_left, top_right in ((-0.66, -0.18, -0.47, -0.18), (-0.02, 0.46, -0.02, 0.19)):
        window = convex(u, v, ((left, 0.08), (right, 0.08), (top_right, 0.58), (top_left, 0.58)))
        c.detail(window - 0.02, INK, 0.8)
        c.detail(window + 0.02, GLASS)
        if c.fine is not None:
            c.detail(torch.maximum(window + 0.03, (u - v * 0.5 - left - 0.12).abs() - 0.05), WHITE, 0.7, fine=True)
    c.detail(ellipse(u, v, 1.0, -0.14, 0.10, 0.12), (1.0, 0.93, 0.62))
    c.detail(box(u, v, -1.06, -0.14, 0.05, 0.10, 0.04), (0.75, 0.12, 0.12))
    if c.fine is not None:
        c.stroke(box(u, v, 0.22, -0.14, 0.32, 0.18, 0.05), 0.022, opacity=0.6)
        c.detail(box(u, v, 0.02, -0.06, 0.07, 0.025, 0.02), METAL, fine=True)
        c.gloss(-0.2, 0.02, 0.55, 0.05, 0.0, 0.35)
    for hub in (-0.62, 0.62):
        distance = length(u - hub, v + 0.55)
        c.part(distance - 0.29, TYRE, line=0.03)
        c.detail(distance - 0.16, METAL)
        if c.fine is not None:
            x, y = rotated(u, v, hub, -0.55, -c.rolled * 3.0 - c.phase)
            spoke = torch.minimum(x.abs(), y.abs()) - 0.022
            c.detail(torch.maximum(spoke, distance - 0.15), TYRE, 0.7, fine=True)


def _boat(c: Canvas) -> None:
    u, v = rotated(c.u, c.v, 0.0, -0.6, wave(c.beat * 0.5) * 0.05)
    v = v - 0.6
    c.part(capsule(u, v, (0.02, -0.45), (0.02, 0.92), 0.035), WOOD, line=0.03)
    c.part(convex(u - 0.10 * (v + 0.1), v, ((0.12, -0.26), (0.90, -0.26), (0.12, 0.70)), 0.03), CREAM)
    c.part(convex(u, v, ((-0.88, -0.26), (-0.06, -0.26), (-0.06, 0.86)), 0.03))
    flutter = 0.03 * wave(c.beat + u * 2.0)
    c.part(convex(u, v - flutter, ((0.06, 0.80), (0.42, 0.90), (0.06, 1.0))), factor=0.9, line=0.03)
    hull = convex(u, v, ((-0.66, -0.93), (0.62, -0.93), (1.10, -0.36), (-1.02, -0.36)), 0.03)
    c.part(hull)
    c.detail(torch.maximum(hull + 0.03, (v + 0.45).abs() - 0.055), CREAM)
    c.detail(torch.maximum(hull + 0.03, v + 0.80), INK, 0.35)
    # Three portholes, one period of 0.4 each.
    port = length((u - 0.04).abs() - 0.4 * ((u - 0.04).abs() > 0.2), v + 0.65) - 0.085
    c.detail(port, GLASS)
    c.stroke(port, 0.035)


def _rocket(c: Canvas) -> None:
    u, v = c.u, c.v
    flicker = 0.08 * wave(c.beat * 2.0) + 0.04 * wave(c.beat * 3.1)
    c.part(convex(u, v, ((-0.20, -0.55), (0.0, -0.97), (0.20, -0.55)), 0.02), (0.99, 0.58, 0.16), line=0.03)
    c.detail(ellipse(u, v, 0.0, -0.60 + flicker * 0.5, 0.10, 0.22), (1.0, 0.92, 0.55))
    c.part(convex(u.abs(), v, ((0.22, -0.52), (0.72, -0.80), (0.66, -0.30), (0.30, 0.12)), 0.04), factor=0.80)
    hull = torch.maximum(length(u.abs() + 0.62, v - 0.02) - 1.06, -(v + 0.60))
    c.part(hull)
    c.detail(torch.maximum(hull, 0.50 - v), CREAM)
    c.detail(torch.maximum(hull, (v + 0.47).abs() - 0.05), METAL)
    port = length(u, v - 0.16)
    c.detail(port - 0.20, METAL)
    c.detail(port - 0.14, GLASS)
    if c.fine is not None:
        c.stroke(torch.maximum(hull, (v - 0.50).abs()), 0.035)
        c.stroke(port - 0.20, 0.04)
        c.detail(torch.maximum(port - 0.12, (u - v * 0.6 + 0.10).abs() - 0.035), WHITE, 0.8, fine=True)
        c.gloss(-0.26, 0.05, 0.06, 0.42, 0.0, 0.4)
    c.part(capsule(u, v, (0.0, -0.68), (0.0, -0.34), 0.06), factor=0.75, line=0.03)


def _balloon(c: Canvas) -> None:
    u, v = c.u, c.v
    c.thread(capsule(u.abs(), v, (0.24, -0.46), (0.16, -0.74), 0.0), 0.03)
    c.part(box(u, v, 0.0, -0.84, 0.20, 0.13, 0.05), WOOD, line=0.035)
    if c.fine is not None:
        weave = (torch.remainder(v / 0.07, 1.0) - 0.5).abs() * 0.07
        c.stroke(torch.maximum(weave, box(u, v, 0.0, -0.84, 0.18, 0.11)), 0.018, opacity=0.5)
    skirt = convex(u, v, ((-0.24, -0.50), (0.24, -0.50), (0.60, -0.03), (-0.60, -0.03)))
    envelope = smooth_union(length(u, v - 0.27) - 0.72, skirt, 0.14)
    c.part(envelope)
    c.detail(torch.maximum(envelope, v + 0.36), CREAM)
    if c.fine is not None:
        width = ((v + 1.05) * (1.15 - v)).clamp_min(0.02).sqrt() * 0.68
        gores = (u / width).abs()
        c.stroke(torch.maximum(torch.minimum(gores, (gores - 0.58).abs()) * width, envelope), 0.028, opacity=0.55)
        c.stroke(torch.maximum(envelope, (v + 0.36).abs()), 0.035)
    c.gloss(-0.32, 0.55, 0.22, 0.12, 0.7)


def _bird(c: Canvas) -> None:
    u, v = c.u, c.v
    for foot in (-0.10, 0.16):
        c.thread(capsule(u, v, (foot, -0.55), (foot + 0.03, -0.88), 0.0), 0.05, BEAK)
        c.thread(capsule(u, v, (foot - 0.02, -0.90), (foot + 0.16, -0.90), 0.0), 0.05, BEAK)
    x, y = rotated(u, v, -0.55, -0.12, -0.35)
    c.part(convex(x, y, ((-0.62, -0.20), (0.1, -0.16), (0.1, 0.16), (-0.62, 0.24)), 0.03), factor=0.85)
    c.part(convex(u, v, ((0.78, 0.28), (1.12, 0.34), (0.78, 0.52)), 0.02), BEAK, line=0.035)
    x, y = rotated(u, v, -0.02, -0.18, 0.18)
    whole = smooth_union(ellipse(x, y, 0.0, 0.0, 0.66, 0.44), circle(u, v, 0.46, 0.40, 0.38), 0.30)
    c.part(whole)
    c.detail(torch.maximum(whole + 0.02, ellipse(u, v, 0.22, -0.42, 0.44, 0.26)), CREAM, 0.75)
    c.eye(0.56, 0.48, 0.12)
    x, y = rotated(u, v, 0.10, -0.05, -0.45 - 0.35 * wave(c.beat))
    wing = ellipse(x, y, -0.42, 0.05, 0.55, 0.30)
    c.part(wing, factor=0.88)
    if c.fine is not None:
        c.detail(circle(u, v, 0.40, 0.26, 0.08), ROSY, 0.5, fine=True)
        feathers = (torch.remainder(length(x + 0.2, y - 0.1) / 0.22 - 0.77, 1.0) - 0.5).abs() * 0.22
        c.stroke(torch.maximum(torch.maximum(wing + 0.03, x + 0.42), feathers), 0.022, opacity=0.5)


def _butterfly(c: Canvas) -> None:
    u, v = c.u, c.v
    x = u.abs() / (0.90 + 0.10 * wave(c.beat))
    c.thread(torch.maximum((length(u.abs() - 0.36, v - 0.62) - 0.30).abs(), 0.52 - v), 0.035)
    a, b = rotated(x, v, 0.10, -0.10, -0.85)
    lower = ellipse(a, b, 0.46, 0.0, 0.46, 0.34)
    c.part(lower, factor=0.88)
    c.stroke(torch.maximum(b.abs(), lower + 0.10), 0.028, opacity=0.5)
    a, b = rotated(x, v, 0.06, 0.06, 0.62)
    upper = ellipse(a, b, 0.62, 0.0, 0.60, 0.42)
    c.part(upper)
    if c.fine is not None:
        veins = torch.minimum((b.abs() - 0.24 * a).abs(), b.abs())
        c.stroke(torch.maximum(veins, upper + 0.12), 0.028, opacity=0.5)
    c.detail(torch.maximum(upper, -(upper + 0.09)), CREAM, 0.55)
    body = torch.minimum(capsule(u, v, (0.0, -0.56), (0.0, 0.38), 0.09), length(u, v - 0.50) - 0.14)
    c.part(body, (0.30, 0.22, 0.24), line=0.02)
    c.detail(length(u.abs() - 0.05, v - 0.53) - 0.035, WHITE, fine=True)


def _fish(c: Canvas) -> None:
    u = c.u
    v = c.v + 0.05 * wave(c.beat - c.u * 0.25) * (0.4 - c.u).clamp(0.0, 1.4)
    x, y = rotated(u, v.abs(), -0.50, 0.02, 2.52)
    tail = ellipse(x, y, 0.32, 0.0, 0.38, 0.19)
    c.part(tail, factor=0.9)
    c.stroke(torch.maximum(y.abs(), tail + 0.07), 0.025, opacity=0.5)
    c.part(convex(u, v, ((-0.36, 0.40), (0.44, 0.40), (0.04, 0.78), (-0.34, 0.80)), 0.06), factor=0.9)
    c.part(convex(u, v, ((-0.22, -0.80), (0.00, -0.78), (0.28, -0.46), (-0.10, -0.50)), 0.05), factor=0.9)
    body = length(u - 0.20, v.abs() + 0.42) - 1.02
    body = smooth_union(body, ellipse(u, v, 0.26, 0.0, 0.74, 0.58), 0.10)
    c.part(body)
    c.detail(torch.maximum(body + 0.02, ellipse(u, v, 0.20, -0.62, 0.62, 0.34)), CREAM, 0.55)
    c.eye(0.62, 0.18, 0.15)
    c.smile(0.84, -0.10, 0.14)
    if c.fine is not None:
        x, y = u * 5.0, v * 5.0
        x = torch.remainder(x + 0.5 * torch.remainder(torch.floor(y), 2.0), 1.0) - 0.5
        scales = (length(x, y - torch.floor(y)) - 0.46).abs() / 5.0
        c.stroke(torch.maximum(scales, torch.maximum(u - 0.24, body + 0.08)), 0.016, opacity=0.35)
        gill = (length(u - 0.95, v) - 0.62).abs()
        c.stroke(gill + (u - 0.55).clamp_min(0.0), 0.03)
    x, y = rotated(u, v, 0.18, -0.10, 0.35 + 0.2 * wave(c.beat * 1.5))
    c.part(ellipse(x, y, -0.20, 0.0, 0.24, 0.14), factor=0.9, line=0.03)


def _ball(c: Canvas) -> None:
    u, v = rotated(c.u, c.v, 0.0, 0.0, -c.rolled)
    distance = length(u, v)
    c.part(distance - 0.93)
    sector = 2.0 * math.pi / 3.0
    twisted = torch.atan2(v, u) + 0.45 * distance
    seam = ((twisted - torch.round(twisted / sector) * sector).abs() - sector * 0.20) * distance
    c.detail(torch.maximum(seam, distance - 0.93), c.pale)
    c.stroke(torch.maximum(seam.abs(), distance - 0.93), 0.03, opacity=0.7)
    c.detail(distance - 0.17, (0.98, 0.97, 0.93))
    c.stroke(distance - 0.17, 0.035)
    c.gloss(-0.36, 0.48, 0.20, 0.12, 0.7, 0.6)


def _star(c: Canvas) -> None:
    points = star(c.u, c.v + 0.06, 0.98, 0.50) - 0.07
    c.part(points)
    c.stroke(points + 0.10, 0.025, (1.0, 0.99, 0.92), 0.45)
    c.face(0.0, -0.02, 0.52)
    c.gloss(-0.12, 0.58, 0.08, 0.16, -0.2, 0.4)


def _flower(c: Canvas) -> None:
    bend = 0.05 * wave(c.beat * 0.5)
    u, v = c.u + bend * (c.v + 1.0).clamp_min(0.0) ** 2 * 0.5, c.v
    c.part(capsule(u, v, (0.0, -0.95), (0.0, 0.1), 0.06), LEAF, line=0.035)
    x, y = rotated(u.abs(), v + 0.66 + 0.06 * torch.sign(u), 0.03, 0.0, 0.45)
    c.part(length(x - 0.30, y.abs() + 0.24) - 0.39, LEAF, line=0.035)
    x, y = u, v - 0.30
    ring = petals(x, y, 6, 0.45, 0.27, 0.5)
    c.part(ring)
    distance = length(x, y)
    if c.fine is not None:
        crease = torch.sin((torch.atan2(y, x) - 0.5) * 3.0).abs() * distance * 0.4
        c.stroke(torch.maximum(crease, ring + 0.10), 0.02, opacity=0.25)
    c.part(distance - 0.29, (0.72, 0.46, 0.20))
    c.face(0.0, 0.30, 0.25)


def _heart(c: Canvas) -> None:
    beat = 1.0 + 0.025 * wave(c.beat)
    scale = 1.62
    shape = heart(c.u / (scale * beat), (c.v / beat + 0.92) / scale) * scale
    c.part(shape + 0.02)
    c.stroke(shape + 0.16, 0.03, WHITE, 0.30)
    c.gloss(-0.50, 0.46, 0.26, 0.14, 0.8, 0.75)
    c.gloss(-0.18, 0.62, 0.06, 0.05, 0.8, 0.6)


def _ghost(c: Canvas) -> None:
    v = c.v
    u = c.u + 0.06 * wave(c.beat * 0.5 + v * 0.15) * (0.3 - v).clamp(0.0, 1.2)
    side = u.abs()
    hem = -0.80 + 0.10 * torch.cos(u * (3.0 * math.pi / 0.72) + 1.5 * wave(c.beat * 0.5))
    cloak = torch.maximum(side - 0.70 - 0.08 * (0.2 - v).clamp_min(0.0), (hem - v) * 0.75)
    shape = torch.minimum(torch.maximum(cloak, v - 0.26), length(u, v - 0.24) - 0.70)
    arm = capsule(side, v, (0.60, -0.12), (0.98, 0.12 + 0.06 * wave(c.beat)), 0.14)
    c.part(smooth_union(shape, arm, 0.12))
    c.detail(length(side - 0.25, (v - 0.36) * 0.72) - 0.13, DARK)
    c.detail(ellipse(u, v, 0.0, 0.02, 0.09, 0.12), DARK)
    c.detail(length(side - 0.42, v - 0.10) - 0.10, ROSY, 0.5)
    c.detail(length(u - 0.05 - 0.25 * torch.sign(u), v - 0.43) - 0.045, WHITE)
    c.gloss(-0.34, 0.66, 0.16, 0.09, 0.7, 0.5)


_DRAWINGS: dict[str, Callable[[Canvas], None]] = {
    "car": _car,
    "boat": _boat,
    "rocket": _rocket,
    "balloon": _balloon,
    "bird": _bird,
    "butterfly": _butterfly,
    "fish": _fish,
    "ball": _ball,
    "star": _star,
    "flower": _flower,
    "heart": _heart,
    "ghost": _ghost,
}
