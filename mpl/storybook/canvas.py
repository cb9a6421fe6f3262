"""The sheet on which one kind of subject is drawn: inked parts over each other, premultiplied by coverage."""

import torch
from torch import Tensor

from .motions import pose
from .patterns import pattern_shade
from .scene import CLOCK_FRAMES
from .sdf import cover, cover_thin, length, rotated
from .view import RGB, Row, columns, paint

LINE = 0.045  # width of the ink line, in half sizes of the subject
RIM = 0.075  # width of the pale rim outside the ink, like a paper figure's edge
RIM_COLOUR: RGB = (1.0, 0.985, 0.94)
_RIM_STRENGTH = 0.8

COATS: dict[str, RGB] = {
    "red": (0.86, 0.11, 0.13),
    "orange": (0.94, 0.47, 0.06),
    "yellow": (0.97, 0.84, 0.14),
    "green": (0.12, 0.60, 0.22),
    "blue": (0.13, 0.31, 0.84),
    "purple": (0.50, 0.18, 0.70),
    "pink": (0.94, 0.47, 0.68),
    "white": (0.93, 0.92, 0.88),
}
CREAM: RGB = (0.99, 0.95, 0.84)
INK: RGB = (0.13, 0.11, 0.19)
DARK: RGB = (0.12, 0.10, 0.17)
WHITE: RGB = (1.0, 1.0, 1.0)
ROSY: RGB = (0.98, 0.45, 0.45)


