"""The history in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from hands import Visit, turn
from page_toys import PROMPT


def test_a_run_is_played_used_restored_and_deleted(visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 900})  # not `page`: of a reload the console complains
    page.fill("#prompt textarea", PROMPT)
    turn(page, "seed", 41)
    page.click("#go")
    open_history(page)  # while it runs: its card comes by itself
    assert "seed 41 · " in page.inner_text(".card") and "all four stages" in page.inner_text(".card")
    page.wait_for_function(
        "() => { const time = document.querySelector('.card time'); return time.title.endsWith('UTC') &&"
        " time.textContent == new Intl.DateTimeFormat('en-GB', {dateStyle: 'long', timeStyle: 'short'})"
        ".format(new Date(time.dateTime)); }"
    )
    video = page.locator(".card video")
    video.evaluate("video => video.play()")  # what its own button does
    page.wait_for_function("document.querySelector('.card video').currentTime > 0")

    page.reload()
    page.wait_for_selector("#translation-hint .hint")
    page.fill("#prompt textarea", "a blue boat")
    open_history(page)
    page.click(".card [data-act=use]")
    page.wait_for_selector("#source .file-preview")
    assert page.is_visible("#source") and page.is_checked("#start-at input[value=translation]")
    assert page.input_value("#prompt textarea") == PROMPT
    page.click("#go")
    page.wait_for_selector("[data-stage=superres][data-state=given]")
    page.wait_for_selector("[data-stage=translation][data-state=done] video")
    page.wait_for_selector("#go:enabled")  # the run has said its last word

    turn(page, "seed", 2)
    open_history(page, 2)
    page.click(".card:last-child [data-act=restore]")
    page.wait_for_function("document.querySelector('#seed input').value == '41'")
    page.wait_for_selector("#source .file-preview", state="detached")  # else it would be another video
    assert "Every knob is set" in page.inner_text("#notices")

    open_history(page, 2)
    first = page.locator(".card video").first
    first.evaluate("video => { video.currentTime = 1; video.play(); }")
    page.wait_for_function("document.querySelector('.card video').currentTime > 1")
    for left in (1, 0):
        page.click(".card:last-child [data-act=delete]")
        page.wait_for_selector('.card [data-act=delete]:has-text("Really delete?")')
        assert page.locator(".card").count() == left + 1  # nothing yet
        page.click(".card:last-child [data-act=delete]")
        page.wait_for_function("left => document.querySelectorAll('.card').length == left", arg=left)
        focused = "[data-act=delete]" if left else "[role=tab]"  # a keyboard goes on where it was
        page.wait_for_function("what => document.activeElement.matches(what)", arg=focused)
        if left:  # the card that stays is a new one, whose video goes on
            page.wait_for_function("document.querySelector('.card video').currentTime > 1")
            assert not first.evaluate("video => video.paused")
    page.wait_for_selector("#runs .none")
    width = page.evaluate("document.querySelector('#tabs').offsetWidth")
    assert width > 1000  # the page keeps its width with nothing in it


def test_a_press_on_delete_as_other_cards_come_is_none(visit: Visit) -> None:
    """A run that ends puts its card first: what lies under the pointer then is another run."""
    page = visit()
    page.click('button[role=tab]:has-text("History")')
    page.wait_for_selector("#runs .none")
    armed = page.evaluate("""async () => {
        const none = document.querySelector('#runs .none'), home = none.parentElement;
        const card = name => `<article class='card'><button data-act=delete data-run=${name}>Delete</button></article>`;
        const press = () => {
            const button = home.querySelector('[data-run=new]');
            button.click();
            return button.dataset.sure ?? 'no';
        };
        none.outerHTML = card('old');
        await new Promise(requestAnimationFrame);
        home.querySelector('.card').insertAdjacentHTML('beforebegin', card('new'));
        await new Promise(requestAnimationFrame);
        const atOnce = press();
        await new Promise(resolve => setTimeout(resolve, 800));
        return [atOnce, press()];
    }""")
    assert armed == ["no", "yes"]


@pytest.mark.parametrize(("width", "columns"), [(375, 1), (800, 2), (1280, 3)])
def test_cards_fit_the_screen(visit: Visit, width: int, columns: int) -> None:
    page = visit(viewport={"width": width, "height": 800})
    page.click('button[role=tab]:has-text("History")')
    page.wait_for_selector("#runs .none")
    html = "<div class='cards'>" + "<article class='card'><video></video><h2>a car</h2></article>" * 4 + "</div>"
    page.evaluate("html => document.querySelector('#runs .none').outerHTML = html", html)
    lefts = page.eval_on_selector_all(".card", "cards => cards.map(card => Math.round(card.offsetLeft))")
    assert len(set(lefts)) == columns
    assert page.evaluate("document.documentElement.scrollWidth") == width


def open_history(page: Any, count: int = 1) -> None:
    page.click('button[role=tab]:has-text("History")')
    page.wait_for_function("count => document.querySelectorAll('.card').length == count", arg=count)
