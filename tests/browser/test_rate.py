"""Blind votes in a real browser: they land in SQLite, and only then the page tells which was which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hands import Visit, open_tab, wait_for_text

from mpl.ui.ballot import FRESH
from mpl.votes import QUESTIONS, Votes

TITLES = {"left": "A", "tie": "no difference", "right": "B"}
ANSWERS = dict(zip(QUESTIONS, ("left", "tie", "right"), strict=True))


@pytest.fixture
def votes(served_page: tuple[str, Path]) -> Votes:
    return Votes(served_page[1] / "votes.sqlite")


def answer(page: Any) -> None:
    page.wait_for_selector("#rate-vote:enabled")
    for question, side in ANSWERS.items():
        page.locator(f"#rate-{question} label").get_by_text(TITLES[side], exact=True).click()


def test_a_blind_vote_lands_in_sqlite(page: Any, votes: Votes) -> None:
    open_tab(page, "Rate")
    page.wait_for_selector("#rate-player video")
    assert page.locator("#rate-player .label").count() == 0  # blind
    page.click("#rate-vote")
    wait_for_text(page, "#rate-notices", "Answer all three")
    answer(page)
    page.click("#rate-vote")
    page.wait_for_selector("#rate-told p")
    (row,) = votes.export("words")
    assert {question: row[question] for question in QUESTIONS} == ANSWERS
    assert page.inner_text("#rate-told") == f"A was {row['left']}, B was {row['right']}."
    assert page.locator("#rate-player .label").all_inner_texts() == [row["left"], row["right"]]
    assert page.is_disabled("#rate-vote")

    first = page.inner_text("#rate-shown")
    wait_for_text(page, "#rate-about", "1 of 2 rated")
    page.click("#rate-next")
    page.wait_for_selector("#rate-told p", state="detached")
    assert page.inner_text("#rate-shown") != first and page.locator("#rate-told p").count() == 0
    assert page.locator("#rate-questions input:checked").count() == 0
    answer(page)
    page.click("#rate-vote")
    page.click("#rate-next")
    wait_for_text(page, "#rate-shown", "You have rated all of them")
    assert len(votes.export("words")) == 2
    page.click("#rate-so-far > button")
    wait_for_text(page, "#rate-results", "2 votes")


def test_a_pair_is_rated_by_keyboard(page: Any, votes: Votes) -> None:
    """Questions are groups with names, one stop of the Tab key each; a vote does not lose the place."""
    open_tab(page, "Rate")
    page.wait_for_selector("#rate-vote:enabled")
    for question, text in QUESTIONS.items():
        group = page.get_by_role("radiogroup", name=text)
        assert group.count() == 1 and group.locator("input[tabindex='0']").count() == 1
        group.locator("input").first.focus()
        page.keyboard.press("ArrowRight")
        assert group.locator("input").nth(1).evaluate("radio => radio.checked && radio === document.activeElement")
        page.keyboard.press("Tab")
        assert not group.evaluate("group => group.contains(document.activeElement)"), question
    page.focus("#rate-vote")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id == 'rate-next'")
    assert {votes.export("words")[-1][question] for question in QUESTIONS} == {"tie"}
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.matches('#rate-player .play')")


def late(page: Any) -> Callable[[Any], None]:
    """For `page.route`: the first answers come a second late, and after those to later questions."""
    asked: list[str] = []

    def wait(route: Any) -> None:
        asked.append(route.request.url)
        answer = route.fetch()
        if len(asked) <= 2:
            page.wait_for_timeout(1000)
        route.fulfill(response=answer)

    return wait


def make_pair(page: Any) -> None:
    open_tab(page, "Rate")
    page.click("#rate-source input")
    page.click("[role=option]:has-text('A new pair: with and without expert')")
    page.click("#rate-make")
    page.wait_for_selector("#rate-player video")


def rate(page: Any, votes: Votes) -> None:
    before = len(votes.export(f"{FRESH}expert"))
    answer(page)
    page.click("#rate-vote")
    wait_for_text(page, "#rate-told", "ithout the expert")
    rows = votes.export(f"{FRESH}expert")
    assert len(rows) == before + 1
    assert {rows[-1]["left"], rows[-1]["right"]} == {"With the expert", "Without the expert"}


@pytest.mark.parametrize("way", ["at once", "late"])
def test_a_fresh_pair_is_made_and_rated(page: Any, votes: Votes, way: str) -> None:
    if way == "late":
        page.route("**/run/predict", late(page))
    make_pair(page)
    rate(page, votes)


def test_a_fresh_pair_is_rated_after_a_reload(visit: Visit, votes: Votes) -> None:
    page = visit()  # not `page`: of a reload the toolkit complains in the console
    make_pair(page)
    page.reload()
    open_tab(page, "Rate")
    page.wait_for_selector("#rate-player video")
    assert page.input_value("#rate-source input").startswith("A new pair: with and without")
    rate(page, votes)
    assert not page.is_visible("#rate-next")  # the next one has to be made
    page.click("#rate-make")
    wait_for_text(page, "#rate-player", "No pair yet")
