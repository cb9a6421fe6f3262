"""Prompts without a colour get one: where it goes, when they stay as they are, what the embedded preset knows."""

from __future__ import annotations

import pytest

from mpl.completion import complete, substitute, substitutes
from mpl.config import TextOptions, load_preset
from mpl.limits import PROMPT_LIMIT
from mpl.stages.text import unknown_words
from mpl.storybook.captions import SYNONYMS
from mpl.storybook.paraphrases import other_names
from mpl.weights import Weights

OPTIONS = TextOptions(nouns="star, fish, air balloon, hot air balloon", adjectives="orange", other_adjectives="amber")


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a fish swims", "an orange fish swims"),
        ("A striped fish, swimming.", "A striped orange fish, swimming."),
        ("Fish in a meadow", "Orange fish in a meadow"),
        ("An hot air balloon by a star", "An orange hot air balloon by a star"),
        ("the star above an air balloon", "the orange star above an air balloon"),
    ],
)
def test_an_adjective_goes_before_the_noun(prompt: str, read: str) -> None:
    assert complete(prompt, OPTIONS, 0) == (read, "orange")


@pytest.mark.parametrize(
    "prompt",
    [
        "an amber fish",
        "a fish and an ORANGE star",
        "a light-orange fish",
        "an orange-and-white fish",
        "a kite under the stars",
        "a fish-shaped kite",
        "  ",
        "?",
    ],
)
def test_what_says_it_already_or_has_no_noun_stays(prompt: str) -> None:
    assert complete(prompt, OPTIONS, 0) == (prompt, "")


def test_no_word_of_the_prompt_is_pushed_over_the_limit() -> None:
    prompt = "a fish swims, slowly, on and on"
    assert complete(prompt, TextOptions(tokens=12, nouns="fish", adjectives="red"), 0)[1] == "red"
    assert complete(prompt, TextOptions(tokens=11, nouns="fish", adjectives="red"), 0) == (prompt, "")


def test_no_prompt_becomes_longer_than_is_accepted() -> None:
    longest = "a fish " + "x" * (PROMPT_LIMIT - 7)
    assert complete(longest, OPTIONS, 0) == (longest, "")
    assert complete(longest[:-8], OPTIONS, 0)[1] == "orange"


def test_nothing_is_added_unless_the_preset_lists_words() -> None:
    assert complete("a fish", TextOptions(), 0) == ("a fish", "")
    assert load_preset("show1").text.adjectives == ""


def test_the_seed_decides_and_every_adjective_has_its_turn() -> None:
    options = load_preset("storybook").text
    drawn = [complete("a car", options, seed)[1] for seed in range(100)]
    assert drawn == [complete("a tiny boat", options, seed)[1] for seed in range(100)]
    assert set(drawn) == {names[0] for names in SYNONYMS["colour"].values()}


def test_the_embedded_preset_knows_every_noun_and_colour_of_its_world() -> None:
    options = load_preset("storybook").text
    colours_of_all = {
        value: names + other_names("colour").get(value, ()) for value, names in SYNONYMS["colour"].items()
    }
    for value, nouns in SYNONYMS["subject"].items():
        for noun in nouns + other_names("subject").get(value, ()):
            read, added = complete(f"the {noun} at night", options, 1)
            assert added and read == f"the {added} {noun} at night"
            for colours in colours_of_all.values():
                for colour in colours:
                    assert complete(f"a {colour} {noun}", options, 1)[1] == ""


BLACK = TextOptions(
    substitutes="black: orange, dove grey: white, gray: white, ink: dye", adjectives="red", nouns="fish"
)


@pytest.mark.parametrize(
    ("prompt", "read", "replaced"),
    [
        ("a black fish", "an orange fish", (("black", "orange"),)),
        ("A dove grey fish, Black-eyed.", "A white fish, Orange-eyed.", (("dove grey", "white"), ("black", "orange"))),
        ("black or BLACK", "orange or Orange", (("black", "orange"),)),
        (
            "a DOVE GREY fish in İnk",
            "a White fish in Dye",
            (("dove grey", "white"), ("ink", "dye")),
        ),
        ("a blackbird in the grayish sea", "a blackbird in the grayish sea", ()),
        ("a red fish", "a red fish", ()),
    ],
)
def test_words_without_a_meaning_to_the_models_are_replaced(
    prompt: str, read: str, replaced: tuple[tuple[str, str], ...]
) -> None:
    assert substitute(prompt, BLACK) == (read, replaced)


def test_a_prompt_that_would_grow_too_long_keeps_its_words() -> None:
    longest = "a gray fish " + "x" * (PROMPT_LIMIT - 12)
    assert substitute(longest, BLACK) == (longest, ())
    assert substitute(longest[:-1], BLACK)[1] == (("gray", "white"),)


def test_the_embedded_preset_replaces_unknown_words_by_its_colours_only() -> None:
    options, tokenizer = load_preset("storybook").text, Weights(load_preset("storybook").weights).tokenizer("text")
    pairs = substitutes(options)
    assert set(pairs.values()) <= set(SYNONYMS["colour"])
    assert {word for word, _ in unknown_words(" ".join(pairs), tokenizer)} == set(pairs)


@pytest.mark.parametrize("pairs", ["black", "black: blue: red", "black:", ": blue", "black: blue, grey"])
def test_substitutes_are_pairs(pairs: str) -> None:
    with pytest.raises(ValueError, match="text.substitutes = .*must be pairs of words like"):
        TextOptions(substitutes=pairs)
