"""The bridge from scenes to tensors: rows, pixel grids, and everything that a drawing needs per row.

A row is one picture: a scene at one frame time, seen through one crop. Tensors that describe rows are (R, 1, 1),
fields over pixels (R, h, w), pictures (R, 3, h, w) with RGB in [0, 1].
"""

import bisect
import copy
import dataclasses
import functools
import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from .motions import camera, pose
from .scene import CLOCK_FRAMES, FRAME_ASPECT, Scene

RANDOM_NUMBERS = 24
LOWEST = -9.0  # below every picture
Crop = tuple[float, float, float, float]
FULL: Crop = (0.0, 0.0, 1.0, 1.0)
RGB = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One picture to draw."""

    scene: Scene
    frame: float
    crop: Crop = FULL


@functools.lru_cache(maxsize=4096)
def random_numbers(seed: int) -> tuple[float, ...]:
    """The numbers in [0, 1) that place the details of a setting."""
    rng = random.Random(seed)
    return tuple(rng.random() for _ in range(RANDOM_NUMBERS))


@functools.lru_cache(maxsize=1024)
def paint(colour: RGB) -> Tensor:
    """An RGB colour as (1, 3, 1, 1)."""
    return torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1)


def cell_noise(*cells: Tensor | int) -> Tensor:
    """A fixed pseudo-random number in [0, 1) per combination of up to three whole-numbered cells."""
    primes = (374761393, 668265263, 1274126177)
    mixed = torch.zeros((), dtype=torch.int64)
    for cell, prime in zip(cells, primes, strict=False):
        mixed = torch.add(mixed, cell.long(), alpha=prime) if isinstance(cell, Tensor) else mixed + cell * prime
    # 64-bit products of bounded factors: nothing wraps, so every machine computes the same.
    mixed = (mixed ^ (mixed >> 13)).bitwise_and_(0x7FFFFFFF).mul_(1103515245)
    mixed = (mixed ^ (mixed >> 15)).bitwise_right_shift_(9).bitwise_and_(0xFFFF)
    return mixed.float().mul_(1.0 / 65536.0)


def column(values: Sequence[float]) -> Tensor:
    """Numbers per row as (R, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)


def columns(table: Sequence[Sequence[float]]) -> tuple[Tensor, ...]:
    """Several numbers per row, each as (R, 1, 1), from a table with a line per row."""
    return torch.tensor(table, dtype=torch.float32).unsqueeze(-1).split(1, dim=1)


class View:
    """What the drawing of a setting sees of its rows.

    `y` (R, h, 1) and `x(depth)` (R, 1, w) are coordinates in the setting, after the camera; `px` (R, 1, 1) is the
    width of a pixel there; `time` (R, 1, 1) is in [0, 1] over the clip, `clutter` in [0, 1].
    """

    def __init__(self, rows: Sequence[Row], height: int, width: int) -> None:
        self.rows, self.height, self.width = rows, height, width
        cameras = [camera(row.scene, row.frame) for row in rows]
        self.zoom, self.shift, self.time, self.clutter, *self._random = columns(
            [
                (c.zoom, c.shift, row.frame / (CLOCK_FRAMES - 1), row.scene.clutter, *random_numbers(row.scene.seed))
                for c, row in zip(cameras, rows, strict=True)
            ]
        )
        self.screen_x, self.screen_y, screen_px = screen_grid(rows, height, width)
        self.y = self.screen_y / self.zoom
        self.px = screen_px / self.zoom
        self._highest = (-self.y.amax(dim=0)).flatten().tolist()
        self._lowest = (-self.y.amin(dim=0)).flatten().tolist()
        self._x: dict[float, Tensor] = {}
        self.seed = torch.tensor([row.scene.seed & 0xFFFF for row in rows]).view(-1, 1, 1)

    def x(self, depth: float = 1.0) -> Tensor:
        """Horizontal coordinate (R, 1, w) of a layer; a far layer (small depth) moves less in a pan."""
        if depth not in self._x:
            self._x[depth] = self.screen_x / self.zoom + self.shift * depth
        return self._x[depth]

    def band(self, picture: Tensor, low: float, high: float) -> tuple["View", Tensor]:
        """The part of the view and of a picture between two heights of the setting, in any row, and a pixel more."""
        margin = float(self.px.max())
        low, high = low - margin, high + margin
        first = bisect.bisect_left(self._lowest, -high)
        last = max(first, bisect.bisect_right(self._highest, -low))
        part = copy.copy(self)
        part.height = last - first
        part._highest, part._lowest = self._highest[first:last], self._lowest[first:last]
        part.screen_y, part.y = self.screen_y[:, first:last], self.y[:, first:last]
        return part, picture[:, :, first:last]

    def fill(self, colours: Tensor) -> Tensor:
        """A picture of the view's size from colours per line (R, 3, h, 1)."""
        return colours.expand(-1, -1, -1, self.width).contiguous()

    def rnd(self, index: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Random number `index` of every row's scene, (R, 1, 1) between low and high."""
        return self._random[index] * (high - low) + low

    def subject(self) -> tuple[Tensor, Tensor, Tensor]:
        """Middle x, lowest y and half size of the subject in the setting's coordinates, each (R, 1, 1)."""
        poses = [pose(row.scene, row.frame) for row in self.rows]
        x, y, half = columns([(p.x, p.y, p.scale_y) for p in poses])
        return x / self.zoom, y / self.zoom, half / self.zoom


def screen_grid(rows: Sequence[Row], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel centres in frame heights, (R, 1, w) and (R, h, 1), and the pixel's mean width (R, 1, 1)."""
    top, left, tall, wide = columns([row.crop for row in rows])
    x = left + wide * ((torch.arange(width, dtype=torch.float32) + 0.5) / width)
    y = top + tall * ((torch.arange(height, dtype=torch.float32) + 0.5) / height).view(-1, 1)
    px = (wide * (FRAME_ASPECT / width) * (tall / height)).sqrt()
    return (x - 0.5) * FRAME_ASPECT, 0.5 - y, px


def gradient(v: Tensor, *stops: tuple[float, RGB]) -> Tensor:
    """Colours along a coordinate `v` (R, h, 1) or (R, h, w): (R, 3, h, 1 or w), linear between stops."""
    position, colour = stops[0]
    out = paint(colour)
    for following, next_colour in stops[1:]:
        weight = ((v - position) / (following - position)).clamp_(0.0, 1.0)
        out = torch.lerp(out, paint(next_colour), weight.unsqueeze(1))
        position = following
    return out


def blend(picture: Tensor, colour: Tensor | RGB, weight: Tensor) -> None:
    """Paints a colour, (R, 3, h, w) or broadcastable, over a picture in place with weight (R, h, w)."""
    picture.lerp_(colour if isinstance(colour, Tensor) else paint(colour), weight.unsqueeze(1))


def wave(value: Tensor | float) -> Tensor:
    """sin of whole turns."""
    return torch.sin(value * (2.0 * math.pi))
