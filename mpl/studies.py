"""Stored studies: pairs of videos by two arms, the same prompts and seeds, to be rated blind (paper, section 4.2).

A study is a folder with `study.json` and mp4 files whose names say nothing and which hold no recipe. It is written
pair by pair, so that an interrupted one can be gone on with and be rated as far as it is.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.limits import Length, check_prompt, shown
from mpl.store import digest
from mpl.video import replacing, resize_frames, write_video

if TYPE_CHECKING:
    from mpl.events import Frames

INDEX = "study.json"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
NAME_WORDS = "1 to 60 small letters, digits and hyphens"
TEXT = Length(1000)
_NAME = Length(100)  # as votes have them
_ARM = Length(100, empty=False)
_VIDEO = re.compile(r"[0-9a-f]{16}\.mp4")


@dataclass(frozen=True)
class StoredVideo:
    """An mp4 of a study and what is in it."""

    file: Path
    frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class Pair:
    """One prompt's two videos; the order of `videos` is that of the study's arms."""

    item: str
    prompt: str
    seed: int
    category: str  # its title; empty where the prompt has none
    videos: tuple[StoredVideo, StoredVideo]


@dataclass(frozen=True)
class Study:
    """`arms` are the labels that are told once a vote is given; `presets` what made them, as far as it is known."""

    name: str
    title: str
    about: str
    arms: tuple[str, str]
    pairs: tuple[Pair, ...]
    presets: tuple[Mapping[str, Any], ...] = field(default=())


def check_name(name: str, option: str) -> str:
    """A study's name, fit for a folder. Raises ValueError otherwise."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{option} = {shown(name)}: must be {NAME_WORDS}")
    return name


def check_arms(*arms: Any) -> tuple[str, str]:
    """The labels of two arms. Raises ValueError where they are not two different ones of at most 100 characters."""
    labels = tuple(_text(arm, "arms", _ARM) for arm in arms)
    if len(labels) != 2 or labels[0] == labels[1] or not all(label.strip() for label in labels):
        raise ValueError(f"arms = {shown(list(arms))}: must be two different names")
    return labels[0], labels[1]


def find_studies(folders: Iterable[Path]) -> dict[str, Path]:
    """Studies by name, in folders that hold one folder for each; of two with one name, the earlier counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for index in sorted(folder.glob(f"*/{INDEX}")):
            found.setdefault(index.parent.name, index.parent)
    return found


def load_study(folder: Path) -> Study:
    """Reads a study.

    Raises:
        ValueError: no study there, or it is broken; the message names the file and what is wrong.
    """
    path = folder / INDEX
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} of {folder.name}: cannot be read: {error}") from None
    try:
        return _study(folder, values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} of {folder.name}: not as a study is written: {error!r}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} of {folder.name}: {error}") from None


def write_study(folder: Path, study: Study) -> None:
    """Writes the index, whole or not at all; the videos are there already.

    Raises:
        OSError: the folder cannot be written to.
    """
    pairs = [
        {
            "item": pair.item,
            "prompt": pair.prompt,
            "seed": pair.seed,
            "category": pair.category,
            "videos": [asdict(video) | {"file": video.file.name} for video in pair.videos],
        }
        for pair in study.pairs
    ]
    values = {"title": study.title, "about": study.about, "arms": list(study.arms), "presets": list(study.presets)}
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / INDEX) as path:
        text = json.dumps(values | {"pairs": pairs}, indent=1, ensure_ascii=False, default=str)
        path.write_text(text + "\n", encoding="utf-8")


def write_pair(
    folder: Path, first: tuple[Frames, float], second: tuple[Frames, float]
) -> tuple[StoredVideo, StoredVideo]:
    """Two videos, each frames and frame rate, as mp4 of one size: the smaller is enlarged (bicubic).

    They hold no recipe, and their names come of their content.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = (max(frames.shape[side] for frames, _ in (first, second)) for side in (1, 2))
    stored, now = [], time.time()
    for frames, fps in (first, second):
        path = folder / f"{digest(frames, fps, height, width)[:16]}.mp4"
        write_video(path, resize_frames(frames, height, width), fps)
        stored.append(StoredVideo(path, len(frames), fps, width, height))
    for video in stored:  # the order of writing must not tell
        os.utime(video.file, (now, now))
    return stored[0], stored[1]


def _study(folder: Path, values: Mapping[str, Any]) -> Study:
    arms = check_arms(*values["arms"])
    pairs = tuple(_pair(folder, entry) for entry in values["pairs"])
    if len({pair.item for pair in pairs}) < len(pairs):
        raise ValueError("pairs: an item is there twice")
    title, about = (_text(values[key], key) for key in ("title", "about"))
    return Study(folder.name, title, about, arms, pairs, tuple(values["presets"]))


def _pair(folder: Path, entry: Mapping[str, Any]) -> Pair:
    first, second = (_video(folder, **video) for video in entry["videos"])
    prompt = check_prompt(entry["prompt"], "pairs: prompt")
    item, category = (_text(entry[key], f"pairs: {key}", _NAME) for key in ("item", "category"))
    return Pair(item, prompt, int(entry["seed"]), category, (first, second))


def _video(folder: Path, file: Any, **facts: Any) -> StoredVideo:
    if not isinstance(file, str) or not _VIDEO.fullmatch(file) or not (folder / file).is_file():
        raise ValueError(f"pairs: no video {shown(file)} there")
    for name, value in facts.items():
        if type(value) not in (int, float) or not 0 < value < 10_000:
            raise ValueError(f"pairs: {name} = {shown(value)}: must be a number above 0")
    return StoredVideo(folder / file, **facts)


def _text(value: Any, name: str, limit: Length = TEXT) -> str:
    if not isinstance(value, str) or not limit.accepts(value):
        raise ValueError(f"{name} = {shown(value)}: must be {limit}")
    return value
