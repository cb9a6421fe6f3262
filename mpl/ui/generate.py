"""Events of a run become changes of the page. Knows the page's parts by name, and no toolkit.

The parts are one for each stage, and those of `EMPTY`; a part that an event does not change is not named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from mpl.config import STAGES
from mpl.engine import Ask
from mpl.events import (
    Event,
    Finished,
    Notice,
    StageFinished,
    StageKept,
    StageStarted,
    StageStep,
    Stopped,
    TextEncoded,
)
from mpl.history import address
from mpl.ui.pace import Pace
from mpl.ui.panels import TITLES, Panel, announcement, downloads, notices, progress, seconds_text
from mpl.ui.pictures import strip

if TYPE_CHECKING:
    from mpl.events import Frames

Changes = dict[str, Any]
EMPTY: Changes = {
    **{stage: Panel(stage).html() for stage in STAGES},
    "progress": progress(0.0, "Ready", "the first video takes longer, the models are loaded with it"),
    "announcement": announcement(""),
    "notices": "",
    "downloads": "",
}  # the page with no run


class Watch:
    """One run as the page sees it."""

    def __init__(self, ask: Ask, show: Callable[[Frames, float], Path], pace: Pace) -> None:
        """`show` makes a video of frames and their rate that the browser can fetch."""
        self.preset, self.show_video = ask.preset, show
        first = STAGES.index(ask.start_at) if ask.start_at else 0
        self.panels = {stage: Panel(stage, "waiting" if i >= first else "given") for i, stage in enumerate(STAGES)}
        self.stages = len(STAGES) - first
        self.clock = pace.run(ask.preset, own_clip=ask.source is not None)
        for stage in STAGES[:first]:
            self.clock.end(stage, 0.0, measured=False)
        self.said: list[str] = []
        self.now = ""  # the stage that is running
        self.kept = 0  # stages

    def changes(self, events: Generator[Event, None, None]) -> Iterator[Changes]:
        """What changes on the page with each event; ends with the run."""
        with contextlib.closing(events):
            for event in events:
                yield self.show(event)

    def begin(self) -> Changes:
        """A page cleared for the run; notices were when it was asked for, and may say of a link or a recipe since."""
        words = "Reading the sentence", "the first run loads the models as well"
        panels = {stage: panel.html() for stage, panel in self.panels.items()}
        cleared = {name: value for name, value in EMPTY.items() if name != "notices"}
        return cleared | panels | {"progress": progress(None, *words), "announcement": announcement("The run begins.")}

    def show(self, event: Event) -> Changes:
        """The parts of the page that an event changes."""
        if isinstance(event, TextEncoded):
            return {"progress": progress(None, "The sentence is read", "the first stage begins")}
        if isinstance(event, Notice):
            self.said.append(event.message)
            return {"notices": notices(self.said)}
        if isinstance(event, StageStarted):
            return self._started(event)
        if isinstance(event, StageStep):
            return self._step(event)
        if isinstance(event, StageKept | StageFinished):
            return self._made(event)
        if isinstance(event, Finished):
            return self._finished(event)
        if isinstance(event, Stopped):
            return self._stopped(event)
        return self.failed(event.message)

    def _started(self, event: StageStarted) -> Changes:
        self.now = event.stage
        self.clock.begin(event.stage)
        words = f"{TITLES[event.stage]}, stage {event.number} of {event.of}"
        panel = Panel(event.stage, "running")
        if event.preview is not None:
            picture = strip(event.preview, self._rate(event.stage), smooth=True)
            panel = Panel(event.stage, "running", "where it starts", picture)
        return {
            event.stage: self._panel(event.stage, panel),
            "progress": progress(self.clock.fraction(), words),
            "announcement": announcement(words),
        }

    def _step(self, event: StageStep) -> Changes:
        self.clock.step(event.index / event.total, event.seconds, event.seconds_left)
        number = STAGES.index(event.stage) + 1
        left = self.clock.seconds_left()
        detail = f"step {event.index} of {event.total}"
        detail += f" · about {seconds_text(left)} left" if left is not None else ""
        changes = {"progress": progress(self.clock.fraction(), f"{number} · {TITLES[event.stage]}", detail)}
        if event.preview is not None:
            sketch = event.stage == STAGES[-1]  # a pixel for each latent
            picture = strip(event.preview, self._rate(event.stage), smooth=sketch)
            facts = "as it looks so far"
            changes[event.stage] = self._panel(event.stage, Panel(event.stage, "running", facts, picture))
        return changes

    def _made(self, event: StageKept | StageFinished) -> Changes:
        """A stage's result; the last stage shows its own frames only once its file is written."""
        self.now, kept = "", isinstance(event, StageKept)
        self.kept += kept
        self.clock.end(event.stage, event.seconds, not kept, len(event.frames))
        state, last = "kept" if kept else "done", event.stage == STAGES[-1]
        picture = strip(event.frames, event.fps) if last else self.show_video(event.frames, event.fps)
        return {
            event.stage: self._panel(event.stage, Panel(event.stage, state, _facts(event), picture)),
            "progress": progress(self.clock.fraction(), f"{TITLES[event.stage]}: {state}"),
            "announcement": announcement(f"{TITLES[event.stage]}: {state}."),
        }

    def _finished(self, event: Finished) -> Changes:
        seconds = sum(made["seconds"] for made in event.recipe["stages"].values())
        words = "Nothing to do" if self.kept == self.stages else f"Done in {seconds_text(seconds)}"
        detail = _asked(event.recipe)
        if self.kept:
            detail += f" · {self.kept} of {self.stages} stages kept from an earlier run"
        return self._files(event) | {
            "progress": progress(1.0, words, detail),
            "announcement": announcement("The video is done."),
        }

    def _stopped(self, event: Stopped) -> Changes:
        stage = event.stage
        when = f"after step {event.index} of {event.total}" if event.total else ""
        where = f"in {TITLES[stage]} {when}" if when else f"before {TITLES[stage]} began"
        changes = self._files(event)
        changes[stage] = self._panel(stage, self.panels[stage].but("stopped", when))
        detail = _asked(event.recipe)
        if event.recipe["stages"]:
            detail += " · what was finished is kept, the next run goes on from there"
        return changes | {
            "progress": progress(self.clock.fraction(), f"Stopped {where}", detail),
            "announcement": announcement(f"Stopped {where}."),
        }

    def failed(self, message: str) -> Changes:
        """The run broke off, for a reason that a person can read."""
        ended = progress(self.clock.fraction(), "The run did not finish")
        changes: Changes = {"notices": notices(self.said, message), "progress": ended}
        if self.now:
            changes[self.now] = self._panel(self.now, self.panels[self.now].but("failed"))
        return changes

    def _files(self, event: Finished | Stopped) -> Changes:
        """The downloads; the last stage's panel plays the very file."""
        if event.file is None:
            return {}
        video, last = Path(event.file), STAGES[-1]
        changes: Changes = {"downloads": downloads(address(video), event.recipe["seed"])}
        if last in event.recipe["stages"]:
            panel = self.panels[last]
            changes[last] = self._panel(last, Panel(last, panel.state, panel.facts, video))
        return changes

    def _panel(self, stage: str, panel: Panel) -> str:
        self.panels[stage] = panel
        return panel.html()

    def _rate(self, stage: str) -> float:
        fps = self.preset.fps
        return fps / (self.preset.interpolation.between + 1) if stage == "keyframes" else fps


def _asked(recipe: Mapping[str, Any]) -> str:
    """What was asked for: the form may say something else by now."""
    return f"“{shorten(recipe['prompt'], 60, placeholder=' …')}”, seed {recipe['seed']}"


def _facts(event: StageKept | StageFinished) -> str:
    """Size, time, and what the stage worked out from its options where people ask for it."""
    count, height, width = event.frames.shape[:3]
    took = seconds_text(event.seconds)
    facts = [f"{count} frames of {width}×{height}", f"took {took} earlier" if isinstance(event, StageKept) else took]
    if "noise_level" in event.info:
        facts.append(f"noise level {event.info['noise_level']}")
    if "timestep" in event.info:
        facts.append(f"from timestep {event.info['timestep']}")
    return " · ".join(fact.replace(" ", "\u00a0") for fact in facts)  # lines break between facts only
