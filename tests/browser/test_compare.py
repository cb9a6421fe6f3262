"""The tab of comparisons in a real browser."""

from __future__ import annotations

from typing import Any

from page_toys import PROMPT

from mpl.config import STAGES


def test_a_ready_comparison_plays_in_step(page: Any) -> None:
    page.click('button[role=tab]:has-text("Compare")')
    page.wait_for_selector('#duel-ready button[data-key="published"]:disabled')  # said once the page is open
    page.fill("#duel-prompt textarea", PROMPT)
    page.click('#duel-ready button[data-key="expert"]')
    page.wait_for_selector('.mpl-player [data-arm="b"] video')
    page.wait_for_selector("#duel-figures table")
    page.wait_for_function(
        "document.querySelector('.mpl-player').dataset.frameB === document.querySelector('.mpl-player').dataset.frameA"
    )
    before = page.get_attribute(".mpl-player", "data-frame-a")
    page.focus(".mpl-player .scrubber")
    page.keyboard.press("k")
    page.keyboard.press(".")
    page.wait_for_function("document.querySelector('.mpl-player').dataset.settled === 'true'")
    after = page.get_attribute(".mpl-player", "data-frame-a")
    assert after == page.get_attribute(".mpl-player", "data-frame-b") and after != ""
    assert before is not None
    page.wait_for_selector("#duel-stop:disabled")  # nothing is left running
    assert STAGES[-1] in page.inner_text("#duel-figures")
