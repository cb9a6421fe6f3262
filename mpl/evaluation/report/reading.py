"""Results on disk, found and read: what `python -m mpl evaluate` wrote, checked. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mpl.evaluation.command import PARTS
from mpl.evaluation.protocols import load_storybook_protocol
from mpl.evaluation.results import NAME
from mpl.limits import shown

from .figures import Figure, read_figure, read_figures
from .figures import Path as Keys

COMMANDS = tuple(f"python -m mpl evaluate {what}" for what in ("storybook", "ablations", "ucf101", "msrvtt"))


@dataclass(frozen=True)
class Origin:
    """Where a result is, and how it came about."""

    key: str  # by which cells name it: R1, R2, …
    path: Path
    command: str
    versions: Mapping[str, str]
    machine: str  # "" where the result does not say


@dataclass(frozen=True)
class Storybook:
    """Figures of the embedded models, by part."""

    origin: Origin
    n: int
    preset: str
    changed: tuple[str, ...]
    split: str
    style: str  # of captions
    judges: str  # a folder, where they are not the project's own
    parts: Mapping[str, Mapping[Keys, Figure]]
    meanings: Mapping[str, str]  # the protocol: its choices, what judges look at and what figures are, by name
    sheet: Path | None = None


@dataclass(frozen=True)
class Arm:
    """One side of an ablation: its figures, or why there are none."""

    figures: Mapping[Keys, Figure]
    why: str = ""


@dataclass(frozen=True)
class Ablation:
    """A comparison: figures of its arms, differences of pairs of them, and a contact sheet."""

    origin: Origin
    name: str
    title: str
    about: str
    stage: str
    n: int
    split: str
    arms: Mapping[str, Arm]
    differences: Mapping[str, Mapping[str, Figure]]
    meanings: Mapping[str, str]  # as of `Storybook`
    sheet: Path | None


@dataclass(frozen=True)
class Metric:
    """A metric of a published protocol."""

    figure: Figure
    n: int
    asks: int
    why: str = ""
    deviation: float | None = None  # over `splits`
    splits: int | None = None
    withheld: int = 0
    real: int | None = None
    groups: Mapping[str, Figure] | None = None


@dataclass(frozen=True)
class Published:
    """Metrics of a published protocol, with the choices that they depend on."""

    origin: Origin
    name: str
    title: str
    preset: str
    changed: tuple[str, ...]
    stop_after: str
    metrics: Mapping[str, Metric]
    choices: Mapping[str, Mapping[str, Any]]  # blocks of the protocol
    weights: Mapping[str, str]  # SHA-256 by file


Result = Storybook | Ablation | Published


def read_results(folders: Iterable[Path]) -> list[Result]:
    """All results in folders and the folders within, in the order of their paths.

    Raises:
        ValueError: there is none, a folder that is not there, or a result that is broken or foreign; says which.
    """
    folders = list(folders)
    for folder in folders:
        if len(folders) > 1 and not folder.exists():
            raise ValueError(f"--results {folder}: no such folder")
    paths = {path.resolve(): path for folder in folders for path in _found(folder)}
    if not paths:
        where = ", ".join(map(str, folders))
        raise ValueError(f"--results {where}: no {NAME} there; make one with {', '.join(map(_quoted, COMMANDS))}")
    return [read_result(path, f"R{i}") for i, path in enumerate(paths.values(), 1)]


def _found(folder: Path) -> list[Path]:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--results {folder}: must be a folder")
    return sorted(folder.rglob(NAME))


def _quoted(command: str) -> str:
    return f"`{command}`"


def read_result(path: Path, key: str) -> Result:
    """One result.

    Raises:
        ValueError: it cannot be read, or is none of `evaluate`; one line that names the file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        json.dumps(values, ensure_ascii=False).encode()  # halves of characters, which no report could be written with
        return _result(_Values(values), path, key)
    except (OSError, ValueError, RecursionError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{path}: no result of `python -m mpl evaluate`: {problem}") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


class _Values:
    """A mapping of JSON, asked for values by key and type; what does not fit is a ValueError that names the key."""

    def __init__(self, values: Any, where: str = "") -> None:
        if not isinstance(values, Mapping):
            raise ValueError(f"{where or 'its content'}: must be a mapping")
        self.values, self.where = values, where

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of a key; without a default, the key must be there."""
        value = self.values.get(key, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            problem = "missing" if value is None else f"is {shown(value)}, must be {_KINDS[kind]}"
            raise ValueError(f"{self.name(key)}: {problem}")
        return value

    def block(self, key: str, default: Any = None) -> _Values:
        return _Values(self.values.get(key, default), self.name(key))

    def blocks(self) -> dict[str, _Values]:
        return {key: self.block(key) for key in self.values}

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(map(str, self.get(key, list, [])))

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


_KINDS = {str: "a text", int: "a whole number", float: "a number", list: "a list"}


def _result(values: _Values, path: Path, key: str) -> Result:
    versions = {name: str(version) for name, version in values.block("versions", {}).values.items()}
    origin = Origin(key, path, values.get("command", str, ""), versions, values.get("machine", str, ""))
    match values.values.get("kind", "protocol" if "protocol" in values.values else None):
        case "storybook":
            return _storybook(values, origin)
        case "ablation":
            return _ablation(values, origin)
        case "protocol":
            return _published(values, origin)
        case other:
            raise ValueError(f"kind = {shown(other)}: must be storybook, ablation or protocol")


def _storybook(values: _Values, origin: Origin) -> Storybook:
    parts = {part: read_figures(values.block(part).values, part) for part in PARTS if part in values.values}
    if not parts:
        raise ValueError(f"has none of {', '.join(PARTS)}")
    about = (values.get("n", int), values.get("preset", str), values.texts("changed"))
    asked = values.get("split", str, "heldout"), values.get("style", str, load_storybook_protocol().cases.style)
    judges = values.get("judges", str) if values.values.get("judges") is not None else ""
    return Storybook(origin, *about, *asked, judges, parts, _meanings(values), _sheet(values, origin))


def _meanings(values: _Values) -> dict[str, str]:
    protocol = values.block("protocol", {})
    blocks = [protocol.block(key, {}) for key in ("choices", "judges", "figures")]
    return {name: block.get(name, str) for block in blocks for name in block.values}


def _ablation(values: _Values, origin: Origin) -> Ablation:
    arms = {name: _arm(arm) for name, arm in values.block("arms").blocks().items()}
    told = values.block("differences").blocks()
    differences = {
        pair: {name: read_figure(value, f"{of.where}.{name}") for name, value in of.values.items()}
        for pair, of in told.items()
    }
    about = (values.get(key, str) for key in ("name", "title", "about", "stage"))
    count, split = values.get("n", int), values.get("split", str, "heldout")
    return Ablation(origin, *about, count, split, arms, differences, _meanings(values), _sheet(values, origin))


def _sheet(values: _Values, origin: Origin) -> Path | None:
    """The contact sheet's file; None where there is none, as of arms of which none could run."""
    name = values.get("sheet", str) if values.values.get("sheet") is not None else ""
    if name and Path(name).name != name:  # a result may not have other files of this machine shown
        raise ValueError(f"sheet = {shown(name)}: must be the name of a file beside it")
    return origin.path.parent / name if name else None


def _arm(values: _Values) -> Arm:
    if "why" in values.values:
        return Arm({}, values.get("why", str))
    return Arm(read_figures(values.values, values.where))


def _published(values: _Values, origin: Origin) -> Published:
    protocol = values.block("protocol")
    metrics = {name: _metric(metric) for name, metric in values.block("figures").blocks().items()}
    choices = {key: block for key, block in protocol.values.items() if isinstance(block, Mapping)}
    weights = {name: str(digest) for name, digest in values.block("weights", {}).values.items()}
    about = (protocol.get("name", str), protocol.get("title", str), values.get("preset", str), values.texts("changed"))
    stop_after = values.get("stop_after", str) if values.values.get("stop_after") is not None else ""
    return Published(origin, *about, stop_after, metrics, choices, weights)


def _metric(values: _Values) -> Metric:
    groups = values.block("groups").blocks() if "groups" in values.values else {}
    of = values.values
    return Metric(
        read_figure(of, values.where),
        values.get("n", int),
        values.get("protocol_asks", int),
        values.get("why", str, ""),
        read_figure(of.get("deviation"), values.name("deviation")).value,
        values.get("splits", int) if "splits" in of else None,
        values.get("withheld", int, 0),
        values.block("real").get("n", int) if "real" in of else None,
        {name: read_figure(group.values, group.where) for name, group in groups.items()},
    )
