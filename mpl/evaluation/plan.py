"""What a published protocol needs: everything is checked before there is any work."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mpl.config import STAGES, Preset, stages_between, to_dict
from mpl.limits import check_folder
from mpl.shards import Shard, made, name_at, seed_at, withheld
from mpl.weights import Weights

from .items import Item, load_items, real_videos
from .networks import load_networks
from .protocols import ClipsimOptions, MetricOptions, Protocol
from .results import NAME
from .samples import frame_places
from .scores import build_score

COMPARING = ("fvd", "fid_vid")  # metrics that compare with real videos


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
    made_by: dict[str, Any] = field(default_factory=dict)  # likewise, where videos may still be made: their weights
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

    def wanted(self, place: int) -> tuple[str, dict[str, Any], str]:
        """Name of a place's files, what its recipe must say, and its last stage."""
        seed = seed_at(place, self.request.protocol.prompts.seed)
        wanted = {"prompt": self.items[place].prompt, "seed": seed, "preset": self.preset, **self.made_by}
        return name_at(place), wanted, self.request.stop_after or STAGES[-1]

    def done(self, place: int) -> bool:
        """Whether there is nothing to do for a place."""
        return made(self.folder, *self.wanted(place)) or self.withheld(place)

    def withheld(self, place: int) -> bool:
        """Whether the safety checker flagged this very video: made again, it would be flagged again."""
        name, wanted, _ = self.wanted(place)
        return withheld(self.folder, name, wanted)


def _made_by(request: Request) -> dict[str, Any]:
    """What a recipe must say of the weights; nothing where they are not here, as for who only measures."""
    if not request.make:
        return {}
    weights, stages = Weights(request.preset.weights), stages_between(None, request.stop_after)
    try:
        weights.check(stages, safety=request.preset.safety)
    except ValueError:  # said where a video has to be made
        return {}
    return {"revisions": weights.revisions(stages)}


def make_plan(request: Request) -> Plan:
    """Checks everything that the request needs. Raises ValueError as `published.evaluate`."""
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
    plan = Plan(request, items, asked, [], request.score, to_dict(request.preset), _made_by(request))
    plan.left = [place for place in range(len(items)) if not plan.done(place)]
    if not request.make and plan.left:
        name = name_at(plan.left[0])
        raise ValueError(
            f"--score-only: {len(plan.left)} of {len(items)} videos made with this preset and protocol are not in "
            f"{plan.folder}, the first of them {name}.mp4; make them without --score-only"
        )
    if request.shard and (plan.left or request.shard.number > 1):
        plan.scoring = False
    if plan.scoring:
        _check_earlier(plan)
        _find_networks(plan)
        if len(plan.why) == len(protocol.metrics):
            raise ValueError("nothing can be measured: " + "; ".join(dict.fromkeys(plan.why.values())))
    check_folder(plan.folder, "--out")
    return plan


def _check_earlier(plan: Plan) -> None:
    """Raises ValueError where a result of more videos would be lost; one that cannot be read is none."""
    path = plan.request.out / NAME
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"].values()
        earlier = max(int(figure["n"]) for figure in figures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if earlier > len(plan.items):
        raise ValueError(f"--n {len(plan.items)}: {path} is of {earlier} videos; another --out would keep it")


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
