"""The paper's ablations at storybook scale: presets side by side on the same held-out captions and seeds.

A comparison is a TOML file in `presets/comparisons/`: the question, the stage at whose end it is measured, its arms.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpl.config import STAGES, Preset, load_preset, override, preset_folder
from mpl.limits import shown
from mpl.weights import Weights

from .storybook import Bench
from .whole import MEANS, MEDIANS, Sample, distance, figure, samples, summary

DRAWS = 500  # of captions with replacement, for an interval
SHOWN = 6  # captions on a contact sheet


@dataclass(frozen=True)
class Arm:
    """One side: a preset, and what is changed in it."""

    name: str
    preset: str
    changes: Mapping[str, Any]

    def resolved(self) -> Preset:
        return override(load_preset(self.preset), self.changes)


@dataclass(frozen=True)
class Comparison:
    """A question, asked of two arms or more at the end of a stage. `pairs` are those whose differences are told."""

    name: str
    title: str
    about: str
    stage: str
    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...]


def comparison_names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.toml"))


def load_comparison(name: str) -> Comparison:
    """The comparison of a name.

    Raises:
        ValueError: no such comparison, or a file that is none; says what is accepted.
    """
    path = _folder() / f"{name}.toml"
    if name not in comparison_names():
        raise ValueError(f"comparison {shown(name)}: must be one of {', '.join(comparison_names())}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        arms = tuple(Arm(arm["name"], arm.get("preset", "storybook"), arm.get("set", {})) for arm in values["arms"])
        pairs = values.get("pairs") or list(pairwise(arm.name for arm in arms))
        made = Comparison(name, values["title"], values["about"], values["stage"], arms, tuple(map(tuple, pairs)))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"comparison {name}: {path.name} cannot be read: {error!r}") from None
    _check(made)
    return made


def _folder() -> Path:
    return preset_folder() / "comparisons"


def _check(made: Comparison) -> None:
    names = [arm.name for arm in made.arms]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"comparison {made.name}: needs two arms or more, with names of their own")
    if made.stage not in STAGES:
        raise ValueError(f"comparison {made.name}: stage = {shown(made.stage)}: must be one of {', '.join(STAGES)}")
    for pair in made.pairs:
        if len(pair) != 2 or not set(pair) <= set(names):
            raise ValueError(f"comparison {made.name}: pairs = {list(pair)}: must be two of {', '.join(names)}")


def lacking(comparison: Comparison) -> dict[str, str]:
    """What keeps arms from running, by arm: weights that are not on this machine."""
    found = {}
    for arm in comparison.arms:
        preset = arm.resolved()
        try:
            Weights(preset.weights).check(_stages(comparison), safety=preset.safety)
        except ValueError as error:
            found[arm.name] = str(error)
    return found


def _stages(comparison: Comparison) -> tuple[str, ...]:
    return STAGES[: STAGES.index(comparison.stage) + 1]


def compare(
    comparison: Comparison, bench_of: Callable[[Preset], Bench], count: int
) -> tuple[dict[str, Any], dict[str, list[Sample]]]:
    """Figures of every arm that can run, differences of the pairs whose both sides did, and the samples behind them.

    An arm without weights says why in its place.
    """
    why = lacking(comparison)
    of = {
        arm.name: list(samples(bench_of(arm.resolved()), count, comparison.stage))
        for arm in comparison.arms
        if arm.name not in why
    }
    arms = {arm.name: {"why": why[arm.name]} if arm.name in why else summary(of[arm.name]) for arm in comparison.arms}
    told = {f"{b} less {a}": difference(of[a], of[b]) for a, b in comparison.pairs if a in of and b in of}
    return {"arms": arms, "differences": told}, of


def difference(a: Sequence[Sample], b: Sequence[Sample]) -> dict[str, Any]:
    """Figures of `b` less those of `a`, caption by caption: means with 95 % intervals by the bootstrap over captions.

    Attributes in points; those of "fvd" and "fid" are differences of distances, each of the whole set.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for sample in a for name in sample.right):
        points = [100.0 * (y.right[name] - x.right[name]) for x, y in zip(a, b, strict=True) if name in x.right]
        found[f"{name} (points)"] = bootstrap(len(points), _mean_of(points))
    for name in (*MEANS, *MEDIANS):
        pairs = [(x.figures[name], y.figures[name]) for x, y in zip(a, b, strict=True) if _both(x, y, name)]
        if pairs and not name.startswith("true_"):
            found[name] = bootstrap(len(pairs), _mean_of([y - x for x, y in pairs]))
    for name in ("fvd", "fid"):
        found[name] = bootstrap(len(a), lambda drawn, name=name: _distance_between(a, b, name, drawn), draws=100)
    return found


def _both(a: Sample, b: Sample, name: str) -> bool:
    return all(bool(figure([sample], name)) for sample in (a, b))


def _mean_of(values: Sequence[float]) -> Callable[[Sequence[int]], float]:
    known: Tensor = torch.tensor(values)
    return lambda drawn: known[list(drawn)].mean().item()


def _distance_between(a: Sequence[Sample], b: Sequence[Sample], name: str, drawn: Sequence[int]) -> float | None:
    values = [distance([of[i] for i in drawn], name) for of in (a, b)]
    return None if None in values else values[1] - values[0]


def bootstrap(
    count: int, statistic: Callable[[Sequence[int]], float | None], draws: int = DRAWS, seed: int = 0
) -> dict[str, float | int | None]:
    """A statistic of all of `count` captions, and its 95 % interval over sets drawn with replacement (percentiles).

    Args:
        statistic: takes places in the list, 0 to count - 1; None where these say nothing.
    """
    rng = random.Random(seed)
    value = statistic(range(count)) if count else None
    if value is None or count < 2:
        return {"value": value, "low": None, "high": None, "n": count}
    drawn = (statistic(rng.choices(range(count), k=count)) for _ in range(draws))
    found = sorted(x for x in drawn if x is not None)
    low, high = (found[round(share * (len(found) - 1))] for share in (0.025, 0.975))
    return {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4), "n": count}


def sheet(of: Mapping[str, Sequence[Sample]]) -> Iterator[tuple[str, list[Any]]]:
    """Rows of a contact sheet: a caption, then the middle frame of every arm and of the render, uint8 (h w 3)."""
    arms = list(of.values())
    for row in zip(*(found[:SHOWN] for found in arms), strict=True):
        yield row[0].caption, [sample.pictures[0][0] for sample in row] + [row[0].pictures[1][0]]


def with_bench(bench: Bench) -> Callable[[Preset], Bench]:
    """Benches of other presets, that share judges, kept stages and report with `bench`."""
    return lambda preset: replace(bench, preset=preset, weights=Weights(preset.weights))
