"""The player in a real browser: what it does unasked, beside others, on a phone, and the words that it shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from player_toys import (  # noqa: F401
    KEYFRAMES,
    PATCH,
    PHONE,
    PLAYER,
    STILL,
    TURNS,
    A,
    B,
    choose,
    data,
    show,
    videos,
    wait,
    wait_for_frame,
)

from mpl.ui.player import Unready, player, unready_player


def test_motion_waits_where_it_is_not_wanted_and_stops_when_told(show: Callable[..., Any]) -> None:
    page = show(player(A, B), **STILL)
    assert data(page.locator(PLAYER))["playing"] == "false"
    page = show(player(A, B), player(A, B))
    assert [data(root)["playing"] for root in page.locator(PLAYER).all()] == ["true", "true"]
    page.evaluate("document.dispatchEvent(new CustomEvent('mpl:pause'))")
    assert [data(root)["playing"] for root in page.locator(PLAYER).all()] == ["false", "false"]


def test_players_out_of_sight_rest(show: Callable[..., Any]) -> None:
    """As under another tab of the page."""
    page = show(player(A, B))
    root = page.locator(PLAYER)
    hide = """root => new Promise(done => {
        root.style.display = 'none';
        new IntersectionObserver(([it]) => { if (!it.isIntersecting) requestAnimationFrame(done); }).observe(root);
    })"""
    root.evaluate(hide)
    frame = root.locator(".scrubber").input_value()
    page.evaluate(TURNS)
    assert root.locator(".scrubber").input_value() == frame
    root.evaluate("root => { root.style.display = '' }")
    wait(root, f"root.querySelector('.scrubber').value !== '{frame}'")


def test_two_players_do_not_know_each_other(show: Callable[..., Any]) -> None:
    page = show(player(A, B), player(A, B), viewport={"width": 1000, "height": 1600}, **STILL)
    first, second = page.locator(PLAYER).all()
    choose(first, "speed", "2")
    choose(first, "zoom", "4")
    choose(first, "view", "wipe")
    first.locator("[data-act=swap]").click()
    first.locator(".scrubber").fill("9")
    wait_for_frame(first, 9)
    told = data(second)
    assert (told["frameA"], told["speed"], told["zoom"], told["view"], told["swapped"]) == (
        "0",
        "1",
        "fit",
        "side",
        "false",
    )
    assert second.locator("input[type=radio]:checked").evaluate_all("all => all.map(it => it.value)") == [
        "1",
        "fit",
        "side",
    ]
    second.locator("[data-act=play]").click()
    wait(second, "root.dataset.frameB > 2")
    assert data(first)["playing"] == "false" and data(first)["frameB"] == "9"


def test_players_come_later_and_leave_nothing_running(show: Callable[..., Any]) -> None:
    count = "window.turns = 0; const ask = requestAnimationFrame.bind(window);"
    count += "window.requestAnimationFrame = it => { window.turns += 1; return ask(it); }; window.turn = ask;"
    page = show(before=lambda page: page.add_init_script(count), settled=False)
    page.evaluate("html => { document.body.innerHTML = html }", player(A, B))
    root = page.locator(PLAYER)
    wait(root, "root.dataset.frameB > 1")
    three_turns = "new Promise(done => turn(() => turn(() => turn(() => done(window.turns)))))"
    page.evaluate("window.taken = document.querySelector('.mpl-player'); taken.remove()")
    page.evaluate(three_turns)
    assert page.evaluate(three_turns) == page.evaluate(three_turns)
    page.evaluate("document.body.append(taken)")  # moved rather than removed: it goes on
    frame = data(root)["frameB"]
    wait(root, f"root.dataset.frameB !== '{frame}'")


def test_gradio_patches_one_player_into_another(show: Callable[..., Any]) -> None:
    """An arm that was not ready comes: what was chosen stays, and what was looked at. Then another pair comes."""
    page = show(unready_player(A, Unready("no expert", "Being <made>")))
    root = page.locator(PLAYER)
    assert root.locator(".note").inner_text() == "Being <made>"
    wait(root, "root.dataset.frameA > 1")
    assert root.locator(".swap").is_disabled() and root.locator("[data-key=view]").first.is_disabled()
    root.locator(".arms").press("w")
    root.locator(".arms").press("s")
    assert data(root)["view"] == "side" and data(root)["swapped"] == "false"
    choose(root, "speed", "2")
    root.locator(".scrubber").fill("20")
    wait(root, "root.dataset.frameA === '20'")
    root.evaluate("root => { root.querySelector('video').addEventListener('emptied', () => { window.loaded = true }) }")

    page.evaluate(PATCH, [root.element_handle(), player(A, B)])
    wait_for_frame(root, 20)
    assert data(root)["playing"] == "false" and data(root)["speed"] == "2"
    assert root.locator("[data-key=speed]:checked").evaluate_all("all => all.map(it => it.value)") == ["2"]
    assert not page.evaluate("window.loaded") and root.locator(".scrubber").evaluate("it => it.matches(':focus')")
    root.locator("[data-act=forward]").click()
    wait_for_frame(root, 21)
    root.locator("[data-act=swap]").click()
    assert data(root)["swapped"] == "true"  # once: no one listens any more for the player before
    choose(root, "zoom", "2")
    before = data(root)
    page.evaluate(PATCH, [root.element_handle(), player(A, B)])  # what is around it has changed
    wait_for_frame(root, 21)
    assert data(root) == before and root.locator("[data-arm=b]").get_attribute("data-side") == "left"

    page.evaluate(PATCH, [root.element_handle(), player(KEYFRAMES, KEYFRAMES)])
    wait(root, "root.dataset.playing === 'true' && root.dataset.frameA && root.dataset.frameB")
    assert data(root)["speed"] == "2" and page.locator(PLAYER).count() == 1
    page.evaluate(PATCH, [root.element_handle(), unready_player(Unready("a", "one"), Unready("b", "two"))])
    page.wait_for_selector(".console:disabled")
    assert root.locator("button:enabled").count() == 0


def test_video_that_cannot_be_played_leaves_the_other_one(show: Callable[..., Any], open_page: Any) -> None:
    page = show(player(A, replace(B, address="missing.mp4")))
    root = page.locator(PLAYER)
    wait(root, "root.dataset.frameA > 1")
    assert root.locator("[data-arm=b] .note").inner_text() == "This video cannot be played here."
    assert all("404" in error for error in open_page.errors)
    open_page.errors.clear()


@pytest.mark.parametrize("view", ["side", "wipe"])
def test_nothing_is_wider_or_smaller_than_a_finger_on_a_phone(show: Callable[..., Any], view: str) -> None:
    page = show(player(replace(A, label="long" * 40), KEYFRAMES), **PHONE, **STILL)
    root = page.locator(PLAYER)
    choose(root, "view", view)
    choose(root, "zoom", "4")
    root.locator("summary").tap()
    page.wait_for_selector("kbd:visible")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    boxes = [root.locator(f"[data-arm={letter}] .screen").bounding_box() for letter in "ab"]
    assert (boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]) == (view == "side")
    small = """all => all.map(it => it.type === 'radio' ? it.parentElement : it)
        .filter(it => it.checkVisibility()).map(it => [it.outerHTML, it.clientWidth, it.clientHeight])
        .filter(([_, width, height]) => width < 24 || height < 24)"""
    assert root.locator("button, input, summary").evaluate_all(small) == []
    outside = """all => all.filter(it => it.checkVisibility()).map(it => [it.outerHTML, it.getBoundingClientRect()])
        .filter(([_, box]) => box.left < 12 || box.right > 348.5).map(([html]) => html)"""
    assert root.locator(".segments span, button, input[type=range], .count, dd").evaluate_all(outside) == []


# ---- words


def test_labels_are_escaped_and_shown(show: Callable[..., Any]) -> None:
    page = show(player(A, B), **STILL)
    assert page.locator(".label").all_inner_texts() == [A.label, B.label]
    assert page.locator("video").first.get_attribute("aria-label") == f"Video A: {A.label}"
    assert page.locator(".facts").all_inner_texts() == ["8 fps · 128×72", "7 fps · 128×72"]


def test_addresses_cannot_leave_their_attribute() -> None:
    html = player(replace(A, address='x.mp4" onerror="alert(1)'), B)
    assert ' onerror="' not in html and "&quot; onerror=&quot;" in html


def test_blind_player_says_no_more_than_a_and_b() -> None:
    """Neither labels nor numbers; and which is A and which is B leaves no trace but the addresses themselves."""
    blind = player(A, B, blind=True)
    for word in ("expert", "no expert", "fps ·", "×72"):
        assert word not in blind
    twin = replace(B, fps=A.fps)
    there, back = (player(*arms, blind=True) for arms in ((A, twin), (twin, A)))
    nameless = [re.sub(r'src="\w+\.mp4"', "", html) for html in (there, back)]
    assert nameless[0] == nameless[1] != there
    waiting = unready_player(A, Unready("no expert", "Being made"), blind=True)
    assert "expert" not in waiting and "Being made" in waiting


def test_blind_player_refuses_names_that_tell() -> None:
    for address, words in (("expert-off.mp4", "expert-off.mp4 may give"), ("other/bbbbbbbb.mp4", "in one folder")):
        with pytest.raises(ValueError, match=words):
            player(A, replace(B, address=address), blind=True)


def test_arms_without_frames_are_refused() -> None:
    for change in ({"frames": 0}, {"fps": float("nan")}, {"width": -1}):
        with pytest.raises(ValueError, match="must be above 0"):
            replace(A, **change)
