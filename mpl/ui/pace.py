"""How far a run is and how long it still takes, from measured seconds; guessed only until there are any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mpl.config import STAGES, Preset

# What stages cost against each other before anything was measured here: the embedded models' budgets in TFLOP.
SHARES = {"keyframes": 1.0, "interpolation": 1.0, "superres": 4.0, "translation": 4.0}


class Pace:
    """Seconds that stages took on this machine, by their options; shared by all runs of a server."""

    def __init__(self) -> None:
        self._seconds: dict[Any, float] = {}

    def run(self, preset: Preset) -> Clock:
        """A clock for one run of the preset."""
        known = {stage: self._seconds.get(_key(preset, stage)) for stage in STAGES}
        return Clock(self, preset, known)

    def measured(self, preset: Preset, stage: str, seconds: float) -> None:
        """Remembers what a stage took."""
        self._seconds[_key(preset, stage)] = seconds


def _key(preset: Preset, stage: str) -> Any:
    return preset.weights, stage, getattr(preset, stage)


@dataclass
class Clock:
    """Where one run stands."""

    pace: Pace
    preset: Preset
    known: dict[str, float | None]
    _done: dict[str, float] = field(default_factory=dict)  # stage → the seconds it counts for
    _stage: str = ""
    _part: float = 0.0  # of the running stage
    _total: float | None = None  # seconds of the running stage, as it looks now

    def begin(self, stage: str) -> None:
        """A stage starts."""
        self._stage, self._part, self._total = stage, 0.0, self.known[stage]

    def step(self, part: float, seconds: float, seconds_left: float | None) -> None:
        """A share of the running stage's steps is done, after `seconds`; `seconds_left` of it may be known."""
        self._part = part
        if seconds_left is not None:
            self._total = seconds + seconds_left
            self._part = seconds / self._total if self._total else part

    def end(self, stage: str, seconds: float, measured: bool) -> None:
        """A stage is done; kept ones (not `measured`) count for nothing."""
        self._done[stage] = seconds if measured else 0.0
        self._stage, self._part, self._total = "", 0.0, None
        if measured:
            self.pace.measured(self.preset, stage, seconds)

    def fraction(self) -> float:
        """What is done of the whole run, 0…1, weighted by seconds."""
        lengths = self._lengths()
        done = sum(lengths[stage] for stage in self._done)
        done += lengths.get(self._stage, 0.0) * self._part
        total = sum(lengths.values())
        return done / total if total else 1.0

    def seconds_left(self) -> float | None:
        """What the run still takes, or None while nothing tells."""
        if self._total is None:
            return None
        lengths = self._lengths()
        later = STAGES[STAGES.index(self._stage) + 1 :]
        return self._total * (1 - self._part) + sum(lengths[stage] for stage in later)

    def _lengths(self) -> dict[str, float]:
        """Seconds of every stage: measured now or earlier, else guessed by their shares from those that are."""
        seconds = {stage: self.known[stage] for stage in STAGES} | self._done
        if self._stage and self._total is not None:
            seconds[self._stage] = self._total
        sure = {stage: value for stage, value in seconds.items() if value}
        rate = sum(sure.values()) / sum(SHARES[stage] for stage in sure) if sure else 1.0
        return {stage: SHARES[stage] * rate if value is None else value for stage, value in seconds.items()}
