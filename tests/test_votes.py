"""Votes of the blind rating: what is counted, what is refused, and what survives writers at once and kills."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mpl import votes as room
from mpl.votes import COLUMNS, QUESTIONS, Vote, Votes, sides, to_csv, to_json

ROOT = Path(__file__).resolve().parent.parent
WRITER = """
import sys
from mpl.votes import QUESTIONS, Vote, Votes
path, voter, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(count):
    Votes(path).add(Vote("s", i, "a fox", "", "a", "b", dict.fromkeys(QUESTIONS, "left"), voter))
    print(i, flush=True)
"""
# A transaction too big for SQLite's cache: half of it is in the file, what it overwrote in the journal, at the kill.
TORN = """
import os, signal, sys
from mpl.votes import COLUMNS, Votes
with Votes(sys.argv[1])._transaction(write=True) as db:
    db.execute("PRAGMA cache_size = 1")
    db.execute("UPDATE votes SET prompt = 'torn'")
    for i in range(2000):
        db.execute(f"INSERT INTO votes VALUES ({', '.join('?' * len(COLUMNS))})", [str(i)] * len(COLUMNS))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def answers(*given: str) -> dict[str, str]:
    return dict(zip(QUESTIONS, given * 3 if len(given) == 1 else given, strict=True))


VOTE = Vote("s", 0, "a fox", "animals", "a", "b", answers("left"), "v", 1.0)


