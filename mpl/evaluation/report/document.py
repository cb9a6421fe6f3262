"""A report as a small tree: sections of paragraphs, tables, charts and pictures. Knows no results and no formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SOURCES = "sources"  # key of the section whose rows describe what cells name as their sources


@dataclass(frozen=True)
class Cell:
    """What a table says in one place, and the key of the source that it has it from."""

    text: str
    note: str = ""  # a second, smaller line
    source: str = ""
    strong: bool = False
    code: bool = False


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; the first names the row."""

    cells: tuple[Cell, ...]
    own: bool = False  # of this project, in a table of others
    key: str = ""  # of the source that the row describes


@dataclass(frozen=True)
class Table:
    """Rows under the names of their columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    about: str = ""


@dataclass(frozen=True)
class Point:
    """A value of a chart with its interval, where it has one."""

    group: str
    label: str
    value: float
    low: float | None
    high: float | None
    strong: bool = True  # drawn full; others hollow
    bound: float | None = None  # what is required, drawn as a mark


@dataclass(frozen=True)
class Chart:
    """Points with intervals, one under the other, over an axis that they share."""

    key: str  # also of its file's name: small letters, digits and hyphens
    title: str
    axis: str
    points: tuple[Point, ...]
    zero: bool = False  # whether values are differences, read against a line at zero
    limits: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """The same in words, for those who cannot see it."""
        return f"{self.title}. {self.axis}: " + "; ".join(map(_words, self.points)) + "."


def _words(point: Point) -> str:
    interval = "" if point.low is None or point.high is None else f" ({point.low:.4g} to {point.high:.4g})"
    bound = "" if point.bound is None else f", required {point.bound:.4g}"
    return f"{point.group}, {point.label} {point.value:.4g}{interval}{bound}"


@dataclass(frozen=True)
class Picture:
    """A JPEG picture with what it shows."""

    key: str  # as of a chart
    title: str
    text: str
    jpeg: bytes


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    key: str  # small letters, digits and hyphens
    title: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[Table | Chart | Picture, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Report:
    """The whole."""

    title: str
    paragraphs: tuple[str, ...]
    sections: tuple[Section, ...]

    def everything(self) -> Iterator[tuple[int, Section]]:
        """All sections in reading order, each with its depth, from 0."""
        return _walk(self.sections, 0)


def _walk(sections: tuple[Section, ...], depth: int) -> Iterator[tuple[int, Section]]:
    for section in sections:
        yield depth, section
        yield from _walk(section.sections, depth + 1)
