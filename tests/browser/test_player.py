"""The player in a real browser, over videos whose every frame tells its number by its grey."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.ui.player import Arm, Unready, player, unready_player
from mpl.video import write_video

UI = Path(__file__).resolve().parents[2] / "mpl" / "ui"
SPEEDS = ["0.25", "0.5", "1", "2"]
SHADE = 8  # grey levels between one frame and the next
A = Arm('expert <i>on</i> & "more"', "aaaaaaaa.mp4", 29, 8, 128, 72)
B = Arm("no expert", "bbbbbbbb.mp4", 29, 7, 128, 72)
KEYFRAMES = Arm("keyframes", "cccccccc.mp4", 8, 2, 64, 40)
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
STILL = {"reduced_motion": "reduce"}  # begins paused
PLAYER = ".mpl-player"
SHOWN = """const shown = video => {
    const canvas = new OffscreenCanvas(8, 8), brush = canvas.getContext('2d');
    brush.drawImage(video, 0, 0, 8, 8);
    return Math.round(brush.getImageData(4, 4, 1, 1).data[0] / SHADE) - 1;
};""".replace("SHADE", str(SHADE))
# What both arms show, at every turn of the browser, until B has said and shown so many different frames.
WATCH = """wanted => new Promise(done => {
    SHOWN
    const root = document.querySelector('.mpl-player'), videos = [...root.querySelectorAll('video')];
    const said = [], seen = [];
    const look = () => {
        said.push([Number(root.dataset.frameA), Number(root.dataset.frameB)]);
        seen.push(videos.map(shown));
        const full = [said, seen].every(pairs => new Set(pairs.map(pair => pair[1])).size >= wanted);
        full ? done({said, seen}) : requestAnimationFrame(look);
    };
    look();
})""".replace("SHOWN", SHOWN)
TURNS = "new Promise(done => { let left = 40; const go = () => --left ? requestAnimationFrame(go) : done(); go(); })"
# How Gradio's HTML part takes new HTML over: element by element, in place.
PATCH = """([root, html]) => {
    const patch = (old, fresh) => {
        if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh.cloneNode(true));
        if (old.nodeType === Node.TEXT_NODE) { old.textContent = fresh.textContent; return; }
        for (const {name} of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
        for (const {name, value} of fresh.attributes) {
            if (old.getAttribute(name) !== value) old.setAttribute(name, value);
        }
        const before = [...old.childNodes], after = [...fresh.childNodes];
        for (let i = 0; i < Math.max(before.length, after.length); i++) {
            if (!before[i]) old.appendChild(after[i].cloneNode(true));
            else if (!after[i]) before[i].remove();
            else patch(before[i], after[i]);
        }
    };
    const holder = document.createElement('div');
    holder.innerHTML = html;
    patch(root, holder.firstElementChild);
}"""


@pytest.fixture(scope="module", autouse=True)
def videos(served: tuple[Path, str]) -> None:
    for arm in (A, B, KEYFRAMES):
        grey = SHADE * (1 + np.arange(arm.frames))[:, None, None, None]
        frames = np.broadcast_to(grey, (arm.frames, arm.height, arm.width, 3)).astype(np.uint8)
        write_video(served[0] / arm.address, frames, arm.fps)


@pytest.fixture
def show(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Opens a page with some players' HTML; all of them show a frame when it returns."""

    def show(*parts: str, settled: bool = True, **options: Any) -> Any:
        style, script = ((UI / f"player.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        page = open_page(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Player</title>'
            '<meta name="viewport" content="width=device-width"><style>body { --accent: #a8421f; margin: 12px }'
            f"{style}</style>"
            f"{''.join(parts)}<script>({script})()</script>",
            **options,
        )
        if settled:
            for root in page.locator(PLAYER).all():
                wait(root, "root.dataset.frameA !== undefined && (root.dataset.frameA + root.dataset.frameB)")
        return page

    return show


def wait(root: Any, condition: str) -> None:
    """Until a condition holds of `root`."""
    root.page.wait_for_function(f"root => {condition}", arg=root.element_handle())


def wait_for_frame(root: Any, index: int, other: int | None = None) -> None:
    """Until A shows a frame, and B the same one or `other`."""
    a, b = index, index if other is None else other
    wait(root, f"root.dataset.settled === 'true' && root.dataset.frameA === '{a}' && root.dataset.frameB === '{b}'")


def data(root: Any) -> dict[str, str]:
    return root.evaluate("root => ({...root.dataset})")


def choose(root: Any, key: str, value: str) -> None:
    root.locator(f"[data-key={key}][value='{value}']").check(force=True)  # the text lies over it


def apart(a: int, b: int, count: int = 29) -> int:
    """Frames between two of a loop."""
    return min((a - b) % count, (b - a) % count)


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


# ---- manners


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
    assert "onerror" not in page.locator("video").first.evaluate("it => it.getAttributeNames().join()")


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
