"""The paper's ablations at storybook scale: presets side by side on the same held-out captions and seeds.

A comparison is a TOML file in `presets/comparisons/`: the question, the stage at whose end it is measured, its arms.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mpl.config import STAGES, Preset, load_preset, override, preset_folder
from mpl.limits import shown
from mpl.store import StageCache
from mpl.weights import Weights

from .storybook import Bench
from .whole import MEANS, MEDIANS, Sample, distance, figure, samples, summary

DRAWS = 500  # of captions with replacement, for an interval
SHOWN = 6  # captions on a contact sheet
SHEET_WIDTH = 2000  # about, in pixels
LABEL = 28  # pixels of a line of text, to be read where the sheet is shown at half its size
STORE_BYTES = 8_000_000_000


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


def measure(comparison: Comparison, bench: Bench, count: int, folder: Path) -> dict[str, Any]:
    """Figures of a comparison's arms and their differences on `count` captions, and `sheet.png` in the folder.

    Arms share judges, kept stages and report of `bench`.
    """
    kept = None if bench.store else TemporaryDirectory(prefix="mpl-ablations-")
    with kept or nullcontext():
        store = bench.store or StageCache(kept.name, STORE_BYTES)  # what arms have in common is made once
        answer, of = compare(comparison, replace(bench, store=store), count)
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
    arms = {arm.name: {"why": why[arm.name]} if arm.name in why else summary(of[arm.name]) for arm in comparison.arms}
    told = {f"{b} less {a}": difference(of[a], of[b]) for a, b in comparison.pairs if a in of and b in of}
    return {"arms": arms, "differences": told}, of


def _of_arm(bench: Bench, preset: Preset) -> Bench:
    return replace(bench, preset=preset, weights=Weights(preset.weights))


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


def draw(of: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """A contact sheet: for each of a few captions a row with the middle frame of every arm, and of the render."""
    arms = list(of.values())
    rows = list(zip(*(found[:SHOWN] for found in arms), strict=True))
    pictures = [[*(sample.pictures[0][0] for sample in row), row[0].pictures[1][0]] for row in rows]
    names = [*of, "render"]
    tall, wide = pictures[0][0].shape[:2]
    scale = max(1, round(SHEET_WIDTH / (len(names) * wide)))
    image = Image.new("RGB", (len(names) * wide * scale, len(rows) * (tall * scale + 2 * LABEL)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=LABEL - 6)
    for i, (row, shown_row) in enumerate(zip(rows, pictures, strict=True)):
        top = i * (tall * scale + 2 * LABEL)
        pen.text((2, top), row[0].caption, fill="black", font=font)
        for j, (name, picture) in enumerate(zip(names, shown_row, strict=True)):
            left = j * wide * scale
            pen.text((left + 2, top + LABEL), name, fill="black", font=font)
            tile = Image.fromarray(picture).resize((wide * scale, tall * scale), Image.Resampling.NEAREST)
            image.paste(tile, (left, top + 2 * LABEL))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


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
