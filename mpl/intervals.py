"""Intervals of shares, and what those of means need: counts in, numbers out. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL = 1.959964  # which 95 % of a normal variable stay within, in standard deviations


def student(freedom: int) -> float:
    """The same for Student's t with so many degrees of freedom, to within 1 % from two on and 0.02 % from five.

    By Cornish and Fisher's expansion (Abramowitz and Stegun, 26.7.5), which needs no table; with one it is Cauchy's.
    """
    if freedom == 1:
        return math.tan(0.475 * math.pi)
    z, n = NORMAL, freedom
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / n**i for i, term in enumerate(terms, 1))


@dataclass(frozen=True)
class Share:
    """A count of successes with its 95 % interval; a success may be counted by half."""

    right: float
    of: int

    @property
    def value(self) -> float:
        return self.right / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927) at 95 %, (low, high) in [0, 1]."""
        if not self.of:
            return math.nan, math.nan
        z = NORMAL
        center = self.value + z * z / (2 * self.of)
        spread = z * math.sqrt(self.value * (1 - self.value) / self.of + z * z / (4 * self.of**2))
        scale = 1 + z * z / self.of
        return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)

    def as_dict(self) -> dict[str, float | int | None]:
        """Counts, share and interval for a report; of nothing, there is no share (None: JSON has no NaN)."""
        figures = {"share": self.value, "low": self.interval[0], "high": self.interval[1]}
        return {"right": self.right, "of": self.of} | {
            k: round(v, 4) if math.isfinite(v) else None for k, v in figures.items()
        }


def paired_points(first: Sequence[bool], second: Sequence[bool]) -> dict[str, float | int | None]:
    """By how many percent of the same things `second` is right more often, with a 95 % interval; None of nothing.

    The interval is Newcombe's (1998, Statistics in Medicine 17, 2635, method 10): of Wilson's intervals of both shares
    and their correlation, so that it is wide where few things were seen, even if none of them differs.
    """
    n = len(first)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    both, gone, won, neither = (sum(a == x and b == y for a, b in zip(first, second, strict=True)) for x, y in _CELLS)
    before, after = Share(both + gone, n), Share(both + won, n)
    spread = (both + gone) * (won + neither) * (both + won) * (gone + neither)
    product = both * neither - gone * won
    phi = (max(product - n / 2, 0.0) if product > 0 else product) / math.sqrt(spread) if spread else 0.0
    (low1, high1), (low2, high2) = before.interval, after.interval
    down, up = (after.value - low2, high1 - before.value), (high2 - after.value, before.value - low1)
    difference = after.value - before.value
    low, high = (math.sqrt(max(0.0, x * x - 2 * phi * x * y + y * y)) for x, y in (down, up))
    told = (100 * difference, 100 * (difference - low), 100 * (difference + high))
    return dict(zip(("value", "low", "high"), (round(x, 2) for x in told), strict=True)) | {"n": n}


_CELLS = ((True, True), (True, False), (False, True), (False, False))  # right first, right second
