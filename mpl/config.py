"""Presets: everything that a run depends on, read from TOML files and changed by dotted keys. Standard library only.

A preset has one block per stage (`mpl.options`), as its file does. Every value is checked when its block is made, so
that a preset that exists holds nothing impossible; what is wrong is said once: key, value, what is accepted.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from mpl.limits import parse, shown
from mpl.options import (
    Checked,
    InterpolationOptions,
    KeyframesOptions,
    SuperresOptions,
    TextOptions,
    TranslationOptions,
    UpsamplingOptions,
    WeightsOptions,
)

STAGES = ("keyframes", "interpolation", "superres", "translation")


def stages_between(start_at: str | None, stop_after: str | None) -> tuple[str, ...]:
    """The stages from `start_at` to `stop_after`, both included; None means the first, the last.

    Raises:
        ValueError: a name that is none, or the wrong order.
    """
    for option, stage in (("start_at", start_at), ("stop_after", stop_after)):
        if stage is not None and stage not in STAGES:
            raise ValueError(f"{option} = {stage!r}: must be one of {', '.join(STAGES)}")
    first = STAGES.index(start_at) if start_at else 0
    last = STAGES.index(stop_after) if stop_after else len(STAGES) - 1
    if first > last:
        raise ValueError(f"stop_after = {stop_after!r}: comes before {start_at!r}, where the run starts")
    return STAGES[first : last + 1]


@dataclass(frozen=True)
class Preset(Checked):
    """Everything that a run depends on, apart from prompt and seed."""

    name: str = "storybook"
    fps: int = 8
    clamp: bool = True  # clamp clips to [-1, 1] between stages (published: no)
    safety: bool = True  # every stage's result is checked, where weights.safety names a checker
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    text: TextOptions = field(default_factory=TextOptions)
    keyframes: KeyframesOptions = field(default_factory=KeyframesOptions)
    interpolation: InterpolationOptions = field(default_factory=InterpolationOptions)
    superres: SuperresOptions = field(default_factory=SuperresOptions)
    translation: TranslationOptions = field(default_factory=TranslationOptions)
    upsampling: UpsamplingOptions = field(default_factory=UpsamplingOptions)


def preset_folder() -> Path:
    """The folder of the named presets, beside the package."""
    return Path(__file__).resolve().parent.parent / "presets"


def preset_names() -> list[str]:
    """Names that `load_preset` knows: `storybook`, `quick`, …, `ablations/NAME`."""
    folder = preset_folder()
    found = sorted(folder.glob("*.toml")) + sorted(folder.glob("ablations/*.toml"))
    return [path.relative_to(folder).with_suffix("").as_posix() for path in found]


def load_preset(name_or_path: str | Path) -> Preset:
    """The preset of a name (`storybook`, `ablations/no_expert`) or of a TOML file.

    A file may say `extends = "NAME"` (or a path relative to itself) and then needs only what differs.

    Raises:
        ValueError: no such preset, broken TOML, or a key or value that is not accepted.
    """
    path = _find(str(name_or_path), Path.cwd())
    values = _read(path, ())
    values.setdefault("name", path.stem)
    try:
        return from_dict(values)
    except ValueError as error:
        raise ValueError(f"preset {path.name}: {error}") from None


def from_dict(values: Mapping[str, Any]) -> Preset:
    """The preset that `to_dict` took apart; missing keys take their defaults."""
    _refuse_unknown(values, Preset, "")
    blocks: dict[str, Any] = {}
    for key, value in values.items():
        block = _block_class(key)
        if block is None:
            blocks[key] = value
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} = {value!r}: must be a block of keys, [{key}]")
        _refuse_unknown(value, block, f"{key}.")
        blocks[key] = block(**value)
    return Preset(**blocks)


def to_dict(preset: Preset) -> dict[str, Any]:
    """The preset as nested dictionaries of JSON values; infinity is the word "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return "inf" if isinstance(value, float) and math.isinf(value) else value

    return plain(asdict(preset))


def to_toml(preset: Preset) -> str:
    """The preset as TOML that `load_preset` reads back to an equal one. Keys that are None are left out."""
    lines: list[str] = []
    values = asdict(preset)
    blocks = {key: values.pop(key) for key in list(values) if isinstance(values[key], dict)}
    for title, block in {"": values, **blocks}.items():
        if title:
            lines.append(f"\n[{title}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in block.items() if value is not None]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value of a preset's key as its file says it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)  # ints, floats, inf


def override(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """The preset with `{"translation.strength": "0.4"}` put in; texts are read as the key's type.

    Raises:
        ValueError: an unknown key, or a value that is not accepted.
    """
    known = dict(_leaves())
    changed: dict[str, dict[str, Any]] = {}  # per block, "" for the preset's own: keys that fit together only
    for key, value in changes.items():
        if key not in known:
            raise ValueError(f"unknown key {key!r}{_nearest(key, known)}")
        block, _, name = key.rpartition(".")
        changed.setdefault(block, {})[name] = parse(key, value, known[key]) if isinstance(value, str) else value
    own = changed.pop("", {})
    blocks = {block: replace(getattr(preset, block), **values) for block, values in changed.items()}
    return replace(preset, **own, **blocks)


def differences(a: Preset, b: Preset) -> dict[str, tuple[Any, Any]]:
    """What differs between two presets: `{"translation.cap": (900, 1000)}`; the name does not count."""
    return {key: (get(a, key), get(b, key)) for key, _ in _leaves() if key != "name" and get(a, key) != get(b, key)}


def get(preset: Preset, key: str) -> Any:
    """The value of a dotted key, `get(preset, "translation.strength")`."""
    value: Any = preset
    for part in key.split("."):
        value = getattr(value, part)
    return value


# ---- reading files


def _find(name: str, beside: Path) -> Path:
    for path in (preset_folder() / f"{name}.toml", beside / name, Path(name)):
        if path.is_file() and path.suffix == ".toml":
            return path
    if name.endswith(".toml"):
        raise ValueError(f"preset {shown(name)}: no such file")
    raise ValueError(f"preset {shown(name)}: must be one of {', '.join(preset_names())}, or a .toml file")


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The file's values laid over those of the preset that it extends."""
    if path.resolve() in seen:
        raise ValueError(f"preset {path.name}: extends itself")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"preset {path.name}: broken TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"preset {path.name}: cannot be read: {error}") from None
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ValueError(f"preset {path.name}: extends = {parent!r}: must be a preset's name or file")
    base = _read(_find(parent, path.parent), (*seen, path.resolve()))
    base.pop("name", None)
    for key, value in values.items():
        mergeable = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = {**base[key], **value} if mergeable else value
    return base


# ---- checking values


def _block_class(key: str) -> type | None:
    kind = get_type_hints(Preset)[key]
    return kind if is_dataclass(kind) else None


def _leaves() -> Iterator[tuple[str, Any]]:
    """Every dotted key of a preset, with its type."""
    for key, kind in get_type_hints(Preset).items():
        if key.startswith("_"):
            continue
        if not is_dataclass(kind):
            yield key, kind
            continue
        types = get_type_hints(kind)
        for f in fields(kind):
            yield f"{key}.{f.name}", types[f.name]


def _refuse_unknown(values: Mapping[str, Any], block: type, prefix: str) -> None:
    known = [f.name for f in fields(block)]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key {prefix + str(key)!r}{_nearest(str(key), known)}")


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
