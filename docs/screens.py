"""Takes the README's pictures of the page: `python docs/screens.py`, a few minutes on two cores; needs a Chromium."""

from __future__ import annotations

from typing import Any

from serve import ROOT, browse, serve

SIZE = {"width": 1240, "height": 900}
PROMPT = "a red car moves right in a meadow"


def create(page: Any) -> None:
    page.fill("#prompt textarea", PROMPT)
    page.click("#go")
    page.wait_for_selector("[data-stage=translation][data-state=done] video")
    page.wait_for_selector("#downloads a")


def compare(page: Any) -> None:
    page.fill("#duel-prompt textarea", PROMPT)
    page.click('#duel-ready button[data-key="expert"]')
    page.wait_for_selector("#duel-figures tbody tr")
    page.wait_for_selector("#duel-stop:disabled")
    page.wait_for_selector('#duel-player [data-arm="b"] video')
    page.evaluate("document.querySelector('#duel-progress').scrollIntoView()")


def rate(page: Any) -> None:
    page.wait_for_selector("#rate-player .mpl-player[data-settled=true]")
    for question, answer in (("quality", "A"), ("alignment", "no difference"), ("motion", "A")):
        page.locator(f"#rate-{question} label").get_by_text(answer, exact=True).click()


def history(page: Any) -> None:
    page.wait_for_selector(".card video")
    for video in page.locator(".card video").all():
        video.evaluate("video => { video.currentTime = 1.5; }")


TABS = {"Create": create, "Compare": compare, "Rate": rate, "History": history}


def main() -> None:
    with serve() as server, browse() as browser:
        page = browser.new_context(viewport=SIZE).new_page()
        page.set_default_timeout(600_000)
        page.goto(server.address)
        page.wait_for_selector("#translation-hint .hint")
        for name, act in TABS.items():
            page.click(f'button[role=tab]:has-text("{name}")')
            page.wait_for_timeout(1000)  # what it shows first is there
            act(page)
            page.wait_for_timeout(1500)
            page.screenshot(path=ROOT / "docs" / f"{name.lower()}.jpg", quality=80, type="jpeg")
            print(f"docs/{name.lower()}.jpg", flush=True)


if __name__ == "__main__":
    main()
