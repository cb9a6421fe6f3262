"""A published protocol from end to end: check everything, make the videos that are missing, measure, say it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpl.cascade import generate
from mpl.config import STAGES, Preset, to_dict
from mpl.events import Event, Withheld
from mpl.recipe import check_folder
from mpl.shards import Shard, made, name_at, seed_at
from mpl.terminal import RunFailed, Terminal
from mpl.video import probe, read_video, replacing
from mpl.weights import Weights, choose_device

from .items import Item, load_items, real_videos
from .networks import load_networks
from .protocols import ClipsimOptions, MetricOptions, Protocol
from .samples import alike, as_clip, frame_places
from .scores import Clipsim, FrechetDistance, InceptionScore, Score, build_score

if TYPE_CHECKING:
    from mpl.events import Frames

PACKAGES = ("torch", "torchmetrics", "transformers", "cd-fvd", "numpy")
COMPARING = ("fvd", "fid_vid")
LONGEST = 100_000  # frames of a real video; the pixels' own limit (mpl.video.MAX_BYTES) is reached before
WITHHELD = ".withheld"  # ending of the note in place of a video that the safety checker flagged
REASONS = 5  # real videos that were left out and are named in the result
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What is asked for on the command line."""

    protocol: Protocol
    preset: Preset
    out: Path
    weights_dir: Path
    real: Path | None = None
    captions: Path | None = None
    count: int | None = None  # videos, where fewer than the protocol's
    shard: Shard | None = None
    stop_after: str | None = None
    make: bool = True
    score: bool = True
    changed: tuple[str, ...] = ()
    command: str = ""


@dataclass
class Plan:
    """A request that can be carried out."""

    request: Request
    items: list[Item]  # of the videos, in order
    asked: int  # how many the protocol asks for
    left: list[int]  # places whose videos are not there
    scoring: bool
    preset: dict[str, Any]  # as recipes say it
    files: dict[str, dict[str, Path]] = field(default_factory=dict)  # of the networks of metrics that can be measured
    hashes: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)  # the other metrics: what is missing
    real: list[Path] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Of the videos."""
        return self.request.out / "videos"

    def count(self, metric: str) -> int:
        """How many videos a metric is of; of captions, a distance takes no real video twice."""
        protocol = self.request.protocol
        count = min(len(self.items), protocol.metrics[metric].videos or self.asked)
        if metric in COMPARING and protocol.prompts.source == "captions":
            return min(count, len({item.group for item in self.items}))
        return count


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
    with replacing(request.out / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


# ---- before any work


def make_plan(request: Request) -> Plan:
    """Checks everything that the request needs. Raises ValueError as `evaluate`."""
    protocol = request.protocol
    if request.stop_after is not None and request.stop_after not in STAGES:
        raise ValueError(f"--stop-after {request.stop_after!r}: must be one of {', '.join(STAGES)}")
    items = load_items(protocol, request.captions)
    asked = max(options.videos or len(items) for options in protocol.metrics.values())
    if request.count is not None and not 1 <= request.count <= asked:
        raise ValueError(
            f"--n {request.count}: must be a whole number from 1 to {asked}, the videos of {protocol.name}"
        )
    items = items[: request.count or asked]
    plan = Plan(request, items, asked, [], request.score, to_dict(request.preset))
    plan.left = [place for place in range(len(items)) if not _done(plan, place)]
    if not request.make and plan.left:
        name = name_at(plan.left[0])
        raise ValueError(
            f"--score-only: {len(plan.left)} of {len(items)} videos made with this preset and protocol are not in "
            f"{plan.folder}, the first of them {name}.mp4; make them without --score-only"
        )
    if request.shard and (plan.left or request.shard.number > 1):
        plan.scoring = False
    if plan.scoring:
        _find_networks(plan)
        if len(plan.why) == len(protocol.metrics):
            raise ValueError("nothing can be measured: " + "; ".join(dict.fromkeys(plan.why.values())))
    check_folder(plan.folder, "--out")
    return plan


def _wanted(plan: Plan, place: int) -> tuple[str, dict[str, Any], str]:
    """Name of a place's files, what its recipe must say, and its last stage."""
    request = plan.request
    seed = seed_at(place, request.protocol.prompts.seed)
    wanted = {"prompt": plan.items[place].prompt, "seed": seed, "preset": plan.preset}
    return name_at(place), wanted, request.stop_after or STAGES[-1]


def _done(plan: Plan, place: int) -> bool:
    return made(plan.folder, *_wanted(plan, place)) or _withheld(plan, place)


