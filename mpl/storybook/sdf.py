"""Signed distances of simple shapes and their anti-aliased coverage.

Distances are negative inside and in the units of the coordinates. `px` is the width of a pixel in the same units: a
pixel's coverage by a straight edge at distance d from its centre is 1/2 - d/px, which makes a drawing at low
resolution agree with the average of one at high resolution. Tensors are rows (pictures) x height x width; numbers may
be replaced by tensors that broadcast. Ellipse, star and heart follow Inigo Quilez's articles on 2-D distances.
"""

import math

import torch
from torch import Tensor

Number = float | Tensor


def length(x: Tensor, y: Tensor) -> Tensor:
    """Length of a vector field; twice as fast as `torch.hypot`, and no coordinate here is near overflow."""
    return (x * x).add(y * y).sqrt_()


def cover(d: Tensor, px: Tensor) -> Tensor:
    """Coverage in [0, 1] of pixels by a shape with distance `d`."""
    return torch.div(d, px).neg_().add_(0.5).clamp_(0.0, 1.0)


def cover_thin(d: Tensor, width: float, px: Tensor) -> Tensor:
    """Coverage by a stroke of a given width, which may be thinner than a pixel."""
    return torch.minimum(cover(d, px), width / px)


def soft_dot(d2: Tensor, radius: Number, px: Tensor) -> Tensor:
    """A blurred dot from squared distances; smaller than a pixel it keeps its light, spread over the pixel."""
    own = radius * radius
    spread = own + 0.12 * px * px
    return torch.exp(d2 * (-0.7 / spread)) * (own / spread)


def detail(px: Tensor, period: Number) -> Tensor | None:
    """Weight in [0, 1] with which a detail of a given period shows; 0 below 1.4 pixels a period, None if all are 0.

    What fades this way must vary around its mean, so that a coarse picture shows the mean.
    """
    weight = ((period / px - 1.4) / 1.6).clamp_(0.0, 1.0)
    return weight if bool(weight.any()) else None


def circle(u: Tensor, v: Tensor, cx: Number, cy: Number, r: Number) -> Tensor:
    """Distance to a circle."""
    return length(u - cx, v - cy) - r


def ellipse(u: Tensor, v: Tensor, cx: Number, cy: Number, a: float, b: float) -> Tensor:
    """Distance to an axis-parallel ellipse: first order, exact on the border."""
    x, y = (u - cx) / a, (v - cy) / b
    k0 = length(x, y)
    k1 = length(x / a, y / b).clamp_min_(1e-4)
    return k0 * (k0 - 1.0) / k1


def box(u: Tensor, v: Tensor, cx: Number, cy: Number, half_u: float, half_v: float, r: float = 0.0) -> Tensor:
    """Distance to an axis-parallel box with rounded corners."""
    x = (u - cx).abs_() - (half_u - r)
    y = (v - cy).abs_() - (half_v - r)
    outside = length(x.clamp_min(0.0), y.clamp_min(0.0))
    return outside + torch.maximum(x, y).clamp_max_(0.0) - r


def capsule(u: Tensor, v: Tensor, start: tuple[Number, Number], end: tuple[Number, Number], r: float) -> Tensor:
    """Distance to a line with round ends."""
    du, dv = end[0] - start[0], end[1] - start[1]
    x, y = u - start[0], v - start[1]
    along = ((x * du + y * dv) / (du * du + dv * dv)).clamp_(0.0, 1.0)
    return length(x - along * du, y - along * dv) - r


def convex(u: Tensor, v: Tensor, corners: tuple[tuple[float, float], ...], r: float = 0.0) -> Tensor:
    """Distance to a convex polygon (corners anticlockwise), grown by `r`.

    Exact beside its edges; beyond a corner the distances to both edges are combined as for a right angle, which
    keeps lines around sharp corners short and round.
    """
    inside, outside = None, None
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        edge = math.hypot(bx - ax, by - ay)
        nx, ny = (by - ay) / edge, (ax - bx) / edge
        side = (u * nx).add_(v * ny).sub_(nx * ax + ny * ay)
        beyond = side.clamp_min(0.0)
        if inside is None:
            inside, outside = side, beyond.square_()
        else:
            inside, outside = torch.maximum(inside, side), outside.addcmul_(beyond, beyond)
    return inside.clamp_max_(0.0).add_(outside.sqrt_()).sub_(r)


def star(u: Tensor, v: Tensor, r: float, inner: float) -> Tensor:
    """Distance to a five-pointed star, one point up: outer radius `r`, inner radius `inner`."""
    sector = math.pi / 5.0
    radius = length(u, v)
    angle = torch.atan2(u, v)
    angle = (angle - torch.round(angle / (2.0 * sector)) * (2.0 * sector)).abs_()
    x, y = radius * torch.cos(angle), radius * torch.sin(angle)
    ex, ey = inner * math.cos(sector) - r, inner * math.sin(sector)
    along = (((x - r) * ex + y * ey) / (ex * ex + ey * ey)).clamp_(0.0, 1.0)
    distance = length(x - r - along * ex, y - along * ey)
    return distance * torch.sign((x - r) * ey - y * ex)


def heart(u: Tensor, v: Tensor) -> Tensor:
    """Distance to a heart standing on (0, 0), about 1.1 high and 1.2 wide."""
    x = u.abs()
    top = length(x - 0.25, v - 0.75) - math.sqrt(2.0) / 4.0
    half = (x + v).clamp_min(0.0) * 0.5
    tip = torch.minimum(x * x + (v - 1.0) ** 2, (x - half) ** 2 + (v - half) ** 2).sqrt()
    return torch.where(x + v > 1.0, top, tip * torch.sign(x - v))


def petals(u: Tensor, v: Tensor, count: int, ring: float, r: float, turn: Number = 0.0) -> Tensor:
    """Distance to `count` circles of radius `r` set on a ring around the origin."""
    sector = 2.0 * math.pi / count
    radius = length(u, v)
    angle = torch.atan2(v, u) - turn
    angle = angle - torch.round(angle / sector) * sector
    return length(radius * torch.cos(angle) - ring, radius * torch.sin(angle)) - r


def rotated(u: Tensor, v: Tensor, cx: float, cy: float, angle: Number) -> tuple[Tensor, Tensor]:
    """Coordinates around (cx, cy), turned so that what is drawn with them is turned anticlockwise by `angle`."""
    if isinstance(angle, Tensor):
        cos, sin = torch.cos(angle), torch.sin(angle)
    else:
        cos, sin = math.cos(angle), math.sin(angle)
    x, y = u - cx, v - cy
    return x * cos + y * sin, y * cos - x * sin


def smooth_union(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Union of two distances, blended over about `k` (polynomial smooth minimum)."""
    h = (k - (a - b).abs()).clamp_min_(0.0) / k
    return torch.minimum(a, b) - h * h * (k / 4.0)
