"""Blind votes: pairs come by turns, sides are fixed for a voter, nothing tells the arms apart before the vote."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from page_toys import make_study

from mpl.config import Preset
from mpl.engine import Engine
from mpl.events import Finished
from mpl.store import StageCache
from mpl.studies import INDEX
from mpl.ui.ballot import BLIND, FRESH, Ballot, Blind, voter
from mpl.ui.desk import Desk
from mpl.ui.duel import COMPARISON, Duel
from mpl.ui.tally import export, tally
from mpl.votes import QUESTIONS, Votes, sides

ARMS = ("<b>old</b>", "new & better")
ANSWERS = {"quality": "left", "alignment": "tie", "motion": "right"}


@pytest.fixture
def ballot(preset: Preset, tmp_path: Path) -> Ballot:
    """A study of two pairs, and tiny models for fresh ones."""
    make_study(tmp_path / "shipped" / "words", ARMS)
    desk = Desk(Engine(StageCache(tmp_path / "stages")), preset, tmp_path / "out")
    return Ballot(Duel(desk), shipped=tmp_path / "shipped")


def follow(ballot: Ballot, visitor: str, pair: Blind | None = None) -> dict[str, Any]:
    async def collect() -> dict[str, Any]:
        shown: dict[str, Any] = {}
        async for found in ballot.follow(visitor, pair):
            shown |= found
        return shown

    return asyncio.run(collect())


def test_stored_studies_come_first_then_what_this_machine_can_make(ballot: Ballot) -> None:
    titles = dict(ballot.sources())
    assert list(titles.values())[0] == "words" and titles["Words & deeds"] == "words"
    assert f"{FRESH}expert" in titles.values()
    assert f"{FRESH}strengths" not in titles.values()  # eight, not two
    assert f"{FRESH}keyframes" in titles.values() and f"{FRESH}published" not in titles.values()  # of no weights here


def test_a_broken_study_leaves_the_others(ballot: Ballot, tmp_path: Path) -> None:
    (tmp_path / "shipped" / "broken").mkdir()
    (tmp_path / "shipped" / "broken" / INDEX).write_text("{")
    assert "words" in dict(ballot.sources()).values() and "broken" not in dict(ballot.sources()).values()


def test_all_pairs_come_by_turns_and_then_none(ballot: Ballot) -> None:
    seen = set()
    for _ in range(2):
        opened = ballot.open("ann", "words")
        assert opened["state"] == "open" and opened["pair"] == ballot.open("ann", "words")["pair"]  # until it is rated
        seen.add(opened["pair"].item)
        ballot.vote("ann", opened["pair"], ANSWERS)
    assert seen == {"0", "1"}
    done = ballot.open("ann", "words")
    assert done["state"] == "none" and done["pair"] is None and "2 of 2" in done["about"]
    assert ballot.open("bob", "words")["state"] == "open"


def test_nothing_tells_the_arms_apart_before_the_vote(ballot: Ballot) -> None:
    for visitor in ("ann", "bob", "cyd"):
        opened = ballot.open(visitor, "words")
        page = "".join(str(value) for name, value in opened.items() if name != "pair")
        assert "old" not in page and "better" not in page and opened["player"].count("<video") == 2
        assert "prompt &lt;i&gt;" in opened["shown"]
        for address in re.findall(r'src="files/([^/]+)/([^"]+)"', opened["player"]):
            assert ballot.desk.history.find(*address)


def test_a_vote_is_kept_as_it_was_seen_and_then_told(ballot: Ballot) -> None:
    pair = ballot.open("ann", "words")["pair"]
    given = ballot.vote("ann", pair, ANSWERS)
    left, right = sides("words", pair.item, voter("ann"), ARMS)
    row = ballot.votes.export("words")[0]
    assert (row["left"], row["right"], row["quality"], row["motion"]) == (left, right, "left", "right")
    assert row["voter"] == voter("ann") and "ann" not in row["voter"] and row["category"] == pair.category
    told = {"<b>old</b>": "&lt;b&gt;old&lt;/b&gt;", "new & better": "new &amp; better"}
    assert f"A was <b>{told[left]}</b>" in given["told"] and given["state"] == "given"
    assert "1 of 2 rated by you." in given["about"]
    assert told[left] in given["player"]


@pytest.mark.parametrize("answers", [dict.fromkeys(QUESTIONS), ANSWERS | {"motion": None}])
def test_an_answer_that_is_missing_is_asked_for(ballot: Ballot, answers: dict[str, Any]) -> None:
    pair = ballot.open("ann", "words")["pair"]
    assert "Answer all three" in ballot.vote("ann", pair, answers)["notices"]
    assert ballot.votes.export("words") == []


def test_no_pair_and_nonsense_are_no_votes(ballot: Ballot) -> None:
    assert "no pair" in ballot.vote("ann", None, ANSWERS)["notices"]
    pair = ballot.open("ann", "words")["pair"]
    assert "cannot be read or written" in ballot.vote("ann", pair, ANSWERS | {"motion": "both"})["notices"]
    assert ballot.votes.export("words") == []
    assert "still opening" in ballot.open(None, "words")["notices"]
    assert "still opening" in ballot.make(None, f"{FRESH}expert", "a car")["notices"]
    assert ballot.open("ann", "nothing")["state"] == "none"
    assert ballot.open("ann", None)["state"] == "none"


def test_a_file_of_votes_that_cannot_be_used_is_said(ballot: Ballot) -> None:
    pair = ballot.open("ann", "words")["pair"]
    ballot.votes.path.parent.mkdir(parents=True, exist_ok=True)
    ballot.votes.path.write_text("no database, but long enough to be taken for one" * 40)
    said = [ballot.vote("ann", pair, ANSWERS)["notices"], ballot.results("words")]
    for words in (*said, ballot.open("ann", "words")["notices"]):
        assert "cannot be read or written" in words and str(ballot.votes.path.parent) not in words


def test_results_count_arms_whichever_side_they_were_on(ballot: Ballot) -> None:
    for visitor in ("ann", "bob", "cyd", "dee"):
        pair = ballot.open(visitor, "words")["pair"]
        side = "left" if pair.left.label == ARMS[1] else "right"
        ballot.vote(visitor, pair, dict.fromkeys(QUESTIONS, side))
    html = tally("words", ballot.votes)
    assert "4 votes" in html and "<b>old" not in html
    first = re.findall(r"<tr><th scope=\"row\">Video quality</th><td>(\d)</td><td>(\d)</td><td>(\d)</td>", html)[0]
    assert first == ("0", "0", "4")  # “<” sorts before “n”
    assert "0 % (0–49)" in html
    assert "Food" in html or "Animals" in html


def test_votes_can_be_saved(ballot: Ballot) -> None:
    pair = ballot.open("ann", "words")["pair"]
    ballot.vote("ann", pair, ANSWERS)
    [row] = csv.DictReader(io.StringIO(export("words", ballot.votes, "csv")))
    assert row["quality"] == "left" and row["study"] == "words" and row["prompt"] == pair.prompt
    assert row["voter"] == row["when"] == ""  # concerns nobody else
    assert json.loads(export("words", ballot.votes, "json"))[0]["motion"] == "right"
    assert 'href="votes.csv?study=words"' in ballot.results("words")


def test_what_somebody_wrote_for_a_pair_is_not_handed_out(ballot: Ballot) -> None:
    ballot.make("ann", f"{FRESH}expert", "a red car, my secret")
    ballot.vote("ann", follow(ballot, "ann")["pair"], ANSWERS)
    shown = "".join(str(value) for value in ballot.open("bob", f"{FRESH}expert").values())
    assert "secret" not in shown + "".join(export(f"{FRESH}expert", ballot.votes, kind) for kind in ("csv", "json"))
    assert "1 vote" in shown


def test_a_pair_that_was_told_takes_no_second_vote(ballot: Ballot) -> None:
    for source in ("words", f"{FRESH}expert"):
        pair = ballot.open("ann", source)["pair"]
        if source != "words":
            ballot.make("ann", source, "a red car")
            pair = follow(ballot, "ann")["pair"]
        ballot.vote("ann", pair, ANSWERS)
        again = ballot.vote("ann", pair, dict.fromkeys(QUESTIONS, "right"))
        assert "voted on this pair already" in again["notices"] and "told" not in again
        assert [row["quality"] for row in ballot.votes.export(source)] == ["left"]
    assert follow(ballot, "ann").get("pair") is None  # after a reload


def test_a_pair_in_the_making_is_not_disturbed(ballot: Ballot) -> None:
    ballot.make("bob", f"{FRESH}expert", "a blue boat")  # before ann's
    ballot.make("ann", f"{FRESH}expert", "a red car")
    if ballot.busy("ann"):
        assert "being made for you" in ballot.open("ann", "words")["notices"]
    shown = follow(ballot, "ann")
    assert shown["source"] == f"{FRESH}expert" and shown["fresh"]
    assert ballot.open("ann", "words")["state"] == "open"


def test_many_may_open_a_study_at_once(ballot: Ballot) -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda n: ballot.open(f"visitor {n}", "words"), range(64)))
    assert all(changes["state"] == "open" for changes in opened)


def test_times_of_files_do_not_tell_the_order(ballot: Ballot, tmp_path: Path) -> None:
    ballot.open("ann", "words")
    lent = list(ballot.desk.history.folder("shelf words").glob("*.mp4"))
    assert len({file.stat().st_mtime for file in lent}) == 1 and len(lent) == 2
    ballot.make("ann", f"{FRESH}expert", "a red car")
    follow(ballot, "ann")
    fresh = list(ballot.desk.history.folder("ann").glob("*.mp4"))
    assert len({file.stat().st_mtime for file in fresh}) == 1 and len(fresh) == 2
    assert len(list(ballot.desk.history.root.iterdir())) == 2  # the runs themselves are gone


def test_a_study_without_votes_says_so(tmp_path: Path) -> None:
    assert "No votes yet" in tally("words", Votes(tmp_path / "votes.sqlite"))


def test_a_fresh_pair_is_blind_until_its_vote(ballot: Ballot) -> None:
    source = f"{FRESH}expert"
    opened = ballot.open("ann", source)
    assert opened["fresh"] and opened["state"] == "none"
    assert ballot.make("ann", source, "a red car")["busy"]
    assert ballot.desk.found_again("ann", BLIND) and not ballot.desk.found_again("ann", COMPARISON)
    shown = follow(ballot, "ann")
    assert shown["state"] == "open" and shown["busy"] is False
    page = "".join(str(value) for name, value in shown.items() if name not in ("pair", "source", "about"))
    assert "expert" not in page and "ithout" not in page
    pair = shown["pair"]
    assert (pair.left.width, pair.left.height) == (pair.right.width, pair.right.height)
    assert ballot.desk.history.runs("ann") == []  # they would say what they are
    assert {pair.left.label, pair.right.label} == {"Without the expert", "With the expert"}
    given = ballot.vote("ann", pair, ANSWERS)
    assert given["state"] == "made" and "about" not in given  # there is no next one until it is made
    assert ballot.votes.studies() == {source: 1}
    assert "1 vote" in ballot.results(source)


def test_a_fresh_pair_whose_videos_have_gone_is_not_offered_again(ballot: Ballot) -> None:
    ballot.make("ann", f"{FRESH}expert", "a red car")
    pair = follow(ballot, "ann")["pair"]
    assert follow(ballot, "ann")["state"] == "open"  # as a reload finds it
    assert follow(ballot, "ann", pair) == {"busy": False}  # it is there already, and so may answers be
    assert ballot.unrated("ann") == f"{FRESH}expert" and ballot.unrated("bob") is None
    folder = ballot.desk.history.folder("ann")
    (folder / pair.left.address.rsplit("/", 1)[1]).unlink()
    shown = follow(ballot, "ann")
    assert shown.get("pair") is None and "state" not in shown and ballot.unrated("ann") is None


@pytest.mark.parametrize(
    ("source", "prompt", "words"),
    [
        ("words", "a car", "Only a comparison"),
        (None, "a car", "Only a comparison"),
        (f"{FRESH}no", "a car", "Only a comparison"),
        (f"{FRESH}expert", " ", "prompt is empty"),
    ],
)
def test_what_cannot_be_made_is_one_clear_message(ballot: Ballot, source: str | None, prompt: str, words: str) -> None:
    said = ballot.make("ann", source, prompt)
    assert set(said) == {"notices"} and words in said["notices"]


def test_a_pair_that_breaks_off_says_why(ballot: Ballot, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpl.ui.ballot.write_pair", full)
    ballot.make("ann", f"{FRESH}expert", "a red car")
    shown = follow(ballot, "ann")
    assert "No space left" in shown["notices"] and shown.get("state", "none") == "none"
    assert "player" not in shown


def test_a_pair_whose_second_arm_fails_tells_nothing_of_the_first(
    ballot: Ballot, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = ballot.desk.engine.compare

    def failing(*args: Any) -> Any:
        for name, event in compare(*args):
            yield name, event
            if isinstance(event, Finished):
                raise OSError(5, "Input/output error")

    monkeypatch.setattr(ballot.desk.engine, "compare", failing)
    ballot.make("ann", f"{FRESH}expert", "a red car")
    shown = follow(ballot, "ann")
    assert "Input/output error" in shown["notices"]
    assert "ithout the expert" not in "".join(map(str, shown.values()))
