"""The player in a real browser: both videos in step, and every control, by hand and from the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from player_toys import (  # noqa: F401
    KEYFRAMES,
    PLAYER,
    SHOWN,
    SPEEDS,
    STILL,
    TURNS,
    WATCH,
    A,
    B,
    apart,
    choose,
    data,
    show,
    videos,
    wait,
    wait_for_frame,
)

from mpl.ui.player import player

# ---- in step


@pytest.mark.parametrize("speed", SPEEDS)
def test_playing_videos_are_never_more_than_a_frame_apart(show: Callable[..., Any], speed: str) -> None:
    """Frame rates of 8 and 7, by what the player says and by what the videos show."""
    page = show(player(A, B))
    choose(page.locator(PLAYER), "speed", speed)
    samples = page.evaluate(WATCH, 4 if float(speed) < 1 else 12)
    for pairs in samples.values():
        assert len({b for _, b in pairs}) >= 4
        assert max(apart(a, b) for a, b in pairs) <= 1


def test_eight_frames_keep_step_with_twenty_nine(show: Callable[..., Any]) -> None:
    """Keyframes are frames 0, 4, …, 28: each is shown from two frames before to one after its own."""
    page = show(player(KEYFRAMES, B))
    for a, b in page.evaluate(WATCH, 29)["said"]:
        assert a in {((frame % 29) + 2) // 4 for frame in (b - 1, b, b + 1)}
    root = page.locator(PLAYER)
    for index, key in ((0, 0), (1, 0), (2, 1), (4, 1), (27, 7), (28, 7)):
        root.locator(".scrubber").fill(str(index))
        wait_for_frame(root, key, index)


def test_both_videos_show_the_frame_that_was_asked_for(show: Callable[..., Any]) -> None:
    """Scrubbing, stepping and swapping, by the pixels of both videos."""
    page = show(player(A, B), **STILL)
    root = page.locator(PLAYER)

    def check(index: int) -> None:
        wait_for_frame(root, index)
        pixels = root.evaluate(f"root => {{ {SHOWN} return [...root.querySelectorAll('video')].map(shown); }}")
        assert pixels == [index, index]
        assert root.locator(".scrubber").get_attribute("aria-valuetext") == f"frame {index + 1} of 29"
        assert root.locator(".count").all_inner_texts() == [f"{index + 1} / 29"] * 2

    check(0)
    for index in (28, 11, 12, 3):
        root.locator(".scrubber").fill(str(index))
        check(index)
    for act, index in (("forward", 4), ("back", 3), ("first", 0), ("back", 28), ("forward", 0), ("forward", 1)):
        root.locator(f"[data-act={act}]").click()
        check(index)
    root.locator("[data-act=swap]").click()
    check(1)


def test_fast_video_waits_for_the_slow_one(show: Callable[..., Any]) -> None:
    """B's arrivals are held back, as on a slow machine: A goes ahead by one frame at most."""
    hold = """addEventListener('seeked', event => {
        if (window.held && event.isTrusted && event.target.closest('[data-arm=b]')) event.stopImmediatePropagation();
    }, true)"""
    arrive = "document.querySelector('[data-arm=b] video').dispatchEvent(new Event('seeked'))"
    page = show(player(A, B), before=lambda page: page.add_init_script(hold), **STILL)
    root = page.locator(PLAYER)
    page.evaluate("held = true")
    root.locator(".scrubber").fill("5")
    wait(root, "root.dataset.frameA === '5'")
    root.locator(".scrubber").fill("9")
    video = "root.querySelector('[data-arm={}] video')"
    wait(root, f"!{video.format('b')}.seeking")
    assert root.evaluate(f"root => {video.format('a')}.currentTime") == (5 + 0.5) / A.fps
    page.evaluate(f"held = false; {arrive}")
    wait_for_frame(root, 9)

    page.evaluate("held = true")
    root.locator("[data-act=play]").click()
    wait(root, "root.dataset.frameA === '10'")
    page.evaluate(TURNS)
    assert (data(root)["frameA"], data(root)["frameB"]) == ("10", "9")
    assert root.locator(".scrubber").input_value() == "10"
    page.evaluate(f"held = false; {arrive}")
    wait(root, "root.dataset.frameB > 11")


def test_speed_is_frames_per_second_of_the_first_of_equals(show: Callable[..., Any]) -> None:
    """On a clock that is moved by hand: a frame comes when its time has come, and no earlier."""
    page = show(player(A, B), before=lambda page: page.clock.install(time=0), **STILL)
    root = page.locator(PLAYER)
    page.clock.pause_at(1_000_000)
    for index, speed in enumerate(SPEEDS):
        choose(root, "speed", speed)
        root.locator("[data-act=play]").click()
        each = 125 / float(speed)
        page.clock.run_for(16)  # the clock's first look at the time
        page.clock.run_for(each - 20)
        assert data(root)["frameA"] == str(index)
        page.clock.run_for(40)
        wait_for_frame(root, index + 1)
        root.locator("[data-act=play]").click()


# ---- hands


