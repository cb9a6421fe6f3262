"""`python -m mpl generate` and `compare`: options become presets and runs; torch loads once they are good."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.config import STAGES, Preset, differences, load_preset, override, stages_between, to_dict
from mpl.limits import check_folder, check_path, check_prompt, check_seed, shown
from mpl.prompts import load_prompts, prompt_sets
from mpl.shards import Shard, made, name_at, read_shard, recipe_at, seed_at, withheld
from mpl.terminal import RunFailed, RunWithheld, Terminal, figures

if TYPE_CHECKING:
    from torch import Tensor

    from mpl.store import StageCache
    from mpl.weights import Weights

OUT = "outputs"
JOB_KEYS = ("prompt", "seed")  # of a line of --prompts
MANY = 'many: a line {"prompt": …, "seed": …} for each, or a set by its name, paper or storybook'


@dataclass(frozen=True)
class Job:
    """One video to make."""

    prompt: str
    seed: int
    own_seed: bool = False  # its line says it
    name: str = ""  # of its files; empty: words of the prompt
    wanted: dict[str, Any] | None = field(default=None, compare=False)  # what its recipe will say, where it has a place


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="what the video shows")
    parser.add_argument("--prompts", metavar="FILE.jsonl|NAME", help=MANY)
    parser.add_argument(
        "--shard", metavar="PART/PARTS", help="with --prompts: this part alone, seeds by place, what is there skipped"
    )
    parser.add_argument("--preset", default="storybook", metavar="NAME|FILE.toml", help="default: storybook")
    parser.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="such as keyframes.steps=10")
    _add_common(parser)
    parser.add_argument("--stop-after", metavar="STAGE", help="one of " + ", ".join(STAGES))
    parser.add_argument("--from", dest="source", metavar="FILE", help="video or clip to start from, with --at")
    parser.add_argument("--at", metavar="STAGE", help="the stage that it is the input of")
    parser.add_argument("--resize", action="store_true", help="stretch it to the size that the stage takes")


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help="what the videos show")
    for arm in ("a", "b"):
        parser.add_argument(f"--{arm}", required=True, metavar="NAME|FILE.toml", help=f"preset of {arm}")
        parser.add_argument(f"--set-{arm}", nargs="+", action="extend", metavar="KEY=VALUE", help=f"changes to {arm}")
    _add_common(parser)
    parser.add_argument("--stop-after", metavar="STAGE", help="one of " + ", ".join(STAGES))


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", default="0", help="a whole number from 0 to 2^63 - 1; default: 0")
    parser.add_argument("--out", default=OUT, metavar="DIR", help=f"folder of the files; default: {OUT}")
    parser.add_argument("--cache", metavar="DIR", help="keep stages' results there, up to 2 GB, and use what is there")
    add_text_cache_arguments(parser)
    parser.add_argument("--webm", action="store_true", help="write a webm too")
    parser.add_argument("--gif", action="store_true", help="write a gif too")
    parser.add_argument("--no-metadata", action="store_true", help="no recipe inside the video; beside it there is one")


def add_text_cache_arguments(parser: argparse.ArgumentParser, asked: str | None = None) -> None:
    """The options of `mpl.store.text_cache`, for the page too; `asked` is where its environment says."""
    where = "folder of prompts' embeddings, so that text models load for new ones only; default: text in --out"
    parser.add_argument("--text-cache", default=asked, metavar="DIR|off", help=where)
    parser.add_argument("--clear-text-cache", action="store_true", help="forget the embeddings that are kept, first")


def run_generate(args: argparse.Namespace) -> dict[str, Any]:
    """Makes the videos; prints their files, or with --json figures of all but the last, which it returns.

    Raises:
        ValueError: bad input, before any work.
        RunFailed: a run broke off.
    """
    preset = override(load_preset(args.preset), assignments(args.set, "--set"))
    if args.shard and not args.prompts:
        raise ValueError("--shard needs --prompts")
    shard = read_shard(args.shard, os.environ if args.prompts else {}, "--shard")
    jobs = _jobs(args)
    _check_stages(args)
    check_folder(args.out, "--out")

    from mpl.clips import read_clip
    from mpl.weights import Weights

    clip = read_clip(args.source, args.at, preset, args.resize) if args.source else None
    if shard:
        jobs = _left(_sharded(jobs, shard), preset, clip, args)
    weights = Weights(preset.weights)
    options = {"out": args.out, "start_at": args.at, "clip": clip, "stop_after": args.stop_after}
    options |= {"source": Path(args.source).name if args.source else None}
    options |= {**_caches(args), "formats": _formats(args), "embed": not args.no_metadata}
    return _make(jobs, preset, weights, options, args)


def _make(
    jobs: list[Job], preset: Preset, weights: Weights, options: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    """Makes one video after another. What the safety checker withholds does not end a list."""
    from mpl.cascade import generate
    from mpl.recipe import note_withheld

    terminal, flagged = Terminal(), 0
    said: dict[str, Any] = {}
    for job in jobs:
        events = generate(job.prompt, preset, weights, job.seed, name=job.name, **options)
        if job is jobs[0]:
            terminal.line(f"{preset.name}: {weights.plan()}")
        elif said and args.json:
            print(json.dumps(said), flush=True)
        try:
            said = figures(terminal.watch(events))
        except RunWithheld as error:
            if not args.prompts:
                raise
            said, flagged = {}, flagged + 1
            terminal.line(f"{job.prompt}: {error}")
            if job.wanted:
                note_withheld(Path(args.out), job.name, job.wanted, str(error))
            continue
        if not args.json:
            print(said["file"], flush=True)
    if flagged:
        if said and args.json:
            print(json.dumps(said), flush=True)
        raise RunFailed(f"{flagged} of {len(jobs)} videos were withheld by the safety checker; the others are there")
    return said


def _sharded(jobs: list[Job], shard: Shard) -> list[Job]:
    """A part of the jobs, named by their places; those without a seed of their own get one by their place."""
    return [
        replace(job, name=name_at(place), seed=job.seed if job.own_seed else seed_at(place, job.seed))
        for place, job in shard.of_list(jobs)
    ]


def _left(jobs: list[Job], preset: Preset, clip: Tensor | None, args: argparse.Namespace) -> list[Job]:
    """The jobs whose videos, made from that clip, are not there yet in every format.

    Raises ValueError where another list's video lies in a place.
    """
    from mpl.run import source_of
    from mpl.weights import Weights

    last, weights = args.stop_after or STAGES[-1], Weights(preset.weights)
    stages = stages_between(args.at, args.stop_after)
    weights.check(stages, safety=preset.safety)
    made_by = {"preset": to_dict(preset), "revisions": weights.revisions(stages)}
    made_by["source"] = None if clip is None else source_of(clip, Path(args.source).name)
    left = []
    for job in jobs:
        there = recipe_at(Path(args.out), job.name)
        if there and there.get("prompt") != job.prompt:
            raise ValueError(
                f"--out {args.out}: {job.name} there shows {shown(there.get('prompt'))}, not {shown(job.prompt)}: "
                "another list's videos are kept; give another folder"
            )
        wanted = {"prompt": job.prompt, "seed": job.seed, **made_by}
        done = made(Path(args.out), job.name, wanted, last, _formats(args)) or withheld(
            Path(args.out), job.name, wanted
        )
        if not done:
            left.append(replace(job, wanted=wanted))
    return left


def run_compare(args: argparse.Namespace) -> dict[str, Any]:
    """Makes both videos and says what differs between them and their presets.

    Raises:
        ValueError, RunFailed: as `run_generate`.
    """
    presets = {
        arm: override(load_preset(getattr(args, arm)), assignments(getattr(args, f"set_{arm}"), f"--set-{arm}"))
        for arm in ("a", "b")
    }
    prompt, seed = check_prompt(args.prompt), check_seed(args.seed, "--seed")
    _check_stages(args)
    check_folder(args.out, "--out")

    from mpl.cascade import Arm, compare
    from mpl.weights import Weights

    weights = {options: Weights(options) for options in {p.weights for p in presets.values()}}
    arms = {arm: Arm(preset, weights[preset.weights]) for arm, preset in presets.items()}
    options = {"out": args.out, "stop_after": args.stop_after, "formats": _formats(args), "embed": not args.no_metadata}
    events = compare(prompt, arms, seed, **_caches(args), **options)
    return _show_comparison(events, presets, args.json)


def _show_comparison(events: Iterable[Any], presets: dict[str, Preset], quiet: bool) -> dict[str, Any]:
    terminal = Terminal()
    said: dict[str, Any] = {}
    stream = iter(events)
    for arm, preset in presets.items():
        terminal.line(f"{arm}: {preset.name}")
        end = terminal.watch(event for _, event in stream)
        said[arm] = figures(end)
        if not quiet:
            print(f"{arm}: {end.file}", flush=True)
    changed = differences(presets["a"], presets["b"])
    for key, (a, b) in changed.items():
        terminal.line(f"{key}: a {a}, b {b}")
    return said | {"differences": {key: [str(value) for value in pair] for key, pair in changed.items()}}


def assignments(pairs: list[str] | None, option: str) -> dict[str, str]:
    """`["a.b=1"]` as `{"a.b": "1"}`; raises ValueError where there is no `=`."""
    found = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            example = "KEY=VALUE, such as translation.strength=0.4"
            raise ValueError(f"{option} {pair!r}: must be {example}; a prompt goes before {option}")
        found[key.strip()] = value
    return found


def read_jobs(path: str | Path, seed: int) -> list[Job]:
    """The videos of a JSONL file: objects with `prompt` and perhaps `seed`; `seed` is for lines without.

    Raises:
        ValueError: the file cannot be read, or a line is no such object, or has other keys; it names the line.
    """
    check_path(str(path), "--prompts")
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut at U+2028, in texts too
    except (OSError, UnicodeDecodeError) as error:
        why = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        accepted = f"a JSONL file in UTF-8, or a set: {', '.join(prompt_sets())}"
        raise ValueError(f"--prompts {path}: {why}; accepted: {accepted}") from None
    jobs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{Path(path).name} line {number}: "
        try:
            values = json.loads(line)
        except ValueError:
            raise ValueError(f'{where}must be a JSON object {{"prompt": …}}') from None
        if not isinstance(values, dict):
            raise ValueError(f'{where}must be a JSON object {{"prompt": …}}')
        for key in values:
            if key not in JOB_KEYS:
                raise ValueError(f"{where}unknown key {shown(key)}; accepted: {', '.join(JOB_KEYS)}")
        prompt = check_prompt(values.get("prompt"), f"{where}prompt")
        jobs.append(Job(prompt, check_seed(values.get("seed", seed), f"{where}seed"), "seed" in values))
    if not jobs:
        raise ValueError(f"--prompts {path}: holds no prompt")
    return jobs


def _jobs(args: argparse.Namespace) -> list[Job]:
    seed = check_seed(args.seed, "--seed")
    if (args.prompt is None) == (args.prompts is None):
        raise ValueError("give a PROMPT or --prompts FILE.jsonl, one of the two")
    if args.prompts in prompt_sets():
        return [Job(prompt.text, seed) for prompt in load_prompts(args.prompts).prompts]
    return [Job(check_prompt(args.prompt), seed)] if args.prompts is None else read_jobs(args.prompts, seed)


def _check_stages(args: argparse.Namespace) -> None:
    """The stages' names and what belongs together; the rest is checked where it is used."""
    source, at = getattr(args, "source", None), getattr(args, "at", None)
    if (source is None) != (at is None):
        raise ValueError("--from FILE and --at STAGE belong together")
    if source is not None:
        check_path(source, "--from")
    if getattr(args, "resize", False) and source is None:
        raise ValueError("--resize needs --from FILE")
    for option, stage, accepted in (("--at", at, STAGES[1:]), ("--stop-after", args.stop_after, STAGES)):
        if stage is not None and stage not in accepted:
            raise ValueError(f"{option} {stage!r}: must be one of {', '.join(accepted)}")


def _caches(args: argparse.Namespace) -> dict[str, StageCache | bool | None]:
    from mpl.store import StageCache, text_cache

    stages = StageCache(check_folder(args.cache, "--cache")) if args.cache else None
    if stages:  # an evaluation may have left more
        stages.max_bytes = max(stages.max_bytes, stages.bytes())
    return {"store": stages, "texts": text_cache(args.text_cache, args.out, args.clear_text_cache)}


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    return ("mp4", *(("webm",) if args.webm else ()), *(("gif",) if args.gif else ()))
