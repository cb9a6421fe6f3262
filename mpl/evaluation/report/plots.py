"""Charts as SVG, by matplotlib. Its state of figures (pyplot) and its settings stay as they were."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .document import Chart, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 7.2  # inches
ROW = 0.25  # inches of height for a point
ROOM = 0.75  # inches of height for the axis
LONGEST = 60  # letters of a row's name
MARGIN = 0.02  # of the axis, beside its limits


@dataclass(frozen=True)
class Ink:
    """Colours of a chart; `paper` is inside hollow marks and, where `filled`, behind everything."""

    paper: str = "#fffcf5"
    ink: str = "#2a2833"
    muted: str = "#665f6b"
    line: str = "#e3d9c5"
    accent: str = "#a8421f"
    filled: bool = True


def draw(chart: Chart, ink: Ink = Ink()) -> str:
    """The chart as one SVG element; ids in it begin with the chart's key, so that a page may hold many."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(point.group for point in chart.points))
    settings = {"svg.fonttype": "none", "svg.hashsalt": chart.key, "font.size": 9, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        height = ROOM + ROW * (len(chart.points) + len(groups))
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=ink.paper)
        FigureCanvasSVG(figure)
        _fill(figure.add_subplot(), chart, groups, ink)
        data = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(data, format="svg", transparent=not ink.filled, metadata=nothing)
    return _element(data.getvalue(), chart.key)


def _fill(axes: Axes, chart: Chart, groups: Sequence[str], ink: Ink) -> None:
    ticks, row = [], 0
    for group in groups:
        ticks.append((row, group, True))
        for point in (point for point in chart.points if point.group == group):
            row += 1
            ticks.append((row, point.label, False))
            _mark(axes, point, row, ink)
        row += 1
    if chart.zero:
        axes.axvline(0, color=ink.muted, linewidth=1, zorder=1)
    axes.set_ylim(row - 0.4, -0.6)  # the first on top
    axes.set_yticks([place for place, *_ in ticks], [_plain(_short(text)) for _, text, _ in ticks])
    for label, (_, _, heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set(color=ink.ink if heading else ink.muted, fontweight="bold" if heading else "normal")
    if chart.limits:
        low, high = chart.limits
        axes.set_xlim(low - MARGIN * (high - low), high + MARGIN * (high - low))
    axes.set_xlabel(_plain(chart.axis), color=ink.muted)
    axes.tick_params(axis="x", colors=ink.muted, length=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=ink.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)


def _mark(axes: Axes, point: Point, row: int, ink: Ink) -> None:
    if point.low is not None and point.high is not None:
        axes.plot([point.low, point.high], [row, row], color=ink.accent, linewidth=2, solid_capstyle="round", zorder=2)
    if point.bound is not None:
        axes.plot([point.bound] * 2, [row - 0.36, row + 0.36], color=ink.ink, linewidth=1.4, zorder=3)
    face = ink.accent if point.strong else ink.paper
    axes.plot(
        point.value, row, "o", markersize=6, color=ink.accent, markerfacecolor=face, markeredgewidth=1.6, zorder=4
    )


def _plain(text: str) -> str:
    """Text on one line, whose dollars begin no formula."""
    return "".join(letter if letter.isprintable() else " " for letter in text).replace("$", r"\$")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _element(svg: str, key: str) -> str:
    """The `svg` element alone, with ids of its own."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", svg)