def _withheld(plan: Plan, place: int) -> bool:
    """Whether the safety checker flagged this very video: made again, it would be flagged again."""
    name, wanted, _ = _wanted(plan, place)
    try:
        noted = json.loads((plan.folder / f"{name}{WITHHELD}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(noted, dict) and all(noted.get(key) == value for key, value in wanted.items())


def _find_networks(plan: Plan) -> None:
    """Notes each metric's files, or why it cannot be measured. Raises ValueError where a file is not the right one."""
    request, table = plan.request, load_networks()
    if request.real and not request.protocol.real:
        raise ValueError(f"--real {request.real}: {request.protocol.name} compares with no real videos")
    if request.real and not request.real.is_dir():
        raise ValueError(f"--real {request.real}: no such folder")
    for metric, options in request.protocol.metrics.items():
        why, files = _unfit(plan, metric, options), {}
        try:
            files = table[options.network].find(request.weights_dir)
        except ValueError as error:
            why.append(str(error))
        if why:
            plan.why[metric] = "; ".join(why)
            continue
        hashes = table[options.network].check(files)
        try:
            build_score(options, files, torch.device("cpu"))  # a broken file is said now, hours before its turn
        except ImportError as error:
            plan.why[metric] = str(error)
            continue
        plan.files[metric] = files
        plan.hashes |= hashes
    comparing = [metric for metric in plan.files if metric in COMPARING]
    if comparing:
        assert request.real is not None
        plan.real = real_videos(request.protocol, request.real, plan.items[: max(map(plan.count, comparing))])


def _unfit(plan: Plan, metric: str, options: MetricOptions) -> list[str]:
    """Why a metric cannot be measured on these videos: too few, too short, or nothing to compare them with."""
    preset, found = plan.request.preset, []
    if isinstance(options, ClipsimOptions):
        return found
    if metric in COMPARING and plan.request.real is None:
        found.append(f"{metric} needs --real DIR, the folder of the real videos")
    if metric in COMPARING and plan.count(metric) < 2:
        found.append(f"{metric} needs 2 videos or more")
    spacing = preset.interpolation.between + 1
    count, rate = (preset.keyframes.frames - 1) * spacing + 1, float(preset.fps)
    if plan.request.stop_after == STAGES[0]:
        count, rate = preset.keyframes.frames, preset.fps / spacing
    try:
        frame_places(count, rate, options.frames, options.fps, "first")
    except ValueError as error:
        found.append(f"{metric}: {error}")
    return found


def _device(request: Request) -> torch.device:
    return choose_device(request.preset.weights.device)[0]


# ---- the work


def _make(plan: Plan, terminal: Terminal) -> int:
    """Makes this process's part of the missing videos; returns their number."""
    request = plan.request
    left = set(plan.left)
    mine = [place for place, _ in (request.shard or Shard(1, 1)).of_list(plan.items) if place in left]
    weights = Weights(request.preset.weights)
    for number, place in enumerate(mine, 1):
        name, wanted, _ = _wanted(plan, place)
        options = {"out": plan.folder, "name": name, "stop_after": request.stop_after}
        events = generate(wanted["prompt"], request.preset, weights, wanted["seed"], **options)
        terminal.line(f"video {number} of {len(mine)}, {name}: {wanted['prompt']}")
        flagged: list[Withheld] = []
        try:
            terminal.watch(_seen(events, flagged))
        except RunFailed:
            if not flagged:
                raise
            terminal.line(flagged[0].message)
            with replacing(plan.folder / f"{name}{WITHHELD}") as temporary:
                temporary.write_text(json.dumps(wanted | {"withheld": flagged[0].message}), encoding="utf-8")
    return len(mine)


def _seen(events: Iterable[Event], flagged: list[Withheld]) -> Iterator[Event]:
    """The same events; `flagged` takes what the safety checker withheld."""
    for event in events:
        if isinstance(event, Withheld):
            flagged.append(event)
        yield event


def _made(plan: Plan, made_now: int) -> dict[str, Any]:
    """What is said where nothing is measured."""
    left = sum(not _done(plan, place) for place in plan.left)
    note = "not measured: --generate-only"
    if plan.request.score:
        note = "not measured: one process does that when all videos are there; run it without --shard and torchrun"
    there = len(plan.items) - left
    return {"folder": str(plan.folder), "made": made_now, "there": there, "of": len(plan.items), "note": note}


def _measure(plan: Plan, report: Report) -> dict[str, dict[str, Any]]:
    """The figure of each metric that can be measured."""
    request = plan.request
    metrics = request.protocol.metrics
    device = _device(request)
    scores = {name: build_score(metrics[name], files, device) for name, files in plan.files.items()}
    total, counts = max(map(plan.count, scores)), dict.fromkeys(scores, 0)
    for place in range(total):
        if not _withheld(plan, place):
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
    for clip in _real_clips(options, plan, out):
        score.add(clip, real=True)
        found += 1
        if found == count:
            break
    return {"n": found, "left_out": len(out), "because": dict(list(out.items())[:REASONS])}


def _real_clips(options: MetricOptions, plan: Plan, out: dict[str, str]) -> Iterator[Tensor]:
    """Clips of real videos that are long enough, uint8 `3 f h w`; `out` takes the others' names with the reason."""
    protocol = plan.request.protocol
    assert protocol.real is not None and not isinstance(options, ClipsimOptions)
    for path in plan.real:
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
        "protocol": protocol,
        "preset": request.preset.name,
        "changed": list(request.changed),
        "stop_after": request.stop_after,
        "figures": figures,
        "weights": plan.hashes,
        "versions": {"python": platform.python_version(), **_versions()},
        "command": request.command,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an optional one
            continue
    return found
