"""What a person does on the page, for tests in a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Visit = Callable[..., Any]  # as the fixture of this name
PANEL = '[data-stage="{}"][data-state="{}"]'


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
    """Types a value into a field of one line, or the number beside a slider."""
    field = page.locator(f"#{key} input:not([type=range])")
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
    page.wait_for_function("([at, text]) => document.querySelector(at)?.innerText.includes(text)", arg=[selector, text])


def open_tab(page: Any, name: str) -> None:
    page.click(f'button[role=tab]:has-text("{name}")')
