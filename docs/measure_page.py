"""Measures the page: `python docs/measure_page.py`, a few minutes on two quiet cores; needs a Chromium.

Prints one line of JSON per figure (names of figures as arguments choose some):
- opening: from a browser's first request of a fresh server to a page that can be used, and to the end of the page's
  first event; the processor time that the server spent on it, models cold; the same for the next visitors;
- slider: from the press on the button after a slider's change to the first new preview, models warm;
- memory: the most that the server's process has held, models and page, over three whole videos;
- sessions: 50 programs that ask at once, each for keyframes of its own; what the server holds before and after.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve import Server, browse, serve

SESSIONS = 50
READY = "#go:enabled"
SETTLED = "#translation-hint .hint"  # the page's first event is over
WATCH = """() => {
    const images = () => [...document.querySelectorAll('[data-stage=translation] img')].map((image) => image.src);
    const before = new Set(images());
    window.previewed = new Promise((done) => {
        const look = () => images().some((image) => !before.has(image)) ? done(performance.now()) : setTimeout(look, 5);
        look();
    });
}"""


def say(figure: str, **values: Any) -> None:
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({"figure": figure} | rounded), flush=True)


def open_page(browser: Any, server: Server) -> dict[str, float]:
    """Seconds until a new visitor's page can be used, and of the processor for the server's part in it."""
    page = browser.new_context().new_page()
    spent, started = server.processor_s, time.monotonic()
    page.goto(server.address, wait_until="commit")
    page.wait_for_selector(READY)
    usable = time.monotonic() - started
    page.wait_for_selector(SETTLED)
    settled = time.monotonic() - started
    page.wait_for_timeout(500)
    page.context.close()
    return {"usable_s": usable, "first_event_over_s": settled, "server_s": server.processor_s - spent}


def opening(browser: Any) -> None:
    with serve() as server:
        first = open_page(browser, server)
        later = [open_page(browser, server) for _ in range(5)]
    say("opening, first visitor", server_start_s=server.seconds, **first)
    say("opening, later visitors, median of 5", **{key: statistics.median(one[key] for one in later) for key in first})


def slider(browser: Any) -> None:
    with serve() as server:
        page = browser.new_context().new_page()
        page.set_default_timeout(300_000)
        page.goto(server.address)
        page.wait_for_selector(SETTLED)
        page.click("#go")
        page.wait_for_selector("[data-stage=translation][data-state=done] video")
        found = []
        for strength in ("0.3", "0.4", "0.5"):
            page.wait_for_selector(READY)
            field = page.locator("#translation-strength input[type=number]")
            field.fill(strength)
            field.press("Tab")
            page.wait_for_timeout(500)
            page.evaluate(WATCH)
            pressed = page.evaluate("() => { document.querySelector('#go').click(); return performance.now(); }")
            found.append((page.evaluate("window.previewed") - pressed) / 1000)
            page.wait_for_selector("[data-stage=translation][data-state=done] video")
    say("slider to first preview", seconds=found)


def session(address: str, number: int) -> bool:
    """One program's whole visit; whether it was given what it asked for."""
    from gradio_client import Client

    client = Client(address, verbose=False)
    prompt = f"a red car, number {number}"
    _, recipe = client.predict(prompt=prompt, seed=number, api_name="/keyframes")
    return recipe["prompt"] == prompt and recipe["seed"] == number


def sessions() -> None:
    with serve() as server:
        session(server.address, 0)
        before, started = server.memory_mb, time.monotonic()
        with ThreadPoolExecutor(SESSIONS) as pool:
            right = list(pool.map(lambda n: session(server.address, n), range(1, SESSIONS + 1)))
        seconds = time.monotonic() - started
        time.sleep(5)
        after = server.memory_mb
    say("sessions", asked=SESSIONS, right=sum(right), seconds=seconds, before_mb=before, after_mb=after)


def memory() -> None:
    from gradio_client import Client

    with serve() as server:
        before, client = server.memory_mb, Client(server.address, verbose=False)
        peaks = []
        for seed, prompt in enumerate(("a red balloon rises in a sunny sky", "a spotted fish", "a car at night")):
            client.predict(prompt, seed=seed, api_name="/generate")
            peaks.append(server.peak_mb)
    say("memory", started_mb=before, peak_mb_after_each_video=peaks)


def main() -> None:
    asked = sys.argv[1:] or ["opening", "slider", "memory", "sessions"]
    with browse() as browser:
        if "opening" in asked:
            opening(browser)
        if "slider" in asked:
            slider(browser)
    if "memory" in asked:
        memory()
    if "sessions" in asked:
        sessions()


if __name__ == "__main__":
    main()
