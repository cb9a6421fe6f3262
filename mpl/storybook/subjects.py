"""The figures: vector art made of signed distances, one function per subject, each with its own silhouette.

Every function draws on a `Canvas`: the figure looks right, its box is [-1, 1], +v is up. The coat's colour covers
most of a figure, so that the colour can be told at 64x40.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .canvas import CREAM, INK, Canvas
from .sdf import box, capsule, circle, convex, ellipse, heart, petals, rotated, smooth_union, star
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
    hull = box(u, v, 0.0, -0.22, 1.12, 0.36, 0.24)
    c.part(smooth_union(cabin, hull, 0.12))
    c.detail(box(u, v, 0.0, -0.50, 1.06, 0.06, 0.05), METAL)
    for left, right, top_left, top_right in ((-0.66, -0.18, -0.47, -0.18), (-0.02, 0.46, -0.02, 0.19)):
        window = convex(u, v, ((left, 0.08), (right, 0.08), (top_right, 0.58), (top_left, 0.58)))
        c.detail(window, GLASS)
        c.stroke(window, 0.035)
        c.detail(torch.maximum(window + 0.03, (u - v * 0.5 - left - 0.12).abs() - 0.05), (1.0, 1.0, 1.0), 0.7)
    c.stroke(box(u, v, 0.22, -0.14, 0.32, 0.18, 0.05), 0.022, opacity=0.6)
    c.detail(box(u, v, 0.02, -0.06, 0.07, 0.025, 0.02), METAL)
    c.detail(ellipse(u, v, 1.0, -0.14, 0.10, 0.12), (1.0, 0.93, 0.62))
    c.detail(box(u, v, -1.06, -0.14, 0.05, 0.10, 0.04), (0.75, 0.12, 0.12))
    for hub in (-0.62, 0.62):
        distance = torch.hypot(u - hub, v + 0.55)
        c.part(distance - 0.29, TYRE, line=0.03)
        c.detail(distance - 0.16, METAL)
        x, y = rotated(u, v, hub, -0.55, -c.rolled * 3.0 - c.phase)
        spoke = torch.minimum(x.abs(), y.abs()) - 0.022
        c.detail(torch.maximum(spoke, distance - 0.15), TYRE, 0.7)
    c.gloss(-0.2, 0.02, 0.55, 0.05, 0.0, 0.35)


def _boat(c: Canvas) -> None:
    u, v = rotated(c.u, c.v, 0.0, -0.6, wave(c.beat * 0.5) * 0.05)
    v = v - 0.6
    c.part(capsule(u, v, (0.02, -0.45), (0.02, 0.92), 0.035), WOOD, line=0.03)
    belly = 0.10 * (v + 0.1)
    c.part(convex(u - belly, v, ((0.12, -0.26), (0.90, -0.26), (0.12, 0.70)), 0.03), CREAM)
    c.part(convex(u, v, ((-0.88, -0.26), (-0.06, -0.26), (-0.06, 0.86)), 0.03))
    c.stroke(v - 0.16 + torch.where(u < -0.06, 0.0, 9.0), 0.025, opacity=0.0)
    flutter = 0.03 * wave(c.beat + u * 2.0)
    c.part(convex(u, v - flutter, ((0.06, 0.80), (0.42, 0.90), (0.06, 1.0))), factor=0.9, line=0.03)
    hull = convex(u, v, ((-0.66, -0.93), (0.62, -0.93), (1.10, -0.36), (-1.02, -0.36)), 0.03)
    c.part(hull)
    c.detail(torch.maximum(hull + 0.03, (v + 0.45).abs() - 0.055), CREAM)
    c.detail(torch.maximum(hull + 0.03, v + 0.80), INK, 0.35)
    for window in (-0.36, 0.04, 0.44):
        c.detail(circle(u, v, window, -0.65, 0.085), GLASS)
        c.stroke(circle(u, v, window, -0.65, 0.085), 0.035)


def _rocket(c: Canvas) -> None:
    u, v = c.u, c.v
    flicker = 0.08 * wave(c.beat * 2.0) + 0.04 * wave(c.beat * 3.1)
    c.part(convex(u, v, ((-0.20, -0.55), (0.0, -0.97 + 0.0), (0.20, -0.55)), 0.02), (0.99, 0.58, 0.16), line=0.03)
    c.detail(ellipse(u, v, 0.0, -0.60 + flicker * 0.5, 0.10, 0.22), (1.0, 0.92, 0.55))
    for side in (-1.0, 1.0):
        fin = convex(u * side, v, ((0.22, -0.52), (0.72, -0.80), (0.66, -0.30), (0.30, 0.12)), 0.04)
        c.part(fin, factor=0.78)
    x = u.abs()
    hull = torch.maximum(torch.hypot(x + 0.62, v - 0.02) - 1.06, -(v + 0.60))
    c.part(hull)
    c.detail(torch.maximum(hull, 0.50 - v), CREAM)
    c.stroke(torch.maximum(hull, (v - 0.50).abs()), 0.035)
    c.detail(torch.maximum(hull, (v + 0.47).abs() - 0.05), METAL)
    port = circle(u, v, 0.0, 0.16, 0.20)
    c.detail(port, METAL)
    c.stroke(port, 0.04)
    c.detail(port + 0.06, GLASS)
    c.detail(torch.maximum(port + 0.08, (u - v * 0.6 + 0.10).abs() - 0.035), (1.0, 1.0, 1.0), 0.8)
    c.part(capsule(u, v, (0.0, -0.68), (0.0, -0.34), 0.06), factor=0.7, line=0.03)
    c.gloss(-0.26, 0.05, 0.06, 0.42, 0.0, 0.4)


def _balloon(c: Canvas) -> None:
    u, v = c.u, c.v
    for side in (-1.0, 1.0):
        c.thread(capsule(u, v, (side * 0.24, -0.46), (side * 0.16, -0.74), 0.0), 0.03)
    c.part(box(u, v, 0.0, -0.84, 0.20, 0.13, 0.05), WOOD, line=0.035)
    for line in (-0.78, -0.85, -0.92):
        c.stroke(torch.maximum((v - line).abs(), u.abs() - 0.18), 0.018, opacity=0.5)
    dome = torch.hypot(u, v - 0.27) - 0.72
    skirt = convex(u, v, ((-0.24, -0.50), (0.24, -0.50), (0.69, 0.06), (-0.69, 0.06)))
    envelope = smooth_union(dome, skirt, 0.10)
    c.part(envelope)
    width = ((v + 1.05) * (1.15 - v)).clamp_min(0.02).sqrt() * 0.68
    gores = u / width
    seams = torch.minimum(gores.abs(), (gores.abs() - 0.58).abs()) * width
    c.stroke(torch.maximum(seams, envelope), 0.028, opacity=0.55)
    c.detail(torch.maximum(envelope, v + 0.36), CREAM)
    c.stroke(torch.maximum(envelope, (v + 0.36).abs()), 0.035)
    c.gloss(-0.32, 0.55, 0.22, 0.12, 0.7)


def _bird(c: Canvas) -> None:
    u, v = c.u, c.v
    flap = wave(c.beat)
    for foot in (-0.10, 0.16):
        c.thread(capsule(u, v, (foot, -0.55), (foot + 0.03, -0.88), 0.0), 0.05, BEAK)
        c.thread(capsule(u, v, (foot - 0.02, -0.90), (foot + 0.16, -0.90), 0.0), 0.05, BEAK)
    x, y = rotated(u, v, -0.55, -0.12, -0.35)
    c.part(convex(x, y, ((-0.62, -0.20), (0.1, -0.16), (0.1, 0.16), (-0.62, 0.24)), 0.03), factor=0.8)
    c.part(convex(u, v, ((0.78, 0.28), (1.12, 0.34), (0.78, 0.52)), 0.02), BEAK, line=0.035)
    x, y = rotated(u, v, -0.02, -0.18, 0.18)
    body = ellipse(x, y, 0.0, 0.0, 0.66, 0.44)
    head = circle(u, v, 0.46, 0.40, 0.38)
    whole = smooth_union(body, head, 0.30)
    c.part(whole)
    c.detail(torch.maximum(whole + 0.02, ellipse(u, v, 0.22, -0.42, 0.44, 0.26)), CREAM, 0.75)
    c.eye(0.56, 0.48, 0.12)
    c.detail(circle(u, v, 0.40, 0.26, 0.08), (0.98, 0.45, 0.45), 0.5)
    x, y = rotated(u, v, 0.10, -0.05, -0.45 - 0.35 * flap)
    wing = torch.maximum(ellipse(x, y, -0.42, 0.05, 0.55, 0.30), -(x + 1.2))
    c.part(wing, factor=0.86)
    for step in (0.28, 0.50, 0.72):
        c.stroke(torch.maximum(wing + 0.03, (torch.hypot(x + 0.2, y - 0.1) - step).abs()), 0.022, opacity=0.5)


def _butterfly(c: Canvas) -> None:
    fold = 0.90 + 0.10 * wave(c.beat)
    u, v = c.u, c.v
    x = u.abs() / fold
    for reach in (0.30,):
        c.thread(torch.maximum((torch.hypot(u.abs() - 0.36, v - 0.62) - reach).abs(), 0.62 - v - 0.1), 0.035)
    a, b = rotated(x, v, 0.10, -0.10, -0.85)
    lower = ellipse(a, b, 0.46, 0.0, 0.46, 0.34)
    c.part(lower, factor=0.84)
    c.stroke(torch.maximum(b.abs(), lower + 0.10), 0.028, opacity=0.5)
    a, b = rotated(x, v, 0.06, 0.06, 0.62)
    upper = ellipse(a, b, 0.62, 0.0, 0.60, 0.42)
    c.part(upper)
    c.stroke(torch.maximum((b.abs() - 0.24 * a).abs(), upper + 0.12), 0.028, opacity=0.5)
    c.stroke(torch.maximum(b.abs(), upper + 0.12), 0.028, opacity=0.5)
    c.detail(torch.maximum(upper, -(upper + 0.09)), CREAM, 0.55)
    c.part(capsule(u, v, (0.0, -0.56), (0.0, 0.38), 0.09), (0.30, 0.22, 0.24), line=0.02)
    c.part(circle(u, v, 0.0, 0.50, 0.14), (0.30, 0.22, 0.24), line=0.02)
    for side in (-1.0, 1.0):
        c.detail(circle(u, v, side * 0.05, 0.53, 0.035), (1.0, 1.0, 1.0))


def _fish(c: Canvas) -> None:
    v = c.v + 0.05 * wave(c.beat - c.u * 0.25) * (0.4 - c.u).clamp(0.0, 1.4)
    u = c.u
    x, y = rotated(u, v.abs(), -0.50, 0.02, 2.52)
    tail = ellipse(x, y, 0.32, 0.0, 0.38, 0.19)
    c.part(tail, factor=0.9)
    c.stroke(torch.maximum(y.abs(), tail + 0.07), 0.025, opacity=0.5)
    c.part(convex(u, v, ((-0.36, 0.40), (0.44, 0.40), (0.04, 0.78), (-0.34, 0.80)), 0.06), factor=0.9)
    c.part(convex(u, v, ((-0.22, -0.80), (0.00, -0.78), (0.28, -0.46), (-0.10, -0.50)), 0.05), factor=0.9)
    body = torch.maximum(torch.hypot(u - 0.20, v + 0.42) - 1.02, torch.hypot(u - 0.20, v - 0.42) - 1.02)
    body = smooth_union(body, ellipse(u, v, 0.26, 0.0, 0.74, 0.58), 0.10)
    c.part(body)
    c.detail(torch.maximum(body + 0.02, ellipse(u, v, 0.20, -0.62, 0.62, 0.34)), CREAM, 0.55)
    x, y = u * 5.0, v * 5.0
    scale = torch.hypot(torch.remainder(x + 0.5 * torch.remainder(torch.floor(y), 2.0), 1.0) - 0.5, y - torch.floor(y))
    scales = torch.maximum((scale - 0.46).abs() / 5.0, torch.maximum(u - 0.24, body + 0.08))
    c.stroke(scales, 0.016, opacity=0.35)
    c.stroke(torch.maximum(torch.hypot(u - 0.95, v) - 0.62, 0.0 * u - 9.0).abs() + (u - 0.55).clamp_min(0.0), 0.03)
    c.eye(0.62, 0.18, 0.15)
    c.smile(0.84, -0.10, 0.14)
    fin = c.beat * 1.5
    x, y = rotated(u, v, 0.18, -0.10, 0.35 + 0.2 * wave(fin))
    c.part(ellipse(x, y, -0.20, 0.0, 0.24, 0.14), factor=0.9, line=0.03)


def _ball(c: Canvas) -> None:
    u, v = rotated(c.u, c.v, 0.0, 0.0, -c.rolled)
    distance = torch.hypot(u, v)
    c.part(distance - 0.93)
    twisted = torch.atan2(v, u) + 0.45 * distance
    sector = 2.0 * math.pi / 3.0
    fold = (twisted - torch.round(twisted / sector) * sector).abs()
    edge = torch.maximum((fold - sector * 0.20) * distance, distance - 0.93)
    c.detail(edge, CREAM)
    c.stroke(torch.maximum(((fold - sector * 0.20) * distance).abs(), distance - 0.93), 0.03, opacity=0.7)
    c.detail(distance - 0.17, (0.98, 0.97, 0.93))
    c.stroke(distance - 0.17, 0.035)
    shadow = torch.hypot(c.u + 0.22, c.v - 0.25)
    c.detail(torch.minimum(0.93 - distance, 0.98 - shadow).neg().maximum(distance - 0.93), INK, 0.0)
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
    for side, height in ((-1.0, -0.72), (1.0, -0.60)):
        x, y = rotated(u * side, v, 0.03, height, 0.45)
        leaf = torch.maximum(torch.hypot(x - 0.30, y + 0.24) - 0.39, torch.hypot(x - 0.30, y - 0.24) - 0.39)
        c.part(leaf, LEAF, line=0.035)
    x, y = u, v - 0.30
    ring = petals(x, y, 6, 0.45, 0.27, 0.5)
    c.part(ring)
    angle = torch.atan2(y, x)
    crease = torch.sin((angle - 0.5) * 3.0).abs() * torch.hypot(x, y)
    c.stroke(torch.maximum(crease * 0.4 + 0.0, ring + 0.10), 0.02, opacity=0.25)
    centre = torch.hypot(x, y)
    c.part(centre - 0.29, (0.72, 0.46, 0.20))
    c.face(0.0, 0.30, 0.25)


def _heart(c: Canvas) -> None:
    scale = 1.62
    beat = 1.0 + 0.025 * wave(c.beat)
    u, v = c.u / (scale * beat), (c.v / beat + 0.92) / scale
    shape = heart(u, v) * scale
    c.part(shape + 0.02)
    c.stroke(torch.maximum(shape + 0.16, 0.0 * u - 9.0), 0.03, (1.0, 1.0, 1.0), 0.30)
    c.gloss(-0.50, 0.46, 0.26, 0.14, 0.8, 0.75)
    c.gloss(-0.18, 0.62, 0.06, 0.05, 0.8, 0.6)


def _ghost(c: Canvas) -> None:
    u, v = c.u, c.v
    sway = 0.06 * wave(c.beat * 0.5 + v * 0.15) * (0.3 - v).clamp(0.0, 1.2)
    u = u + sway
    hem = -0.80 + 0.10 * torch.cos(u * (3.0 * math.pi / 0.72) + 1.5 * wave(c.beat * 0.5))
    cloak = torch.maximum(u.abs() - 0.70 - 0.08 * (0.2 - v).clamp_min(0.0), (hem - v) * 0.75)
    cloak = torch.maximum(cloak, v - 0.26)
    shape = torch.minimum(cloak, torch.hypot(u, v - 0.24) - 0.70)
    for side in (-1.0, 1.0):
        arm = capsule(u, v, (side * 0.60, -0.12), (side * 0.98, 0.12 + 0.06 * wave(c.beat)), 0.14)
        shape = smooth_union(shape, arm, 0.12)
    c.part(shape)
    side = u.abs()
    c.detail(torch.hypot(side - 0.25, (v - 0.36) * 0.72) - 0.13, (0.12, 0.10, 0.17))
    c.detail(torch.hypot(u - 0.05 - 0.25 * torch.sign(u), v - 0.43) - 0.045, (1.0, 1.0, 1.0))
    c.detail(torch.hypot(side - 0.42, v - 0.10) - 0.10, (0.98, 0.45, 0.45), 0.5)
    c.detail(ellipse(u, v, 0.0, 0.02, 0.09, 0.12), (0.12, 0.10, 0.17))
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
