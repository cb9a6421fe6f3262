"""`python -m mpl evaluate storybook`: figures of the embedded models, as JSON and in words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PARTS = ("keyframes", "interpolation", "superres", "translation", "video")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="WHAT", help="storybook")
    parser.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        help="a stage, or video: the whole way; default: all",
    )
    parser.add_argument("--n", type=int, default=128, help="held-out cases; default: 128")
    parser.add_argument("--preset", default="storybook", metavar="NAME|FILE.toml")
    parser.add_argument("--set", nargs="+", action="extend", metavar="KEY=VALUE", help="such as keyframes.steps=10")
    parser.add_argument("--judges", type=Path, default=ASSETS / "storybook", help="folder of judge and judge_detail")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Returns {"n", "preset", part: figures}; says each part's figures as soon as they are there.

    Raises ValueError for options that cannot be, or models and judges that are not there, before any work.
    """
    if args.what != "storybook":
        raise ValueError(f"evaluate {args.what}: unknown protocol; accepted: storybook")
    if args.n < 1:
        raise ValueError(f"--n {args.n}: accepted are whole numbers from 1")

    from mpl.command import assignments
    from mpl.config import load_preset, override

    preset = override(load_preset(args.preset), assignments(args.set, "--set"))

    from mpl.weights import Weights

    from . import storybook, whole

    bench = storybook.Bench(preset, Weights(preset.weights), args.judges, _count)
    answer: dict[str, Any] = {"n": args.n, "preset": args.preset, "changed": args.set or []}
    parts = args.part or PARTS
    bench.check(parts)
    for part in parts:
        print(part, file=sys.stderr)
        answer[part] = getattr(whole if part == "video" else storybook, part)(bench, args.n)
        for name, figure in answer[part].items():
            print(f"{part} {name}: {figure}", file=sys.stderr if args.json else sys.stdout)
    return answer


def _count(done: int, of: int) -> None:
    end = "\n" if done == of else ""
    print(f"\r  {done}/{of}", end=end, file=sys.stderr, flush=True)
