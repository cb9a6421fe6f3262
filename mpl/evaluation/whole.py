"""The storybook protocol's part about whole videos: what becomes of a caption at the end of all four stages."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpl.config import STAGES
from mpl.events import StageFinished
from mpl.intervals import Share
from mpl.storybook.render import render_with_mask
from mpl.video import to_clip

from .clipsim import ClipScorer
from .metrics import flicker, gradient_energy, mean_interval
from .storybook import Bench, Case, cases, verdict

CLIP = Path(__file__).resolve().parents[2] / "assets" / "storybook" / "clip"
STILL = "still"  # the camera, where flicker is measured
Rows = dict[str, list[Any]]


@torch.no_grad()
def video(bench: Bench, count: int) -> dict[str, Any]:
    """Attributes at the end and what was lost since the keyframes, detail, flicker, CLIPSIM, seconds, peak of memory.

    An attribute that a keyframe shows as well is judged by the same judge on the same eight moments; the pattern, which
    is visible from 256×160 up, by the judge of detail. `lost_points` is what keyframes have right and final videos have
    not, less what it is the other way round, in percent of the same captions.
    """
    judges = {name: bench.judge(name) for name in ("judge", "judge_detail")}
    scorer, rows = ClipScorer(CLIP), defaultdict[str, list[Any]](list)
    for case in cases(count):
        made = bench.stages(case)
        clips = {stage: to_clip(made[stage].frames) for stage in (STAGES[0], STAGES[-1])}
        _judge(case, clips, judges, bench.spacing, rows)
        truth, mask = render_with_mask(case.scene, bench.times, *bench.size(STAGES[-1]))
        final = clips[STAGES[-1]]
        rows["energy"].append((gradient_energy(final) / gradient_energy(truth)).item())
        if case.scene.labels["camera"] == STILL:
            rows["flicker"].append(flicker(final, mask == 0).item())
            rows["true_flicker"].append(flicker(truth, mask == 0).item())
        rows["clipsim"].append(scorer.score(case.caption.text, made[STAGES[-1]].frames))
        _costs(made, rows)
        bench.report(case.index + 1, count)
    return _figures(rows)


def _judge(case: Case, clips: dict[str, Tensor], judges: dict[str, Any], spacing: int, rows: Rows) -> None:
    """Notes what is right of what the caption names, at the end and in the keyframes."""
    first, final = clips[STAGES[0]], clips[STAGES[-1]][:, :, ::spacing]
    early, late = verdict(judges["judge"], first), verdict(judges["judge"], final)
    early.pop("pattern", None)
    late["pattern"] = verdict(judges["judge_detail"], final)["pattern"]
    for name in case.caption.named:
        right = late[name] == case.scene.labels[name]
        rows[f"right {name}"].append(right)
        if name in early:
            rows[f"lost {name}"].append(float(early[name] == case.scene.labels[name]) - right)


def _costs(made: dict[str, StageFinished], rows: Rows) -> None:
    for stage, event in made.items():
        rows[f"seconds {stage}"].append(event.seconds)
    rows["peak"].append(max(event.peak_memory_gb for event in made.values()))


def _figures(rows: Rows) -> dict[str, Any]:
    """The table's columns as figures."""
    of = {key: [k.removeprefix(key) for k in rows if k.startswith(key)] for key in ("right ", "lost ", "seconds ")}
    seconds = {stage: round(statistics.median(rows[f"seconds {stage}"]), 2) for stage in of["seconds "]}
    return {
        "attributes": {n: Share(sum(rows[f"right {n}"]), len(rows[f"right {n}"])).as_dict() for n in of["right "]},
        "lost_points": {n: mean_interval(100 * torch.tensor(rows[f"lost {n}"])) for n in of["lost "]},
        "energy_over_render": mean_interval(torch.tensor(rows["energy"])),
        "flicker": _medians(rows["flicker"]),
        "true_flicker": _medians(rows["true_flicker"]),
        "clipsim": mean_interval(torch.tensor(rows["clipsim"])),
        "seconds": seconds | {"all": round(sum(seconds.values()), 2)},
        "peak_memory_gb": max(rows["peak"]),
    }


def _medians(values: list[float]) -> dict[str, float | int | None]:
    """Over videos with a still camera, in steps of 1/255."""
    known = [value for value in values if value == value]
    return {"median": round(statistics.median(known), 3) if known else None, "videos": len(known)}
