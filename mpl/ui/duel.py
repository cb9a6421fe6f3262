"""Comparisons: two arms or more, same prompt and seed, what is common computed once. Knows no toolkit.

Parts of the page are named `progress`, `announcement`, `notices`, `player`, `sheet` and `figures`; `ticket` and `busy`
are signals as in `mpl.ui.desk`.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from mpl.config import STAGES, differences, stages_between
from mpl.engine import Ask
from mpl.events import Event, Failed, Finished, Notice, StageFinished, StageKept, StageStarted, StageStep, Stopped
from mpl.history import address
from mpl.limits import check_prompt, check_seed, shown
from mpl.recipe import Files
from mpl.ui.desk import COMPARISON, SOON, UNBEGUN, Desk, guarded, refused
from mpl.ui.form import SLIDERS, read
from mpl.ui.generate import Changes
from mpl.ui.line import Job
from mpl.ui.pace import Clock, Forecast, sum_known
from mpl.ui.panels import TITLES, announcement, notices, progress, seconds_text
from mpl.ui.player import Arm, Unready, player, unready_player
from mpl.ui.verdict import Made, figures, sheet

LETTERS = "ABCDEFGHIJ"
SHORT = {"translation.strength": "strength", "translation.cap": "cap", "superres.snr": "SNR"}
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
WAITING = Unready("", "Not made yet")
EMPTY: Changes = {
    "progress": progress(0.0, "Ready", "same prompt, same seed; what both have in common is computed once"),
    "announcement": announcement(""),
    "notices": "",
    "player": unready_player(WAITING, WAITING),
    "sheet": "",
    "figures": "",
}


@dataclass(frozen=True)
class Side:
    """One arm as it is asked for: its label, a preset's name (empty: the server's own), changes, and the last stage."""

    label: str
    preset: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    stop_after: str | None = None


@dataclass(frozen=True)
class Ready:
    """A comparison that one click makes, and what it shows."""

    title: str
    text: str
    sides: tuple[Side, ...]


READY = {
    "expert": Ready(
        "With and without expert translation",
        "What stage 3 made, enlarged by your browser, beside what the latent expert makes of it.",
        (Side("Without the expert", stop_after="superres"), Side("With the expert")),
    ),
    "cap": Ready(
        "Expert or all timesteps",
        "The expert knows timesteps 0 to 900; the other model was trained on all 1000 (paper, figure 6).",
        (
            Side("Expert, cap 900", "ablations/expert", {"translation.strength": 0.3}),
            Side("All timesteps", "ablations/no_expert", {"translation.strength": 0.3}),
        ),
    ),
    "keyframes": Ready(
        "Pixel or latent keyframes",
        "Keyframes by pixel diffusion beside keyframes by a latent model (paper, table 4).",
        (Side("Pixel keyframes", "ablations/pixel_keyframes"), Side("Latent keyframes", "ablations/latent_keyframes")),
    ),
    "noise": Ready(
        "With and without noise augmentation",
        "Stage 3 trained with noise on its input, or without, and given its input so.",
        (
            Side("With noise", "ablations/augmentation"),
            Side("Without noise", "ablations/no_augmentation"),
        ),
    ),
    "upsampling": Ready(
        "Latent or pixel diffusion to full size",
        "The last stage by the latent expert beside super-resolution in pixels (paper, table 4).",
        (Side("Latent expert", "ablations/pixel_keyframes"), Side("Pixels", "ablations/pixel_upsampling")),
    ),
    "windows": Ready(
        "Chained or independent windows",
        "Stage 3 hands the last frame of a window to the next, or makes every window for itself.",
        (Side("Chained", "storybook"), Side("Independent", "ablations/independent_windows")),
    ),
    "initialisation": Ready(
        "An image model first, or from scratch",
        "Keyframes of two small models with the same minutes of training (paper, section 3.2).",
        (Side("Image model first", "ablations/image_first_0"), Side("From scratch", "ablations/from_scratch_0")),
    ),
    "published": Ready(
        "Embedded or published models",
        "What ships with this program beside the weights of Show-1, which know the world.",
        (Side("Embedded models", "storybook"), Side("Show-1", "show1")),
    ),
    "strengths": Ready(
        "Strengths 0.2 to 0.9",
        "Eight times the expert, from a light touch to nearly all of its own: a contact sheet.",
        tuple(Side(f"Strength {s}", changes={"translation.strength": s}) for s in STRENGTHS),
    ),
}


Offer = tuple[str, Ready, str | None]  # key, comparison, what keeps this machine from it (None: nothing)


class Duel:
    """The comparisons of one server's page."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    # ---- what can be compared

    def all_offers(self) -> list[Offer]:
        """Every ready-made comparison, as if nothing kept this machine from it: looking costs seconds, and torch."""
        return [(key, ready, None) for key, ready in READY.items()]

    def offers(self) -> list[Offer]:
        """The same, with what keeps this machine from them."""
        return [(key, ready, self._lacking(ready)) for key, ready, _ in self.all_offers()]

    def _lacking(self, ready: Ready) -> str | None:
        for side in ready.sides:
            try:
                missing = self.desk.engine.missing(self.desk.presets.get(side.preset))
            except ValueError as error:
                missing = str(error)
            if missing:
                return missing
        return None

    def sides(self, form: Mapping[str, Any]) -> tuple[Side, ...]:
        """The two arms of a form: `a.preset`, `a.stop_after`, `a.no_noise` and `a.KEY` for the sliders, `b.` likewise.

        Raises:
            ValueError: an unknown preset or stage, or arms that do not differ.
        """
        sides = []
        for letter in "ab":
            stop_after = form[f"{letter}.stop_after"]
            if stop_after not in STAGES:
                raise ValueError(f"stage {shown(stop_after)}: must be one of {', '.join(STAGES)}")
            changes = {key: form[f"{letter}.{key}"] for key in SLIDERS}
            if form[f"{letter}.no_noise"]:
                changes["superres.snr"] = math.inf
            sides.append(Side("", form[f"{letter}.preset"], changes, stop_after))
        if replace(sides[0], label="") == replace(sides[1], label=""):
            raise ValueError("The two sides are the same: change a preset, a knob or the last stage of one.")
        return tuple(replace(side, label=self._label(side)) for side in sides)

    def _label(self, side: Side) -> str:
        """The preset, what differs from it, and where the arm ends if that is not the end."""
        asked = self.desk.presets.changed(side.preset, side.changes)
        base = self.desk.presets.get(asked.name)
        words = [base.name]
        words += [f"{SHORT.get(key, key)} {value:g}" for key, (_, value) in differences(base, asked).items()]
        if side.stop_after not in (None, STAGES[-1]):
            words.append(f"up to {TITLES[side.stop_after].lower()}")
        return " · ".join(words)

    def asks(self, prompt: Any, seed: Any, sides: tuple[Side, ...]) -> dict[str, Ask]:
        """What the arms come to, each by the name that its files will have.

        Raises:
            ValueError: a value that is not accepted.
        """
        check_prompt(prompt)
        check_seed(int(seed) if isinstance(seed, float) and seed.is_integer() else seed)
        for side in sides:
            stages_between(None, side.stop_after)
        return {
            self.desk.history.new_run(): read(
                prompt, seed, self.desk.presets, side.preset, side.changes, stop_after=side.stop_after
            )
            for side in sides
        }

    # ---- running them

    def ask(self, visitor: str | None, prompt: Any, seed: Any, form: Mapping[str, Any], key: str = "") -> Changes:
        """Lets a comparison wait for its turn: a ready-made one by its key, or that of the form."""
        if visitor is None:
            return {"notices": notices((), SOON)}
        try:
            if key and key not in READY:
                raise ValueError(f"comparison {shown(key)}: must be one of {', '.join(READY)}")
            sides = READY[key].sides if key else self.sides(form)
            asks = self.asks(prompt, seed, sides)
            labels = [side.label for side in sides]
            run, values = partial(self._run, visitor, labels, asks), {"prompt": prompt, "seed": seed, **form}
            self.desk.line.put(visitor, Job(run, self.forecast(asks), COMPARISON, values, UNBEGUN))
        except ValueError as error:
            return refused(error, COMPARISON)
        waiting = progress(None, "Waiting for the machine", "one video is made at a time")
        return EMPTY | {"progress": waiting, "ticket": secrets.token_hex(8), "busy": True}

    def forecast(self, asks: Mapping[str, Ask]) -> Forecast:
        """What tells the seconds that the arms will take, as far as that is known."""
        arms = [self.desk.forecast(ask) for ask in asks.values()]
        return lambda: sum_known(seconds() for seconds in arms)

    def _run(self, visitor: str, labels: list[str], asks: Mapping[str, Ask], job: Job) -> Iterator[Changes]:
        watch = Watch(self.desk, labels, asks)

        def work() -> Iterator[Changes]:
            self.desk.history.prune()
            files = Files(self.desk.history.folder(visitor))
            return watch.changes(self.desk.engine.compare(asks, files, job.stopping))

        yield {name: EMPTY[name] for name in ("player", "sheet", "figures")}  # the last message says all again
        yield from guarded(work, watch.failed)

    async def call(self, prompt: str, seed: int, sides: tuple[Side, ...]) -> list[Made]:
        """A whole comparison for a program.

        Raises:
            ValueError: bad input, missing weights, or the line is full.
            RuntimeError: it broke off; the message is for people.
        """
        asks = self.asks(prompt, seed, sides)
        visitor = secrets.token_hex(16)
        files = Files(self.desk.history.folder(visitor))
        watch = Watch(self.desk, [side.label for side in sides], asks)

        def work(job: Job) -> Iterator[Changes]:
            return watch.changes(self.desk.engine.compare(asks, files, job.stopping))

        await self.desk.wait_for(visitor, work, self.forecast(asks))
        if len(watch.made) < len(asks):
            raise RuntimeError(watch.error or "The comparison did not finish.")
        return watch.made