def script(code: str, *args: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    return Votes(tmp_path / "new" / "votes ?#%41.sqlite")


def test_nothing_is_made_before_the_first_vote(votes: Votes) -> None:
    assert votes.results("s") == [] and votes.export("s") == [] and votes.studies() == {}
    with pytest.raises(ValueError, match="voter"):
        votes.add(replace(VOTE, voter=""))
    assert not votes.path.parent.exists()
    votes.add(VOTE)
    assert [p.name for p in votes.path.parent.iterdir()] == [votes.path.name]


def test_results_are_as_counted_by_hand(votes: Votes) -> None:
    """Arms a and b, quality: a wins 2 of 4 with one tie, so 2.5 / 4; the others as listed."""
    for voter, category, left, right, given in [
        ("1", "animals", "a", "b", answers("left", "tie", "right")),
        ("2", "animals", "b", "a", answers("right", "tie", "left")),
        ("3", "food", "b", "a", answers("left", "tie", "left")),
        ("4", "", "a", "b", answers("tie", "right", "right")),
        ("5", "food", "c", "a", answers("left")),
    ]:
        votes.add(Vote("s", 3, "a prompt", category, left, right, given, voter))
    votes.add(replace(VOTE, study="other"))
    found = {
        (r.first, r.second, r.category, r.question): (r.first_wins, r.second_wins, r.ties) for r in votes.results("s")
    }
    assert list(found.items()) == [
        (("a", "b", None, "quality"), (2, 1, 1)),
        (("a", "b", None, "alignment"), (0, 1, 3)),
        (("a", "b", None, "motion"), (0, 4, 0)),
        (("a", "b", "animals", "quality"), (2, 0, 0)),
        (("a", "b", "animals", "alignment"), (0, 0, 2)),
        (("a", "b", "animals", "motion"), (0, 2, 0)),
        (("a", "b", "food", "quality"), (0, 1, 0)),
        (("a", "b", "food", "alignment"), (0, 0, 1)),
        (("a", "b", "food", "motion"), (0, 1, 0)),
        (("a", "c", None, "quality"), (0, 1, 0)),
        (("a", "c", None, "alignment"), (0, 1, 0)),
        (("a", "c", None, "motion"), (0, 1, 0)),
        (("a", "c", "food", "quality"), (0, 1, 0)),
        (("a", "c", "food", "alignment"), (0, 1, 0)),
        (("a", "c", "food", "motion"), (0, 1, 0)),
    ]
    quality = votes.results("s")[0].share
    assert (quality.right, quality.of, quality.value) == (2.5, 4, 0.625)


def test_a_tie_is_half_a_success_in_the_interval(votes: Votes) -> None:
    """7 wins, 2 ties, 1 loss make 8 of 10: Newcombe (1998), method 3, gives 0.490 to 0.943."""
    for i, answer in enumerate(["left"] * 7 + ["tie"] * 2 + ["right"]):
        votes.add(replace(VOTE, item=i, answers=answers(answer)))
        votes.add(replace(VOTE, study="mirrored", item=i, answers=answers(answer), left="b", right="a"))
    there, back = votes.results("s")[0].share, votes.results("mirrored")[0].share
    assert there.value == 0.8 and there.interval == pytest.approx((0.490, 0.943), abs=5e-4)
    assert back.value == pytest.approx(0.2) and back.interval == pytest.approx((1 - 0.943, 1 - 0.490), abs=5e-4)


def test_an_arm_may_be_named_like_an_answer(votes: Votes) -> None:
    votes.add(replace(VOTE, left="tie", right="left"))
    result = votes.results("s")[0]
    assert (result.first, result.first_wins, result.second_wins, result.ties) == ("left", 0, 1, 0)


def test_a_second_vote_replaces_the_first_whichever_the_sides(votes: Votes) -> None:
    votes.add(replace(VOTE, item=7))
    votes.add(replace(VOTE, item="7", left="b", right="a", answers=answers("left", "tie", "right"), when=2.0))
    row = dict(zip(COLUMNS, ("s", "7", "a fox", "animals", "b", "a", "left", "tie", "right", "v", 2.0), strict=True))
    assert votes.export("s") == [row]
    for other in ({"study": "t"}, {"item": 8}, {"voter": "w"}, {"right": "c"}):
        votes.add(replace(VOTE, **{"item": 7} | other))
    assert votes.studies() == {"s": 4, "t": 1}


@pytest.mark.parametrize(
    "change, said",
    [
        ({"answers": answers("left") | {"beauty": "left"}}, 'answers: "beauty" is no question: must be quality, align'),
        ({"answers": {"quality": "left"}}, "answers.alignment is missing: must be one of left, right, tie"),
        ({"answers": answers("left", "both", "tie")}, 'answers.alignment = "both": must be one of left, right, tie'),
        ({"answers": answers("left") | {"motion": None}}, "answers.motion = None: must be one of left, right, tie"),
        ({"answers": "left"}, 'answers = "left": must give each of quality, alignment, motion an answer'),
        ({"right": "a"}, 'right = "a": must be another arm than left'),
        ({"left": ""}, 'left = "": must be a text of 1 to 100 characters'),
        ({"voter": "v" * 101}, "must be a text of 1 to 100 characters"),
        ({"study": None}, "study = None: must be a text of 1 to 100 characters"),
        ({"item": True}, "item = true: must be"),
        ({"item": 1.5}, "item = 1.5: must be"),
        ({"prompt": "p" * 1001}, "must be a text of 1 to 1000 characters"),
        ({"category": "\ud800"}, "must be a text of 0 to 100 characters in UTF-8"),
        ({"when": math.nan}, "when = nan: must be seconds since 1970"),
        ({"when": -1}, "when = -1: must be seconds since 1970"),
        ({"when": "now"}, 'when = "now": must be seconds since 1970'),
        ({"when": 10**400}, "must be seconds since 1970"),
    ],
)
def test_bad_votes_are_refused_by_field(votes: Votes, change: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:
        votes.add(replace(VOTE, **change))
    assert said in str(error.value) and next(iter(change)) in str(error.value)
    assert "\n" not in str(error.value) and not votes.path.exists()


def test_export_is_oldest_first_and_notes_the_time(votes: Votes) -> None:
    before = time.time()
    votes.add(replace(VOTE, item="now", when=None))
    for item, when in (("late", 9e9), ("early", 5), ("early too", 5)):
        votes.add(replace(VOTE, item=item, when=when))
    rows = votes.export("s")
    assert [row["item"] for row in rows] == ["early", "early too", "now", "late"]
    assert before <= rows[2]["when"] <= time.time() and list(rows[0]) == list(COLUMNS)
    assert json.loads(to_json(rows)) == rows and json.loads(to_json([])) == []


def test_csv_comes_back_as_it_was(votes: Votes) -> None:
    votes.add(replace(VOTE, prompt='a "red" fox,\nthen; a лиса', voter="v-1"))
    text = to_csv(votes.export("s"))
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert text.endswith("\r\n") and tuple(head) == COLUMNS
    assert row == [str(value) for value in votes.export("s")[0].values()]
    assert tuple(next(csv.reader(io.StringIO(to_csv([]), newline="")))) == COLUMNS


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1+1"])
def test_csv_holds_no_formulas_and_json_is_exact(votes: Votes, cell: str) -> None:
    votes.add(replace(VOTE, study=cell, item=cell, prompt=cell, category=cell, left=cell, voter=cell))
    rows = votes.export(cell)
    (row,) = csv.DictReader(io.StringIO(to_csv(rows), newline=""))
    for column in ("study", "item", "prompt", "category", "left", "voter"):
        assert row[column] == f"'{cell}"
    assert (row["right"], row["quality"], row["when"]) == ("b", "left", "1.0")
    assert json.loads(to_json(rows))[0]["prompt"] == cell


def test_sides_are_balanced_and_stay() -> None:
    """2000 fair tosses: within 4 standard deviations (22) of 1000, over voters and over items alike."""
    for asked in [("s", 3, "{}"), ("s", "{}", "v"), ("{}", 3, "v")]:
        shown = [sides(*(x.format(i) if x == "{}" else x for x in asked), ("a", "b")) for i in range(2000)]
        assert set(shown) == {("a", "b"), ("b", "a")}
        assert abs(shown.count(("a", "b")) - 1000) < 90
    for voter in map(str, range(50)):
        assert sides("s", 3, voter, ["a", "b"]) == sides("s", "3", voter, ("b", "a"))
    # Fixed for good: a new version of the program must not swap the sides of a study that is under way.
    assert [sides("s", i, "v", ("a", "b"))[0] for i in range(12)] == list("bbaabbbbaaaa")
    for arms in (("a", "a"), ("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="arms = .*two different names"):
            sides("s", 3, "v", arms)


def test_no_vote_of_several_processes_and_threads_is_lost(votes: Votes) -> None:
    """Three processes and three threads, none of which finds a file: all make it, all write."""
    processes = [script(WRITER, votes.path, f"process {i}", 80) for i in range(3)]

    def write(voter: str) -> None:
        for i in range(20):
            votes.add(replace(VOTE, item=i, voter=voter))
            votes.results("s")

    threads = [threading.Thread(target=write, args=(f"thread {i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.wait(120) == 0, process.stderr.read()
    assert votes.studies() == {"s": 3 * 80 + 3 * 20}
    assert [p.name for p in votes.path.parent.iterdir()] == [votes.path.name]


def test_what_was_kept_survives_a_kill(votes: Votes) -> None:
    for attempt, said in enumerate((1, 4, 9, 16)):
        process = script(WRITER, votes.path, str(attempt), 1_000_000)
        for _ in range(said):
            process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        said += len(process.stdout.read().splitlines())
        process.wait()
        items = [int(row["item"]) for row in votes.export("s") if row["voter"] == str(attempt)]
        assert items == list(range(len(items))) and len(items) - said in (0, 1)
    votes.add(VOTE)


def test_a_kill_in_the_middle_of_a_write_is_undone(votes: Votes) -> None:
    for i in range(20):
        votes.add(replace(VOTE, item=i))
    rows, whole = votes.export("s"), votes.path.read_bytes()
    assert script(TORN, votes.path).wait(60) == -signal.SIGKILL
    assert votes.path.read_bytes() != whole and Path(f"{votes.path}-journal").stat().st_size
    assert votes.export("s") == rows and votes.studies() == {"s": 20}
    assert votes.path.read_bytes() == whole and not Path(f"{votes.path}-journal").exists()
    votes.add(replace(VOTE, item=20))


def add_notes(db: sqlite3.Connection) -> None:
    """A step as a version 2 would bring."""
    db.execute("ALTER TABLE votes ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")


def fail(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE votes")
    db.execute("INSERT INTO nowhere VALUES (1)")


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


@pytest.mark.parametrize("first", ["read", "add"])
def test_an_older_file_is_migrated(votes: Votes, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    votes.add(VOTE)
    rows = votes.export("s")
    assert version(votes.path) == len(room._STEPS)
    monkeypatch.setattr(room, "_STEPS", (*room._STEPS, add_notes))
    monkeypatch.setattr(room, "_NAMES", room._NAMES + ", note") if first == "read" else votes.add(VOTE)
    assert votes.export("s") == [row | ({"note": "none"} if first == "read" else {}) for row in rows]
    assert version(votes.path) == len(room._STEPS)


def test_a_migration_that_fails_changes_nothing(votes: Votes, monkeypatch: pytest.MonkeyPatch) -> None:
    votes.add(VOTE)
    whole, rows = votes.path.read_bytes(), votes.export("s")
    with monkeypatch.context() as patch:
        patch.setattr(room, "_STEPS", (*room._STEPS, add_notes, fail))
        for method in (votes.studies, lambda: votes.add(VOTE)):
            with pytest.raises(OSError, match="nowhere"):
                method()
    assert votes.path.read_bytes() == whole and votes.export("s") == rows


def test_a_newer_file_is_refused_and_left_alone(votes: Votes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(room, "_STEPS", (*room._STEPS, add_notes))
        votes.add(VOTE)
    refuses(votes, "version 2, and this program reads up to version 1; update the program")


@pytest.mark.parametrize("size", [2, 99, 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(votes: Votes, size: int) -> None:
    votes.path.parent.mkdir()
    votes.path.write_bytes(b"not a database; " * (size // 16) + b"x" * (size % 16))
    refuses(votes, "file is not a database; name another file")


@pytest.mark.parametrize("mark", ["CREATE TABLE votes (study TEXT)", "PRAGMA user_version = 1"])
def test_the_database_of_another_program_is_refused_and_left_alone(votes: Votes, mark: str) -> None:
    votes.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(votes.path, isolation_level=None)) as db:
        db.execute(mark)
    refuses(votes, "a database of something else; name another file")


def test_a_damaged_file_is_refused_and_left_alone(votes: Votes) -> None:
    votes.add(VOTE)
    data = bytearray(votes.path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    votes.path.write_bytes(data)
    refuses(votes, "name another file")


def refuses(votes: Votes, said: str) -> None:
    whole = votes.path.read_bytes()
    for method in (votes.studies, lambda: votes.export("s"), lambda: votes.results("s"), lambda: votes.add(VOTE)):
        with pytest.raises(ValueError) as error:
            method()
        assert said in str(error.value) and str(votes.path) in str(error.value) and "\n" not in str(error.value)
    assert votes.path.read_bytes() == whole
    assert [p.name for p in votes.path.parent.iterdir()] == [votes.path.name]


def test_an_empty_file_becomes_a_file_of_votes(votes: Votes) -> None:
    votes.path.parent.mkdir()
    votes.path.touch()
    assert votes.studies() == {}
    votes.add(VOTE)
    assert votes.studies() == {"s": 1}


def test_a_disk_that_refuses_is_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path, tmp_path / "votes.sqlite" / "below"):
        (tmp_path / "votes.sqlite").touch()
        with pytest.raises(OSError, match=tmp_path.name):
            Votes(path).add(VOTE)
    monkeypatch.setattr(room, "_PATIENCE", 0.05)
    votes = Votes(tmp_path / "held.sqlite")
    votes.add(VOTE)
    with contextlib.closing(sqlite3.connect(votes.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="held.sqlite: database is locked"):
            votes.add(VOTE)
    assert votes.studies() == {"s": 1}


def test_the_room_loads_neither_torch_nor_numpy_nor_gradio() -> None:
    code = (
        "import sys, mpl.votes\nprint(*sorted({n.split('.')[0] for n in sys.modules} & {'torch', 'numpy', 'gradio'}))"
    )
    process = script(code)
    assert (process.communicate(timeout=60)[0], process.returncode) == ("\n", 0)
