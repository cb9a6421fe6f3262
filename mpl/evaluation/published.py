"""A published protocol from end to end: check everything, make the videos that are missing, measure, say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mpl.cascade import generate
from mpl.devices import choose_device
from mpl.recipe import note_withheld
from mpl.shards import Shard, name_at
from mpl.store import text_cache
from mpl.terminal import RunWithheld, Terminal
from mpl.video import probe, read_video
from mpl.weights import Weights

from .plan import Plan, Request, make_plan
from .protocols import ClipsimOptions, MetricOptions
from .results import provenance, save
from .samples import alike, as_clip, frame_places
from .scores import Clipsim, FrechetDistance, InceptionScore, Score, build_score

if TYPE_CHECKING:
    from mpl.events import Frames

PACKAGES = ("torch", "diffusers", "transformers", "torchmetrics", "cd-fvd", "numpy")
LONGEST = 100_000  # frames of a video; the limit of its pixels (mpl.video.MAX_BYTES) is reached before
REASONS = 5  # real videos that were left out and are named in the result
Report = Callable[[int, int], None]


def evaluate(request: Request, report: Report = lambda done, of: None) -> dict[str, Any]:
    """Makes what videos are missing, measures, writes `result.json`, and returns what is in it.

    A process that is one of several makes its part of the videos and measures nothing; the first of them does where all
    videos were there at its start. Progress is said on stderr.

    Raises:
        ValueError: something is missing or does not fit, before any work.
        RunFailed: a video could not be made.
    """
    plan = make_plan(request)
    terminal = Terminal()
    for metric, why in plan.why.items():
        terminal.line(f"{metric} will not be measured: {why}")
    made_now = _make(plan, terminal) if request.make else 0
    if not plan.scoring:
        return _made(plan, made_now)
    result = _result(plan, _measure(plan, report))
    save(request.out, result)
    return result


def _make(plan: Plan, terminal: Terminal) -> int:
    """Makes this process's part of the missing videos; returns their number."""
    request = plan.request
    left = set(plan.left)
    mine = [place for place, _ in (request.shard or Shard(1, 1)).of_list(plan.items) if place in left]
    weights = Weights(request.preset.weights)
    texts = text_cache(None, request.out)  # protocols ask for a prompt many times
    for number, place in enumerate(mine, 1):
        name, wanted, _ = plan.wanted(place)
        options = {"out": plan.folder, "name": name, "stop_after": request.stop_after, "texts": texts}
        events = generate(wanted["prompt"], request.preset, weights, wanted["seed"], **options)
        terminal.line(f"video {number} of {len(mine)}, {name}: {wanted['prompt']}")
        try:
            terminal.watch(events)
        except RunWithheld as error:
            terminal.line(str(error))
            note_withheld(plan.folder, name, wanted, str(error))
    return len(mine)


def _made(plan: Plan, made_now: int) -> dict[str, Any]:
    """What is said where nothing is measured."""
    left = sum(not plan.done(place) for place in plan.left)
    note = "not measured: --generate-only"
    if plan.request.score:
        note = "not measured: one process does that when all videos are there; run it without --shard and torchrun"
    there = len(plan.items) - left
    return {"folder": str(plan.folder), "made": made_now, "there": there, "of": len(plan.items), "note": note}


def _measure(plan: Plan, report: Report) -> dict[str, dict[str, Any]]:
    """The figure of each metric that can be measured."""
    request = plan.request
    metrics = request.protocol.metrics
    device, _ = choose_device(request.preset.weights.device)
    scores = {name: build_score(metrics[name], files, device) for name, files in plan.files.items()}
    total, counts = max(map(plan.count, scores)), dict.fromkeys(scores, 0)
    for place in range(total):
        if not plan.withheld(place):
            path = plan.folder / f"{name_at(place)}.mp4"
            frames, rate = read_video(path, max_frames=LONGEST), probe(path).fps
            for name in (name for name in scores if place < plan.count(name)):
                _add(scores[name], metrics[name], plan, place, frames, rate)
                counts[name] += 1
        report(place + 1, total)
    found = {}
    for name, score in scores.items():
        about: dict[str, Any] = {"n": counts[name], "withheld": plan.count(name) - counts[name]}
        if isinstance(score, FrechetDistance):
            about["real"] = _add_real(score, metrics[name], plan, counts[name])
        found[name] = _figure(score, metrics[name], about) | about
    return found


