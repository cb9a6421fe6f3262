"""Contact sheets: what became of a few captions, beside what was to become of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from PIL import Image, ImageDraw, ImageFont

from mpl.video import replacing

if TYPE_CHECKING:
    from mpl.events import Frames

SHOWN = 6  # captions on a contact sheet
SHEET_WIDTH = 2000  # about, in pixels
LABEL = 28  # pixels of a line of text, to be read where the sheet is shown at half its size


class Shown(Protocol):
    """What a sheet shows of a caption."""

    @property
    def caption(self) -> str: ...

    @property
    def pictures(self) -> tuple[Frames, Frames]:
        """The result's and the render's, uint8 `1 h w 3`."""


def draw(of: Mapping[str, Sequence[Shown]], path: Path) -> None:
    """A contact sheet: for each of a few captions the middle frame of every arm, and of the render.

    Pictures stand side by side as far as they fit in their own size, the others below them: detail is to be seen.
    """
    arms = list(of.values())
    rows = list(zip(*(found[:SHOWN] for found in arms), strict=True))
    names = [*of, "render"]
    tall, wide = arms[0][0].pictures[0].shape[1:3]
    scale = max(1, round(SHEET_WIDTH / (len(names) * wide)))
    tall, wide = tall * scale, wide * scale
    columns = min(len(names), max(1, SHEET_WIDTH // wide))
    lines = -(-len(names) // columns)
    height = LABEL + lines * (tall + LABEL)
    image = Image.new("RGB", (columns * wide, len(rows) * height), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=LABEL - 6)
    for i, row in enumerate(rows):
        pen.text((2, i * height), row[0].caption, fill="black", font=font)
        pictures = [*(sample.pictures[0][0] for sample in row), row[0].pictures[1][0]]
        for j, (name, picture) in enumerate(zip(names, pictures, strict=True)):
            left, top = j % columns * wide, i * height + LABEL + j // columns * (tall + LABEL)
            pen.text((left + 2, top), name, fill="black", font=font)
            tile = Image.fromarray(picture).resize((wide, tall), Image.Resampling.NEAREST)
            image.paste(tile, (left, top + LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        image.save(temporary)
