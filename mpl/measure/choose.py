"""The fastest settings with which a preset fits into a GPU's memory.

Plans do the same arithmetic; what differs is what they spend beside it, `Plan.cost`: the overhead of calls (guidance in
two, gaps or frames one by one, feed-forwards in parts), models read and moved for every video, and so many seconds for
a quantized T5, which changes the result a little. Of plans that cost the same that with the fewest changes is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpl.config import STAGES, Preset, get, override
from mpl.limits import LIMITS, Range
from mpl.measure.estimates import Estimates
from mpl.measure.plan import (
    QUANTIZED,
    Moment,
    Plan,
    State,
    frames,
    make_plan,
    moments,
    needed_gb,
    overhead,
    usable,
    walk,
)
from mpl.windows import gaps

OFFLOADS = ("none", "stage", "drop")
PARTS = (1, 4)  # of feed-forwards; with more of them something else is the largest
HOST_EXTRA_GB = 2.0  # over the largest model and the clips: what main memory may hold unless more is allowed

# Which models a stage's settings matter for. The autoencoder's frames are chosen apart from the network's calls.
GROUPS = {
    "keyframes": ("keyframes",),
    "interpolation": ("interpolation",),
    "superres": ("superres_first_frame", "superres"),
    "translation": ("translation", "upsampling"),
    "decoding": ("vae",),
}


@dataclass(frozen=True)
class Variant:
    """Settings of one group, and what its models need with them."""

    changes: dict[str, Any]
    activations: dict[str, int]  # by model, bytes
    seconds: float  # overhead of its calls, for one video
    changed: int  # settings that are not the preset's


@dataclass(frozen=True)
class _Choice:
    cost: float
    changed: int
    changes: dict[str, Any]


def settings(preset: Preset) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Per group, the keys that trade time for memory, and what is tried for each."""
    count, gap_count = frames(preset), len(gaps(preset.keyframes.frames, preset.interpolation.between)) or 1
    found: dict[str, dict[str, tuple[Any, ...]]] = {group: {} for group in GROUPS}
    last = "upsampling" if preset.weights.upsampling else "translation"
    for group, stage in zip(STAGES, (*STAGES[:3], last), strict=True):
        if getattr(preset, stage).guidance > 1:
            found[group][f"{stage}.split_guidance"] = (False, True)
    batches = {gap_count, min(preset.interpolation.gaps_per_batch, gap_count), 1}
    found["interpolation"]["interpolation.gaps_per_batch"] = tuple(sorted(batches, reverse=True))
    if last == "translation":
        parts = {*PARTS, preset.translation.feed_forward_parts}
        limit = LIMITS["translation.decode_frames"]
        together = min(count, int(limit.high)) if isinstance(limit, Range) else count
        slices = {together, min(4, together), min(preset.translation.decode_frames, together), 1}
        found["translation"]["translation.feed_forward_parts"] = tuple(sorted(parts))
        found["decoding"]["translation.decode_frames"] = tuple(sorted(slices, reverse=True))
    return found


def variants(preset: Preset, estimates: Estimates) -> dict[str, list[Variant]]:
    """Per group, all its settings, the fastest first."""
    found: dict[str, list[Variant]] = {}
    for group, keys in settings(preset).items():
        ways = []
        for values in itertools.product(*keys.values()):
            changes = dict(zip(keys, values, strict=True))
            changed = override(preset, changes)
            own = [m for m in moments(changed, estimates) if m.model in GROUPS[group]]
            differ = sum(get(preset, key) != value for key, value in changes.items())
            ways.append(Variant(changes, _most(own), overhead(own, changed), differ))
        if ways[0].activations:
            found[group] = sorted(ways, key=lambda way: (way.seconds, way.changed))
    return found


