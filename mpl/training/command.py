"""`python -m mpl train WHAT`: one model of the cascade, from a training preset."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.recipe import check_folder

from .options import TASKS, TaskOptions, load_task

if TYPE_CHECKING:
    from .task import Task

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help="one of: " + ", ".join(TASKS))
    parser.add_argument("--preset", default="storybook", help="name in presets/training/, or a TOML file")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time over all starts")
    parser.add_argument("--out", type=Path, help="folder of the component (default: assets/PRESET/WHAT)")
    parser.add_argument("--assets", type=Path, help="folder of the sibling components (default: beside --out)")
    parser.add_argument("--work", type=Path, help="state, log, curves, samples (default: runs/PRESET/WHAT)")
    parser.add_argument("--init-from", type=Path, help="component folder whose weights to go on from")
    parser.add_argument("--cap", type=int, help="highest timestep trained on; 1000 is the ablation without an expert")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample-every", type=float, default=10.0, metavar="MINUTES")
    parser.add_argument("--save-every", type=float, default=5.0, metavar="MINUTES")
    parser.add_argument("--max-steps", type=int, help="end after so many steps, before the minutes are over")
    parser.add_argument("--fresh", action="store_true", help="ignore the state of an earlier start of this run")


# Each task by module and class, imported late: each pulls in its own libraries.
_TASKS = {
    "text": ("language", "TextTask"),
    "clip": ("language", "ClipTask"),
    "vae": ("latent", "VaeTask"),
    "image": ("denoisers", "DenoiserTask"),
    "keyframes": ("denoisers", "DenoiserTask"),
    "interpolation": ("denoisers", "InterpolationTask"),
    "superres": ("denoisers", "SuperresTask"),
    "translation": ("latent", "TranslationTask"),
    "judge": ("judge", "JudgeTask"),
    "judge_detail": ("judge", "JudgeTask"),
}


def make_task(options: TaskOptions, assets: Path, init_from: Path | None) -> Task:
    """The task that options.name names. Raises ValueError where its settings or files do not let it be made."""
    from mpl.loading import first_line

    module, kind = _TASKS[options.name]
    try:
        return getattr(import_module(f"{__package__}.{module}"), kind)(options, assets, init_from)
    except OSError as error:  # what diffusers and transformers say of files that they cannot read
        raise ValueError(f"train {options.name}: {first_line(error)}") from error


def _origin(args: argparse.Namespace, work: Path) -> Path | None:
    """Whose weights the run begins with, or began with where `work` holds one to go on with."""
    named = args.init_from
    if named and not named.is_dir():
        raise ValueError(f"--init-from {named}: no such folder")
    if args.fresh or not (work / "state").is_dir():
        return named
    from .files import read_origin

    began = read_origin(work)
    if named and (began is None or began.resolve() != named.resolve()):
        raise ValueError(f"--init-from {named}: {work} holds another run to go on with; add --fresh or another --work")
    return began


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains and returns {"out", "steps", "samples", "minutes"}.

    Raises:
        ValueError: options that cannot be, or files that are not there, before any work.
        RunFailed: the loss is not a number any more.
        KeyboardInterrupt: on Ctrl-C, with the state saved.
    """
    if args.what not in TASKS:
        raise ValueError(f"train {args.what}: unknown model; accepted: {', '.join(TASKS)}")
    if not 0 < args.minutes < 1e6:
        raise ValueError(f"--minutes {args.minutes}: accepted are numbers above 0")
    options = load_task(args.preset, args.what)
    if args.cap is not None:
        if not 1 <= args.cap <= 1000:
            raise ValueError(f"--cap {args.cap}: accepted are 1 to 1000")
        options = replace(options, loss=replace(options.loss, cap=args.cap))
    out = args.out or ASSETS / Path(args.preset).stem / args.what
    work = args.work or Path("runs") / Path(args.preset).stem / args.what
    init_from = _origin(args, work)
    if init_from:  # what goes on has been through the curriculum
        options = replace(options, data=replace(options.data, easy_until=0.0))
    import torch

    from .loop import Loop, Run

    torch.manual_seed(args.seed)
    task = make_task(options, args.assets or out.parent, init_from)
    check_folder(task.home(out), "--out")
    check_folder(work, "--work")
    plan = Run(
        out,
        work,
        args.minutes,
        seed=args.seed,
        sample_every=args.sample_every,
        save_every=args.save_every,
        max_steps=args.max_steps,
        fresh=args.fresh,
        preset=args.preset,
        init_from=init_from,
    )
    loop = Loop(task, plan)
    loop.train()
    done = loop.progress
    return {
        "out": str(task.home(out)),
        "steps": done.step,
        "samples": done.samples,
        "minutes": round(done.seconds / 60, 2),
    }
