"""The paper's ablations at storybook scale: presets side by side on the same held-out captions and seeds.

A comparison is a TOML file in `presets/comparisons/`: the question, the stage at whose end it is measured, its arms;
`set` at its top is for all of them.
"""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from mpl.config import STAGES, Preset, load_preset, override, preset_folder
from mpl.intervals import paired_points
from mpl.limits import shown
from mpl.weights import Weights

from .resampling import bootstrap, jackknife
from .sheets import draw
from .storybook import Bench
from .whole import MEANS, MEDIANS, Sample, distance, figure, samples, summary


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
    """A question, asked of two arms or more at the end of a stage. `pairs` are those whose differences are told.

    `pooled` names the difference of all pairs together, where they are one question with several seeds of training.
    """

    name: str
    title: str
    about: str
    stage: str
    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...]
    pooled: str = ""


def comparison_names(every: bool = False) -> list[str]:
    """The paper's ablations; with `every` also comparisons of how one model is sampled, `sampling/NAME`."""
    found = [*_folder().glob("*.toml"), *(_folder().glob("sampling/*.toml") if every else ())]
    return sorted(path.relative_to(_folder()).with_suffix("").as_posix() for path in found)


def load_comparison(name: str) -> Comparison:
    """The comparison of a name.

    Raises:
        ValueError: no such comparison, or a file that is none; says what is accepted.
    """
    path = _folder() / f"{name}.toml"
    if name not in (known := comparison_names(every=True)):
        raise ValueError(f"comparison {shown(name)}: must be one of {', '.join(known)}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        common = values.get("set", {})
        arms = tuple(
            Arm(arm["name"], arm.get("preset", "storybook"), {**common, **arm.get("set", {})}) for arm in values["arms"]
        )
        pairs = values.get("pairs") or list(pairwise(arm.name for arm in arms))
        about, pooled = (values[key] for key in ("title", "about", "stage")), values.get("pooled", "")
        made = Comparison(name, *about, arms, tuple(map(tuple, pairs)), pooled)
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


def measure(comparison: Comparison, bench: Bench, count: int, folder: Path) -> dict[str, Any]:
    """Figures of a comparison's arms and their differences on `count` captions, and `sheet.png` in the folder.

    Arms share judges, kept stages and report of `bench`: with a store, what they have in common is made once.
    """
    answer, of = compare(comparison, bench, count)
    if bench.shard:
        return {}
    if of:
        draw(of, folder / "sheet.png")
    about = {"kind": "ablation", "name": comparison.name, "title": comparison.title, "about": comparison.about}
    return about | {"stage": comparison.stage, "n": count, **answer, "sheet": "sheet.png" if of else None}


def compare(comparison: Comparison, bench: Bench, count: int) -> tuple[dict[str, Any], dict[str, list[Sample]]]:
    """Figures of every arm that can run, differences of the pairs whose both sides did, and the samples behind them.

    An arm without weights says why in its place.
    """
    why = lacking(comparison)
    of = {
        arm.name: list(samples(_of_arm(bench, arm.resolved()), count, comparison.stage))
        for arm in comparison.arms
        if arm.name not in why
    }
    if bench.shard:  # which has made its part for the cache
        return {}, of
    arms = {arm.name: {"why": why[arm.name]} if arm.name in why else summary(of[arm.name]) for arm in comparison.arms}
    pairs = {f"{b} less {a}": (of[a], of[b]) for a, b in comparison.pairs if a in of and b in of}
    told = {name: difference(pair) for name, pair in pairs.items()}
    if comparison.pooled and len(pairs) == len(comparison.pairs):  # of fewer, its name would not be true
        told[comparison.pooled] = difference(*pairs.values())
    stages, ran = _stages(comparison), [arm for arm in comparison.arms if arm.name in of]
    revisions = {arm.name: Weights(arm.resolved().weights).revisions(stages) for arm in ran}
    return {"arms": arms, "differences": told, "revisions": revisions}, of


def _of_arm(bench: Bench, preset: Preset) -> Bench:
    return replace(bench, preset=preset, weights=Weights(preset.weights))


Pair = tuple[Sequence[Sample], Sequence[Sample]]


def difference(*pairs: Pair) -> dict[str, Any]:
    """Figures of each pair's second side less its first's, caption by caption, with 95 % intervals over captions.

    Attributes in points, by Newcombe's paired interval; means by Student's, medians by the bootstrap; "fvd" and "fid",
    which are of whole sets, by the jackknife. Of several pairs, the mean over them of each caption's difference: the
    interval says what other captions would change, not what other pairs would.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for a, _ in pairs for sample in a for name in sample.right):
        rights = [
            [(x.right[name], y.right[name]) for x, y in zip(a, b, strict=True) if name in x.right] for a, b in pairs
        ]
        found[f"{name} (points)"] = (
            paired_points(*zip(*rights[0], strict=True))
            if len(pairs) == 1
            else _mean_of([[100.0 * (y - x) for x, y in of_pair] for of_pair in rights])
        )
    for name in (*MEANS, *MEDIANS):
        sides = [
            [(x.figures[name], y.figures[name]) for x, y in zip(a, b, strict=True) if _both(x, y, name)]
            for a, b in pairs
        ]
        if not sides[0] or name.startswith("true_"):
            continue
        if name in MEANS:
            found[name] = _mean_of([[y - x for x, y in of_pair] for of_pair in sides])
        else:
            found[name] = _of_medians(sides)
    for name in ("fvd", "fid"):
        found[name] = jackknife(len(pairs[0][0]), lambda kept, name=name: _distance_between(pairs, name, kept))
    return found


def _both(a: Sample, b: Sample, name: str) -> bool:
    return all(bool(figure([sample], name)) for sample in (a, b))


def _mean_of(differences: Sequence[Sequence[float]]) -> dict[str, float | int | None]:
    """Of every pair's differences, one for each caption."""
    means = [sum(of_caption) / len(of_caption) for of_caption in zip(*differences, strict=True)]
    return jackknife(len(means), lambda kept: sum(means[i] for i in kept) / len(kept))


def _of_medians(pairs: Sequence[Sequence[tuple[float, float]]]) -> dict[str, float | int | None]:
    """The second sides' median less the first sides', as the arms tell theirs; the mean over pairs."""

    def between(drawn: Sequence[int]) -> float:
        medians = [[statistics.median(of_pair[i][side] for i in drawn) for side in (0, 1)] for of_pair in pairs]
        return sum(b - a for a, b in medians) / len(medians)

    return bootstrap(len(pairs[0]), between)


def _distance_between(pairs: Sequence[Pair], name: str, kept: Sequence[int]) -> float | None:
    values = [[distance([side[i] for i in kept], name) for side in pair] for pair in pairs]
    if any(value is None for of_pair in values for value in of_pair):
        return None
    return sum(b - a for a, b in values) / len(values)


def difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A comparison's result in words: what could not run, and every difference with its interval."""
    for name, arm in found["arms"].items():
        if "why" in arm:
            yield f"{found['name']}: {name}: not run: {arm['why'].splitlines()[0]}"
    for pair, figures in found["differences"].items():
        for name, told in figures.items():
            if told["value"] is not None:
                yield f"{found['name']}: {pair}: {name} {told['value']:+.4g} {_interval(told)} (n = {told['n']})"


def _interval(figure: Mapping[str, Any]) -> str:
    return "" if figure["low"] is None else f"[{figure['low']:+.4g}, {figure['high']:+.4g}]"
