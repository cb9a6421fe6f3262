"""An ablation's figures: its arms, the differences of pairs of them with intervals, and its contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .document import Cell, Chart, Picture, Point, Row, Section, Table
from .figures import NOT_MEASURED, SPACE, Figure, count_text, interval_text, title_of, value_text
from .figures import Path as Keys
from .paper import NOT_RUN
from .reading import Ablation
from .sheets import contact_sheet
from .storybook import SPLITS, meanings_table

POINTS = " (points)"  # ending of the differences of attributes
# Left out of the table of arms: what is in the differences, what is of the renders, what is of one stage alone.
_ASIDE = ("lost_points", "judge_on_renders", "steady_on_renders")
_RENDERS = "true_"


def ablation_section(result: Ablation) -> Section:
    """One result.

    Raises:
        ValueError: the contact sheet is no picture.
    """
    key = result.origin.key
    items: list[Table | Chart | Picture] = [_arms(result)]
    if result.differences:
        items.append(_differences(result))
    items += _charts(result)
    if result.meanings:
        items.append(meanings_table(result.meanings))
    shown = ", ".join(name for name, arm in result.arms.items() if not arm.why)
    sheets, lacking = contact_sheet(result.sheet, key, shown)
    items += sheets
    where = f"Measured at the end of {result.stage}, on {result.n} {SPLITS.get(result.split, result.split)}."
    command = f"{key}: {result.origin.command}"
    return Section(f"ablation-{key.lower()}", result.title, (result.about, where, command, *lacking), tuple(items))


def _arms(result: Ablation) -> Table:
    paths = list(dict.fromkeys(path for arm in result.arms.values() for path in arm.figures if _in_table(path)))
    rows = []
    for name, arm in result.arms.items():
        if arm.why:
            cells = [Cell(NOT_RUN, source=result.origin.key) for _ in paths]
            rows.append(Row((Cell(name, f"{NOT_RUN}: {arm.why}"), *cells)))
            continue
        figures = [arm.figures.get(path, Figure(None)) for path in paths]
        cells = [Cell(value_text(x), interval_text(x), result.origin.key) for x in figures]
        rows.append(Row((Cell(name), *cells)))
    return Table("Arms", ("Arm", *map(title_of, paths)), tuple(rows), "Small figures are 95 % intervals.")


def _in_table(path: Keys) -> bool:
    if path[0] == "seconds":
        return path[-1] == "all"
    return path[0] not in _ASIDE and not path[-1].startswith(_RENDERS)


def _differences(result: Ablation) -> Table:
    names = list(dict.fromkeys(name for figures in result.differences.values() for name in figures))
    rows = tuple(
        Row((Cell(_name(name)), *(_difference(of.get(name), result.origin.key) for of in result.differences.values())))
        for name in names
    )
    about = (
        "Paired by caption; 95 % intervals over captions: of attributes Newcombe's, of FVD and FID by the jackknife, "
        "of means, and of attributes over several pairs, Student's, of medians by the bootstrap. Bold with ▲ (higher) "
        "or ▼ (lower): the interval excludes 0."
    )
    return Table("Differences", ("Figure", *result.differences), rows, about)


def _name(name: str) -> str:
    return f"{name.removesuffix(POINTS)} right, points" if name.endswith(POINTS) else title_of((name,))


def _difference(figure: Figure | None, key: str) -> Cell:
    if figure is None or figure.value is None:
        return Cell(NOT_MEASURED, source=key)
    text, clear = value_text(figure, signed=True), figure.excludes_zero
    mark = f"{'▲' if figure.value > 0 else '▼'}{SPACE}" if clear else ""
    return Cell(mark + text, ", ".join(filter(None, (interval_text(figure), count_text(figure)))), key, strong=clear)


def _charts(result: Ablation) -> Iterator[Chart]:
    """Of the differences: all attributes in one, and of other figures those of which one is clear."""
    axis = "difference in points; full marks: the interval excludes 0"
    key = f"differences-{result.origin.key.lower()}"
    if points := tuple(_points(result)):
        yield Chart(key, "Differences of attributes, with 95 % intervals", axis, points, True, _limits(points, 1.0))
    of_all = result.differences.values()
    for name in dict.fromkeys(name for figures in of_all for name in figures if not name.endswith(POINTS)):
        told = {pair: figures[name] for pair, figures in result.differences.items() if name in figures}
        points = tuple(_point(title_of((name,)), *of) for of in told.items() if of[1].value is not None)
        if any(point.strong for point in points):
            title = f"Differences of {points[0].group}, with 95 % intervals"
            yield Chart(f"{key}-{name}", title, axis.replace(" in points", ""), points, True, _limits(points))


def _limits(points: Sequence[Point], least: float = 0.0) -> tuple[float, float]:
    """Of an axis with zero in its middle."""
    reach = max(least, *(abs(x) for point in points for x in (point.value, point.low, point.high) if x is not None))
    return -reach, reach


def _points(result: Ablation) -> Iterator[Point]:
    for pair, figures in result.differences.items():
        for name, figure in figures.items():
            if name.endswith(POINTS) and figure.value is not None:
                yield _point(pair, name.removesuffix(POINTS), figure)


def _point(group: str, label: str, figure: Figure) -> Point:
    low, high = figure.interval or (None, None)
    return Point(group, label, figure.value, low, high, strong=figure.excludes_zero)
