"""`python -m mpl train WHAT`: one model of the cascade, from a training preset."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.limits import Range, check_folder, check_seed

from .options import TASKS, TaskOptions, load_task

if TYPE_CHECKING:
    from .task import Task

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help="one of: " + ", ".join(TASKS))
    parser.add_argument("--preset", default="storybook", help="name in presets/training/, or a TOML file")
    parser.add_argument(
        "--minutes", type=float, help="training time over all starts; default: 60, or the preset's steps alone"
    )
    parser.add_argument("--out", type=Path, help="folder of the component (default: assets/PRESET/WHAT; see --cap)")
    parser.add_argument("--assets", type=Path, help="folder of the sibling components (default: beside --out)")
    parser.add_argument("--work", type=Path, help="state, log, curves, samples (default: runs/PRESET/WHAT; see --cap)")
    parser.add_argument(
        "--init-from",
        type=Path,
        help="component folder whose weights to go on from; parts that the preset names and they lack begin anew",
    )
    parser.add_argument(
        "--cap",
        type=int,
        metavar="N",
        help="translation: highest timestep trained on; 1000 is the ablation without an expert. Where it is not the "
        "preset's own, --out and --work end in translation_capN by default",
    )
    parser.add_argument("--seed", default="0", help="a whole number from 0 to 2^63 - 1; default: 0")
    parser.add_argument("--sample-every", type=float, default=10.0, metavar="MINUTES")
    parser.add_argument("--save-every", type=float, default=5.0, metavar="MINUTES")
    parser.add_argument("--max-steps", type=int, help="end after so many steps, before the minutes are over")
    parser.add_argument("--fresh", action="store_true", help="ignore the state of an earlier start of this run")


_MINUTES = 60.0
_MOST_MINUTES = 1e6
_LIMITS = {
    "--minutes": Range(0, _MOST_MINUTES, above=True),
    "--cap": Range(1, 1000),
    "--sample-every": Range(0, 1e9, above=True, infinite=True),
    "--save-every": Range(0, 1e9, above=True, infinite=True),
    "--max-steps": Range(1, 1e9),
}

# Each task by module and class, imported late: each pulls in its own libraries.
_TASKS = {
    "text": ("language", "TextTask"),
    "clip": ("language", "ClipTask"),
    "vae": ("autoencoder", "VaeTask"),
    "image": ("denoisers", "DenoiserTask"),
    "keyframes": ("denoisers", "KeyframesTask"),
    "interpolation": ("denoisers", "InterpolationTask"),
    "superres": ("denoisers", "SuperresTask"),
    "translation": ("latent", "TranslationTask"),
    "judge": ("judge", "JudgeTask"),
    "judge_detail": ("judge", "JudgeTask"),
}


def make_task(options: TaskOptions, assets: Path, init_from: Path | None) -> Task:
    """The task that options.name names. Raises ValueError where its settings or files do not let it be made."""
    from mpl.loading import first_line

    paraphrases = options.name == "text" and options.loss.paraphrases
    module, kind = ("paraphrase", "ParaphraseTask") if paraphrases else _TASKS[options.name]
    try:
        return getattr(import_module(f"{__package__}.{module}"), kind)(options, assets, init_from)
    except OSError as error:  # what diffusers and transformers say of files that they cannot read
        raise ValueError(f"train {options.name}: {first_line(error)}") from error


def _origin(args: argparse.Namespace, seed: int, work: Path) -> Path | None:
    """Whose weights the run begins with, or began with where `work` holds one to go on with."""
    named = args.init_from
    if named and not named.is_dir():
        raise ValueError(f"--init-from {named}: no such folder")
    from .files import Origin, has_state, read_origin

    if args.fresh or not has_state(work):
        return named

    began = read_origin(work) or Origin(None, seed, args.preset)
    other = f"{work} holds another run to go on with; add --fresh or another --work"
    if named and (began.init_from is None or began.init_from.resolve() != named.resolve()):
        raise ValueError(f"--init-from {named}: {other}")
    if began.seed != seed:
        raise ValueError(f"--seed {seed}: {other}, or --seed {began.seed}")
    if began.preset != args.preset:
        raise ValueError(f"--preset {args.preset}: {other}, or --preset {began.preset}")
    return began.init_from


def _check(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments that no training can have."""
    if args.what not in TASKS:
        raise ValueError(f"train {args.what}: unknown model; accepted: {', '.join(TASKS)}")
    for option, limit in _LIMITS.items():
        value = getattr(args, option[2:].replace("-", "_"))
        if value is not None and not limit.accepts(value):
            raise ValueError(f"{option} = {value}: must be {limit}")
    if args.cap is not None and args.what != "translation":
        raise ValueError(f"--cap = {args.cap}: train {args.what} has no cap; accepted with: train translation")


def _places(args: argparse.Namespace) -> str:
    """The options that say where components are, for the card: siblings are looked for by them."""
    from .report import shown_path

    named = {"--assets": args.assets, "--out": args.out}
    return " ".join(f"{option} {shown_path(path)}" for option, path in named.items() if path)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains and returns {"out", "steps", "samples", "minutes"}.

    An expert of another cap than the preset's lies beside the preset's own expert, unless `--out` names a folder.

    Raises:
        ValueError: options that cannot be, or files that are not there, before any work.
        RunFailed: the loss is not a number any more.
        KeyboardInterrupt: on Ctrl-C, with the state saved.
    """
    _check(args)
    seed = check_seed(args.seed, "--seed")
    options, component = load_task(args.preset, args.what), args.what
    if args.cap not in (None, options.loss.cap):
        component += f"_cap{args.cap}"
        options = replace(options, loss=replace(options.loss, cap=args.cap))
    out = args.out or ASSETS / Path(args.preset).stem / component
    work = args.work or Path("runs") / Path(args.preset).stem / component
    init_from = _origin(args, seed, work)
    if init_from:  # what goes on has been through the curriculum
        options = replace(options, data=replace(options.data, easy_until=0.0))
    import torch

    from .loop import Loop, Run

    torch.manual_seed(seed)
    task = make_task(options, args.assets or out.parent, init_from)
    check_folder(task.home(out), "--out")
    check_folder(work, "--work")
    plan = Run(
        out,
        work,
        args.minutes or (_MOST_MINUTES if options.steps else _MINUTES),
        seed=seed,
        sample_every=args.sample_every,
        save_every=args.save_every,
        max_steps=min((n for n in (args.max_steps, options.steps) if n), default=None),
        fresh=args.fresh,
        preset=args.preset,
        init_from=init_from,
        places=_places(args),
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
