"""Many videos in several processes: who makes which, under which names and seeds, and what is made already.

A video's name and seed come of its place in the list alone, so the result is the same for any number of processes.
Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mpl.limits import MAX_SEED, shown

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of`, counted from 1."""

    number: int
    of: int

    def of_list(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """This part's items with their places in the whole list: every `of`-th, so that parts take equally long."""
        return list(enumerate(items))[self.number - 1 :: self.of]


def read_shard(text: str | None, environment: Mapping[str, str], option: str) -> Shard | None:
    """`"2/8"`, or where there is none this process's place under `torchrun`; None without either.

    Raises:
        ValueError: another text, or a number that is none of the parts.
    """
    if text is None and "RANK" in environment and "WORLD_SIZE" in environment:
        text = f"{int(environment['RANK']) + 1}/{environment['WORLD_SIZE']}"
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{option} {shown(text)}: must be PART/PARTS, such as 2/8")
    return Shard(int(found[1]), int(found[2]))


def seed_at(place: int, seed: int) -> int:
    """The seed of a place in the list, from the first one's."""
    return (seed + place) % (MAX_SEED + 1)


def name_at(place: int) -> str:
    """The name of its files, without ending; in the list's order."""
    return f"{place:06d}"


def made(folder: Path, name: str, wanted: Mapping[str, Any], last: str, formats: Iterable[str] = ("mp4",)) -> bool:
    """Whether a video is there in all formats, whose recipe says all that is wanted of it, up to its last stage."""
    try:
        recipe = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(recipe, dict) or any(recipe.get(key) != value for key, value in wanted.items()):
        return False
    there = all((folder / f"{name}.{ending}").is_file() for ending in formats)
    return there and list(recipe["stages"])[-1:] == [last]
