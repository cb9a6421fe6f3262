"""What the page's events do: form values in, changes of the page's parts out. Knows no toolkit.

Parts are named as in `mpl.ui.create`: the form's fields by their preset key, the panels by their stage, and
`progress`, `announcement`, `notices`, `downloads`. Two are signals: `ticket`, new where there is a run to follow, and
`busy`: True, False or STOPPING. A visitor is whoever knows the secret that their browser keeps.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mpl.config import Preset, stages_between
from mpl.engine import Ask, Engine
from mpl.events import Event, Failed, Finished
from mpl.history import History
from mpl.limits import PROMPT_LIMIT
from mpl.options import WeightsOptions
from mpl.recipe import Files
from mpl.ui.form import FIELDS, Presets, followed, knobs, link, read_form, restored
from mpl.ui.generate import EMPTY, Changes, Watch
from mpl.ui.line import Job, Line, Unfinished, Work
from mpl.ui.pace import Forecast, Pace
from mpl.ui.panels import hint, machine, notices, progress, replacements, seconds_text
from mpl.ui.world import insert, look, reword, surprise
from mpl.video import read_recipe
from mpl.votes import Votes

SOON = "One moment: the page is still opening."
FAULT = "Something went wrong in the program itself ({}). The server's log says more; you can go on."
OFTEN = 0.2  # seconds between two looks at a run: a slow browser draws no more
UNBEGUN = {"progress": progress(0.0, "Stopped before it began.")}
STOPPING = "stopping"  # what a run is that was asked to end and has not yet
RUN, COMPARISON, BLIND = "run", "comparison", "blind"  # kinds of jobs, by the tab that shows them
TABS = {RUN: "Create", COMPARISON: "Compare", BLIND: "Rate"}

log = logging.getLogger(__name__)


class Desk:
    """One server's page."""

    def __init__(self, engine: Engine, preset: Preset, folder: str | Path, max_steps: int | None = None) -> None:
        """Takes the folder of everything that the page writes; nothing is written yet.

        Raises:
            ValueError: a stage of the preset takes more than `max_steps`.
        """
        self.engine, self.folder = engine, Path(folder)
        self.presets, self.line = Presets(preset, max_steps), Line()
        self.history, self.pace = History(self.folder / "visitors"), Pace(self.folder / "pace.json")
        self.votes = Votes(self.folder / "votes.sqlite")

    # ---- runs

    def ask(self, visitor: str | None, form: Mapping[str, Any]) -> Changes:
        """Checks the form and lets the run wait for its turn; a page that is not open yet has no visitor."""
        if visitor is None:
            return {"notices": notices((), SOON)}
        try:
            ask = read_form(form, self.presets)
            embed = form.get("metadata", True)
            run, values = partial(self._run, visitor, ask, embed), {key: form[key] for key in FIELDS}
            values["metadata"] = embed
            self.line.put(visitor, Job(run, self.forecast(ask), RUN, values, UNBEGUN))
        except ValueError as error:
            return refused(error, RUN)
        waiting = progress(None, "Waiting for the machine", "one video is made at a time")
        return EMPTY | {"progress": waiting, "ticket": secrets.token_hex(8), "busy": True}

    async def follow(self, visitor: str, kind: str = RUN) -> AsyncIterator[Changes]:
        """What the visitor's work of a kind says, from its beginning to its end, whenever one begins to look."""
        job = self.line.job(visitor)
        if job is None or job.kind != kind:
            yield {"busy": False}  # the toolkit blanks what an event without any result could have changed
            return
        version, told, busy = 0, "", None
        while not job.over.is_set():
            version, changes = job.since(version)
            if not job.begun.is_set():
                place = self._place(job)
                changes |= {"progress": place} if place != told else {}
                told = place
            before, busy = busy, STOPPING if job.stopping() else True
            # In every message: the toolkit changes what a slow browser has yet to show into what came after, in place,
            # and what a later message leaves out is never shown. For the same reason the last one says all again.
            if changes or busy != before:
                yield changes | {"busy": busy}
            await asyncio.sleep(OFTEN)
        yield job.since(0)[1] | {"busy": False}

    def found_again(self, visitor: str | None, kind: str) -> Changes:
        """For a page that has just opened: where the visitor's work of a kind goes on or was the last, a ticket and the
        form that it was asked for with."""
        job = self.line.job(visitor) if visitor else None
        return {**job.form, "ticket": secrets.token_hex(8)} if job and job.kind == kind else {}

    def _run(self, visitor: str, ask: Ask, embed: bool, job: Job) -> Iterator[Changes]:
        watch = Watch(ask, lambda frames, fps: self.history.show(visitor, frames, fps), self.pace)
        yield watch.begin()

        def work() -> Iterator[Changes]:
            self.history.prune()
            files = Files(self.history.folder(visitor), name=self.history.new_run(), embed=embed)
            return watch.changes(self.engine.run(ask, files, job.stopping))

        yield from guarded(work, watch.failed)

    def _place(self, job: Job) -> str:
        """Where a run stands in the line."""
        ahead, seconds = self.line.ahead(job)
        words = f"Waiting: {ahead} before you" if ahead else "Your turn"
        if not seconds:  # not known, or the one in front takes longer than it should
            return progress(None, words, "")
        rounded = 5 * math.ceil(seconds / 5)  # what changes more often cannot be read
        return progress(None, words, f"about {seconds_text(rounded)} until yours begins")

    def forecast(self, ask: Ask) -> Forecast:
        """What tells the seconds that the run takes if no stage is kept; None where that is not known."""
        if ask.source is not None:  # how many frames it has is not known yet
            return lambda: None
        return self.pace.forecast(ask.preset, stages_between(ask.start_at, ask.stop_after))

    def stop(self, visitor: str) -> None:
        """Ends the visitor's run within one step, at once where it waits."""
        self.line.stop(visitor)

    async def call(self, ask: Ask) -> Finished:
        """A whole run for a program, in the same line as everybody's.

        Raises:
            ValueError: bad input or missing weights, or the line is full.
            RuntimeError: the run broke off; the message is for people.
        """
        visitor, ends = secrets.token_hex(16), list[Event]()
        files = Files(self.history.folder(visitor), name=self.history.new_run())

        def work(job: Job) -> Iterator[Changes]:
            for event in self.engine.run(ask, files, job.stopping):
                ends[:] = [event]
                yield {}

        await self.wait_for(visitor, work, self.forecast(ask))
        last = ends[-1] if ends else None
        if not isinstance(last, Finished):
            raise RuntimeError(last.message if isinstance(last, Failed) else "The run did not finish.")
        return last

    async def wait_for(self, visitor: str, work: Work, seconds: Forecast) -> None:
        """Gives a program's work its turn in the line, and waits until it is over.

        Raises:
            ValueError: of the work, or the line is full.
            RuntimeError: another fault of the work, in words for people; the log has the rest.
        """
        faults: list[Exception] = []

        def guarded_work(job: Job) -> Iterator[Changes]:
            try:
                self.history.prune()
                yield from work(job)
            except ValueError as error:
                faults.append(error)
            except Exception as error:
                log.exception("a program's run broke off")
                faults.append(RuntimeError(_words(error)))

        job = Job(guarded_work, seconds)
        self.line.put(visitor, job)
        while not job.over.is_set():
            job.look()
            await asyncio.sleep(OFTEN)
        if faults:
            raise faults[0]

    def delete(self, visitor: str, run: str) -> bool:
        """Deletes a finished run; true where it was the last one, which is forgotten then."""
        self.history.delete(visitor, run)
        job = self.line.job(visitor)
        last = job is not None and job.kind == RUN and run in str(job.since(0)[1].get("downloads"))
        if last:
            self.line.forget(visitor)
        return last

    # ---- the form

    def choose(self, name: str) -> Changes:
        """A preset's numbers."""
        try:
            return {**knobs(self.presets.get(name)), "notices": ""}
        except ValueError as error:
            return {"notices": notices((), str(error))}

    def lacking(self, name: str) -> Changes:
        """What this machine lacks for a preset."""
        try:
            return {"notices": self._lacking(self.presets.get(name))}
        except ValueError as error:
            return {"notices": notices((), str(error))}

    def look(self, prompt: str, name: str) -> Changes:
        """What in the prompt the preset's models will not follow, before any time is spent on it."""
        try:
            preset = self.presets.get(name)
        except ValueError:  # said where it was chosen
            return {}
        storybook = preset.weights.text == WeightsOptions().text  # the embedded models, whose world is known
        if len(prompt) > PROMPT_LIMIT:  # reading takes the square of its length
            words = f"The prompt has {len(prompt)} characters: at most {PROMPT_LIMIT} are accepted."
            return {"look": notices([words]), "storybook": storybook}
        said = notices(look(prompt).notices) if storybook else ""
        unknown = self.engine.unknown_words(prompt, preset, unfinished=True) if prompt.strip() else []
        return {"look": replacements(unknown) + said, "storybook": storybook}

    def press(self, prompt: str, button: Mapping[str, Any]) -> str:
        """The prompt after a press on one of the words beside it: a chip, or a word to write for another."""
        try:
            if max(map(len, (prompt, *button.values()))) > PROMPT_LIMIT:  # as in `look`
                return prompt
            if "group" in button:
                return insert(prompt, button["group"], button["chip"])
            return reword(prompt, button["word"], button["near"])
        except (AttributeError, KeyError, TypeError, ValueError):  # not from the page's own buttons
            return prompt

    def surprise(self) -> str:
        """A prompt that nobody has to think of."""
        return surprise(secrets.randbelow(2**31))

    def explain(self, form: Mapping[str, Any]) -> Changes:
        """What the form comes to: the noise level, the timestep where translation starts, the expected seconds."""
        try:
            preset = read_form({**form, "prompt": "-", "seed": 0, "source": None}, self.presets).preset
        except ValueError as error:
            return {"superres_hint": "", "estimate": hint(str(error), wrong=True), "translation_hint": ""}
        if self.engine.missing(preset):  # said elsewhere
            return {"superres_hint": "", "estimate": "", "translation_hint": "", "machine": ""}
        known = self.engine.machine(preset)
        about = {"machine": machine(known.plan, known.loaded, known.licences, _checker(preset))}
        hints = about | {"superres_hint": self._noise_hint(preset), "translation_hint": self._start_hint(preset)}
        if form.get("source"):  # of which it is not known how many frames it has
            return hints | {"estimate": hint("How long it takes depends on your video.")}
        return hints | {"estimate": self._estimate(preset)}

    def arrive(self, visitor: str | None, query: Mapping[str, str]) -> Changes:
        """What a page that has just opened shows at once: a link's form, a run that is going on or was the last.

        A browser that keeps nothing has no secret yet, and gets one.
        """
        changes = {"busy": False, "notices": "", "visitor": visitor or secrets.token_hex(16)}
        changes |= self.found_again(visitor, RUN)
        try:
            changes |= followed(query, self.presets)
        except ValueError as error:
            changes["notices"] = notices((), f"The link could not be followed: {error}")
        return changes

    def settle(self, form: Mapping[str, Any]) -> Changes:
        """What a page that has opened says of its form; loads torch, so that the first run need not wait for it."""
        return self.explain(form) | {name: said for name, said in self.lacking(form["preset"]).items() if said}

    def link(self, form: Mapping[str, Any]) -> str:
        """The query of a link to the form as it is; empty where the form holds what is not accepted."""
        try:
            return link(form, self.presets)
        except ValueError:
            return ""

    def restore_file(self, file: str | Path) -> Changes:
        """As `restore`, from a video made here."""
        try:
            return self.restore(read_recipe(file))
        except ValueError:  # no video; its name on this machine concerns nobody
            return {"notices": notices((), "This file is no video that can be read: drop an mp4, webm or gif.")}

    def restore(self, recipe: Mapping[str, Any] | None) -> Changes:
        """The form as it was for a recipe."""
        try:
            values, words = restored(recipe or {}, self.presets)
        except ValueError as error:
            return {"notices": notices((), str(error))}
        # A video that was to be begun with would make another one of the same knobs.
        return values | {"source": None, "notices": notices([words])}

    def _lacking(self, preset: Preset) -> str:
        missing = self.engine.missing(preset)
        return notices((), missing) if missing else ""

    def _estimate(self, preset: Preset) -> str:
        seconds = self.pace.expected(preset)
        if seconds is None:
            return hint("Not measured on this machine yet: the first run will tell.")
        return hint(f"About {seconds_text(seconds)} on this {self.engine.device(preset)}, by the last run.")

    def _noise_hint(self, preset: Preset) -> str:
        level = self.engine.noise_level(preset)
        return hint(f"Equal to noise level {level} of 999." if level else "Noise level 0: no noise is added.")

    def _start_hint(self, preset: Preset) -> str:
        if preset.weights.upsampling:
            return hint("This preset's last stage works in pixels, where strength and cap have no part.")
        try:
            start = self.engine.translation_start(preset)
        except ValueError as error:  # no step is left
            return hint(str(error), wrong=True)
        capped = ", where the cap is," if preset.translation.strength * 1000 > preset.translation.cap else ""
        steps = "1 step" if start.steps == 1 else f"{start.steps} steps"
        return hint(f"Translation starts at timestep {start.timestep} of 999{capped} and takes {steps}.")


