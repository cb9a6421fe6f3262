"""Makes the pictures of the documents and of the page: `python docs/pictures.py`, from the repository's root.

One run of the default preset, the page's first example at seed 0, becomes `docs/stages.jpg` and the page's strip
(`assets/showcase/`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mpl.cascade import generate  # noqa: E402 - the repository is no installed package
from mpl.config import load_preset  # noqa: E402
from mpl.events import Failed, StageFinished  # noqa: E402
from mpl.ui.form import example_prompts  # noqa: E402
from mpl.ui.showcase import write_showcase  # noqa: E402
from mpl.weights import Weights  # noqa: E402

if TYPE_CHECKING:
    from mpl.events import Frames

WIDTH, GAP = 1152, 6
# Stage → which of its frames are shown, width over height, and whether its pixels are.
ROWS = {
    "keyframes": (slice(None), 8 / 5, True),
    "interpolation": (slice(8, 16), 8 / 5, True),
    "superres": (slice(0, 29, 9), 8 / 5, False),
    "translation": (slice(0, 29, 28), 9 / 5, False),
}


def row(frames: Frames, shape: float, pixels: bool) -> Image.Image:
    """Frames side by side, as wide as the picture."""
    width = (WIDTH - GAP * (len(frames) - 1)) // len(frames)
    size = (width, round(width / shape))
    how = Image.Resampling.NEAREST if pixels else Image.Resampling.LANCZOS
    picture = Image.new("RGB", (WIDTH, size[1]), "white")
    for i, frame in enumerate(frames):
        picture.paste(Image.fromarray(frame).resize(size, how), (i * (width + GAP), 0))
    return picture


def main() -> None:
    preset, prompt = load_preset("storybook"), example_prompts()[0]
    made: list[StageFinished] = []
    for event in generate(prompt, preset, Weights(preset.weights), 0):
        if isinstance(event, Failed):
            raise SystemExit(event.message)
        if isinstance(event, StageFinished):
            made.append(event)
    rows = [row(event.frames[ROWS[event.stage][0]], *ROWS[event.stage][1:]) for event in made]
    sheet = Image.new("RGB", (WIDTH, sum(r.height + GAP for r in rows) - GAP), "white")
    for r, top in zip(rows, np.cumsum([0, *(r.height + GAP for r in rows[:-1])]), strict=True):
        sheet.paste(r, (0, int(top)))
    sheet.save(ROOT / "docs" / "stages.jpg", quality=88)
    write_showcase(ROOT / "assets" / "showcase", prompt, 0, made)


if __name__ == "__main__":
    main()
