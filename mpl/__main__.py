"""The command line: `python -m mpl VERB …`.

Exit codes: 0 done, 1 failure, 2 bad input, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
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
        own = verbs.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
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
    for stream in (sys.stdout, sys.stderr):  # of a code page without our signs, where hours of work may lie behind
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _, module, _, run = VERBS[args.verb]
    terminated = threading.Event()
    try:
        with _terminated_as_interrupted(terminated):
            said = getattr(importlib.import_module(module), run)(args)
        if args.json:
            print(json.dumps(said), flush=True)
        return 0
    except ValueError as error:
        return _say(f"mpl {args.verb}: error: {error}", 2)
    except RunFailed as error:
        return _say(f"mpl {args.verb}: failed: {error}", 1)
    except KeyboardInterrupt:
        word, code = ("terminated", 143) if terminated.is_set() else ("interrupted", 130)
        return _say(f"mpl {args.verb}: {word}; nothing half-written is left", code)
    except BrokenPipeError:  # the reader of our output has gone; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _say(f"mpl {args.verb}: failed: {error}", 1)


@contextlib.contextmanager
def _terminated_as_interrupted(came: threading.Event) -> Iterator[None]:
    """SIGTERM does what Ctrl-C does, so that nothing half-written is left, and sets the event."""
    if threading.current_thread() is not threading.main_thread():  # where signals cannot be handled
        yield
        return
    own = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a fork of ours, which whoever forked it means to end at once
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        came.set()
        interrupt = signal.getsignal(signal.SIGINT)  # a training's ends its step and saves
        if callable(interrupt):
            interrupt(signal.SIGINT, frame)
        else:  # shells start what runs in the background without one
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
