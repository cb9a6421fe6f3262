"""Intervals of statistics over captions: jackknife, order statistics, bootstrap. Knows neither networks nor files."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

from mpl.intervals import student

DRAWS = 500  # sets with replacement, for a bootstrap
LEAST = 8  # captions, for a bootstrap: of fewer its intervals are far too narrow

Statistic = Callable[[Sequence[int]], float | None]  # of places in the list of captions; None where they say nothing
Told = dict[str, float | int | None]


def bootstrap(count: int, statistic: Statistic, draws: int = DRAWS, seed: int = 0) -> Told:
    """A statistic of all of `count` captions, and its 95 % interval over sets drawn with replacement (percentiles).

    For what has no interval of its own, such as differences of medians. Not for distances of distributions: a set that
    holds captions twice is narrower than the whole, so that its distance is too large. Of fewer than `LEAST` none.
    """
    rng = random.Random(seed)
    value = statistic(range(count)) if count else None
    if value is None or count < LEAST:
        return _told(value, None, count)
    drawn = (statistic(rng.choices(range(count), k=count)) for _ in range(draws))
    found = sorted(x for x in drawn if x is not None)
    low, high = (found[round(share * (len(found) - 1))] for share in (0.025, 0.975))
    return _told(value, (low, high), count)


def jackknife(count: int, statistic: Statistic) -> Told:
    """A statistic of all of `count` captions, and its 95 % interval by those of all but one (Tukey 1958; Student's t).

    For statistics that are smooth in the moments of what they are of, as Fréchet distances are; a mean's is Student's.
    """
    value = statistic(range(count)) if count else None
    if value is None or count < 3:
        return _told(value, None, count)
    left = [statistic([i for i in range(count) if i != out]) for out in range(count)]
    found = [x for x in left if x is not None]
    if len(found) < count:
        return _told(value, None, count)
    mean = sum(found) / count
    half = student(count - 1) * ((count - 1) / count * sum((x - mean) ** 2 for x in found)) ** 0.5
    return _told(value, (value - half, value + half), count)


def jackknife_of_ratio(count: int, statistic: Statistic) -> Told:
    """The same for a ratio above 0, whose logarithm is nearer to normal: its interval stays above 0, too."""

    def logarithm(kept: Sequence[int]) -> float | None:
        ratio = statistic(kept)
        return math.log(ratio) if ratio is not None and ratio > 0 else None

    told = jackknife(count, logarithm)
    return {key: round(math.exp(x), 4) if key != "n" and x is not None else x for key, x in told.items()}


def median(values: Sequence[float]) -> Told:
    """A median and its 95 % interval by order statistics, whatever the values' distribution; of fewer than 6 none."""
    ordered, n = sorted(values), len(values)
    below, rank = 0.0, 0  # chances of fewer than so many values below the true median, and that number
    while below + math.comb(n, rank) / 2**n <= 0.025:
        below += math.comb(n, rank) / 2**n
        rank += 1
    interval = (ordered[rank - 1], ordered[n - rank]) if rank else None
    return _told(statistics.median(ordered) if n else None, interval, n)


def _told(value: float | None, interval: tuple[float, float] | None, count: int) -> Told:
    low, high = interval or (None, None)
    rounded = (None if x is None else round(x, 4) for x in (value, low, high))
    return dict(zip(("value", "low", "high"), rounded, strict=True)) | {"n": count}
