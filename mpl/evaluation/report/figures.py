"""Figures as results hold them, read, named and put into words: values with their intervals. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mpl.limits import shown

NOT_MEASURED = "not measured"
SPACE = "\N{NO-BREAK SPACE}"  # at which a line never ends
PERCENT = f"{SPACE}%"
_VALUES = ("share", "mean", "median", "value")  # the key of a figure's value says what kind it is
_COUNTS = ("of", "videos", "n")
_NAMES = {
    "fvd": "FVD, judge's features",
    "fid": "FID, judge's features",
    "fid_ratio": "FID over bilinear's",
    "bilinear_fid": "FID of bilinear enlargement",
    "clipsim": "CLIPSIM",
    "consistency": "consistency of frames",
    "true_consistency": "consistency of the renders' frames",
    "energy": "gradient energy over renders'",
    "bilinear_energy": "gradient energy of bilinear enlargement",
    "seams": "seams of windows",
    "flicker": "flicker, 1/255",
    "true_flicker": "flicker of renders, 1/255",
    "peak_memory_gb": "peak memory, GB",
    "psnr_db": "PSNR, dB",
    "bilinear_psnr_db": "PSNR of bilinear enlargement, dB",
    "linear_psnr_db": "PSNR of linear blending, dB",
    "first": "the first for each, right",
    "others": "others, right",
    "points_behind": "others, points behind",
    "gain_db": "gain over linear blending, dB",
    "distance": "distance to renders",
    "bilinear_distance": "distance of bilinear enlargement",
    "distance_ratio": "distance over bilinear's, mean of ratios",
    "ratio_of_means": "distance over bilinear's, ratio of means",
}
_GROUPS = {
    "attributes": "{} right",
    "judge_on_renders": "{}, the judge on renders",
    "round_trip": "{}, renders through the autoencoder of keyframes",
    "lost_points": "{} lost, points",
    "steady": "{} steady where unsaid",
    "steady_on_renders": "{} steady, of renders",
    "words": "attributes by their words: {}",
    "seconds": "seconds, {}",
    "of_superres": "of superres: {}",
    "autoencoder_alone": "autoencoder alone: {}",
    "of_renders": "of renders: {}",
}


@dataclass(frozen=True)
class Figure:
    """A value, where there is one, with the 95 % interval and the count that it is of, where these are said."""

    value: float | None
    low: float | None = None
    high: float | None = None
    of: int | None = None
    right: float | None = None  # successes, of a share
    share: bool = False  # a fraction of 1, said in percent

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


Path = tuple[str, ...]  # of keys in a result


def read_figures(values: Any, where: str) -> dict[Path, Figure]:
    """All figures of a part of a result, however deep, by their keys.

    Raises:
        ValueError: something that is no figure; names it by `where` and its keys.
    """
    return dict(_walk(values, (), where))


def _walk(values: Any, path: Path, where: str) -> Iterator[tuple[Path, Figure]]:
    name = ".".join((where, *path))
    if isinstance(values, Mapping) and not any(key in values for key in _VALUES):
        for key, inner in values.items():
            yield from _walk(inner, (*path, key), where)
    else:
        yield path, read_figure(values, name)


def read_figure(values: Any, where: str) -> Figure:
    """A figure: a number, None, or a mapping with a value, perhaps an interval and a count.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(values, Mapping):
        return Figure(_number(values, where))
    key = next((key for key in _VALUES if key in values), None)
    if key is None:
        raise ValueError(f"{where}: has none of {', '.join(_VALUES)}")
    found = {name: _number(values.get(name), f"{where}.{name}") for name in (key, "low", "high", "right")}
    counts = [_number(values[name], f"{where}.{name}") for name in _COUNTS if name in values]
    of = None if not counts or counts[0] is None else int(counts[0])
    return Figure(found[key], found["low"], found["high"], of, found["right"], key == "share")


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} = {shown(value)}: must be a number")
    return value


def title_of(path: Path) -> str:
    """What a figure is called."""
    *outer, last = path
    text = _NAMES.get(last, last.replace("_", " "))
    for group in reversed(outer):
        text = _GROUPS.get(group, f"{group.replace('_', ' ')}: {{}}").replace("{}", text)
    return text


def number(value: float, decimals: int | None = None, signed: bool = False) -> str:
    """A number for people: four digits that count, or so many decimals; a true minus."""
    if decimals is not None:
        text = f"{abs(value):.{decimals}f}"
    elif value and not 1e-3 <= abs(value) < 1e4:
        text = f"{abs(value):,.0f}" if abs(value) >= 1e4 else f"{abs(value):.1e}"
    else:
        text = f"{abs(value):.4g}"
    sign = "−" if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def value_text(figure: Figure, decimals: int | None = None, unit: str = "", signed: bool = False) -> str:
    """A figure's value; says so where there is none."""
    if figure.value is None:
        return NOT_MEASURED
    if figure.share:
        return _percent(figure.value) + PERCENT
    return number(figure.value, _decimals(figure) if decimals is None else decimals, signed) + unit


def interval_text(figure: Figure, decimals: int | None = None) -> str:
    """A figure's interval, "" where there is none."""
    if figure.interval is None:
        return ""
    low, high = figure.interval
    if figure.share:
        return f"{_percent(low)} to {_percent(high)}{PERCENT}"
    decimals = _decimals(figure) if decimals is None else decimals
    return f"{number(low, decimals)} to {number(high, decimals)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share in (0, 1) else f"{100 * share:.1f}"


def _decimals(figure: Figure) -> int | None:
    """As many decimals as the interval leaves a meaning to; None where there is no interval."""
    low, high = figure.interval or (0.0, 0.0)
    return None if high <= low else min(4, max(1, 1 - math.floor(math.log10(high - low))))


def count_text(figure: Figure) -> str:
    """How many a figure is of: `106 of 109` for shares, `n = 64` for others."""
    if figure.of is None:
        return ""
    return f"n{SPACE}={SPACE}{figure.of}" if figure.right is None else f"{figure.right:g} of {figure.of}"
