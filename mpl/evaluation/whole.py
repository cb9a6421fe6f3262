"""The storybook protocol's part about whole videos: what has become of a caption at the end of a stage."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpl.config import STAGES
from mpl.intervals import Share, paired_points
from mpl.storybook.render import render, render_with_mask
from mpl.video import to_clip, to_frames
from mpl.windows import superres_windows

from .clipsim import ClipScorer
from .metrics import flicker, frechet_distance, gradient_energy, mean_interval, seam_ratio, steadiness
from .resampling import Told, jackknife, median
from .shares import of_attribute, of_steadiness, of_words
from .sheets import draw
from .storybook import CLIP, Bench, Case, unsaid, verdict

if TYPE_CHECKING:
    from mpl.events import Frames, StageFinished, StageKept
    from mpl.models.judge import Judge

STILL = "still"  # the camera, where flicker is measured
MEANS = ("clipsim", "consistency", "true_consistency", "energy", "seams")  # of a sample's figures
MEDIANS = ("flicker", "true_flicker")


@dataclass(frozen=True)
class Sample:
    """What is measured of one caption's result at the end of a stage."""

    caption: str
    pictures: tuple[Frames, Frames]  # the middle frame of the result and of the scene's render, uint8 (1 h w 3)
    right: dict[str, bool]  # by attribute that the caption names
    in_first_words: frozenset[str]  # of those, the ones that it says in the first of all words for them
    # by attribute that keyframes show, too: whether the judge of clips sees it in the result, and in the keyframes
    kept: dict[str, tuple[bool, bool]]
    figures: dict[str, float]  # of `MEANS` and `MEDIANS`, those that it has
    features: dict[str, tuple[Tensor, Tensor]]  # "fvd" (1 d) and "fid" (f d): of the result, of the render
    seconds: dict[str, float]  # by stage
    peak_memory_gb: float
    judged_right: dict[str, bool]  # by attribute: whether the judges see it in the render
    # the same of the render's keyframes, once through the autoencoder of latent keyframes, where there is one
    round_trip_right: dict[str, bool]
    # by attribute: whether all moments show the same, of the result where the caption leaves it unsaid, of the render
    steady: dict[str, bool]
    steady_truth: dict[str, bool]


def video(bench: Bench, count: int, sheet: Path | None = None) -> dict[str, Any]:
    """Attributes at the end and what was lost since the keyframes, FVD, FID, detail, flicker, CLIPSIM, seconds, memory.

    From 256×160 up what a single frame shows is judged by the judge of detail, at full size; motion and camera by the
    judge of clips, which shrinks eight moments to 64×40. `lost_points` is what that one sees in keyframes and not in
    final videos, less what it is the other way round, in percent of the same captions; `judge_on_renders` what the
    judges have right of the same scenes' renders, and `round_trip` the same of their keyframes once the autoencoder of
    latent keyframes, whose ceiling that is, has had them. FVD is the Fréchet distance to those renders in the features
    by which the judge of clips tells motions; FID that in those of the judge of detail, of all frames. `steady` is the
    share of videos in whose eight moments a judge sees the same of what the caption leaves unsaid, `steady_on_renders`
    the same of all captions' renders. `consistency` is the mean cosine of neighbouring frames in CLIPSIM's CLIP;
    `energy` the gradient energy over the render's; `seams` the change across the borders of superres' windows over that
    inside. `sheet` is where a contact sheet goes.
    """
    found = list(samples(bench, count))
    if sheet:
        draw({bench.preset.name: found}, sheet)
    return summary(found)