class Watch:
    """One comparison as the page sees it."""

    def __init__(self, desk: Desk, labels: list[str], asks: Mapping[str, Ask]) -> None:
        self.engine, self.asks, self.labels = desk.engine, dict(asks), labels
        self.order = list(asks)
        self.clocks = {name: self._clock(desk, ask) for name, ask in asks.items()}
        self.made: list[Made] = []
        self.said: list[str] = []
        self.error = ""
        self._frames: Any = None  # of the arm's last stage so far

    @staticmethod
    def _clock(desk: Desk, ask: Ask) -> Clock:
        clock = desk.pace.run(ask.preset)
        last = STAGES.index(ask.stop_after or STAGES[-1])
        for stage in STAGES[last + 1 :]:
            clock.end(stage, 0.0, measured=False)
        return clock

    def changes(self, events: Iterator[tuple[str, Event]]) -> Iterator[Changes]:
        """What changes on the page with each event; ends with the comparison."""
        with contextlib.closing(events):  # type: ignore[type-var]  # a generator
            for name, event in events:
                if changes := self.show(name, event):
                    yield changes

    def show(self, name: str, event: Event) -> Changes:
        """The parts of the page that an event of an arm changes."""
        clock = self.clocks[name]
        if isinstance(event, Notice):
            self.said += [] if event.message in self.said else [event.message]
            return {"notices": notices(self.said)}
        if isinstance(event, StageStarted):
            clock.begin(event.stage)
            words = self._words(name, event.stage)
            return {"progress": progress(self._fraction(name), words), "announcement": announcement(words)}
        if isinstance(event, StageStep):
            clock.step(event.index / event.total, event.seconds, event.seconds_left)
            left = clock.seconds_left()
            detail = f"step {event.index} of {event.total}"
            detail += f" · about {seconds_text(left)} left for this side" if left is not None else ""
            return {"progress": progress(self._fraction(name), self._words(name, event.stage), detail)}
        if isinstance(event, StageKept | StageFinished):
            clock.end(event.stage, event.seconds, isinstance(event, StageFinished), len(event.frames))
            self._frames = event.frames
            return {"progress": progress(self._fraction(name), self._words(name, event.stage))}
        if isinstance(event, Finished):
            return self._finished(name, event)
        if isinstance(event, Stopped):
            return self._over("Stopped", "what was finished is below" if self.made else "")
        if isinstance(event, Failed):
            return self.failed(event.message)
        return {}

    def failed(self, message: str) -> Changes:
        """The comparison broke off, for a reason that a person can read."""
        self.error = message
        return self._over("The comparison did not finish") | {"notices": notices(self.said, message)}

    def _finished(self, name: str, event: Finished) -> Changes:
        index = self.order.index(name)
        similarity = self.engine.similarity(self.asks[name].prompt, self._frames)
        self.made.append(Made(LETTERS[index], self.labels[index], Path(event.file), event.recipe, similarity))
        if len(self.made) == len(self.order):
            return self._over("Done", f"seed {event.recipe['seed']}")
        return self._results() | {"progress": progress(self._fraction(name), self._words(name, ""))}

    def _over(self, headline: str, detail: str = "") -> Changes:
        fraction = len(self.made) / len(self.order)
        ended = {"progress": progress(fraction, headline, detail), "announcement": announcement(f"{headline}.")}
        return (self._results() | self._sheet() if self.made else {}) | ended

    def _results(self) -> Changes:
        """The player over the first two arms, and the table."""
        arms: list[Arm | Unready] = [_arm(made) for made in self.made[:2]]
        arms += [Unready(label, "Not made yet") for label in self.labels[len(arms) : 2]]
        return {"player": unready_player(arms[0], arms[1]), "figures": figures(self.made)}

    def _sheet(self) -> Changes:
        """All arms, where they are more than two: at the end, since playing them slows down what is still made."""
        if len(self.order) == 2:
            return {}
        first, last = self.made[0], self.made[-1]
        ends = {"player": player(_arm(first), _arm(last))} if first is not last else {}
        return {"sheet": sheet(self.made)} | ends

    def _fraction(self, name: str) -> float:
        """What is done; the arms count the same, though the first does what they have in common."""
        return (self.order.index(name) + self.clocks[name].fraction()) / len(self.order)

    def _words(self, name: str, stage: str) -> str:
        index = self.order.index(name)
        return f"{LETTERS[index]} · {TITLES[stage] if stage else 'done'}"


def _arm(made: Made) -> Arm:
    last = made.last
    return Arm(made.label, address(made.file), last["frames"], last["fps"], last["width"], last["height"])