def _add(score: Score, options: MetricOptions, plan: Plan, place: int, frames: Frames, rate: float) -> None:
    """A generated video."""
    videos = plan.request.protocol.videos
    if isinstance(options, ClipsimOptions):
        assert isinstance(score, Clipsim)
        score.add(plan.items[place], alike(frames, videos))
        return
    assert not isinstance(score, Clipsim)
    places = frame_places(len(frames), rate, options.frames, options.fps, videos.start, name_at(place))
    score.add(as_clip(alike(frames[places], videos)))


def _add_real(score: FrechetDistance, options: MetricOptions, plan: Plan, count: int) -> dict[str, Any]:
    """As many real videos as generated ones, as far as there are; says how many, and what was left out and why."""
    out: dict[str, str] = {}
    found = 0
    for clip in islice(_real_clips(options, plan, out), count):
        score.add(clip, real=True)
        found += 1
    return {"n": found, "left_out": len(out), "because": dict(list(out.items())[:REASONS])}


def _real_clips(options: MetricOptions, plan: Plan, out: dict[str, str]) -> Iterator[Tensor]:
    """Clips of real videos that are long enough, uint8 `3 f h w`; `out` takes the others' names with the reason."""
    protocol = plan.request.protocol
    assert protocol.real is not None and not isinstance(options, ClipsimOptions)
    for place, path in enumerate(plan.real):
        if protocol.real.choice == "captioned" and plan.withheld(place):  # its video is not there to be compared
            continue
        name = path.relative_to(plan.request.real or path.parent).as_posix()
        seed = f"{protocol.real.seed}:{name}"
        try:
            frames, rate = read_video(path, max_frames=LONGEST), probe(path).fps
            places = frame_places(len(frames), rate, options.frames, options.fps, protocol.real.start, seed)
        except ValueError as error:
            out[name] = str(error)
            continue
        yield as_clip(alike(frames[places], protocol.videos))


def _figure(score: Score, options: MetricOptions, about: dict[str, Any]) -> dict[str, Any]:
    """The value, or None with the reason."""
    needed = 2 if isinstance(score, FrechetDistance) else 1
    for count, kind in ((about["n"], "generated"), (about.get("real", {"n": needed})["n"], "real")):
        if count < needed:
            return {"value": None, "why": f"{count} {kind} videos can be used, {needed} are needed"}
    if isinstance(score, Clipsim):
        assert isinstance(options, ClipsimOptions)
        return score.figure(options.by_group)
    if isinstance(score, InceptionScore):
        value, deviation, splits = score.value()
        return {"value": value, "deviation": deviation, "splits": splits}
    return {"value": score.value()}


# ---- what is said


def _result(plan: Plan, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    request = plan.request
    figures: dict[str, Any] = {}
    for metric in request.protocol.metrics:
        figure = found.get(metric) or {"value": None, "why": plan.why[metric], "n": 0}
        asks = request.protocol.metrics[metric].videos or request.protocol.prompts.count
        figures[metric] = figure | {"protocol_asks": asks}
    protocol = {key: value for key, value in asdict(request.protocol).items() if key != "folder" and value is not None}
    return {
        "kind": "protocol",
        "protocol": protocol,
        "preset": request.preset.name,
        "changed": list(request.changed),
        "stop_after": request.stop_after,
        "figures": figures,
        "weights": plan.hashes,
        **provenance(request.command, PACKAGES),
    }
