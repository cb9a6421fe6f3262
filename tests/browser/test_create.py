"""The first tab in a real browser, on tiny random models: panels fill in order, Stop stops, mistakes are said."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from hands import PANEL, Visit, open_options, open_tab, turn, wait_for_text, watch_states
from page_toys import PROMPT

from mpl.config import STAGES
from mpl.video import read_recipe, read_video, sniff, write_video

DROP = """([data, place]) => {
    const files = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    files.items.add(new File([bytes], "made.mp4", {type: "video/mp4"}));
    const event = new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true});
    document.querySelector(place).dispatchEvent(event);
    return event.defaultPrevented;  // or the browser would open the file
}"""


def test_prompt_becomes_four_panels_and_a_file(page: Any, tmp_path: Path) -> None:
    """The whole way; then one knob turned, which runs the last stage alone again."""
    page.fill("#prompt textarea", f"{PROMPT} <b>zeppelin</b>")
    turn(page, "seed", 7)
    watch_states(page)
    page.click("#go")
    page.wait_for_selector(PANEL.format("translation", "done") + " video")
    page.wait_for_selector("#downloads a")
    seen = page.evaluate("window.seen.filter(state => !state.endsWith('waiting'))")
    assert [state for state in seen if state.endswith("done")] == [f"{stage} done" for stage in STAGES]
    assert page.locator(".stage video").count() == 4
    small = page.locator('[data-stage="keyframes"] video')
    page.wait_for_function("document.querySelector('[data-stage=keyframes] video').videoWidth")
    assert small.evaluate("v => [v.videoWidth, v.videoHeight]") == [576, 320]  # 16×8, enlarged
    assert "'zeppelin'" in page.inner_text("#notices") and page.locator("#notices b").count() == 0
    assert "seed 7" in page.inner_text("#progress")
    assert page.get_attribute("[role=progressbar]", "aria-valuenow") == "100"

    with page.expect_download() as waiting:
        page.click("#downloads a[download$=mp4]")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    assert read_video(file).shape == (29, 32, 64, 3)
    with page.expect_download() as waiting:
        page.click("#downloads a[download$=json]")
    recipe = json.loads(Path(waiting.value.path()).read_text())
    assert recipe["seed"] == 7 and recipe == read_recipe(file)
    with page.expect_download() as waiting:
        page.click("#downloads a[download$=gif]")
    assert sniff(waiting.value.path()) == "gif"

    turn(page, "translation-strength", 0.3)
    wait_for_text(page, "#translation-hint", "timestep 300 ")
    page.click("#go")
    wait_for_text(page, "#progress", "3 of 4 stages kept")
    states = page.eval_on_selector_all(".stage", "panels => panels.map(panel => panel.dataset.state)")
    assert states == ["kept", "kept", "kept", "done"]


def test_stop_ends_the_run_and_keeps_what_is_finished(page: Any) -> None:
    open_options(page)
    turn(page, "interpolation-steps", 900)
    turn(page, "seed", 1)
    page.click("#go")
    page.wait_for_selector(PANEL.format("interpolation", "running") + " img.strip")
    page.click("#stop")
    page.wait_for_selector(PANEL.format("interpolation", "stopped"))
    page.wait_for_selector("#go:enabled")
    assert "Stopped in Interpolation after step" in page.inner_text("#progress")
    assert "of 6300" in page.inner_text(PANEL.format("interpolation", "stopped"))  # 7 gaps, one after another
    assert page.locator(PANEL.format("keyframes", "done") + " video").count() == 1
    assert page.locator("#downloads a").count() == 4

    turn(page, "interpolation-steps", 2)  # the page goes on: keyframes are kept
    page.click("#go")
    page.wait_for_selector(PANEL.format("translation", "done") + " video")
    page.wait_for_selector(PANEL.format("keyframes", "kept"))


def test_a_reload_finds_the_run_again(visit: Visit) -> None:
    page = visit()  # its console is not looked at: a reload breaks connections off
    open_options(page)
    turn(page, "interpolation-steps", 900)  # long enough to outlast a reload on any machine
    turn(page, "seed", 12)
    page.click("#go")
    page.wait_for_selector(PANEL.format("interpolation", "running") + " img.strip")
    page.reload()
    page.wait_for_selector(PANEL.format("interpolation", "running") + " img.strip")
    page.wait_for_selector(PANEL.format("keyframes", "done") + " video")
    page.wait_for_selector("#go:disabled")
    page.click("#stop")
    page.wait_for_selector(PANEL.format("interpolation", "stopped"))
    page.wait_for_selector("#go:enabled")

    other = visit()  # somebody else sees nothing of it
    other.wait_for_timeout(500)
    assert other.locator("[data-state=shipped]").count() == 4


def test_a_video_of_ones_own_is_painted_anew_and_restored(page: Any, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 48, 3), np.uint8)
    own = write_video(tmp_path / "own.mp4", frames, 8.0)
    page.click("#entry button")
    data = base64.b64encode(own.read_bytes()).decode()
    page.wait_for_selector("#start-at")
    assert page.evaluate(DROP, [data, "#start-at"])  # beside its place
    page.wait_for_selector("#source .file-preview")
    wait_for_text(page, "#estimate", "depends on your video")
    page.fill("#prompt textarea", PROMPT)
    turn(page, "seed", 31)
    turn(page, "translation-strength", 0.45)
    page.click("#go")
    page.wait_for_selector(PANEL.format("translation", "done") + " video")
    states = page.eval_on_selector_all(".stage", "panels => panels.map(panel => panel.dataset.state)")
    assert states == ["given", "given", "given", "done"]
    with page.expect_download() as waiting:
        page.click("#downloads a[download$=mp4]")
    made = tmp_path / "made.mp4"
    waiting.value.save_as(made)
    assert len(read_video(made)) == 5

    turn(page, "translation-strength", 0.8)
    turn(page, "seed", 2)
    data = base64.b64encode(made.read_bytes()).decode()
    assert page.evaluate(DROP, [data, "#source"])  # which holds one already
    page.wait_for_timeout(300)
    assert page.locator("#seed input").input_value() == "2"
    open_tab(page, "History")
    assert page.evaluate(DROP, [data, "#title"])  # anywhere on the page
    wait_for_text(page, "#notices", "Every knob is set as it was, but it began from a given video")
    assert page.locator("#seed input").input_value() == "31"
    assert page.locator("#translation-strength input[type=number]").input_value() == "0.45"
    assert page.locator("#source .file-preview").count() == 0  # it was of another run


def test_a_link_opens_the_page_as_it_was(visit: Visit, address: str) -> None:
    query = "?prompt=a+blue+boat&seed=77&translation.strength=0.6"
    page = visit(query, permissions=["clipboard-read", "clipboard-write"])
    page.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a blue boat'")
    wait_for_text(page, "#translation-hint", "timestep 600 ")
    page.click("#link")
    page.wait_for_selector("text=The link is copied")
    page.wait_for_timeout(200)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == address + query

    page.fill("#prompt textarea", PROMPT)  # a run of one's own is found again by a reload, and not the link
    page.click("#go")
    page.wait_for_function("location.search == ''")
    page.wait_for_selector(PANEL.format("translation", "done") + " video")
    page.reload()
    page.wait_for_function("text => document.querySelector('#prompt textarea')?.value == text", arg=PROMPT)
    assert page.locator("#seed input").input_value() == "77"


def test_mistakes_are_said_before_any_work(page: Any) -> None:
    page.fill("#prompt textarea", "   ")
    page.click("#go")
    page.wait_for_selector("#notices [role=alert]")
    assert "prompt is empty" in page.inner_text("#notices")
    page.fill("#prompt textarea", PROMPT)
    open_options(page)
    turn(page, "keyframes-steps", 0)
    page.click("#go")
    wait_for_text(page, "#notices", "keyframes.steps = 0")
    assert page.locator("[data-state=shipped]").count() == 4  # untouched
    assert page.locator("#go").is_enabled()

    page.click("#preset input")
    page.click("[role=option]:has-text('show1')")
    wait_for_text(page, "#notices", "showlab/show-1-base")


def test_nothing_is_wider_than_a_phone(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ids = ["prompt", "go", "progress", "seed", "stages", "knobs"]
    tops = [page.locator(f"#{each}").bounding_box()["y"] for each in ids]
    assert tops == sorted(tops)


def test_a_phone_shows_what_is_said_without_scrolling(visit: Visit) -> None:
    page = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.fill("#prompt textarea", "")
    page.tap("#go")
    wait_for_text(page, "#notices", "prompt is empty")
    for part in ("#notices", "#progress"):
        box = page.locator(part).bounding_box()
        assert page.evaluate("scrollY") == 0 and box["y"] + box["height"] <= 844
