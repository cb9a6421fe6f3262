"""`python -m mpl train WHAT`: one model of the cascade, from a training preset."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    parser.add_argument("--work", type=Path, help="state, log, curves, samples (default: runs/WHAT)")
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
    """The task that options.name names."""
    module, kind = _TASKS[options.name]
    return getattr(import_module(f"{__package__}.{module}"), kind)(options, assets, init_from)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains and returns {"out", "steps", "samples", "minutes"}. Raises ValueError for options that cannot be."""
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
    assets = args.assets or out.parent
    if args.init_from and not args.init_from.is_dir():
        raise ValueError(f"--init-from {args.init_from}: no such folder")
    import torch

    from .loop import Loop, Run, forget

    work = args.work or Path("runs") / args.what
    if args.fresh:
        forget(work)
    if args.init_from and (work / "state").is_dir():
        raise ValueError(
            f"--init-from {args.init_from}: {work} holds a run to go on with; add --fresh or another --work"
        )

    torch.manual_seed(args.seed)
    plan = Run(out, work, args.minutes, args.seed, args.sample_every, args.save_every, args.max_steps)
    loop = Loop(make_task(options, assets, args.init_from), plan)
    loop.train()
    done = loop.progress
    return {
        "out": str(out),
        "steps": done.step,
        "samples": done.samples,
        "minutes": round(done.seconds / 60, 2),
    }