def choose(preset: Preset, estimates: Estimates, vram_gb: float, ram_gb: float | None = None) -> Plan:
    """The fastest plan for a card of `vram_gb`, of which a margin stays free (`mpl.measure.plan.usable`).

    Args:
        ram_gb: main memory that the process may take; None: the largest model, the clips and `HOST_EXTRA_GB`.

    Raises:
        ValueError: nothing fits.
    """
    ways = variants(preset, estimates)
    best: _Choice | None = None
    least_gpu = least_host = math.inf
    for changes, states in _policies(preset, estimates):
        host = max(state.host for state in states)
        least_host = min(least_host, host)
        if host > host_limit(states, ram_gb):
            continue
        peak, taken = _fit(states, ways, usable(vram_gb))
        least_gpu = min(least_gpu, peak)
        if peak > usable(vram_gb):
            continue
        cost = QUANTIZED[changes["weights.quantization"]] + sum(state.seconds for state in states)
        cost += sum(way.seconds for way in taken)
        all_changes = changes | {key: value for way in taken for key, value in way.changes.items()}
        changed = sum(get(preset, key) != value for key, value in all_changes.items())
        choice = _Choice(round(cost, 3), changed, all_changes)
        if best is None or (choice.cost, choice.changed) < (best.cost, best.changed):
            best = choice
    if best is None and least_gpu == math.inf:
        given = "by default the largest model and 2 GB" if ram_gb is None else f"{ram_gb:g}"
        raise ValueError(f"--ram {given}: nothing fits; the smallest plan needs {_up(least_host / 1e9)} GB")
    if best is None:
        less = "; on a GPU with bfloat16 try --set weights.dtype=bfloat16" if preset.weights.dtype == "auto" else ""
        needed = _up(needed_gb(least_gpu))
        raise ValueError(f"--vram {vram_gb:g}: nothing fits; the smallest plan needs {needed} GB{less}")
    return make_plan(override(preset, best.changes), estimates)


def host_limit(states: list[State], ram_gb: float | None) -> float:
    """Bytes of main memory that a plan may take."""
    if ram_gb is not None:
        return ram_gb * 1e9
    clips = max(state.moment.clips for state in states)
    return max(state.moment.file for state in states) + 2 * clips + HOST_EXTRA_GB * 1e9  # clips: see `walk`


def policies(preset: Preset, estimates: Estimates) -> Iterator[Plan]:
    """The preset under every quantization and offload, the rest as it is: for a table."""
    for quantization, offload in itertools.product(QUANTIZED, OFFLOADS):
        changes = {"weights.quantization": quantization, "weights.offload": offload, "weights.keep_gb": 0.0}
        yield make_plan(override(preset, changes), estimates)


def _policies(preset: Preset, estimates: Estimates) -> Iterator[tuple[dict[str, Any], list[State]]]:
    """Every way to hold the models, and what is where with it; the share that is kept in whole GB."""
    for quantization in QUANTIZED:
        found = moments(override(preset, {"weights.quantization": quantization}), estimates)
        whole = math.ceil(sum(_most(found, "weights").values()) / 1e9)
        for offload in OFFLOADS:
            for keep in range(1 if offload == "none" else whole + 1):
                changes = {
                    "weights.quantization": quantization,
                    "weights.offload": offload,
                    "weights.keep_gb": float(keep),
                }
                yield changes, walk(found, override(preset, changes).weights)


def _fit(states: list[State], ways: dict[str, list[Variant]], room: float) -> tuple[float, list[Variant]]:
    """The fastest settings of each group that fit into `room` bytes, and the peak with them.

    Where none of a group fits, those that need least are taken, and the peak is above.
    """
    held: dict[str, int] = {}  # by model, the bytes of all models on the device while it works
    for state in states:
        held[state.moment.model] = max(held.get(state.moment.model, 0), state.gpu - state.moment.activations)
    chosen = {group for models in GROUPS.values() for group in models}
    peak = float(max((state.gpu for state in states if state.moment.model not in chosen), default=0))
    taken = []
    for group in ways.values():
        peaks = [max(held[model] + size for model, size in way.activations.items()) for way in group]
        index = next((i for i, size in enumerate(peaks) if size <= room), peaks.index(min(peaks)))
        peak = max(peak, peaks[index])
        taken.append(group[index])
    return peak, taken


def _most(found: list[Moment], what: str = "activations") -> dict[str, int]:
    most: dict[str, int] = {}
    for moment in found:
        most[moment.model] = max(most.get(moment.model, 0), getattr(moment, what))
    return most


def _up(gigabytes: float) -> str:
    """With one decimal, never too small."""
    return f"{math.ceil(gigabytes * 10 - 1e-9) / 10:.1f}"
