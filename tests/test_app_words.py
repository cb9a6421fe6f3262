"""Words beside the prompt: chips to click, unknown words with a known one to write instead, notices before a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpl.config import Preset, override
from mpl.engine import Engine
from mpl.options import WeightsOptions
from mpl.ui.desk import Desk
from mpl.ui.panels import replacements, word_chips
from mpl.ui.world import chips, reword

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(ROOT)  # where the embedded weights' folders start
    return Desk(Engine(), Preset(), tmp_path)


def test_a_prompt_of_the_world_is_met_with_silence(desk: Desk) -> None:
    assert desk.look("a red car at dusk", "storybook") == {"look": "", "storybook": True}


def test_unknown_words_come_with_the_nearest_known_one(desk: Desk) -> None:
    said = desk.look("a red baloon rises", "storybook")["look"]
    assert "“baloon”" in said and 'data-word="baloon" data-near="balloon"' in said


def test_a_substitute_of_the_preset_counts_more_than_the_spelling(desk: Desk, tmp_path: Path) -> None:
    assert 'data-near="backyard"' in desk.look("a black balloon", "storybook")["look"]
    desk = Desk(Engine(), override(Preset(), {"text.substitutes": "Black: blue"}), tmp_path)
    assert 'data-word="black" data-near="blue"' in desk.look("a black balloon", "storybook")["look"]


def test_a_prompt_without_a_single_word_is_said(desk: Desk) -> None:
    assert "“🎈🎈”" in (said := desk.look("🎈🎈", "storybook")["look"]) and "None of these words" in said
    assert "None of these words" in desk.look("!!", "storybook")["look"]


def test_what_cannot_work_is_said_before_any_time_is_spent(desk: Desk) -> None:
    assert "one subject" in desk.look("a car and a boat", "storybook")["look"]


def test_an_empty_prompt_is_met_with_silence(desk: Desk) -> None:
    assert desk.look("  ", "storybook")["look"] == ""


def test_other_models_get_no_words_of_this_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    other = override(Preset(), {"weights.text": str(tmp_path / "absent"), "name": "other"})
    found = Desk(Engine(), other, tmp_path).look("a car and a boat", "other")
    assert found == {"look": "", "storybook": False}
    assert other.weights.text != WeightsOptions().text


@pytest.mark.parametrize(
    ("button", "prompt"),
    [
        ({"group": "Colour", "chip": "blue"}, "a blue baloon rises"),
        ({"word": "baloon", "near": "balloon"}, "a red balloon rises"),
        ({"group": "Colour", "chip": "no such chip"}, "a red baloon rises"),
        ({"word": "baloon"}, "a red baloon rises"),
        ({"word": 3, "near": None}, "a red baloon rises"),
        ({}, "a red baloon rises"),
        (None, "a red baloon rises"),
    ],
)
def test_a_press_changes_the_prompt_or_nothing(desk: Desk, button: Any, prompt: str) -> None:
    assert desk.press("a red baloon rises", button) == prompt


@pytest.mark.parametrize(
    ("prompt", "button"),
    [
        ("a red car " * 101, {"group": "Colour", "chip": "blue"}),
        ("a red car " * 101, {"word": "car", "near": "boat"}),
        ("a car", {"word": "car", "near": "boat" * 251}),
    ],
)
def test_texts_that_are_too_long_are_not_read(desk: Desk, prompt: str, button: dict[str, str]) -> None:
    """Which would take the square of their length."""
    assert desk.press(prompt, button) == prompt
    long = desk.look("a car and a baloon " * 101, "storybook")
    assert "1919 characters: at most 1000 are accepted" in long["look"] and "baloon" not in long["look"]
    assert long["storybook"]


def test_surprises_differ_and_are_understood(desk: Desk) -> None:
    prompts = {desk.surprise() for _ in range(8)}
    assert len(prompts) > 1
    assert {desk.look(prompt, "storybook")["look"] for prompt in prompts} == {""}


def test_only_whole_words_are_replaced_and_capitals_stay() -> None:
    assert reword("Carr and carriage, CARR (carr)", "carr", "car") == "Car and carriage, Car (car)"


def test_every_chip_has_its_button() -> None:
    html = word_chips(chips())
    assert html.count("data-chip=") == sum(len(group) for group in chips().values())
    assert html.count(" checked") == 1


def test_unknown_words_become_no_html() -> None:
    html = replacements([("<b>", 'a"b')])
    assert "<b>" not in html and 'data-near="a&quot;b"' in html
