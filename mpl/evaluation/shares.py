"""Shares over captions: attributes that are right, by the words that say them, and what stays the same over a video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from mpl.intervals import Share


def of_attribute(rights: Iterable[dict[str, bool]], name: str) -> dict[str, float | int | None]:
    """Share of the captions which name an attribute that have it right."""
    values = [right[name] for right in rights if name in right]
    return Share(sum(values), len(values)).as_dict()


def of_steadiness(made: Sequence[dict[str, bool]], truth: Sequence[dict[str, bool]]) -> dict[str, Any]:
    """Shares of what stays the same over a video, of results and of renders, by attribute that is unsaid somewhere."""
    names = dict.fromkeys(name for found in made for name in found)
    figures = {"steady": made, "steady_on_renders": truth}
    return {key: {name: of_attribute(of, name) for name in names} for key, of in figures.items()}


def of_words(rights: Sequence[dict[str, bool]], firsts: Sequence[frozenset[str]]) -> dict[str, Any]:
    """Shares of named attributes that are right, apart by the words that say them: the first for each, or others.

    `points_behind` is by how many percent of their namings the others are right less often: within each attribute, so
    that one which is hard and often said in other words is not taken for the words' fault, and of all together as
    Mantel and Haenszel weigh them (1959; its variance is that of independent shares). The camera is left out: its
    direction has words of its own, which are no synonyms of it.
    """
    found: dict[str, tuple[list[bool], list[bool]]] = {}
    for right, plain in zip(rights, firsts, strict=True):
        for name, value in right.items():
            if name != "camera":
                found.setdefault(name, ([], []))[name not in plain].append(value)
    first, others = ([value for kinds in found.values() for value in kinds[i]] for i in (0, 1))
    return {
        "first": Share(sum(first), len(first)).as_dict(),
        "others": Share(sum(others), len(others)).as_dict(),
        "points_behind": _points_behind([kinds for kinds in found.values() if all(kinds)]),
    }


def _points_behind(groups: Sequence[tuple[list[bool], list[bool]]]) -> dict[str, float | int | None]:
    """Mean difference of two shares in percent, over groups, with its 95 % interval; None without groups.

    Variances are those of shares with one more right and one more wrong (Agresti and Caffo 2000): of few captions that
    are all right, the plain ones would be 0.
    """
    weights, differences, variances = [], [], []
    for first, others in groups:
        shares = [sum(values) / len(values) for values in (first, others)]
        weights.append(len(first) * len(others) / (len(first) + len(others)))
        differences.append(shares[0] - shares[1])
        counts = [len(values) + 2 for values in (first, others)]
        likely = [(sum(values) + 1) / n for values, n in zip((first, others), counts, strict=True)]
        variances.append(sum(p * (1 - p) / n for p, n in zip(likely, counts, strict=True)))
    if not groups:
        return {"mean": None, "low": None, "high": None}
    total = sum(weights)
    mean = 100 * sum(w * d for w, d in zip(weights, differences, strict=True)) / total
    half = 196 * math.sqrt(sum(w * w * v for w, v in zip(weights, variances, strict=True))) / total
    return {"mean": round(mean, 2), "low": round(mean - half, 2), "high": round(mean + half, 2)}