def test_everything_is_reached_and_used_from_the_keyboard(show: Callable[..., Any]) -> None:
    page = show(player(A, B), **STILL)
    root = page.locator(PLAYER)

    def tab_to(name: str) -> None:
        page.keyboard.press("Tab")
        assert page.evaluate(
            "(it => it.ariaLabel || it.dataset.act || it.dataset.key || it.className || it.innerText)"
            "(document.activeElement)"
        ).startswith(name)
        outline = "it => [it, it.nextElementSibling].some(one => one && getComputedStyle(one).outlineStyle === 'solid')"
        assert page.evaluate(f"({outline})(document.activeElement)"), f"no focus ring: {name}"

    tab_to("Pictures: A left, B right")
    for key, index in ((".", 1), (".", 2), (",", 1), ("End", 28), ("Home", 0)):
        page.keyboard.press(key)
        wait_for_frame(root, index)
    page.keyboard.press("Space")
    wait(root, "root.dataset.playing === 'true' && root.dataset.frameB > 2")
    page.keyboard.press("k")
    assert data(root)["playing"] == "false"

    tab_to("Timeline")
    for key, index in (("End", 28), ("ArrowLeft", 27), ("Home", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        wait_for_frame(root, index)
    tab_to("First frame")
    page.keyboard.press("Enter")
    wait_for_frame(root, 0)
    tab_to("One frame back")
    page.keyboard.press("Space")
    wait_for_frame(root, 28)
    tab_to("Play")
    page.keyboard.press("Space")
    assert data(root)["playing"] == "true"
    assert root.locator("button.play").get_attribute("aria-label") == "Pause"
    tab_to("One frame forward")
    page.keyboard.press("Enter")
    assert data(root)["playing"] == "false"
    for key, press, value in (
        ("speed", "ArrowRight", "2"),
        ("zoom", "ArrowRight", "1"),
        ("view", "ArrowRight", "wipe"),
    ):
        tab_to(key)
        page.keyboard.press(press)
        assert data(root)[key] == value
    tab_to("swap")
    page.keyboard.press("Enter")
    assert data(root)["swapped"] == "true"
    tab_to("Keys")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{PLAYER} kbd:visible")


def test_keys_are_left_alone_outside_and_with_ctrl(show: Callable[..., Any]) -> None:
    page = show("<label>Prompt <input id=prompt></label>", player(A, B), **STILL)
    root = page.locator(PLAYER)
    before = data(root)
    page.locator("#prompt").press_sequentially("skw ,.")
    assert page.locator("#prompt").input_value() == "skw ,."
    root.locator(".arms").press("Control+s")
    root.locator("[data-key=speed]:checked").press("Control+.")
    assert data(root) == before


def test_swap_changes_sides_and_keeps_names(show: Callable[..., Any]) -> None:
    page = show(player(A, KEYFRAMES), **STILL)
    root = page.locator(PLAYER)

    def left(letter: str) -> float:
        return root.locator(f"[data-arm={letter}]").bounding_box()["x"]

    root.locator(".scrubber").fill("28")
    wait_for_frame(root, 28, 7)
    assert left("a") < left("b")
    root.locator(".arms").press("s")
    assert left("b") < left("a")
    assert root.locator(".said").inner_text() == "B is on the left, A on the right"
    assert root.locator("[data-act=swap]").get_attribute("aria-pressed") == "true"
    wait_for_frame(root, 28, 7)
    root.locator(".arms").press("S")
    assert left("a") < left("b")


def test_wipe_by_keyboard_and_by_pointer(show: Callable[..., Any]) -> None:
    page = show(player(A, B), **STILL)
    root, wipe = page.locator(PLAYER), page.locator(".wipe")
    assert not wipe.is_visible()
    root.locator(".arms").press("w")
    screens = [root.locator(f"[data-arm={letter}] .screen") for letter in "ab"]
    box = screens[0].bounding_box()
    assert box == screens[1].bounding_box() == root.locator(".divider").bounding_box()

    def divided() -> float:
        line = root.locator(".divider i").bounding_box()
        return round(100 * (line["x"] + line["width"] / 2 - box["x"]) / box["width"])

    def hit(percent: float) -> str:
        """The arm that is seen there."""
        place = {"x": box["x"] + box["width"] * percent / 100, "y": box["y"] + 20}
        return page.evaluate("p => document.elementFromPoint(p.x, p.y).closest('.arm').dataset.arm", place)

    assert divided() == 50 and hit(45) == "a" and hit(55) == "b"
    for key, percent in (("ArrowRight", 51), ("Home", 0), ("End", 100), ("PageDown", 90)):
        wipe.press(key)
        assert divided() == percent
    assert wipe.get_attribute("aria-valuetext") == "90 % A, 10 % B"
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    assert divided() == 50
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 50)
    assert divided() == 25 and wipe.input_value() == "25" and hit(20) == "a"
    root.locator(".arms").press("s")
    assert divided() == 25 and hit(20) == "b" and wipe.get_attribute("aria-valuetext") == "25 % B, 75 % A"
    root.locator(".arms").press("w")
    assert not wipe.is_visible()


def test_zoom_enlarges_both_and_moves_them_together(show: Callable[..., Any]) -> None:
    """At 4 the smaller video fills the box of the larger one: 64×40 beside 128×72."""
    page = show(player(A, KEYFRAMES), viewport={"width": 800, "height": 900}, **STILL)
    root = page.locator(PLAYER)
    sizes = "root => [...root.querySelectorAll('video')].map(it => [it.clientWidth, it.clientHeight])"
    for zoom, size in (("1", [128, 72]), ("2", [256, 144]), ("4", [512, 288])):
        choose(root, "zoom", zoom)
        assert root.evaluate(sizes) == [size, size]
    scrolls = "root => [...root.querySelectorAll('.screen')].map(it => [it.scrollLeft, it.scrollTop])"
    centre = root.evaluate(scrolls)
    assert centre[0] == centre[1] and min(centre[0]) > 0
    root.locator(".arms").press("ArrowRight")
    assert root.evaluate(scrolls)[1][0] > centre[1][0]
    box = root.locator("[data-arm=b] .screen").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 2000, box["y"] + 2000)
    page.mouse.up()
    assert root.evaluate(scrolls) == [[0, 0], [0, 0]]
    smooth = "root => [...root.querySelectorAll('video')].map(it => getComputedStyle(it).imageRendering)"
    choose(root, "zoom", "fit")
    assert root.evaluate(smooth) == ["auto", "pixelated"]
