"""Blind votes: which pair comes next, what a vote does, how the arms stand. Knows no toolkit.

Parts of the page are named `about`, `shown` (the prompt), `player`, `told` (which was which), `results`, `progress`,
`announcement` and `notices`. `pair` is what the visitor looks at; `state` says whether a vote can be given ("open"),
has been ("given"), or there is nothing to vote on ("none"); `ticket` and `busy` are as in `mpl.ui.desk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from mpl.engine import Ask
from mpl.events import Event, Finished, StageFinished, StageKept
from mpl.history import address
from mpl.recipe import Files
from mpl.store import digest
from mpl.studies import Pair, StoredVideo, Study, find_studies, load_study, write_pair
from mpl.ui.desk import BLIND, SOON, UNBEGUN, guarded, refused
from mpl.ui.duel import READY, Duel, Watch
from mpl.ui.generate import Changes
from mpl.ui.line import Job
from mpl.ui.panels import TITLES, announcement, notices, progress
from mpl.ui.player import Arm, Unready, player, unready_player
from mpl.ui.tally import FRESH, tally
from mpl.votes import Vote, sides

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "studies"
UNREADABLE = "Votes or videos cannot be read or written on this server; its log says more."
NOTHING = Unready("", "No pair yet")
EMPTY: Changes = {
    "about": "",
    "shown": "",
    "player": unready_player(NOTHING, NOTHING, blind=True),
    "told": "",
    "results": "",
    "progress": "",
    "announcement": announcement(""),
    "notices": "",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blind:
    """A pair as a voter meets it: what it is of, and the arms on their sides with their files' addresses."""

    study: str
    item: str
    prompt: str
    category: str
    left: Arm
    right: Arm


