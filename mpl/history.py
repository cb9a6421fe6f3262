"""Finished runs and panel videos of the page's visitors: files in one folder a visitor, bounded and pruned.

A visitor is whoever knows a secret that their browser keeps. Folder names are hashes of secrets and file names are
random or hashes, so that nobody finds what they have not been given.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.store import digest
from mpl.video import read_recipe, read_video, replacing, resize_frames, write_video

if TYPE_CHECKING:
    from mpl.events import Frames

PIXELS = 96  # frames up to this width are shown with hard pixel edges: they are small, not blurred
DISPLAY = (320, 576)  # h, w: small videos are enlarged to about this size
DAY = 86_400.0  # seconds after which a panel's video may go
HOUR = 3600.0  # after which a file that is being written must be a killed process's
FORMATS = ("mp4", "gif", "webm")
PANEL = 16  # digits of the name of a panel's video, of a run's 32
_RUN = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[0-9a-f]{16}\.mp4|[0-9a-f]{32}\.(mp4|gif|webm|json)")


@dataclass(frozen=True)
class Record:
    """A run that a visitor has made: its id, its video and its recipe."""

    id: str
    video: Path
    recipe: dict[str, Any]


class History:
    """All visitors' files under one folder. Safe for several threads; a kill leaves no broken run.

    Methods raise OSError where the disk refuses.
    """

    def __init__(self, root: str | Path, max_bytes: int = 2_000_000_000, max_runs: int = 100) -> None:
        """Takes the folder, made with the first file. `max_runs` is for one visitor; the oldest go first."""
        self.root = Path(root)
        self.max_bytes, self.max_runs = max_bytes, max_runs

    def folder(self, visitor: str) -> Path:
        """The visitor's folder; nothing tells the secret from its name."""
        return self.root / hashlib.sha256(visitor.encode()).hexdigest()[:32]

    # ---- runs

    def new_run(self) -> str:
        """A name for a run's files that nobody can guess."""
        return secrets.token_hex(16)

    def runs(self, visitor: str) -> list[Record]:
        """The visitor's runs, the newest first."""
        folder = self.folder(visitor)
        files = sorted(folder.glob("*.json"), key=_age) if folder.is_dir() else []
        return [record for file in files if (record := self.run(visitor, file.stem))]

    def run(self, visitor: str, run: str) -> Record | None:
        """One run of the visitor; None where there is none."""
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            return None
        return _record(self.folder(visitor) / f"{run}.mp4")

    def export(self, record: Record, ending: str) -> Path:
        """The run's video as gif or webm too, written when first asked for.

        Raises:
            ValueError: another ending, the video is broken, or the run is deleted meanwhile.
        """
        if ending not in FORMATS:
            raise ValueError(f"format {ending!r}: must be one of {', '.join(FORMATS)}")
        path = record.video.with_suffix(f".{ending}")
        if not path.is_file():
            last = list(record.recipe["stages"].values())[-1]
            write_video(path, read_video(record.video), last["fps"], _embedded(record))
            if not record.video.with_suffix(".json").is_file():  # deleted meanwhile
                path.unlink(missing_ok=True)
                raise ValueError("the run was deleted")
        return path

    def delete(self, visitor: str, run: str) -> None:
        """Deletes a run's files; nothing where there is none."""
        if record := self.run(visitor, run):
            for ending in ("json", *FORMATS):  # the recipe first: without it there is no run
                record.video.with_suffix(f".{ending}").unlink(missing_ok=True)

    # ---- videos of panels

    def show(self, visitor: str, frames: Frames, fps: float) -> Path:
        """An mp4 to be looked at, without a recipe; the same frames give the same file, written once.

        Small videos are enlarged with hard pixel edges: 64×40 becomes 576×320, 9 × 8 pixels for each, the shape that
        the last stage stretches them to as well.
        """
        folder = self.folder(visitor)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{digest(frames, fps)[:16]}.mp4"
        if path.is_file():
            os.utime(path)
            return path
        height, width = frames.shape[1:3]
        if width <= PIXELS:
            larger = (max(1, DISPLAY[0] // height) * height, max(1, DISPLAY[1] // width) * width)
            frames = resize_frames(frames, *larger, enlarge_pixels=True)
        return write_video(path, frames, fps)

    def lend(self, shelf: str, video: Path) -> Path:
        """A copy, under its own name, of a video that all visitors may be shown, in the folder of a shelf."""
        path = self.folder(f"shelf {shelf}") / video.name
        hour = time.time() // 3600 * 3600  # and no finer: which of two was lent first is nobody's business
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (hour, hour))
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            shutil.copyfile(video, temporary)
            os.utime(temporary, (hour, hour))
        return path

    # ---- all files

    def find(self, folder: str, name: str) -> Path | None:
        """A file by what `address` says of it; None for anything else, above all for a way out of the root.

        A run's gif and webm are made when first asked for.
        """
        if not _RUN.fullmatch(folder) or not _FILE.fullmatch(name):
            return None
        path = self.root / folder / name
        if path.is_file() and (len(path.stem) == PANEL or path.with_suffix(".json").is_file()):
            return path
        record = _record(path.with_suffix(".mp4"))
        with contextlib.suppress(ValueError):  # deleted meanwhile, or broken
            return self.export(record, path.suffix[1:]) if record else None
        return None

    def prune(self) -> None:
        """Panel videos older than a day go, then the oldest runs until every visitor's and all fit their bounds."""
        now = time.time()
        files: list[tuple[float, int, Path]] = []
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            # Another thread or replica prunes as well; what is no folder, or somebody else's, is none of ours.
            with contextlib.suppress(OSError):
                files += self._prune_folder(folder, now)
                if now - folder.stat().st_mtime > HOUR:  # a younger one is where another replica begins to write
                    with contextlib.suppress(OSError):  # not empty
                        folder.rmdir()
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= self.max_bytes:
                break
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
                total -= size

    def _prune_folder(self, folder: Path, now: float) -> Iterator[tuple[float, int, Path]]:
        """Files of a visitor that stay, as far as the bounds of all are not reached: time, size and path."""
        runs = sorted(folder.glob("*.json"), key=_age)
        surplus = {file.stem for file in runs[self.max_runs :]}
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                age, panel, writing = now - stat.st_mtime, len(file.stem) == PANEL, file.name.startswith(".")
                if file.stem in surplus or (panel and age > DAY) or (writing and age > HOUR):
                    file.unlink(missing_ok=True)
                elif not writing:
                    yield stat.st_mtime, stat.st_size, file


def address(path: Path) -> str:
    """A file's address, relative to the page: its folder's name and its own, neither of which says anything."""
    return f"files/{path.parent.name}/{path.name}"


def _record(video: Path) -> Record | None:
    try:
        recipe = json.loads(video.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return Record(video.stem, video, recipe) if video.is_file() else None


def _age(file: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return -file.stat().st_mtime
    return 0.0


def _embedded(record: Record) -> dict[str, Any] | None:
    """The recipe, unless the visitor wanted videos without it."""
    return record.recipe if read_recipe(record.video) else None
