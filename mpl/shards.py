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
WITHHELD = ".withheld"  # ending of what lies in a video's place where the safety checker flagged it


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


def recipe_at(folder: Path, name: str, ending: str = ".json") -> dict[str, Any] | None:
    """What lies beside a video of that name, or in its place; None where nothing does that can be read."""
    try:
        recipe = json.loads((folder / f"{name}{ending}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return recipe if isinstance(recipe, dict) else None


def withheld(folder: Path, name: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the safety checker flagged this very video: made again, it would be flagged again."""
    noted = recipe_at(folder, name, WITHHELD)
    return noted is not None and _says(noted, wanted)


def made(folder: Path, name: str, wanted: Mapping[str, Any], last: str, formats: Iterable[str] = ("mp4",)) -> bool:
    """Whether a video is there in all formats, whose recipe says all that is wanted of it, up to its last stage."""
    recipe = recipe_at(folder, name)
    if recipe is None or not _says(recipe, wanted):
        return False
    there = all((folder / f"{name}.{ending}").is_file() for ending in formats)
    return there and list(recipe["stages"])[-1:] == [last]


def _says(recipe: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(recipe.get(key) == value for key, value in wanted.items())
