"""Sets of prompts: the shipped ones are whole and understood, broken ones are refused in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mpl.prompts import load_prompts, prompt_sets
from mpl.storybook.scene import ATTRIBUTES
from mpl.ui.world import look

ROOT = Path(__file__).resolve().parent.parent
GOOD = 'title = "T"\nabout = "A"\n[categories.food]\ntitle = "Food"\nprompts = ["a pie", "a cake"]\n'


def test_the_shipped_sets_have_six_categories_of_twenty() -> None:
    assert prompt_sets() == ("paper", "storybook")
    texts: list[str] = []
    for name in prompt_sets():
        found = load_prompts(name)
        assert Counter(Counter(prompt.category for prompt in found.prompts).values()) == {20: 6}
        assert [prompt.index for prompt in found.prompts] == list(range(120))
        assert set(found.categories) == {prompt.category for prompt in found.prompts}
        texts += [prompt.text.lower() for prompt in found.prompts]
    assert len(set(texts)) == 240


def test_the_paper_s_categories_are_there() -> None:
    titles = ["Camera control", "Natural scenery", "Food", "Animals", "People", "Imaginative content"]
    assert list(load_prompts("paper").categories.values()) == titles


def test_the_shipped_models_understand_every_storybook_prompt() -> None:
    from transformers import AutoTokenizer

    from mpl.stages.text import unknown_words

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "assets" / "storybook" / "text" / "tokenizer")
    for prompt in load_prompts("storybook").prompts:
        assert look(prompt.text).notices == (), prompt
        assert unknown_words(prompt.text, tokenizer) == [], prompt


def test_storybook_prompts_name_every_value_of_the_world() -> None:
    named = Counter(pair for prompt in load_prompts("storybook").prompts for pair in look(prompt.text).labels.items())
    for attribute, values in ATTRIBUTES.items():
        for value in values:
            assert named[attribute, value] >= (3 if attribute == "pattern" else 5), (attribute, value)


def test_a_file_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    found = load_prompts(str(tmp_path / "mine.toml"))
    assert [(p.text, p.category, p.index) for p in found.prompts] == [("a pie", "food", 0), ("a cake", "food", 1)]
    assert (found.name, found.title, found.categories) == ("mine", "T", {"food": "Food"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD.replace('about = "A"\n', ""), "keys title, about, categories"),
        (GOOD + "more = 1\n", "keys title, prompts"),
        (GOOD.replace('"a cake"', '"A Pie"'), "twice"),
        (GOOD.replace('"a cake"', '" "'), "prompt is empty"),
        (GOOD.replace('["a pie", "a cake"]', "[]"), "not empty"),
        (GOOD.replace('["a pie", "a cake"]', '"a pie"'), "must be a list"),
        (GOOD.replace("[categories.food]", "[categories"), "cannot be read"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(ValueError, match=words) as raised:
        load_prompts(str(tmp_path / "mine.toml"))
    assert "mine.toml" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nothing", "nothing.toml"])
def test_an_unknown_set_says_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match="must be one of paper, storybook"):
        load_prompts(name)


def test_the_command_line_takes_a_set_by_its_name() -> None:
    import argparse

    from mpl.command import _jobs

    jobs = _jobs(argparse.Namespace(prompt=None, prompts="storybook", seed=4))
    assert len(jobs) == 120 and {job.seed for job in jobs} == {4}
