"""The command line: `python -m mpl VERB …`. Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import NoReturn

# verb → its line of help, the module and the names in it: add_arguments(parser), run(args) → figures for
# --json.
VERBS = {
    "generate": ("make a video from a prompt", "mpl.command", "add_generate_arguments", "run_generate"),
    "compare": ("two presets, same prompt and seed", "mpl.command", "add_compare_arguments", "run_compare"),
    "study": ("many pairs, to be rated blind on the page", "mpl.command_study", "add_arguments", "run"),
    "storybook": ("render the world that the models learn", "mpl.storybook.command", "add_arguments", "run"),
    "pack": ("put videos with captions into tar shards", "mpl.training.pack", "add_arguments", "run"),
    "train": ("train one model", "mpl.training.command", "add_arguments", "run"),
    "evaluate": ("measure", "mpl.evaluation.command", "add_arguments", "run"),
    "memory": (
        "what a preset needs, and what fits into a GPU",
        "mpl.measure.memory_command",
        "add_arguments",
        "run",
    ),
    "bench": (
        "time, count and compare with what the machine can do",
        "mpl.measure.bench_command",
        "add_arguments",
        "run",
    ),
    "report": ("show what was measured", "mpl.evaluation.report.command", "add_arguments", "run"),
}


class Parser(argparse.ArgumentParser):
    """argparse with its errors on one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(prog="mpl", description="Text-to-video by a cascade of pixel and latent diffusion models.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for verb, (text, module, add, _) in VERBS.items():
        own = verbs.add_parser(verb, help=text, description=text.capitalize() + ".", allow_abbrev=False)
        if verb == asked:  # only what is asked for is imported
            getattr(importlib.import_module(module), add)(own)
            own.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    try:
        args = parser.parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 2
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    from mpl.terminal import RunFailed, hush

    hush()
    _, module, _, run = VERBS[args.verb]
    try:
        said = getattr(importlib.import_module(module), run)(args)
        if args.json:
            print(json.dumps(said), flush=True)
        return 0
    except ValueError as error:
        return _say(f"mpl {args.verb}: error: {error}", 2)
    except RunFailed as error:
        return _say(f"mpl {args.verb}: failed: {error}", 1)
    except KeyboardInterrupt:
        return _say(f"mpl {args.verb}: interrupted; nothing half-written is left", 130)
    except BrokenPipeError:  # the reader of our output has gone; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
