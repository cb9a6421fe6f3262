"""Moving previews for the browser: a few frames as one image inside the page. Frames are uint8 `f h w 3`."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpl.history import PIXELS

if TYPE_CHECKING:
    from mpl.events import Frames

SHOWN = 15  # frames of a strip: enough to see the motion, cheap enough to encode twice a second


@dataclass(frozen=True)
class Strip:
    """Frames side by side in one image, moved by style sheet: `count` of them in `seconds`."""

    source: str  # data: address
    count: int
    seconds: float
    pixelated: bool


def strip(frames: Frames, fps: float, smooth: bool = False) -> Strip:
    """At most `SHOWN` frames, evenly chosen, none wider than 512 pixels; small ones without loss.

    `smooth` is for what is small only because it is a rough sketch of something larger.
    """
    chosen = frames[:: -(-len(frames) // SHOWN)]
    thin = max(1, frames.shape[2] // 256)
    row = np.concatenate(list(chosen[:, ::thin, ::thin]), axis=1)
    small = frames.shape[2] <= PIXELS
    kind, options = ("png", {"compress_level": 1}) if small else ("jpeg", {"quality": 80})
    data = io.BytesIO()
    Image.fromarray(row).save(data, kind, **options)
    source = f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
    return Strip(source, len(chosen), len(frames) / fps, small and not smooth)
