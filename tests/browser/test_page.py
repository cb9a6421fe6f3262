"""All tabs in a real browser: for everyone, on every screen, by keyboard alone, and for several people at once."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hands import PANEL, Visit, open_tab, turn, wait_for_text
from page_toys import PROMPT

TABS = {"Create": "#stages", "Compare": "#duel-ready button", "Rate": "#rate-player video", "History": "#runs .none"}
GRAVE = ("serious", "critical")


def findings(page: Any) -> list[str]:
    """What axe-core holds to be a serious or critical barrier: its rule and where."""
    return [
        f"{found['id']}: {node['html'][:160]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_bars_anyone(visit: Visit, tab: str, dark: bool) -> None:
    theme = "dark" if dark else "light"
    page = visit(f"?__theme={theme}", viewport={"width": 1280, "height": 900}, color_scheme=theme)
    open_tab(page, tab)
    page.wait_for_selector(TABS[tab])
    for closed in page.locator(".tabitem:visible button[aria-expanded=false]:visible").all():
        closed.click()
    page.wait_for_timeout(500)
    assert findings(page) == []


@pytest.mark.parametrize("tab", TABS)
def test_nothing_is_wider_than_a_phone(visit: Visit, tab: str) -> None:
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    open_tab(page, tab)
    page.wait_for_selector(TABS[tab])
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_two_people_share_the_machine_and_nothing_else(visit: Visit) -> None:
    """Both ask at once: one waits for the other; neither sees the other's run, history or seed."""
    pages = []
    for seed in (21, 22):
        page = visit()
        page.fill("#prompt textarea", f"{PROMPT} {seed}")
        turn(page, "seed", seed)
        pages.append(page)
    for page in pages:
        page.click("#go")
    for page, seed, other in zip(pages, (21, 22), (22, 21), strict=True):
        page.wait_for_selector(PANEL.format("translation", "done") + " video")
        wait_for_text(page, "#progress", f"seed {seed}")
        open_tab(page, "History")
        page.wait_for_selector(".card")
        assert page.locator(".card").count() == 1
        assert f"seed {seed}" in page.inner_text(".card") and f"seed {other}" not in page.inner_text(".card")
    sources = [page.get_attribute(".card video", "src") for page in pages]
    assert sources[0].split("/")[-2] != sources[1].split("/")[-2]


def test_two_windows_of_one_browser_are_one_visitor(visit: Visit) -> None:
    """Opened at the same time, before either is known: what one makes, the other finds."""
    first = visit()
    context = first.context
    context.clear_cookies()
    first.evaluate("localStorage.clear()")
    windows = [first, context.new_page()]
    for window in windows:
        window.goto(first.url, wait_until="commit")
    for window in windows:
        window.wait_for_selector("#translation-hint .hint")
        window.wait_for_timeout(1000)  # they agree half a second after they have opened
    for window in windows:
        window.fill("#prompt textarea", PROMPT)
    windows[0].click("#go")
    windows[0].wait_for_selector(PANEL.format("translation", "done") + " video")
    windows[1].click('button[role=tab]:has-text("History")')
    windows[1].wait_for_selector(".card")


def test_the_result_stays_in_sight_of_the_knobs(visit: Visit) -> None:
    page = visit(viewport={"width": 1280, "height": 700})
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    top, bottom = page.eval_on_selector(
        "#result", "part => [part.getBoundingClientRect()].flatMap(r => [r.top, r.bottom])"
    )
    knobs = page.eval_on_selector("#knobs", "part => part.getBoundingClientRect().bottom")
    assert bottom > 300 and (top > -1 or bottom == pytest.approx(knobs, abs=2))


@pytest.mark.parametrize("width", [820, 960, 1100])
def test_nothing_leaves_its_column(visit: Visit, width: int) -> None:
    page = visit(viewport={"width": width, "height": 900})
    spilt = page.evaluate("""() => {
        const right = (part) => part.getBoundingClientRect().right;
        const out = (box, inside) => [...box.querySelectorAll(inside)]
            .filter((part) => part.checkVisibility() && right(part) > right(box) + 1)
            .map((part) => part.id || part.className || part.tagName);
        const boxes = [["#ask", "button, input, textarea"], ["#stages > *", "figcaption > *, video"]];
        return boxes.flatMap(([around, inside]) => [...document.querySelectorAll(around)]
            .filter((box) => getComputedStyle(box).display != "contents").flatMap((box) => out(box, inside)));
    }""")
    assert spilt == []


def test_whatever_has_the_focus_shows_it(visit: Visit) -> None:
    page = visit()
    for part in ("#prompt textarea", "#seed input", "#no-noise input", "#translation-strength input[type=range]"):
        page.locator(part).focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert page.locator(part).evaluate(
            "part => part === document.activeElement && getComputedStyle(part).outlineStyle == 'solid'"
        ), part


@pytest.mark.parametrize("wish", ["no-preference", "reduce"])
def test_all_motion_can_be_stopped(visit: Visit, wish: str) -> None:
    """By the button, and from the start for those whose system asks for less of it."""
    page = visit(reduced_motion=wish)
    if wish == "no-preference":
        assert not still(page)
        page.click("#motion")
    assert still(page) and page.inner_text("#motion") == "Play all videos"
    page.fill("#prompt textarea", PROMPT)
    page.click("#go")
    page.wait_for_selector('[data-stage="translation"] video')
    open_tab(page, "Rate")
    page.wait_for_selector("#rate-player .mpl-player[data-settled=true]")
    assert still(page)
    page.click("#motion")
    page.wait_for_function("document.querySelector('#rate-player .mpl-player').dataset.playing == 'true'")
    open_tab(page, "Create")
    page.wait_for_function("[...document.querySelectorAll('.stage video')].every(video => !video.paused)")


def still(page: Any) -> bool:
    """Whether nothing on the page moves by itself."""
    return page.evaluate("""() => [...document.querySelectorAll('video')].every(video => video.paused)
        && [...document.querySelectorAll('.mpl-player')].every(player => player.dataset.playing != 'true')
        && document.getAnimations().filter(one => one.effect.target.matches('.strip')).every(
            one => one.playState == 'paused')""")


def test_a_video_is_made_by_keyboard_alone(page: Any) -> None:
    """From the top of the page: Tab leads to the prompt, to the button, and over the tabs to the result."""
    focus(page, "document.activeElement.closest('#prompt')")
    page.keyboard.press("Control+a")
    page.keyboard.type(PROMPT)
    focus(page, "document.activeElement.id == 'go'")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-stage=translation] video")  # made, or kept of an earlier run
    focus(page, "document.activeElement.innerText.trim() == 'Compare'", back=True)
    page.keyboard.press("Enter")
    page.wait_for_selector("#duel-ready button:visible")


def focus(page: Any, condition: str, back: bool = False) -> None:
    """Tab until the focus is where it should be."""
    for _ in range(60):
        if page.evaluate(f"!!({condition})"):
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    pytest.fail(f"60 times Tab, and never {condition}")
