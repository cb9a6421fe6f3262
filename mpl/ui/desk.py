"""What the page's events do: form values in, changes of the page's parts out. Knows no toolkit.

Parts are named as in `mpl.ui.page`: the form's fields by their preset key, the panels by their stage, and `progress`,
`announcement`, `notices`, `video`, `recipe`. Two are signals: `ticket`, new for each run that waits, and `busy`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mpl.config import Preset
from mpl.engine import Engine
from mpl.events import Failed, Finished
from mpl.ui.form import SLIDERS, Ask, Presets, knobs, read
from mpl.ui.generate import EMPTY, Changes, Watch
from mpl.ui.pace import Pace
from mpl.ui.panels import hint, notices, progress
from mpl.ui.pictures import Shelf
from mpl.ui.visitors import Visitor, Visitors

FAULT = "Something went wrong in the program itself ({}). The server's log says more; you can go on."

log = logging.getLogger(__name__)


class Desk:
    """One server's page. What a visitor owns lies in `visitors`, under their session's name."""

    def __init__(self, engine: Engine, preset: Preset, folder: str | Path) -> None:
        """Takes a folder that the server hands out files from."""
        self.engine, self.folder = engine, Path(folder)
        self.presets, self.visitors, self.pace = Presets(preset), Visitors(folder), Pace()

    # ---- runs

    def ask(self, visitor: str, form: Mapping[str, Any]) -> Changes:
        """Checks the form and lets the visitor wait for their turn."""
        try:
            self.visitors.ask(visitor, self._read(form))
        except ValueError as error:
            return {"notices": notices((), str(error))}
        waiting = progress(None, "Waiting for the machine", "one video is made at a time")
        return EMPTY | {"progress": waiting, "ticket": secrets.token_hex(8), "busy": True}

    def make(self, visitor: str) -> Iterator[Changes]:
        """The run that the visitor waits for, from its first event to its files; nothing where there is none."""
        turn = self.visitors.begin(visitor)
        if turn is None:
            return
        try:
            yield from self._run(*turn)
        finally:
            self.visitors.end(visitor, turn[0])
        yield {"busy": False}

    def _run(self, visitor: Visitor, ask: Ask) -> Iterator[Changes]:
        if visitor.stop.is_set():
            yield {"progress": progress(0.0, "Stopped before it began.")}
            return
        watch = Watch(ask.preset, visitor.shelf, self.pace)
        yield watch.begin()
        try:
            events = self.engine.run(ask.prompt, ask.preset, ask.seed, visitor.stop.is_set)
            yield from watch.changes(events)
        except ValueError as error:  # bad input or missing weights, before any work
            yield watch.failed(str(error))
        except OSError as error:
            yield watch.failed(f"A file could not be written or read: {error}. Is the disk full?")
        except Exception as error:  # a mistake of ours must not take the server along
            log.exception("a run broke off")
            yield watch.failed(FAULT.format(type(error).__name__))

    def stop(self, visitor: str) -> None:
        """Ends the visitor's run within one step."""
        self.visitors.stop(visitor)

    def leave(self, visitor: str) -> None:
        """The page was closed: its run stops, its files go."""
        self.visitors.leave(visitor)

    def generate(self, prompt: str, seed: int, preset: str, sliders: Mapping[str, Any]) -> Finished:
        """A whole run at once, its file where the server hands files out.

        Args:
            preset: a preset's name; empty takes the server's own.
            sliders: some of `SLIDERS` → numbers.

        Raises:
            ValueError: bad input or missing weights.
            RuntimeError: the run broke off; the message is for people.
        """
        assert set(sliders) <= set(SLIDERS)
        ask = read(prompt, seed, self.presets.get(preset or self.presets.first.name), sliders)
        *_, last = self.engine.run(ask.prompt, ask.preset, ask.seed, lambda: False)
        if isinstance(last, Failed):
            raise RuntimeError(last.message)
        assert isinstance(last, Finished) and last.file
        return Finished(str(Shelf(self.folder).copy(last.file)), last.recipe)

    # ---- the form

    def choose(self, name: str) -> Changes:
        """A preset's numbers, and what this machine lacks for it."""
        try:
            preset = self.presets.get(name)
        except ValueError as error:
            return {"notices": notices((), str(error))}
        return {**knobs(preset), "notices": self._lacking(preset)}

    def explain(self, form: Mapping[str, Any]) -> Changes:
        """What the sliders come to: the noise level, and the timestep where translation starts."""
        try:
            preset = self._read({**form, "prompt": "-", "seed": 0}).preset
        except ValueError as error:
            return {"superres_hint": "", "translation_hint": hint(str(error), wrong=True)}
        if self.engine.missing(preset):  # said elsewhere
            return {"superres_hint": "", "translation_hint": ""}
        return {"superres_hint": self._noise_hint(preset), "translation_hint": self._start_hint(preset)}

    def arrive(self, form: Mapping[str, Any]) -> Changes:
        """What a page that has just opened says. Loads torch, so that the first run need not wait for it."""
        missing = self._lacking(self.presets.get(form["preset"]))
        return self.explain(form) | ({"notices": missing} if missing else {})

    def _read(self, form: Mapping[str, Any]) -> Ask:
        values = {key: value for key, value in form.items() if "." in key}
        if form["no_noise"]:
            values["superres.snr"] = float("inf")
        return read(form["prompt"], form["seed"], self.presets.get(form["preset"]), values)

    def _lacking(self, preset: Preset) -> str:
        missing = self.engine.missing(preset)
        return notices((), missing) if missing else ""

    def _noise_hint(self, preset: Preset) -> str:
        level = self.engine.noise_level(preset)
        return hint(f"Equal to noise level {level} of 999." if level else "Noise level 0: no noise is added.")

    def _start_hint(self, preset: Preset) -> str:
        try:
            start = self.engine.translation_start(preset)
        except ValueError as error:  # no step is left
            return hint(str(error), wrong=True)
        capped = ", where the cap is," if preset.translation.strength * 1000 > preset.translation.cap else ""
        steps = "1 step" if start.steps == 1 else f"{start.steps} steps"
        return hint(f"Translation starts at timestep {start.timestep} of 999{capped} and takes {steps}.")
