"""Pictures for the browser: moving previews as one small strip of frames, finished stages as looping videos.

Frames are uint8 `f h w 3`. A strip travels inside the page; videos lie on a visitor's shelf.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpl.store import digest
from mpl.video import replacing, resize_frames, write_video

if TYPE_CHECKING:
    from mpl.events import Frames

SHOWN = 15  # frames of a strip: enough to see the motion, cheap enough to encode twice a second
PIXELS = 96  # frames up to this width are shown with hard pixel edges: they are small, not blurred
DISPLAY = (320, 576)  # h, w: small videos are enlarged to about this size
DAY = 86_400.0  # seconds after which a forgotten visitor's folder goes
KEPT = 40  # files of one visitor: some ten runs


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


class Shelf:
    """One visitor's files for the browser, in a folder with an unguessable name that the server hands out."""

    def __init__(self, parent: str | Path) -> None:
        """Takes a new folder in `parent`, made when the first file comes; shelves left there for a day go."""
        for old in Path(parent).iterdir() if Path(parent).is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - old.stat().st_mtime > DAY:
                    shutil.rmtree(old, ignore_errors=True)
        self.folder = Path(parent) / secrets.token_hex(16)

    def video(self, frames: Frames, fps: float) -> Path:
        """An mp4 to be looked at; the same frames give the same file, written once.

        Small videos are enlarged with hard pixel edges: 64×40 becomes 576×320, 9 × 8 pixels for each, the shape that
        the last stage stretches them to as well.

        Raises:
            OSError: the disk is full.
        """
        path = self._make() / f"{digest(frames, fps)[:16]}.mp4"
        if path.is_file():
            os.utime(path)
            return path
        height, width = frames.shape[1:3]
        if width <= PIXELS:
            larger = (max(1, DISPLAY[0] // height) * height, max(1, DISPLAY[1] // width) * width)
            frames = resize_frames(frames, *larger, enlarge_pixels=True)
        return write_video(path, frames, fps)

    def copy(self, file: str | Path) -> Path:
        """A copy of a finished file, under its own name; raises OSError where the disk is full."""
        path = self._make() / Path(file).name
        with replacing(path) as temporary:
            shutil.copyfile(file, temporary)
        return path

    def prune(self) -> None:
        """Takes down all but the `KEPT` files used last."""
        files = sorted(self.folder.glob("*"), key=lambda path: path.stat().st_mtime) if self.folder.is_dir() else []
        for path in files[:-KEPT]:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Takes everything down."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder
