"""The page in a real browser, on tiny random models: the panels fill in order, Stop stops, mistakes are said.

Also the endpoint for programs, `app.py` itself, and what the page's room may import.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.config import STAGES, Preset, override, to_toml
from mpl.video import read_recipe, read_video, sniff, write_video

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt install chromium)")
PROMPT = "a red car at the sea"
DROP = """data => {
    const files = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    files.items.add(new File([bytes], "made.mp4", {type: "video/mp4"}));
    document.querySelector("#title").dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true}));
}"""
PANEL = '[data-stage="{}"][data-state="{}"]'


@pytest.fixture(scope="module")
def preset(tiny_folder: Path) -> Preset:
    """Tiny models, 8 keyframes and 29 frames as in the real presets."""
    from tiny import tiny_preset

    changes = {"keyframes.frames": 8, "interpolation.between": 3, "weights.superres_first_frame": None}
    return override(tiny_preset(tiny_folder), changes)


@pytest.fixture(scope="module")
def address(preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the page, in this process."""
    from mpl.engine import Engine
    from mpl.store import StageCache
    from mpl.ui.desk import Desk
    from mpl.ui.page import build, launch

    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        desk = Desk(Engine(StageCache(folder / "stages")), preset, folder / "out")
        page = build(desk, preset)
        _, url, _ = launch(page, desk, prevent_thread_lock=True, quiet=True, server_port=free_port())
        yield url
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page, opened by a visitor; the browser's console must stay free of errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#translation-hint .hint")  # models' files are found, schedules read
    yield page
    context.close()
    assert errors == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def watch_states(page: Any) -> None:
    """Notes in `window.seen` every state that a panel takes, in order."""
    page.evaluate("""() => {
        window.seen = [];
        const look = () => document.querySelectorAll('.stage').forEach(panel => {
            const now = panel.dataset.stage + ' ' + panel.dataset.state;
            if (!window.seen.includes(now)) window.seen.push(now);
        });
        new MutationObserver(look).observe(document.querySelector('#stages'),
            {subtree: true, attributes: true, childList: true});
    }""")


def turn(page: Any, key: str, value: object) -> None:
    """Types a value into a number field, or the number beside a slider."""
    field = page.locator(f"#{key} input[type=number]")
    for _ in range(20):  # on a busy machine the preset's own values may come after what was typed
        field.fill(str(value))
        field.press("Tab")
        page.wait_for_timeout(100)  # the toolkit takes the value over
        if field.input_value() == str(value):
            return
    assert field.input_value() == str(value)


def open_options(page: Any) -> None:
    page.click("#options button")
    page.wait_for_function(
        "() => { const fields = [...document.querySelectorAll('#options input[type=number]')];"
        " return fields.length == 8 && fields.every(field => field.value) }"
    )


def wait_for_text(page: Any, selector: str, text: str) -> None:
    page.wait_for_function("([at, text]) => document.querySelector(at).innerText.includes(text)", arg=[selector, text])


@needs_browser
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


@needs_browser
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


@needs_browser
def test_a_reload_finds_the_run_again(browser: Any, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#translation-hint .hint")
    open_options(page)
    turn(page, "interpolation-steps", 400)
    turn(page, "seed", 12)
    page.click("#go")
    page.wait_for_selector(PANEL.format("interpolation", "running") + " img.strip")
    page.reload()
    page.wait_for_selector(PANEL.format("interpolation", "running") + " img.strip")
    page.wait_for_selector(PANEL.format("keyframes", "done") + " video")
    assert not page.locator("#go").is_enabled()
    page.click("#stop")
    page.wait_for_selector(PANEL.format("interpolation", "stopped"))
    page.wait_for_selector("#go:enabled")

    other = browser.new_context().new_page()  # somebody else sees nothing of it
    other.goto(address)
    other.wait_for_selector("#translation-hint .hint")
    other.wait_for_timeout(500)
    assert other.locator("[data-state=shipped]").count() == 4
    other.context.close()
    context.close()


@needs_browser
def test_a_video_of_ones_own_is_painted_anew_and_restored(page: Any, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 24, 48, 3), np.uint8)
    own = write_video(tmp_path / "own.mp4", frames, 8.0)
    page.click("#entry button")
    page.set_input_files("#source input[type=file]", str(own))
    page.wait_for_selector("#source .file-preview")
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
    page.evaluate(DROP, data)  # anywhere on the page
    wait_for_text(page, "#notices", "Every knob is set as it was, but it began from a given video")
    assert page.locator("#seed input").input_value() == "31"
    assert page.locator("#translation-strength input[type=number]").input_value() == "0.45"
    assert page.locator("#source .file-preview").count() == 0  # it was of another run


@needs_browser
def test_a_link_opens_the_page_as_it_was(browser: Any, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{address}?prompt=a+blue+boat&seed=77&translation.strength=0.6")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value == 'a blue boat'")
    wait_for_text(page, "#translation-hint", "timestep 600 ")
    page.click("#link")
    page.wait_for_selector("text=The link is copied")
    page.wait_for_timeout(200)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"{address}?prompt=a+blue+boat&seed=77&translation.strength=0.6"
    context.close()


@needs_browser
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


@needs_browser
def test_nothing_is_wider_than_a_phone(browser: Any, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#translation-hint .hint")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    order = page.evaluate("['ask', 'result', 'knobs'].map(id => document.getElementById(id).offsetTop)")
    assert order == sorted(order)
    context.close()


def test_endpoint_for_programs(address: str) -> None:
    """A clean call, bad input in plain words, and no way around the queue."""
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    file, recipe = client.predict(prompt=PROMPT, seed=3, strength=0.4, api_name="/generate")
    assert len(read_video(file)) == 29
    assert recipe["seed"] == 3 and recipe["preset"]["translation"]["strength"] == 0.4
    for wrong, words in (
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": PROMPT, "strength": 2}, "translation.strength = 2"),
        ({"prompt": PROMPT, "preset": str(ROOT / "presets" / "quick.toml")}, "must be one of"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(**wrong, api_name="/generate")

    file, recipe = client.predict(prompt=PROMPT, api_name="/keyframes")
    assert len(read_video(file)) == 8 and list(recipe["stages"]) == ["keyframes"]
    for stage in STAGES[1:]:
        file, recipe = client.predict(video=handle_file(file), prompt=PROMPT, api_name=f"/{stage}")
        assert len(read_video(file)) == 29 and list(recipe["stages"]) == [stage]
    left, right, figures = client.predict(prompt=PROMPT, stop_after_a="superres", api_name="/compare")
    assert read_video(left).shape[2] < read_video(right).shape[2]
    assert [row["last stage"] for row in figures] == ["superres", "translation"]
    request = urllib.request.Request(
        f"{address}gradio_api/run/generate", b'{"data": []}', {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request)


def test_app_serves_the_preset_it_is_given(preset: Preset, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(to_toml(preset))
    port = free_port()
    command = [sys.executable, str(ROOT / "app.py"), "--preset", "mine.toml", "--out", "made"]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        config = wait_for(f"http://127.0.0.1:{port}/config", server)
        assert "tiny" in json.dumps(config["components"])
    finally:
        server.terminate()
        server.wait()


def test_app_refuses_bad_options_in_one_line(tmp_path: Path) -> None:
    bad = [("--preset", "none", "must be one of"), ("--out", "/dev/null/x", "cannot write there")]
    for *options, words in [*bad, ("--port", "99999", "--port = 99999: must be a whole number from 1 to 65535")]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "app.py"), *options], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 2
        assert words in done.stderr and done.stderr.count("\n") == 1


def wait_for(url: str, server: subprocess.Popen[bytes]) -> Any:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url}: no answer")
