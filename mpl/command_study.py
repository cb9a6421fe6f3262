"""`python -m mpl study`: pairs of videos by two presets, for the page's blind rating."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.command import Job, assignments, read_jobs
from mpl.config import STAGES, load_preset, override, to_dict
from mpl.limits import Range, check_folder, check_seed
from mpl.prompts import load_prompts, prompt_sets
from mpl.store import digest
from mpl.studies import INDEX, TEXT, Pair, Study, check_arms, check_name, load_study, write_pair, write_study
from mpl.terminal import RunFailed, RunWithheld, Terminal

if TYPE_CHECKING:
    from mpl.cascade import Arm
    from mpl.events import Event, Frames

ARMS = ("a", "b")
_COUNT = Range(1, 10_000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the study's folder: small letters, digits and hyphens")
    parser.add_argument(
        "--prompts", required=True, metavar="FILE.jsonl|SET", help="a set (paper, storybook), or lines as for generate"
    )
    for arm in ARMS:
        parser.add_argument(f"--{arm}", default="storybook", metavar="PRESET", help=f"preset of {arm}: name or file")
        parser.add_argument(f"--set-{arm}", nargs="+", action="extend", metavar="KEY=VALUE", help=f"changes to {arm}")
        parser.add_argument(f"--stop-after-{arm}", metavar="STAGE", help=f"last stage of {arm}")
        parser.add_argument(f"--label-{arm}", metavar="TEXT", help=f"what {arm} is called; default: its preset's name")
    parser.add_argument("--title", metavar="TEXT", help="default: the labels")
    parser.add_argument("--about", default="", metavar="TEXT", help="a sentence for those who vote")
    parser.add_argument("--count", type=int, metavar="N", help="so many prompts, evenly from all categories")
    parser.add_argument("--seed", default="0", help="a whole number from 0 to 2^63 - 1; default: 0")
    out = str(Path(os.environ.get("MPL_OUT", "outputs")) / "studies")  # where `app.py` looks
    parser.add_argument("--out", default=out, metavar="DIR", help=f"folder of studies, the page's; default: {out}")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Makes the pairs that are not there yet, and says how many there are.

    Raises:
        ValueError: bad input, before any work; or the folder holds another study.
        RunFailed: a run broke off; the pairs before it stay.
    """
    folder = Path(args.out) / check_name(args.name, "NAME")
    presets = {
        arm: override(load_preset(getattr(args, arm)), assignments(getattr(args, f"set_{arm}"), f"--set-{arm}"))
        for arm in ARMS
    }
    stops = {arm: _stage(args, arm) for arm in ARMS}
    labels = [getattr(args, f"label_{arm}") or presets[arm].name for arm in ARMS]
    if labels[0] == labels[1]:
        raise ValueError(f"both arms are called {labels[0]}: give --label-a and --label-b")
    title = args.title or " or ".join(check_arms(*labels))
    for option, text in (("--title", title), ("--about", args.about)):
        if not TEXT.accepts(text):
            raise ValueError(f"{option}: must be {TEXT}")
    asked = _asked(args)
    made_by = tuple(to_dict(presets[arm]) | {"stop_after": stops[arm]} for arm in ARMS)
    study = _goes_on(folder, Study(args.name, title, args.about, check_arms(*labels), (), made_by))
    check_folder(folder, "--out")

    from mpl.cascade import Arm
    from mpl.weights import Weights

    weights = {options: Weights(options) for options in {p.weights for p in presets.values()}}
    arms = {arm: Arm(presets[arm], weights[presets[arm].weights], stops[arm]) for arm in ARMS}
    done, terminal = {pair.item for pair in study.pairs}, Terminal()
    for number, (job, category) in enumerate(asked, 1):
        item = digest(job.prompt, job.seed)[:12]
        if item in done:
            continue
        terminal.line(f"{number} of {len(asked)}: {job.prompt}")
        try:
            videos = write_pair(folder, *_make(job, arms, terminal))
            study = replace(study, pairs=(*study.pairs, Pair(item, job.prompt, job.seed, category, videos)))
            write_study(folder, study)
        except RunWithheld as error:
            terminal.line(str(error))
            continue
        except OSError as error:
            raise RunFailed(f"{folder} could not be written to: {error.strerror or error}") from error
        done.add(item)
    if not args.json:
        print(folder / INDEX, flush=True)
    return {"folder": str(folder), "pairs": len(study.pairs), "arms": list(study.arms)}


def _make(job: Job, arms: Mapping[str, Arm], terminal: Terminal) -> list[tuple[Frames, float]]:
    """Frames and frame rate of each arm's last stage."""
    from mpl.cascade import compare
    from mpl.events import StageFinished, StageKept

    made: list[tuple[Frames, float]] = []
    ends: list[StageFinished | StageKept] = []

    def noted(events: Iterator[tuple[str, Event]]) -> Iterator[Event]:
        for _, event in events:
            if isinstance(event, StageFinished | StageKept):
                ends[:] = [event]
            yield event

    stream = noted(compare(job.prompt, arms, job.seed))
    for _ in arms:
        terminal.watch(stream)
        made.append((ends[0].frames, ends[0].fps))
    return made


def _asked(args: argparse.Namespace) -> list[tuple[Job, str]]:
    """What is to be made, each with its category's title."""
    seed = check_seed(args.seed, "--seed")
    if args.count is not None and not _COUNT.accepts(args.count):
        raise ValueError(f"--count = {args.count}: must be {_COUNT}")
    if args.prompts not in prompt_sets():
        return [(job, "") for job in read_jobs(args.prompts, seed)][: args.count]
    known = load_prompts(args.prompts)
    groups = [[p for p in known.prompts if p.category == key] for key in known.categories]
    by_turns = (prompt for turn in itertools.zip_longest(*groups) for prompt in turn if prompt)
    found = [(Job(prompt.text, seed), known.categories[prompt.category]) for prompt in by_turns]
    return found[: args.count]


def _stage(args: argparse.Namespace, arm: str) -> str | None:
    stage = getattr(args, f"stop_after_{arm}")
    if stage is not None and stage not in STAGES:
        raise ValueError(f"--stop-after-{arm} {stage!r}: must be one of {', '.join(STAGES)}")
    return stage


def _goes_on(folder: Path, study: Study) -> Study:
    """The study as far as it is there. Raises ValueError where another one is."""
    if not (folder / INDEX).exists():
        return study
    there = load_study(folder)
    if there.arms != study.arms or digest(there.presets) != digest(study.presets):
        raise ValueError(f"{folder}: holds a study of other arms; give another NAME")
    return replace(study, pairs=there.pairs)
