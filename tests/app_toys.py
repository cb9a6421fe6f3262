"""What the tests of the page share: an engine without models, a desk over it, the form as a browser sends it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.config import STAGES, Preset, to_dict
from mpl.engine import Ask, Machine, Start
from mpl.events import (
    Event,
    Finished,
    StageFinished,
    StageStarted,
    StageStep,
    Stopped,
    TextEncoded,
)
from mpl.history import History
from mpl.recipe import Files, write_files
from mpl.ui.desk import Desk
from mpl.ui.form import KNOBS, knobs
from mpl.ui.generate import Watch
from mpl.ui.pace import Pace

FRAMES = np.arange(4 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 8, 16, 3)
ASK = Ask("a red car", Preset(), 5)


class FakeEngine:
    """Plays stages without models: three steps each, with previews; may be held, or fail, in the second."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.fail, self.closed, self.steps = fail, False, 3
        self.held, self.reached, self.free = False, threading.Event(), threading.Event()

    def missing(self, preset: Preset) -> str | None:
        return None

    def device(self, preset: Preset) -> str:
        return "CPU"

    def machine(self, preset: Preset) -> Machine:
        return Machine("cpu (no CUDA device found)", {"keyframes": 23_000_000}, {"a<b": "apache-2.0"})

    def noise_level(self, preset: Preset) -> int:
        return 107

    def translation_start(self, preset: Preset) -> Start:
        return Start(200, 5)

    def run(self, ask: Ask, files: Files, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        if ask.prompt == "nonsense":
            raise ValueError("weights.keyframes: not on this machine")
        return self._events(ask, files, stop)

    def _events(self, ask: Ask, files: Files, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        recipe: dict[str, Any] = {"prompt": ask.prompt, "seed": ask.seed, "stages": {}, "preset": to_dict(ask.preset)}
        try:
            yield TextEncoded(ask.prompt, (), 0.1, False)
            for number, stage in enumerate(STAGES, 1):
                yield StageStarted(stage, number, 4)
                for i in range(1, self.steps + 1):
                    yield StageStep(stage, i, self.steps, 500, float(i), float(self.steps - i), i, FRAMES)
                    if self.fail and number == 2:
                        raise self.fail
                    if self.held and number == 2 and i == 1:
                        self.reached.set()
                        assert self.free.wait(30)
                    if stop() and i < self.steps:
                        file = self._write(files, recipe) if recipe["stages"] else None
                        yield Stopped(stage, i, self.steps, file, recipe)
                        return
                recipe["stages"][stage] = {"seconds": float(self.steps), "fps": 8.0}
                yield StageFinished(stage, FRAMES, 8.0, float(self.steps), self.steps, 0.1, {})
            yield Finished(self._write(files, recipe), recipe)
        finally:
            self.closed = True

    def _write(self, files: Files, recipe: dict[str, Any]) -> str:
        return str(write_files(files, files.name, FRAMES, 8.0, recipe))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def desk(engine: FakeEngine, tmp_path: Path) -> Desk:
    return Desk(engine, Preset(), tmp_path)  # type: ignore[arg-type]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    history = History(tmp_path)
    return Watch(ASK, lambda frames, fps: history.show("ann", frames, fps), Pace())


def follow(desk: Desk, visitor: str) -> dict[str, Any]:
    """Follows a run to its end; what the page shows then."""

    async def collect() -> dict[str, Any]:
        shown: dict[str, Any] = {}
        async for changes in desk.follow(visitor):
            shown |= changes
        return shown

    return asyncio.run(collect())


def form(**changes: Any) -> dict[str, Any]:
    """The form as a browser sends it."""
    values = {key: float(value) for key, value in knobs(Preset()).items() if key in KNOBS}
    values |= {"source": None, "start_at": "translation", "metadata": True}
    return {"prompt": "a red car", "seed": 5, "preset": "storybook", "no_noise": False, **values, **changes}


def state(html: str) -> str:
    return html.split('data-state="')[1].split('"')[0]
