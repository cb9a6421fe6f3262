"""The embedded models' figures: each part's table, the attributes as a chart, and what the project requires of them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mpl.config import preset_folder
from mpl.evaluation.protocols import STORYBOOK, load_storybook_protocol

from .document import Cell, Chart, Point, Row, Section, Table
from .figures import NOT_MEASURED, PERCENT, Figure, Path, count_text, interval_text, number, title_of, value_text
from .reading import Result, Storybook
from .sheets import contact_sheet

MET, NOT_MET = "met", "not met"
HELDOUT = "heldout"
SPLITS = {HELDOUT: "held-out captions", "train": "captions that were learned"}
_ATTRIBUTES = "attributes"


@dataclass(frozen=True)
class Required:
    """A figure that the project asks for, and the bounds that it must keep."""

    name: str
    figure: str  # keys with dots between, the part first
    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None  # what would be better still
    share: bool = False

    @property
    def keys(self) -> Path:
        return tuple(self.figure.split("."))

    @property
    def text(self) -> str:
        """The bounds in words."""
        low, high = map(self._bound, (self.at_least, self.at_most))
        required = f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
        return required + (f"; aim {self._bound(self.aim)}" if self.aim is not None else "")

    def _bound(self, value: float | None) -> str:
        if value is None:
            return ""
        return number(100 * value) + PERCENT if self.share else number(value)

    def keeps(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        above = self.at_least is None or value >= self.at_least
        return above and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class Verdict:
    """A requirement, and what a result says of it; None where none does."""

    required: Required
    result: Storybook | None = None
    figure: Figure | None = None

    @property
    def word(self) -> str:
        if self.figure is None or self.figure.value is None:
            return NOT_MEASURED
        return MET if self.required.keeps(self.figure.value) else NOT_MET

    @property
    def uncertain(self) -> bool:
        """Whether the interval reaches across a bound."""
        low, high = (self.figure and self.figure.interval) or (None, None)
        bounds = (self.required.at_least, self.required.at_most)
        return any(low < bound < high for bound in bounds if None not in (low, bound, high))

    def reservations(self, asked: int) -> tuple[str, ...]:
        """What speaks against its word, where the protocol asks for so many captions."""
        if self.result is None or self.word == NOT_MEASURED:
            return ()
        across = ("the interval reaches across the bound",) if self.uncertain else ()
        return across + ((f"of fewer captions than {asked}",) if self.result.n < asked else ())


def load_required() -> tuple[Required, ...]:
    """What `presets/report/required.toml` asks for."""
    values = tomllib.loads((preset_folder() / "report" / "required.toml").read_text(encoding="utf-8"))
    return tuple(Required(**required) for required in values["required"])


def verdicts(required: Sequence[Required], results: Sequence[Result]) -> list[Verdict]:
    """For each requirement what every result says of it; one that says nothing where none does.

    Of results on held-out captions in the protocol's style with the default preset as it is, for which the
    requirements are.
    """
    asked = (True, STORYBOOK, ())
    of = [r for r in results if isinstance(r, Storybook) and (_as_asked(r), r.preset, r.changed) == asked]
    found = []
    for one in required:
        part, *keys = one.keys
        told = [(result, result.parts.get(part, {}).get(tuple(keys))) for result in of]
        found += [Verdict(one, *x) for x in told if x[1] is not None and x[1].value is not None] or [Verdict(one)]
    return found


def _as_asked(result: Storybook) -> bool:
    """Whether its captions and judges are those that requirements are about."""
    return (result.split, result.style, result.judges) == (HELDOUT, load_storybook_protocol().cases.style, "")


def required_section(found: Sequence[Verdict]) -> Section:
    """The requirements as a table."""
    rows, asked = [], load_storybook_protocol().cases.count
    for verdict in found:
        measured, of, note = Cell(NOT_MEASURED), Cell(""), ""
        if verdict.result and verdict.figure:
            measured = Cell(value_text(verdict.figure), _interval_note(verdict.figure), verdict.result.origin.key)
            of = Cell(
                _made_by(verdict.result), count_text(verdict.figure) or count_text(Figure(None, of=verdict.result.n))
            )
            note = "; ".join(verdict.reservations(asked))
        word = Cell(verdict.word, note, strong=verdict.word == NOT_MET)
        rows.append(Row((Cell(verdict.required.name), Cell(verdict.required.text), measured, word, of)))
    about = "Bounds are the project's own, in presets/report/required.toml; the value decides, not the interval."
    columns = ("Figure", "Required", "Measured", "Verdict", "Of")
    table = Table("Required and measured, on held-out captions", columns, tuple(rows), about)
    return Section("required", "Required and measured", (), (table,))


def _interval_note(figure: Figure) -> str:
    interval = interval_text(figure)
    return f"95 %: {interval}" if interval else ""


def _made_by(result: Storybook) -> str:
    return ", ".join((f"preset {result.preset}", *result.changed))


def storybook_section(result: Storybook, required: Sequence[Required]) -> Section:
    """One result: a chart of its attributes, a table for each of its parts, and its contact sheet.

    Raises:
        ValueError: the contact sheet is no picture.
    """
    key = result.origin.key
    split = SPLITS.get(result.split, result.split)
    charts = [chart] if (chart := _chart(result, required if _as_asked(result) else ())) else []
    tables = [_table(part, figures, key) for part, figures in result.parts.items()]
    usual = result.style == load_storybook_protocol().cases.style
    title = f"{key}: {_made_by(result)}, {result.n} {split}" + ("" if usual else f", style {result.style}")
    meanings = [meanings_table(result.meanings)] if result.meanings else []
    sheets, lacking = contact_sheet(result.sheet, key, f"preset {result.preset}")
    return Section(f"storybook-{key.lower()}", title, lacking, (*charts, *tables, *meanings, *sheets))


def meanings_table(meanings: Mapping[str, str]) -> Table:
    """A protocol: its choices, what judges look at, and what figures are."""
    rows = (Row((Cell(name.replace("_", " ")), Cell(text))) for name, text in meanings.items())
    return Table("What was chosen, what judges look at, and what figures are", ("Name", "Meaning"), tuple(rows))


def _table(part: str, figures: Mapping[Path, Figure], key: str) -> Table:
    rows = tuple(
        Row((Cell(title_of(path)), Cell(value_text(x), source=key), Cell(interval_text(x)), Cell(count_text(x))))
        for path, x in figures.items()
    )
    return Table(part.capitalize(), ("Figure", "Value", "95 % interval", "Of"), rows)


def _chart(result: Storybook, required: Sequence[Required]) -> Chart | None:
    points = tuple(_points(result, {one.keys: one for one in required}))
    key = f"attributes-{result.origin.key.lower()}"
    axis = "right, % of the captions that name the attribute"
    axis += "; upright mark: required" if any(point.bound is not None for point in points) else ""
    return Chart(key, "Attributes, with 95 % intervals", axis, points, limits=(0, 100)) if points else None


def _points(result: Storybook, required: Mapping[Path, Required]) -> Iterator[Point]:
    for part, figures in result.parts.items():
        for path, figure in figures.items():
            if path[0] == _ATTRIBUTES and len(path) == 2 and figure.value is not None:
                low, high = figure.interval or (None, None)
                asked = required.get((part, *path))
                values = (figure.value, low, high, asked.at_least if asked else None)
                value, low, high, bound = (None if x is None else 100 * x for x in values)
                yield Point(part, path[1], value or 0.0, low, high, bound=bound)
