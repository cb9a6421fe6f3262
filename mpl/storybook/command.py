"""`python -m mpl storybook`: renders scenes of a split as videos, with their captions and labels beside them."""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

from mpl.limits import check_folder

from .captions import caption
from .scene import CLOCK_FRAMES, Scene, scene_for_index

FPS = 8
INDEX = "scenes.jsonl"
_MOST_SCENES = 100_000
_SIDES = (16, 2048)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", choices=("train", "heldout"), required=True, help="combinations to draw from")
    parser.add_argument("--n", type=int, required=True, metavar="N", help="how many: scenes 0 to N-1 of the split")
    parser.add_argument("--out", required=True, metavar="DIR", help=f"folder for the videos and {INDEX}")
    parser.add_argument("--height", type=int, default=320, help="in pixels, even; default: 320")
    parser.add_argument("--width", type=int, default=576, help="in pixels, even; default: 576")
    parser.add_argument("--frames", type=int, default=CLOCK_FRAMES, help=f"1 to {CLOCK_FRAMES}; default: all")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes `00000.mp4`, … and the index; the same arguments always give the same pictures and captions.

    Raises:
        ValueError: a number out of range or a folder that cannot be written to, before any work.
    """
    _check(args)
    check_folder(args.out, "--out")
    from mpl.video import replacing

    started = time.monotonic()
    folder = Path(args.out)
    index = folder / INDEX
    with replacing(index) as unfinished, unfinished.open("w", encoding="utf-8") as lines:
        for number in range(args.n):
            entry = _write_scene(folder, number, args)
            lines.write(json.dumps(entry) + "\n")
            print(f"{entry['file']}  {entry['caption']}", flush=True)
    return {"folder": str(folder), "index": str(index), "scenes": args.n, "seconds": time.monotonic() - started}


def describe(scene: Scene, split: str, number: int) -> dict[str, Any]:
    """The caption of scene `number` of a split, the attributes it names, and the scene's labels and seed."""
    text = caption(scene, random.Random(f"caption:{split}:{number}"))
    return {"caption": text.text, "named": sorted(text.named), "labels": scene.labels, "seed": scene.seed}


def _write_scene(folder: Path, number: int, args: argparse.Namespace) -> dict[str, Any]:
    from mpl.video import to_frames, write_video

    from .render import render

    scene = scene_for_index(number, args.split)
    file = f"{number:05d}.mp4"
    entry = {"file": file, "index": number, "split": args.split, **describe(scene, args.split, number)}
    frames = to_frames(render(scene, args.frames, args.height, args.width))
    write_video(folder / file, frames, FPS, {"storybook": entry})
    return entry


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.n <= _MOST_SCENES:
        raise ValueError(f"--n is {args.n}; accepted: 1 to {_MOST_SCENES}")
    if not 1 <= args.frames <= CLOCK_FRAMES:
        raise ValueError(f"--frames is {args.frames}; accepted: 1 to {CLOCK_FRAMES}")
    low, high = _SIDES
    for name in ("height", "width"):
        side = getattr(args, name)
        if not low <= side <= high or side % 2:
            raise ValueError(f"--{name} is {side}; accepted: an even number from {low} to {high}")
