"""An ablation's figures: its arms, the differences of pairs of them with intervals, and its contact sheet."""

from __future__ import annotations

from collections.abc import Iterator

from .document import Cell, Chart, Picture, Point, Row, Section, Table
from .figures import NOT_MEASURED, SPACE, Figure, count_text, interval_text, title_of, value_text
from .figures import Path as Keys
from .paper import NOT_RUN
from .reading import Ablation
from .sheets import contact_sheet

POINTS = " (points)"  # ending of the differences of attributes
# Left out of the table of arms: what is in the differences, what is of the renders, what is of one stage alone.
_ASIDE = ("lost_points", "judge_on_renders")
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
    if chart := _chart(result):
        items.append(chart)
    shown = ", ".join(name for name, arm in result.arms.items() if not arm.why)
    sheets, lacking = contact_sheet(result.sheet, key, shown)
    items += sheets
    where = f"Measured at the end of {result.stage}, on {result.n} held-out captions."
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
        "of others by the bootstrap. Bold with ▲ (higher) or ▼ (lower): the interval excludes 0."
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


def _chart(result: Ablation) -> Chart | None:
    points = tuple(_points(result))
    ends = [abs(x) for point in points for x in (point.value, point.low, point.high) if x is not None]
    reach = max((1.0, *ends))  # zero stays in the middle
    axis = "difference in points; full marks: the interval excludes 0"
    key = f"differences-{result.origin.key.lower()}"
    title = "Differences of attributes, with 95 % intervals"
    return Chart(key, title, axis, points, zero=True, limits=(-reach, reach)) if points else None


def _points(result: Ablation) -> Iterator[Point]:
    for pair, figures in result.differences.items():
        for name, figure in figures.items():
            if name.endswith(POINTS) and figure.value is not None:
                low, high = figure.interval or (None, None)
                yield Point(pair, name.removesuffix(POINTS), figure.value, low, high, strong=figure.excludes_zero)