class Canvas:
    """One subject's sheet for R rows.

    `u`, `v` (R, h, w): the subject's own coordinates: it looks right, stands upright and fills about [-1, 1] (up to
    1.15 sideways). `px` is the pixel's width there. `time` in clip lengths, `phase` in turns, `pace` around 1 and
    `beat` (turns, several a clip) drive small movements; `rolled` is how far the subject went, in half sizes.
    """

    def __init__(self, rows: list[Row], x: Tensor, y: Tensor, px: Tensor) -> None:
        cx, cy, sx, sy, angle, facing, start, white, self.time, self.phase, self.pace = columns(
            [self._numbers(row) for row in rows]
        )
        along, up = rotated(x, y, cx, cy, angle)
        self.rows = rows
        self.u, self.v = along * (facing / sx), up / sy
        self.px = px / (sx * sy).sqrt()
        self.beat = self.time * self.pace * 3.0 + self.phase
        self.rolled = facing * (cx - start) / sx
        self.coat = torch.cat([paint(COATS[row.scene.colour]) for row in rows])
        white = white.unsqueeze(1)
        # Light parts beside the coat: cream, but a blue grey beside a white coat.
        self.pale = torch.lerp(paint(CREAM), paint((0.62, 0.70, 0.82)), white)
        self.ink = self.coat * (0.30 - 0.02 * white) + paint(INK) * 0.35 + 0.05 * white
        self.coat = self.coat * self._shading().unsqueeze(1)
        self.picture = torch.zeros_like(self.coat)
        self.coverage = torch.zeros_like(self.u)
        self._into = -1.0 / self.px
        self._one = torch.ones(1)
        self._distance: Tensor | None = None
        # Weight of what is finer than a coarse picture can show; None where no row shows it.
        fine = ((0.075 - self.px) / 0.03).clamp_(0.0, 1.0)
        self.fine = fine if bool(fine.any()) else None

    @staticmethod
    def _numbers(row: Row) -> tuple[float, ...]:
        """What a canvas needs to know of a row, in the order in which it unpacks it."""
        at, scene = pose(row.scene, row.frame), row.scene
        place = (at.x, at.y, at.scale_x, at.scale_y, at.angle, scene.facing, scene.x, scene.colour == "white")
        return (*place, row.frame / (CLOCK_FRAMES - 1), scene.phase, scene.speed)

    def _shading(self) -> Tensor:
        """Light from above on the coat, times its pattern."""
        shade = (self.v * 0.09 - self.u * 0.03).add_(0.96).clamp_(0.84, 1.06)
        pattern = pattern_shade(self.rows, self.u, self.v, self.px)
        return shade if pattern is None else shade.mul_(pattern)

    def part(self, d: Tensor, colour: RGB | Tensor | None = None, factor: float = 1.0, line: float = LINE) -> None:
        """Paints a part with an ink line around it: the coat (times `factor`) or a colour of its own."""
        if colour is None:
            fill = self.coat if factor == 1.0 else self.coat * factor
        else:
            fill = colour if isinstance(colour, Tensor) else paint(colour)
        d = d - line
        depth = d * self._into  # in pixels, positive inside
        inner = (depth + (line * self._into + 0.5)).clamp_(0.0, 1.0)
        outer = depth.add_(0.5).clamp_(0.0, 1.0)
        inner.div_(outer.clamp_min(1e-3))
        self._over(torch.lerp(self.ink, fill, inner.unsqueeze(1)), outer)
        self._distance = d if self._distance is None else torch.minimum(self._distance, d)

    def detail(self, d: Tensor, colour: RGB | Tensor, opacity: float = 1.0, fine: bool = False) -> None:
        """Paints a small thing without a line, only upon what is there already; `fine` ones only where they show."""
        if fine and self.fine is None:
            return
        self._upon(colour, cover(d, self.px), opacity, fine)

    def stroke(self, d: Tensor, width: float, colour: RGB | None = None, opacity: float = 1.0) -> None:
        """Draws a fine line of a width along d = 0 upon what is there already; ink by default."""
        if self.fine is not None:
            self._upon(colour, cover_thin(d.abs() - width / 2, width, self.px), opacity, fine=True)

    def thread(self, d: Tensor, width: float, colour: RGB | None = None) -> None:
        """Draws a free-standing line around d = 0, which belongs to the silhouette."""
        d = d.abs() - width / 2
        self._over(self.ink if colour is None else paint(colour), cover_thin(d, width, self.px))
        self._distance = d if self._distance is None else torch.minimum(self._distance, d)

    def eye(self, cx: float, cy: float, r: float, look: float = 0.25) -> None:
        """A round eye that looks ahead."""
        white = length(self.u - cx, self.v - cy)
        self.detail(white - r, (0.99, 0.99, 0.97))
        self.detail(length(self.u - (cx + look * r), self.v - cy) - 0.62 * r, DARK)
        if self.fine is not None:
            self.stroke(white - r, 0.03)
            glint = length(self.u - (cx + (look + 0.2) * r), self.v - (cy + 0.25 * r))
            self.detail(glint - 0.2 * r, WHITE, fine=True)

    def smile(self, cx: float, cy: float, r: float, width: float = 0.045) -> None:
        """The lower arc of a circle."""
        d = (length(self.u - cx, self.v - cy) - r).abs_() - width / 2
        self._upon(None, cover_thin(torch.maximum(d, self.v - (cy - 0.45 * r)), width, self.px))

    def face(self, cx: float, cy: float, size: float) -> None:
        """Two dark eyes with a glint, a smile and rosy cheeks."""
        side, up = (self.u - cx).abs(), self.v - cy
        self.detail(length(side - 0.42 * size, (up - 0.12 * size) * 0.75) - 0.15 * size, DARK)
        self.smile(cx, cy - 0.05 * size, 0.30 * size, 0.085 * size)
        if self.fine is not None:
            middle = 0.05 * size + 0.42 * size * torch.sign(self.u - cx)
            self.detail(length(self.u - cx - middle, up - 0.2 * size) - 0.05 * size, WHITE, fine=True)
            self.detail(length(side - 0.66 * size, up + 0.22 * size) - 0.14 * size, ROSY, 0.55, fine=True)

    def gloss(self, cx: float, cy: float, a: float, b: float, angle: float = 0.5, opacity: float = 0.45) -> None:
        """A soft light spot."""
        x, y = rotated(self.u, self.v, cx, cy, angle)
        self._upon(WHITE, torch.exp((x * x) * (-1.5 / a**2) - (y * y) * (1.5 / b**2)), opacity)

    def finish(self) -> tuple[Tensor, Tensor, Tensor]:
        """Premultiplied picture (R, 3, h, w), its coverage and the pale rim's weight (R, 1, h, w)."""
        rim = cover(self._distance - RIM, self.px).mul_(_RIM_STRENGTH)
        return self.picture, self.coverage.unsqueeze(1), rim.unsqueeze(1)

    def _over(self, colour: Tensor, weight: Tensor) -> None:
        self.picture.lerp_(colour, weight.unsqueeze(1))
        self.coverage.lerp_(self._one, weight)

    def _upon(self, colour: RGB | Tensor | None, weight: Tensor, opacity: float = 1.0, fine: bool = False) -> None:
        """Paints upon what is there: the picture is premultiplied, so the colour is too."""
        if fine:
            weight = weight * (self.fine * opacity)
        elif opacity != 1.0:
            weight = weight * opacity
        if not isinstance(colour, Tensor):
            colour = self.ink if colour is None else paint(colour)
        self.picture.lerp_(colour * self.coverage.unsqueeze(1), weight.unsqueeze(1))
