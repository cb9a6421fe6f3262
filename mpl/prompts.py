"""Sets of prompts in categories, such as those of the paper's human evaluation: TOML files in `presets/prompts/`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpl.config import preset_folder
from mpl.limits import check_prompt, shown

_SET = {"title": str, "about": str, "categories": dict}
_CATEGORY = {"title": str, "prompts": list}


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, the key of its category, and its number in the set, from 0 in the file's order."""

    text: str
    category: str
    index: int


@dataclass(frozen=True)
class PromptSet:
    """A set of prompts; `categories` maps keys to titles."""

    name: str
    title: str
    about: str
    categories: Mapping[str, str]
    prompts: tuple[Prompt, ...]


def prompt_sets() -> tuple[str, ...]:
    """Names that `load_prompts` knows."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_prompts(name: str) -> PromptSet:
    """The set of a name (`paper`, `storybook`) or of a TOML file.

    Raises:
        ValueError: no such set, broken TOML, or a key or value that is not accepted.
    """
    path = Path(name) if str(name).endswith(".toml") else _folder() / f"{name}.toml"
    if name not in prompt_sets() and path.suffix == ".toml" and not path.is_file():
        raise ValueError(f"prompts {shown(name)}: must be one of {', '.join(prompt_sets())}, or a TOML file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"prompts {path.name}: cannot be read: {error}") from None
    try:
        return _prompt_set(path.stem, values)
    except ValueError as error:
        raise ValueError(f"prompts {path.name}: {error}") from None


def _prompt_set(name: str, values: Mapping[str, Any]) -> PromptSet:
    _check(values, _SET, "")
    found: list[Prompt] = []
    seen: set[str] = set()
    for key, category in values["categories"].items():
        _check(category, _CATEGORY, f"categories.{key}.")
        for text in category["prompts"]:
            prompt = check_prompt(text, f"categories.{key}: prompt")
            if prompt.lower() in seen:
                raise ValueError(f"categories.{key}: {shown(prompt)} is there twice")
            seen.add(prompt.lower())
            found.append(Prompt(prompt, key, len(found)))
    titles = {key: category["title"] for key, category in values["categories"].items()}
    return PromptSet(name, values["title"], values["about"], titles, tuple(found))


def _check(values: Any, wanted: Mapping[str, type], where: str) -> None:
    """Raises ValueError unless the values are just the wanted ones, and none is empty."""
    if not isinstance(values, Mapping) or set(values) != set(wanted):
        raise ValueError(f"{where or 'the file'}: must have just the keys {', '.join(wanted)}")
    for key, kind in wanted.items():
        if not isinstance(values[key], kind) or not values[key]:
            raise ValueError(f"{where}{key}: must be a {kind.__name__} that is not empty")


def _folder() -> Path:
    return preset_folder() / "prompts"
