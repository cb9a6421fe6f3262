"""The command line's view of a run: a progress bar per stage with time left, and notices, on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from mpl.events import (
    Event,
    Failed,
    Finished,
    Notice,
    StageFinished,
    StageKept,
    StageStarted,
    StageStep,
    Stopped,
    Withheld,
)

BAR = 24  # characters


class RunFailed(Exception):
    """A run ended with `Failed`; the message is for the person."""


class RunWithheld(RunFailed):
    """The safety checker flagged what was made: made again, it would be flagged again."""


class Terminal:
    """Shows events as they come: a moving bar on a terminal, a line per stage elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.moving = self.stream.isatty()

    def watch(self, events: Iterable[Event]) -> Finished | Stopped:
        """Shows all events and returns the last.

        Raises:
            RunFailed: the run failed; `RunWithheld` where its result is withheld.
        """
        for event in events:
            if isinstance(event, Failed):
                self.line("")
                raise (RunWithheld if isinstance(event, Withheld) else RunFailed)(event.message)
            if isinstance(event, Finished | Stopped):
                return event
            self.show(event)
        raise RunFailed("the run ended without a result")

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.line(f"note: {event.message}")
        elif isinstance(event, StageStarted):
            self._move(f"{event.stage:<14}…")
        elif isinstance(event, StageStep):
            left = "" if event.seconds_left is None else f"  {clock(event.seconds_left)} left"
            done = BAR * event.index // event.total
            bar = "█" * done + "░" * (BAR - done)
            self._move(f"{event.stage:<14}{bar} {event.index:>3}/{event.total}{left}")
        elif isinstance(event, StageKept):
            self.line(f"{event.stage:<14}kept (took {event.seconds:.1f} s when it was made)")
        elif isinstance(event, StageFinished):
            count, height, width = event.frames.shape[:3]
            info = "".join(f", {key.replace('_', ' ')} {value}" for key, value in event.info.items())
            self.line(f"{event.stage:<14}{count} frames of {width}×{height} in {event.seconds:.1f} s{info}")

    def line(self, text: str) -> None:
        """A line that stays, in place of the bar."""
        self.stream.write(("\r\x1b[K" if self.moving else "") + (text + "\n" if text else ""))
        self.stream.flush()

    def _move(self, text: str) -> None:
        if self.moving:
            self.stream.write(f"\r\x1b[K{text}")
            self.stream.flush()


def hush() -> None:
    """Keeps libraries' remarks that say nothing about a run off the terminal.

    bitsandbytes, which diffusers imports where it is installed, warns of a kernel that it could have on some CPUs.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def clock(seconds: float) -> str:
    """Minutes and seconds, `1:05`."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def figures(end: Finished | Stopped) -> dict[str, Any]:
    """What `--json` says about a run."""
    stages = end.recipe["stages"]
    return {
        "file": end.file,
        "recipe": end.recipe,
        "seconds": {name: made["seconds"] for name, made in stages.items()},
        "evaluations": {name: made["evaluations"] for name, made in stages.items()},
        "peak_memory_gb": end.recipe["peak_memory_gb"],
    }