def refused(error: ValueError, kind: str) -> Changes:
    """What a tab says of work that is not taken; it follows what the visitor has going on there in another window."""
    words = str(error)
    if isinstance(error, Unfinished) and error.job.kind == kind:
        return {"notices": notices((), words), "ticket": secrets.token_hex(8), "busy": True}
    if isinstance(error, Unfinished) and error.job.kind in TABS:
        words += f" It is on the tab {TABS[error.job.kind]}."
    return {"notices": notices((), words)}


def _checker(preset: Preset) -> str:
    """Whether somebody looks at what the models make."""
    if not preset.weights.safety:
        return "Safety checker: none, as this preset names none."
    return f"Safety checker: {preset.weights.safety}" + ("." if preset.safety else ", switched off (safety = false).")


def guarded(work: Callable[[], Iterator[Changes]], failed: Callable[[str], Changes]) -> Iterator[Changes]:
    """Work whose mistakes become one sentence on the page."""
    try:
        yield from work()
    except ValueError as error:  # bad input or missing weights, before any work
        yield failed(str(error))
    except OSError as error:
        yield failed(f"A file could not be written or read: {error.strerror or error}. Is the disk full?")
    except Exception as error:  # a mistake of ours must not take the server along
        log.exception("a run broke off")
        yield failed(_words(error))


def _words(fault: object) -> str:
    return FAULT.format(type(fault).__name__)
