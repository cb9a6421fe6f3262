"""The report in a real browser: by day on a phone, by night on a desk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import report_toys as toys
from axe_playwright_python.sync_playwright import Axe

from mpl.evaluation.report.build import build
from mpl.evaluation.report.page import page
from mpl.evaluation.report.reading import read_results


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
def test_it_opens_without_errors_overflow_or_barriers(width: int, scheme: str, browser: Any, tmp_path: Path) -> None:
    for i, result in enumerate((toys.storybook(), toys.ablation(), toys.published(), toys.published("prompts120"))):
        toys.write(tmp_path / f"result{i}", result)
    path = tmp_path / "report.html"
    path.write_text(page(build(read_results([tmp_path]))), encoding="utf-8")
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    errors: list[str] = []
    view.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    view.on("pageerror", lambda error: errors.append(str(error)))
    view.goto(path.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert view.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert view.locator("svg[role=img]").count() == 4 and view.locator("h1").count() == 1
    found = Axe().run(view).response["violations"]
    assert [(x["id"], [node["html"] for node in x["nodes"]][:3]) for x in found] == []
    view.close()
    assert errors == []