class Ballot:
    """The votes of one server's page."""

    def __init__(self, duel: Duel, shipped: Path = SHIPPED) -> None:
        self.duel, self.desk = duel, duel.desk
        self.folders = (self.desk.folder / "studies", shipped)
        self.votes = self.desk.votes

    # ---- what can be voted on

    def sources(self) -> list[tuple[str, str]]:
        """Titles and keys: stored studies, then comparisons of two that this machine can make."""
        found = [(study.title, name) for name in find_studies(self.folders) if (study := self._study(name))]
        ready = [(key, offer) for key, offer, lacking in self.duel.offers() if not lacking and len(offer.sides) == 2]
        return found + [(f"A new pair: {offer.title[0].lower()}{offer.title[1:]}", FRESH + key) for key, offer in ready]

    def _study(self, name: str) -> Study | None:
        try:
            return load_study(find_studies(self.folders)[name])
        except KeyError:
            return None
        except ValueError as error:  # one that is broken must not take the others along
            log.warning("study %s is left out: %s", name, error)
            return None

    # ---- pairs

    def open(self, visitor: str | None, source: str | None) -> Changes:
        """The next pair of a source for a visitor; of a comparison, none until one is asked for."""
        if visitor is None:
            return {"notices": notices((), SOON)}
        if self.busy(visitor):
            return {"notices": notices(["A pair is being made for you: wait until it is there, or stop it."])}
        try:
            return self._next(visitor, source)
        except (ValueError, OSError):
            log.exception("a pair of %s cannot be shown", source)
            return EMPTY | {"pair": None, "state": "none", "notices": notices((), UNREADABLE)}

    def busy(self, visitor: str) -> bool:
        """Whether a pair is being made for the visitor, or waits for it."""
        job = self.desk.line.job(visitor)
        return job is not None and job.kind == BLIND and not job.over.is_set()

    def unrated(self, visitor: str) -> str | None:
        """The source of the visitor's last fresh pair, if it can still be rated."""
        job = self.desk.line.job(visitor)
        said = job.since(0)[1] if job is not None and job.kind == BLIND else {}
        pair = said.get("pair")
        with contextlib.suppress(ValueError, OSError):  # said where a vote is given
            return pair.study if pair and self._offers(visitor, pair) else None
        return None

    def _next(self, visitor: str, source: str | None) -> Changes:
        fresh = str(source).removeprefix(FRESH) in READY and str(source).startswith(FRESH)
        study = None if fresh or not source else self._study(str(source))
        base = EMPTY | {"pair": None, "state": "none", "fresh": fresh, "results": self.results(source)}
        if fresh:
            return base | {"about": _about(READY[str(source).removeprefix(FRESH)].text)}
        if study is None:
            return base | {"about": _about("Choose what to vote on.")}
        left = self._left_of(study, visitor)
        base |= {"about": self._said_of(study, len(left))}
        if not left:
            return base | {"shown": "<p>You have rated all of them: thank you!</p>"}
        return base | self._offered(self._blind(study, left[0], visitor))

    @staticmethod
    def _said_of(study: Study, left: int) -> str:
        done = f"{len(study.pairs) - left} of {len(study.pairs)} rated by you."
        return _about(f"{study.about} {done}".strip())

    def _left_of(self, study: Study, visitor: str) -> list[Pair]:
        """The pairs that a visitor has not rated, in an order of the visitor's own."""
        rated = self._items(visitor, study.name)
        left = [pair for pair in study.pairs if pair.item not in rated]
        return sorted(left, key=lambda pair: digest(study.name, pair.item, voter(visitor)))

    def _items(self, visitor: str, study: str) -> set[str]:
        """What the visitor has rated of a study."""
        return {row["item"] for row in self.votes.export(study) if row["voter"] == voter(visitor)}

    def _rated(self, visitor: str, study: str, item: str) -> bool:
        return item in self._items(visitor, study)

    def _blind(self, study: Study, pair: Pair, visitor: str) -> Blind:
        videos = dict(zip(study.arms, pair.videos, strict=True))
        arms = {
            label: _arm(label, self.desk.history.lend(study.name, video.file), video) for label, video in videos.items()
        }
        left, right = sides(study.name, pair.item, voter(visitor), study.arms)
        return Blind(study.name, pair.item, pair.prompt, pair.category, arms[left], arms[right])

    @staticmethod
    def _offered(pair: Blind) -> Changes:
        words = f"<p>“{escape(pair.prompt)}”</p>"
        return {"pair": pair, "state": "open", "shown": words, "player": player(pair.left, pair.right, blind=True)}

    # ---- votes

    def vote(self, visitor: str | None, pair: Blind | None, answers: Mapping[str, Any]) -> Changes:
        """Keeps a vote, then tells which was which. Of a pair that the visitor knows already, none is taken."""
        if pair is None or visitor is None:
            return {"notices": notices((), "There is no pair to vote on: choose a study, or make a pair.")}
        if None in answers.values():
            return {"notices": notices((), "Answer all three questions; “no difference” is an answer, too.")}
        labels = {"left": pair.left.label, "right": pair.right.label}
        try:
            if self._rated(visitor, pair.study, pair.item):
                return {"notices": notices((), "You have voted on this pair already: choose another.")}
            self.votes.add(
                Vote(pair.study, pair.item, pair.prompt, pair.category, **labels, answers=answers, voter=voter(visitor))
            )
        except (ValueError, OSError):  # the reason may name an arm, or a file of this machine
            log.exception("a vote could not be kept")
            return {"notices": notices((), UNREADABLE)}
        told = f"<p>A was <b>{escape(pair.left.label)}</b>, B was <b>{escape(pair.right.label)}</b>.</p>"
        said = {"announcement": announcement(f"A was {pair.left.label}, B was {pair.right.label}.")}
        seen = {"player": player(pair.left, pair.right), "told": told, "results": self.results(pair.study)}
        fresh = pair.study.startswith(FRESH)  # of which the next one has to be made
        return (
            {"state": "made" if fresh else "given", "notices": ""} | self._progress(visitor, pair.study) | seen | said
        )

    def _progress(self, visitor: str, source: str) -> Changes:
        """What a stored study says of itself and of how much of it the visitor has rated."""
        with contextlib.suppress(ValueError, OSError):  # the vote is kept all the same
            study = None if source.startswith(FRESH) else self._study(source)
            return {"about": self._said_of(study, len(self._left_of(study, visitor)))} if study else {}
        return {}

    def results(self, source: str | None) -> str:
        """How the arms of a source stand so far."""
        if not source:
            return ""
        try:
            return tally(str(source), self.votes)
        except (ValueError, OSError):
            log.exception("results of %s", source)
            return notices((), UNREADABLE)

    # ---- fresh pairs

    def make(self, visitor: str | None, source: str | None, prompt: Any) -> Changes:
        """Lets a new pair wait for its turn; its seed is drawn."""
        if visitor is None:
            return {"notices": notices((), SOON)}
        key = str(source).removeprefix(FRESH)
        try:
            if not source or key == source or key not in READY:
                raise ValueError("Only a comparison makes new pairs: choose one above.")
            ready = READY[key].sides
            asks = self.duel.asks(prompt, secrets.randbelow(2**31), ready)
            labels = [side.label for side in ready]
            run = partial(self._run, visitor, str(source), labels, asks)
            self.desk.line.put(visitor, Job(run, self.duel.forecast(asks), BLIND, unbegun=UNBEGUN))
        except ValueError as error:
            return refused(error, BLIND)
        waiting = progress(None, "Waiting for the machine", "one video is made at a time")
        emptied = {key: EMPTY[key] for key in ("shown", "player", "told", "notices")}
        return emptied | {
            "pair": None,
            "state": "none",
            "progress": waiting,
            "ticket": secrets.token_hex(8),
            "busy": True,
        }

    def _run(
        self, visitor: str, source: str, labels: list[str], asks: Mapping[str, Ask], job: Job
    ) -> Iterator[Changes]:
        # Not among the visitor's runs: there it would say what it is.
        files = Files(self.desk.history.folder(secrets.token_hex(16)))
        watch = BlindWatch(self.desk, labels, asks)

        def made() -> Iterator[Changes]:
            self.desk.history.prune()
            return watch.changes(self.desk.engine.compare(asks, files, job.stopping))

        try:
            yield from guarded(made, watch.failed)
            if watch.done == len(asks):
                yield from guarded(lambda: iter([self._finished(visitor, source, watch)]), watch.failed)
        finally:
            shutil.rmtree(files.folder, ignore_errors=True)

    async def follow(self, visitor: str, shown: Blind | None = None) -> AsyncIterator[Changes]:
        """What is said of the pair that is being made; rated meanwhile or gone, it is not offered again.

        Nor is one that is shown: the toolkit asks twice after a reload, and an answer may have been given between.
        """
        async for changes in self.desk.follow(visitor, BLIND):
            pair = changes.get("pair")
            with contextlib.suppress(ValueError, OSError):  # said where a vote is given
                if pair and (pair == shown or not await asyncio.to_thread(self._offers, visitor, pair)):
                    changes = {key: value for key, value in changes.items() if key == "busy"} or {"pair": None}
            yield changes

    def _offers(self, visitor: str, pair: Blind) -> bool:
        """Whether a fresh pair is still to be rated and its videos are there, which go after a day."""
        addresses = [arm.address.split("/")[-2:] for arm in (pair.left, pair.right)]
        return not self._rated(visitor, pair.study, pair.item) and all(self.desk.history.find(*at) for at in addresses)

    def _finished(self, visitor: str, source: str, watch: BlindWatch) -> Changes:
        stored = write_pair(self.desk.history.folder(visitor), *watch.frames.values())
        arms = {label: _arm(label, video.file, video) for label, video in zip(watch.labels, stored, strict=True)}
        ask = next(iter(watch.asks.values()))
        item = digest(ask.prompt, ask.seed)[:12]
        left, right = sides(source, item, voter(visitor), watch.labels)
        pair = Blind(source, item, ask.prompt, "", arms[left], arms[right])
        about = {"source": source, "fresh": True, "about": _about(READY[source.removeprefix(FRESH)].text)}
        return self._offered(pair) | about | {"progress": "", "notices": notices(watch.said)}


class BlindWatch(Watch):
    """A comparison of which nothing is shown but how far it is, in words that fit both arms."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.done = 0  # arms
        self.frames: dict[str, tuple[Any, float]] = {}  # of each arm's last stage so far

    def show(self, name: str, event: Event) -> Changes:
        if isinstance(event, StageFinished | StageKept):
            self.frames[name] = (event.frames, event.fps)
        return super().show(name, event)

    def _finished(self, name: str, event: Finished) -> Changes:
        self.done += 1
        return {"progress": progress(self._fraction(name), self._words(name, ""))}

    def _over(self, headline: str, detail: str = "") -> Changes:
        return {"progress": progress(0.0, headline), "announcement": announcement(f"{headline}.")}

    def _words(self, name: str, stage: str) -> str:
        return TITLES[stage] if stage else "Half done"


def voter(visitor: str) -> str:
    """An opaque id for votes: it tells neither who somebody is nor where their files are."""
    return hashlib.sha256(f"vote {visitor}".encode()).hexdigest()[:16]


def _arm(label: str, file: Path, video: StoredVideo) -> Arm:
    return Arm(label, address(file), video.frames, video.fps, video.width, video.height)


def _about(text: str) -> str:
    return f"<p>{escape(text)}</p>"
