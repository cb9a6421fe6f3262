"""A shipped run for the page to open with, so that what the four stages do is seen before anything is computed.

`docs/pictures.py` makes it; in its folder lie a strip of frames for each stage and `showcase.json`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.ui.panels import Panel
from mpl.ui.pictures import Strip, strip

if TYPE_CHECKING:
    from mpl.events import StageFinished

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "showcase"
INDEX = "showcase.json"


def write_showcase(folder: Path, prompt: str, seed: int, made: Iterable[StageFinished]) -> None:
    """Writes a run's stages as strips."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = {}
    for event in made:
        picture = strip(event.frames, event.fps)
        head, _, data = picture.source.partition(",")
        file = f"{event.stage}.{'png' if 'png' in head else 'jpg'}"
        (folder / file).write_bytes(base64.b64decode(data))
        count, height, width = event.frames.shape[:3]
        stages[event.stage] = {
            "file": file,
            "count": picture.count,
            "seconds": picture.seconds,
            "pixelated": picture.pixelated,
            "facts": f"{count} frames of {width}×{height}",
        }
    index = {"prompt": prompt, "seed": seed, "stages": stages}
    (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Showcase:
    """The shipped run: what was asked for, and the HTML of every stage's panel."""

    prompt: str
    seed: int
    panels: dict[str, str]


def read_showcase(folder: Path = SHIPPED) -> Showcase:
    """The shipped run, its panels marked as such.

    Raises:
        OSError: there is none.
    """
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    panels = {}
    for stage, made in index["stages"].items():
        data = base64.b64encode((folder / made["file"]).read_bytes()).decode()
        kind = "png" if made["file"].endswith("png") else "jpeg"
        picture = Strip(f"data:image/{kind};base64,{data}", made["count"], made["seconds"], made["pixelated"])
        panels[stage] = Panel(stage, "shipped", made["facts"], picture).html()
    return Showcase(index["prompt"], index["seed"], panels)
