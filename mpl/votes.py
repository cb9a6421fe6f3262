"""Votes of a blind pairwise rating, the paper's Table 3: two videos side by side, three questions, ties allowed.

One SQLite file. Every call opens its own connection for one transaction, so that threads and processes may vote at
once and a kill loses only the vote that was being written. Standard library only.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpl.intervals import Share
from mpl.limits import PROMPT_LIMIT, Length, shown

# As section 4.2 of the paper describes what its raters were asked.
QUESTIONS = {
    "quality": "Which video is of better quality?",
    "alignment": "Which video fits the text better? Look only at what is shown, not at how well it is made.",
    "motion": "Which video has the more natural motion?",
}
ANSWERS = ("left", "right", "tie")
COLUMNS = ("study", "item", "prompt", "category", "left", "right", *QUESTIONS, "voter", "when")  # of an export

_NAMES = ", ".join(f'"{c}"' for c in COLUMNS)
_TEXTS = dict.fromkeys(("study", "item", "left", "right", "voter"), Length(100, empty=False)) | {
    "prompt": Length(PROMPT_LIMIT, empty=False),
    "category": Length(100),
}
_LATEST = 1e11  # seconds: the year 5138
_OWNER = 0x4D504C56  # "MPLV": tells a file of votes from other programs' databases
_PATIENCE = 30.0  # seconds to wait for other writers, each of which takes milliseconds
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n\0]")  # how a cell must not begin (OWASP, CSV injection)


@dataclass(frozen=True)
class Vote:
    """What one voter answered about one pair of videos."""

    study: str
    item: str | int  # which prompt; 7 and "7" are the same
    prompt: str
    category: str  # of the prompt; empty where it has none
    left: str  # the arm whose video was shown on the left
    right: str
    answers: Mapping[str, str]  # a key of `QUESTIONS` -> one of `ANSWERS`
    voter: str  # an opaque id
    when: float | None = None  # seconds since 1970 (UTC); None: when it is added


@dataclass(frozen=True)
class Result:
    """How two arms did on one question; `first` sorts before `second`, whichever sides they were shown on."""

    first: str
    second: str
    question: str
    category: str | None  # None: all votes
    first_wins: int
    second_wins: int
    ties: int

    @property
    def share(self) -> Share:
        """The first arm's share of wins, a tie counted half for each; the second's is one minus it."""
        return Share(self.first_wins + self.ties / 2, self.first_wins + self.second_wins + self.ties)


class Votes:
    """The votes in one file; safe for several threads and processes.

    Every method raises ValueError where the file is no file of votes or of a newer version than this program, and
    OSError where the disk refuses or other writers keep the file for longer than half a minute.
    """

    def __init__(self, path: str | Path) -> None:
        """Takes the file, made with its folder by the first vote."""
        self.path = Path(path)

    def add(self, vote: Vote) -> None:
        """Keeps a vote; it replaces the voter's earlier one on the same study, item and arms, on whichever sides.

        Raises:
            ValueError: a field is not what `Vote` says, or a text is too long; nothing is written.
        """
        row = _row(vote)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction(write=True) as db:
            db.execute(f"INSERT OR REPLACE INTO votes ({_NAMES}) VALUES (:{', :'.join(COLUMNS)})", row)

    def results(self, study: str) -> list[Result]:
        """Every pair of arms that has votes, overall and then per category, each question in turn.

        The interval of a share is Wilson's on n votes (Wilson 1927), with half a success for each of a tie: it stays
        in [0, 1] and holds its 95 % where votes are few (Brown, Cai & DasGupta 2001, whose advice it is). With a
        share t of ties, the variance of a vote is p (1 - p) - t / 4, below the p (1 - p) that Wilson assumes, so
        ties only make the interval wider than it need be. Votes are taken as independent: where few people vote on
        much, or many on few prompts, it is narrower than it should be.
        """
        tallies: dict[tuple[str, str, str, int], list[int]] = {}
        for row in self.export(study):
            first, second = sorted((row["left"], row["right"]))
            for category in {"", row["category"]}:  # "" holds all
                for i, question in enumerate(QUESTIONS):
                    tally = tallies.setdefault((first, second, category, i), [0, 0, 0])
                    answer = row[question]
                    tally[2 if answer == "tie" else int(row[answer] == second)] += 1
        return [
            Result(first, second, list(QUESTIONS)[i], category or None, *tally)
            for (first, second, category, i), tally in sorted(tallies.items())
        ]

    def export(self, study: str) -> list[dict[str, Any]]:
        """The votes of a study as dicts with the keys `COLUMNS`, oldest first."""
        return self._read(f'SELECT {_NAMES} FROM votes WHERE study = ? ORDER BY "when", rowid', study)

    def studies(self) -> dict[str, int]:
        """Names of studies, sorted, and how many votes each has."""
        rows = self._read("SELECT study, COUNT(*) AS votes FROM votes GROUP BY study ORDER BY study")
        return {row["study"]: row["votes"] for row in rows}

    def _read(self, query: str, *values: str) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self._transaction() as db:
            return [dict(row) for row in db.execute(query, values)]

    @contextlib.contextmanager
    def _transaction(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction on a file of the current version, kept where the block ends without an error."""
        address = f"{self.path.absolute().as_uri()}?mode={'rwc' if write else 'rw'}"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)) as db:
                # SQLite's own rollback journal, not WAL: it needs no shared memory, which network disks lack, and
                # leaves one file that can be copied. IMMEDIATE, as a reader that turns writer cannot wait its turn.
                db.row_factory = sqlite3.Row
                db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                if self._version(db) < len(_STEPS):
                    if not write:
                        db.execute("ROLLBACK")
                        db.execute("BEGIN IMMEDIATE")
                    for step in _STEPS[self._version(db) :]:  # none, if another process was first
                        step(db)
                    db.execute(f"PRAGMA user_version = {len(_STEPS)}")
                yield db
                db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OSError(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # which is raised for what is broken or no database
                raise
            raise ValueError(f"{self.path}: {error}; name another file for the votes, or move this one away") from error

    def _version(self, db: sqlite3.Connection) -> int:
        """How many of `_STEPS` the file has had; 0 for an empty one."""
        owner, version, tables = db.execute(
            "SELECT application_id, user_version, (SELECT COUNT(*) FROM sqlite_master)"
            " FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if not (owner or version or tables):
            return 0
        if owner != _OWNER or version < 1:
            raise ValueError(f"{self.path}: a database of something else; name another file for the votes")
        if version > len(_STEPS):
            newer = f"votes of version {version}, and this program reads up to version {len(_STEPS)}"
            raise ValueError(f"{self.path}: {newer}; update the program, or name another file for the votes")
        return version


def sides(study: str, item: str | int, voter: str, arms: Sequence[str]) -> tuple[str, str]:
    """The two arms as (left, right): a coin tossed by hashing, so that the same question always looks the same.

    The order of `arms` does not matter. Raises ValueError where they are not two different names.
    """
    if len(arms) != 2 or arms[0] == arms[1]:
        raise ValueError(f"arms = {shown(list(arms))}: must be two different names")
    first, second = sorted(arms)
    toss = hashlib.sha256(json.dumps([study, str(item), voter, first, second]).encode()).digest()[0] % 2
    return (second, first) if toss else (first, second)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Exported votes as CSV (RFC 4180); an apostrophe goes before what a spreadsheet would take for a formula."""
    text = io.StringIO()
    # All texts are quoted: a spreadsheet that splits at semicolons finds no cell that begins inside of one.
    writer = csv.DictWriter(text, COLUMNS, quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow(as_cells(row))
    return text.getvalue()


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose texts no spreadsheet takes for formulas: those that look like one are led in by an apostrophe."""
    return {k: f"'{v}" if isinstance(v, str) and _FORMULA.match(v) else v for k, v in row.items()}


def to_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Exported votes as a JSON array, texts unchanged."""
    return json.dumps([dict(row) for row in rows], ensure_ascii=False, indent=2)


def _row(vote: Vote) -> dict[str, Any]:
    """The vote as a row of the table, checked."""
    row = {name: getattr(vote, name) for name in _TEXTS}
    if type(vote.item) is int:
        row["item"] = str(vote.item)
    for name, limit in _TEXTS.items():
        if not isinstance(row[name], str) or not limit.accepts(row[name]):
            raise ValueError(f"{name} = {shown(row[name])}: must be {limit}")
    if vote.left == vote.right:
        raise ValueError(f"right = {shown(vote.right)}: must be another arm than left")
    if not isinstance(vote.answers, Mapping):
        raise ValueError(f"answers = {shown(vote.answers)}: must give each of {', '.join(QUESTIONS)} an answer")
    for question in vote.answers:
        if question not in QUESTIONS:
            raise ValueError(f"answers: {shown(question)} is no question: must be {', '.join(QUESTIONS)}")
    for question in QUESTIONS:
        answer = vote.answers.get(question)
        if answer not in ANSWERS:
            given = "is missing" if question not in vote.answers else f"= {shown(answer)}"
            raise ValueError(f"answers.{question} {given}: must be one of {', '.join(ANSWERS)}")
        row[question] = answer
    when = time.time() if vote.when is None else vote.when
    if type(when) not in (int, float) or not 0 <= when <= _LATEST:
        raise ValueError(f"when = {shown(when)}: must be seconds since 1970 (UTC), from 0 to {_LATEST:g}")
    return row | {"when": float(when)}


def _first_table(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA application_id = {_OWNER}")
    db.execute(
        """CREATE TABLE votes (
            study TEXT NOT NULL, item TEXT NOT NULL, prompt TEXT NOT NULL, category TEXT NOT NULL,
            "left" TEXT NOT NULL, "right" TEXT NOT NULL,
            quality TEXT NOT NULL, alignment TEXT NOT NULL, motion TEXT NOT NULL,
            voter TEXT NOT NULL, "when" REAL NOT NULL
        )"""
    )
    db.execute('CREATE UNIQUE INDEX ballot ON votes (study, item, voter, min("left", "right"), max("left", "right"))')


# Step i takes a file from version i to i + 1, inside the transaction that needs it; 0 is the empty file.
_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_table,)
