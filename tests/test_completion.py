"""Prompts without a colour or a place get one: where it goes, which stay as they are, what the preset knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpl.completion import complete, substitute, substitutes
from mpl.config import load_preset
from mpl.limits import PROMPT_LIMIT
from mpl.options import TextOptions
from mpl.stages.text import unknown_words
from mpl.storybook.captions import SYNONYMS
from mpl.storybook.paraphrases import MANNERS, NAMES, ON_THE_WAY, WAYS, other_names
from mpl.storybook.phrases import CAMERA_DIRECTIONS, OPENINGS, PATTERN_TAILS
from mpl.storybook.phrases import PLACES as PLACES_OF_SUBJECTS
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
    assert load_preset("show1").text.adjectives == load_preset("show1").text.places == ""


def test_the_seed_decides_and_every_adjective_has_its_turn() -> None:
    options = load_preset("storybook").text
    drawn = [complete("a car at sea", options, seed)[1] for seed in range(100)]
    assert drawn == [complete("a tiny boat at sea", options, seed)[1] for seed in range(100)]
    assert set(drawn) == {names[0] for names in SYNONYMS["colour"].values()}


PLACES = TextOptions(nouns="fish", places="at sea", place_words="in, at, sea", no_places="look at, in one tone")


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("a fish swims", "a fish swims at sea"),
        ("slowly, a fish in one tone swims, still camera.", "slowly, a fish in one tone swims at sea, still camera."),
        ("Look at the fish , look at it", "Look at the fish at sea , look at it"),
        ("a fish.", "a fish at sea."),
        ("a seaside fish", "a seaside fish at sea"),
    ],
)
def test_a_place_ends_the_clause_of_the_noun(prompt: str, read: str) -> None:
    assert complete(prompt, PLACES, 0) == (read, "at sea")


@pytest.mark.parametrize("prompt", ["a fish in Paris", "Sea, a fish", "look at a fish at home", "a kite"])
def test_what_may_say_a_place_gets_no_other(prompt: str) -> None:
    assert complete(prompt, PLACES, 0) == (prompt, "")


def test_colour_and_place_are_added_together_as_far_as_there_is_room() -> None:
    options = replace(PLACES, adjectives="red", tokens=8)
    assert complete("a fish swims", options, 0) == ("a red fish swims at sea", "red, at sea")
    assert complete("a fish swims", replace(options, tokens=7), 0) == ("a red fish swims", "red")


def test_the_embedded_preset_knows_what_says_a_place_and_what_does_not() -> None:
    options, nouns = load_preset("storybook").text, other_names("subject")
    drawn = {complete("a red car", options, seed)[1] for seed in range(100)}
    assert drawn == {names[0] for names in SYNONYMS["setting"].values()}
    for names in SYNONYMS["setting"].values():
        for name in names:
            for said in (name, *(name.replace(old, new) for old in NAMES for new in NAMES[old] if old in name.split())):
                assert complete(f"a red car {said}", options, 1)[1] == "", said
    unplaced = [
        name for attribute in ("pattern", "motion", "camera") for of in SYNONYMS[attribute].values() for name in of
    ]
    unplaced += [
        name for table in (PATTERN_TAILS, PLACES_OF_SUBJECTS, CAMERA_DIRECTIONS) for of in table.values() for name in of
    ]
    for said in (*unplaced, *OPENINGS, *WAYS, *ON_THE_WAY, *MANNERS):
        assert complete(f"{said} a red ball, {said}", options, 1)[1] == complete("a red car", options, 1)[1], said
    for value, names in SYNONYMS["subject"].items():
        for name in names + nouns.get(value, ()):
            assert complete(f"a red {name}", options, 1)[1] in drawn, name


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
                    assert complete(f"a {colour} {noun} at night", options, 1)[1] == ""


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