@torch.no_grad()
def samples(bench: Bench, count: int, stage: str = STAGES[-1]) -> Iterator[Sample]:
    """What the cascade up to a stage makes of the first `count` captions, measured.

    At 64×40 the FID's features are the other judge's, too: the judge of detail was made for large frames.
    """
    judges = {name: bench.judge(name) for name in ("judge", "judge_detail")}
    scorer = ClipScorer(CLIP)
    for case in bench.cases(count):
        made = bench.stages(case, stop_after=stage)
        clip = to_clip(made[stage].frames)
        step = bench.spacing if stage != STAGES[0] else 1
        truth, mask = render_with_mask(case.scene, bench.times[:: bench.spacing // step], *clip.shape[-2:])
        large = stage in STAGES[2:]
        detail = judges["judge_detail" if large else "judge"]
        moments = {"made": clip[:, :, ::step], "truth": truth[:, :, ::step]}
        before, _ = _seen(judges, to_clip(made[STAGES[0]].frames), large=False)
        small, found = _seen(judges, moments["made"], large)
        _, of_truth = _seen(judges, moments["truth"], large)
        labels = case.scene.labels
        middle = clip.shape[2] // 2
        yield Sample(
            case.caption.text,
            tuple(to_frames(x[:, :, middle : middle + 1]) for x in (clip, truth)),
            {k: found[k] == labels[k] for k in found if k in case.caption.named},
            case.in_first_words,
            {k: (small[k] == labels[k], before[k] == labels[k]) for k in before if k in case.caption.named},
            _figures(bench, case, made, truth, mask, scorer),
            {
                "fvd": tuple(judges["judge"].clip_features(x) for x in moments.values()),
                "fid": tuple(detail.features(x)[0] for x in (clip, truth)),
            },
            {name: event.seconds for name, event in made.items()},
            max(event.peak_memory_gb for event in made.values()),
            {k: of_truth[k] == labels[k] for k in found},
            _round_trip_right(bench, case, judges["judge"]),
            unsaid(steadiness(detail.by_frame(moments["made"])), case),
            steadiness(detail.by_frame(moments["truth"])),
        )
        bench.report(case.index + 1, count)


def _seen(judges: dict[str, Judge], clip: Tensor, large: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What the judge of clips sees in eight moments; and the same, with what the judge of detail says of large ones."""
    small = verdict(judges["judge"], clip)
    small.pop("pattern", None)
    return small, small | (verdict(judges["judge_detail"], clip) if large else {})


def _round_trip_right(bench: Bench, case: Case, judge: Judge) -> dict[str, bool]:
    if not bench.weights.has("keyframes_vae"):
        return {}
    truth = render(case.scene, bench.times[:: bench.spacing], *bench.size("keyframes"))
    return {k: seen == case.scene.labels[k] for k, seen in verdict(judge, bench.round_trip(truth)).items()}


def _figures(
    bench: Bench,
    case: Case,
    made: dict[str, StageFinished | StageKept],
    truth: Tensor,
    mask: Tensor,
    scorer: ClipScorer,
) -> dict[str, float]:
    """A sample's figures of its own: see `MEANS` and `MEDIANS`."""
    frames = made[list(made)[-1]].frames
    clip = to_clip(frames)
    found = {
        "clipsim": scorer.score(case.caption.text, frames),
        "consistency": scorer.consistency(frames),
        "true_consistency": scorer.consistency(to_frames(truth)),
        "energy": (gradient_energy(clip) / gradient_energy(truth)).item(),
    }
    if "superres" in made:
        options = bench.preset.superres
        large = to_clip(made["superres"].frames)
        plan = superres_windows(large.shape[2], options.window, options.stride)
        if len(plan) > 1:
            found["seams"] = seam_ratio(large, [window.start for window in plan[1:]]).item()
    if case.scene.labels["camera"] == STILL:
        found |= {"flicker": flicker(clip, mask == 0).item(), "true_flicker": flicker(truth, mask == 0).item()}
    return found


def summary(of: Sequence[Sample]) -> dict[str, Any]:
    """Samples as figures: shares and means with their 95 % intervals."""
    attributes = dict.fromkeys(name for sample in of for name in sample.right)
    rights, ceiling = [s.right for s in of], [s.round_trip_right for s in of if s.round_trip_right]
    lost = {name: [s.kept[name] for s in of if name in s.kept] for name in attributes}
    seconds = {stage: round(statistics.median(s.seconds[stage] for s in of), 2) for stage in of[0].seconds}
    return {
        "attributes": {name: of_attribute(rights, name) for name in attributes},
        "words": of_words(rights, [s.in_first_words for s in of]),
        "lost_points": {name: paired_points(*zip(*pairs, strict=True)) for name, pairs in lost.items() if pairs},
        "judge_on_renders": {name: _judged(of, name) for name in attributes},
        **of_steadiness([s.steady for s in of], [s.steady_truth for s in of]),
        **({"round_trip": {name: of_attribute(ceiling, name) for name in ceiling[0]}} if ceiling else {}),
        **{name: of_distance(of, name) for name in ("fvd", "fid")},
        **{name: mean_interval(torch.tensor(values)) for name in MEANS if (values := figure(of, name))},
        **{name: median(figure(of, name)) for name in MEDIANS},
        "seconds": seconds | {"all": round(sum(seconds.values()), 2)},
        "peak_memory_gb": max(s.peak_memory_gb for s in of),
    }


def figure(of: Sequence[Sample], name: str) -> list[float]:
    """One of the samples' own figures, of those that have it."""
    return [s.figures[name] for s in of if name in s.figures and s.figures[name] == s.figures[name]]


def distance(of: Sequence[Sample], name: str) -> float | None:
    """ "fvd" or "fid" of samples; None of a single one, which has no covariance."""
    made, truth = (torch.cat([s.features[name][side] for s in of]) for side in (0, 1))
    return frechet_distance(made, truth) if len(made) > 1 else None


def of_distance(of: Sequence[Sample], name: str) -> Told:
    """The same with its interval."""
    return jackknife(len(of), lambda kept: distance([of[i] for i in kept], name))


def _judged(of: Sequence[Sample], name: str) -> dict[str, float | int | None]:
    values = [s.judged_right[name] for s in of if name in s.judged_right]
    return Share(sum(values), len(values)).as_dict()
