"""The storybook protocol's part about whole videos: what becomes of a caption at the end of all four stages."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpl.config import STAGES
from mpl.events import StageFinished, StageKept
from mpl.intervals import Share
from mpl.storybook.render import render_with_mask
from mpl.video import to_clip, to_frames

from .clipsim import ClipScorer
from .metrics import flicker, frechet_distance, gradient_energy, mean_interval
from .storybook import Bench, Case, verdict

CLIP = Path(__file__).resolve().parents[2] / "assets" / "storybook" / "clip"
STILL = "still"  # the camera, where flicker is measured
Rows = dict[str, list[Any]]


@torch.no_grad()
def video(bench: Bench, count: int) -> dict[str, Any]:
    """Attributes at the end and what was lost since the keyframes, FVD, FID, detail, flicker, CLIPSIM, seconds, memory.

    An attribute that a keyframe shows as well is judged by the same judge on the same eight moments; the pattern, which
    is visible from 256×160 up, by the judge of detail. `lost_points` is what keyframes have right and final videos have
    not, less what it is the other way round, in percent of the same captions. FVD is the Fréchet distance to renders of
    the captions' scenes in the features by which the judge tells motions, of a clip's eight moments; FID that in those
    of the judge of detail, of all frames. `consistency` is the mean cosine of neighbouring frames in CLIPSIM's CLIP.
    """
    judges = {name: bench.judge(name) for name in ("judge", "judge_detail")}
    scorer, rows = ClipScorer(CLIP), defaultdict[str, list[Any]](list)
    for case in bench.cases(count):
        made = bench.stages(case)
        clips = {stage: to_clip(made[stage].frames) for stage in (STAGES[0], STAGES[-1])}
        _judge(case, clips, judges, bench.spacing, rows)
        truth, mask = render_with_mask(case.scene, bench.times, *bench.size(STAGES[-1]))
        final = clips[STAGES[-1]]
        for name, clip in (("made", final), ("truth", truth)):
            rows[f"fvd {name}"].append(judges["judge"].clip_features(clip[:, :, :: bench.spacing])[0])
            rows[f"fid {name}"].append(judges["judge_detail"].features(clip)[0])
            rows[f"consistency {name}"].append(scorer.consistency(to_frames(clip)))
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


def _costs(made: dict[str, StageFinished | StageKept], rows: Rows) -> None:
    for stage, event in made.items():
        rows[f"seconds {stage}"].append(event.seconds)
    rows["peak"] += [event.peak_memory_gb for event in made.values() if isinstance(event, StageFinished)]


def _figures(rows: Rows) -> dict[str, Any]:
    """The table's columns as figures."""
    of = {key: [k.removeprefix(key) for k in rows if k.startswith(key)] for key in ("right ", "lost ", "seconds ")}
    seconds = {stage: round(statistics.median(rows[f"seconds {stage}"]), 2) for stage in of["seconds "]}
    return {
        "attributes": {n: Share(sum(rows[f"right {n}"]), len(rows[f"right {n}"])).as_dict() for n in of["right "]},
        "lost_points": {n: mean_interval(100 * torch.tensor(rows[f"lost {n}"])) for n in of["lost "]},
        "fvd": _frechet(torch.stack(rows["fvd made"]), torch.stack(rows["fvd truth"])),
        "fid": _frechet(torch.cat(rows["fid made"]), torch.cat(rows["fid truth"])),
        "consistency": mean_interval(torch.tensor(rows["consistency made"])),
        "true_consistency": mean_interval(torch.tensor(rows["consistency truth"])),
        "energy_over_render": mean_interval(torch.tensor(rows["energy"])),
        "flicker": _medians(rows["flicker"]),
        "true_flicker": _medians(rows["true_flicker"]),
        "clipsim": mean_interval(torch.tensor(rows["clipsim"])),
        "seconds": seconds | {"all": round(sum(seconds.values()), 2)},
        "peak_memory_gb": max(rows["peak"], default=None),
    }


def _frechet(made: Tensor, truth: Tensor) -> float | None:
    """None of a single sample, which has no covariance."""
    return round(frechet_distance(made, truth), 4) if len(made) > 1 else None


def _medians(values: list[float]) -> dict[str, float | int | None]:
    """Over videos with a still camera, in steps of 1/255."""
    known = [value for value in values if value == value]
    return {"median": round(statistics.median(known), 3) if known else None, "videos": len(known)}
