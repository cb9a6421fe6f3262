"""The recipe of a run: everything that made a video, inside it and beside it; and safe names for files."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpl
from mpl.shards import WITHHELD
from mpl.store import digest
from mpl.video import NOTE, replacing, write_video

if TYPE_CHECKING:
    from mpl.events import Frames

PACKAGES = ("torch", "diffusers", "transformers", "moviepy")
SLUG_LENGTH = 40  # characters of the prompt in a file name


@dataclass(frozen=True)
class Files:
    """Where a run's files go (None: nowhere), in which formats, under which name; whether videos hold the recipe."""

    folder: Path | None
    formats: tuple[str, ...] = ("mp4",)
    name: str = ""  # empty: words of the prompt
    embed: bool = True


def file_stem(prompt: str, seed: int, identity: Any) -> str:
    """A file name without ending: words of the prompt (letters, digits, hyphens), seed, a short hash.

    Args:
        identity: JSON values; runs that differ in them get different names.
    """
    ascii_text = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_text)[:SLUG_LENGTH].strip("-") or "video"
    return f"{slug}-{seed}-{digest(prompt, seed, identity)[:8]}"


def base_recipe(device: Any, dtype: Any) -> dict[str, Any]:
    """What a recipe says about program, machine and time."""
    return {
        "note": NOTE,
        "made_by": f"mpl {mpl.__version__}",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def write_files(files: Files, stem: str, frames: Frames, fps: float, recipe: dict[str, Any]) -> Path:
    """Writes the video in each format and the recipe beside it; returns the first format's file.

    All of them take their names at the end, so that none is left without the others where one fails.

    Raises:
        OSError: the folder cannot be written to.
    """
    assert files.folder is not None
    files.folder.mkdir(parents=True, exist_ok=True)
    paths = [files.folder / f"{stem}.{ending}" for ending in files.formats]
    recipe["files"] = [path.name for path in paths]
    with contextlib.ExitStack() as stack:
        for path in paths:
            write_video(stack.enter_context(replacing(path)), frames, fps, recipe if files.embed else None)
        beside = stack.enter_context(replacing(files.folder / f"{stem}.json"))
        beside.write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return paths[0]


def note_withheld(folder: Path, name: str, wanted: Mapping[str, Any], why: str) -> None:
    """In place of a video that the safety checker flagged, for `mpl.shards.withheld`."""
    with replacing(folder / f"{name}{WITHHELD}") as temporary:
        temporary.write_text(json.dumps({**wanted, "withheld": why}), encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional package
            continue
    return found
