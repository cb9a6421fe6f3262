"""How far a run is and how long it still takes, from measured seconds; guessed only until there are any."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mpl.config import STAGES, Preset
from mpl.store import digest
from mpl.video import replacing
from mpl.windows import filled_length

# What stages cost against each other before anything was measured here: the embedded models' budgets in TFLOP.
SHARES = {"keyframes": 1.0, "interpolation": 1.0, "superres": 4.0, "translation": 4.0}


Forecast = Callable[[], float | None]  # seconds, as far as they are known when it is asked
KEPT = 500  # sets of options whose seconds are remembered


class Pace:
    """Seconds that stages took on this machine, by their options; shared by all runs of a server, kept in a file."""

    def __init__(self, file: str | Path | None = None) -> None:
        """Takes the file, which may be missing; None remembers for this process alone."""
        self._file = Path(file) if file else None
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        if self._file:
            with contextlib.suppress(OSError, ValueError):  # lost or broken: it is measured again
                found = json.loads(self._file.read_text(encoding="utf-8"))
                self._seconds = {str(key): float(value) for key, value in found.items()}

    def run(self, preset: Preset, own_clip: bool = False) -> Clock:
        """A clock for one run of the preset; of a clip of one's own nobody knows yet how long it is."""
        known = {stage: None if own_clip else self._seconds.get(_key(preset, stage)) for stage in STAGES}
        return Clock(self, preset, known)

    def expected(self, preset: Preset, stages: Iterable[str] = STAGES) -> float | None:
        """Seconds that the stages take if none is kept; None unless all were measured."""
        return self.forecast(preset, stages)()

    def forecast(self, preset: Preset, stages: Iterable[str] = STAGES) -> Forecast:
        """As `expected`, to be asked again and again: a full line does so for all its jobs, whenever anybody looks."""
        keys = [_key(preset, stage) for stage in stages]  # which take far longer than looking them up
        return lambda: sum_known(self._seconds.get(key) for key in keys)

    def measured(self, preset: Preset, stage: str, seconds: float, frames: int | None = None) -> None:
        """Remembers what a stage took, for so many frames; None means as many as the preset makes."""
        with self._lock:
            key = _key(preset, stage, frames)
            self._seconds.pop(key, None)
            self._seconds[key] = round(seconds, 3)
            for old in list(self._seconds)[:-KEPT]:
                del self._seconds[old]
            if self._file:
                with contextlib.suppress(OSError):  # a full disk: it is measured again
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                    with replacing(self._file) as temporary:
                        temporary.write_text(json.dumps(self._seconds), encoding="utf-8")


def sum_known(seconds: Iterable[float | None]) -> float | None:
    """The sum, or None where one of them is not known."""
    known = list(seconds)
    return None if None in known else sum(value or 0.0 for value in known)


def _key(preset: Preset, stage: str, frames: int | None = None) -> str:
    upsamples = stage == "translation" and preset.weights.upsampling
    blocks = (stage, "upsampling") if upsamples else (stage,)
    options = [{key: str(value) for key, value in asdict(getattr(preset, block)).items()} for block in blocks]
    if frames is None:
        frames = preset.keyframes.frames
        frames = frames if stage == STAGES[0] else filled_length(frames, preset.interpolation.between)
    return digest(asdict(preset.weights), stage, frames, options)[:16]


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

    def end(self, stage: str, seconds: float, measured: bool, frames: int | None = None) -> None:
        """A stage is done, with so many frames; kept ones (not `measured`) count for nothing."""
        self._done[stage] = seconds if measured else 0.0
        self._stage, self._part, self._total = "", 0.0, None
        if measured:
            self.pace.measured(self.preset, stage, seconds, frames)

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
