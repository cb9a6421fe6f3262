"""The history: what its cards show, what their buttons come to, for their owner alone; in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_app import PROMPT, address, browser, needs_browser, page, preset  # noqa: F401  # fixtures

from mpl.config import Preset, override, to_dict
from mpl.engine import Engine
from mpl.recipe import Files, write_files
from mpl.ui.cards import NOTHING, act, cards
from mpl.ui.desk import Desk

FRAMES = np.zeros((4, 40, 64, 3), np.uint8)
STAGE = {"seconds": 2.0, "evaluations": 4, "frames": 4, "width": 64, "height": 40, "fps": 8.0}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Engine(), Preset(), tmp_path)


def make(desk: Desk, visitor: str, stages: tuple[str, ...] = ("keyframes",), **said: Any) -> str:
    """A finished run of a visitor; its id."""
    recipe = {"prompt": "a red car", "seed": 5, "created": "2026-11-25T10:00:00+00:00", "source": None}
    preset = override(Preset(), {"translation.strength": 0.44})  # noqa: F811
    recipe |= {"stages": dict.fromkeys(stages, STAGE), "preset": to_dict(preset), **said}
    run = desk.history.new_run()
    write_files(Files(desk.history.folder(visitor)), run, FRAMES, 8.0, recipe)
    return run


def test_nobody_and_a_newcomer_see_what_will_be_here(desk: Desk) -> None:
    assert cards(desk, None) == NOTHING == cards(desk, "ann")


def test_a_card_says_what_was_made(desk: Desk) -> None:
    run = make(desk, "ann", ("keyframes", "interpolation"))
    html = cards(desk, "ann")
    assert "a red car" in html and "seed 5 · storybook · 4 frames · 64×40 · up to interpolation · took 4 s" in html
    assert f"{run}.mp4" in html and f"{run}.webm" in html and f'data-run="{run}"' in html
    assert "25 November 2026" in html and 'class="pixels"' in html


def test_a_prompt_becomes_no_html(desk: Desk) -> None:
    make(desk, "ann", prompt='<img src=x onerror="x">')
    assert "<img" not in cards(desk, "ann")


def test_delete_deletes_for_the_owner_alone(desk: Desk) -> None:
    run = make(desk, "ann")
    assert act(desk, "ben", {"act": "delete", "run": run}) == {"runs": NOTHING}
    assert run in cards(desk, "ann")
    assert act(desk, "ann", {"act": "delete", "run": run}) == {"runs": NOTHING}
    assert not any(desk.history.folder("ann").iterdir())


def test_restore_sets_the_form(desk: Desk) -> None:
    found = act(desk, "ann", {"act": "restore", "run": make(desk, "ann")})
    assert (found["prompt"], found["seed"], found["translation.strength"], found["tab"]) == (
        "a red car",
        5,
        0.44,
        "create",
    )


@pytest.mark.parametrize(
    ("stages", "into"),
    [
        (("keyframes",), "interpolation"),
        (("keyframes", "interpolation"), "superres"),
        (("superres",), "translation"),
        (("translation",), "translation"),
    ],
)
def test_a_run_goes_into_the_stage_after_its_last(desk: Desk, stages: tuple[str, ...], into: str) -> None:
    run = make(desk, "ann", stages)
    found = act(desk, "ann", {"act": "use", "run": run})
    assert (found["start_at"], Path(found["source"]).name, found["tab"]) == (into, f"{run}.mp4", "create")


@pytest.mark.parametrize("button", [{}, {"act": "restore", "run": "../../etc"}, {"act": "use", "run": None}])
def test_what_is_no_run_changes_nothing(desk: Desk, button: dict[str, Any]) -> None:
    assert act(desk, "ann", button) == {"runs": NOTHING}


@needs_browser
def test_in_a_browser(page: Any) -> None:  # noqa: F811
    page.fill("#prompt textarea", PROMPT)
    page.click("#go")
    page.wait_for_selector("#downloads a")
    page.click('button[role=tab]:has-text("History")')
    page.wait_for_selector(f'.card h3:has-text("{PROMPT}")')
    page.wait_for_function("document.querySelector('.card video').readyState > 0")
    page.click(".card [data-act=use]")
    page.wait_for_selector("#notices .notice")
    assert page.locator("#source").inner_text() != "" and page.is_visible("#source")
    page.click('button[role=tab]:has-text("History")')
    page.click(".card [data-act=delete]")
    page.wait_for_selector('.card [data-act=delete]:has-text("Really delete?")')
    page.click(".card [data-act=delete]")
    page.wait_for_selector("#runs .none")
