"""Captions: vocabulary, length, variety, and that a caption says exactly the attributes it names."""

import dataclasses
import random

import pytest

from mpl.storybook.captions import MAX_TOKENS, STYLES, SYNONYMS, VOCABULARY, caption, in_first_words, tokens
from mpl.storybook.phrases import PATTERN_TAILS
from mpl.storybook.scene import ATTRIBUTES, sample_scene, scene_for_index

ALL = frozenset(ATTRIBUTES)


def _draws(count: int, style: str = "mixed"):
    rng = random.Random(0)
    for _ in range(count):
        scene = sample_scene(rng, "all")
        yield scene, caption(scene, rng, style)


def _phrases(attribute: str, value: str) -> tuple[str, ...]:
    tails = PATTERN_TAILS[value] if attribute == "pattern" else ()
    return SYNONYMS[attribute][value] + tails


def _says(text: str, phrase: str) -> bool:
    return f" {phrase} " in f" {' '.join(tokens(text))} "


def test_every_word_is_known_and_captions_are_short():
    known = {*VOCABULARY, ",", "."}
    for _, made in _draws(5000):
        words = tokens(made.text)
        assert set(words) <= known
        assert 2 <= len(words) <= MAX_TOKENS
        assert made.text == made.text.lower().strip()
        assert "  " not in made.text


def test_the_vocabulary_is_sorted_lower_case_and_small():
    assert list(VOCABULARY) == sorted(set(VOCABULARY))
    assert all(word.isalpha() and word == word.lower() for word in VOCABULARY)
    assert 250 < len(VOCABULARY) < 1000


def test_every_word_of_the_vocabulary_occurs():
    seen = {word for _, made in _draws(12000) for word in tokens(made.text)}
    assert set(VOCABULARY) <= seen


def test_styles_name_what_they_promise():
    for style in ("dense", "full"):
        assert all(made.named == ALL for _, made in _draws(200, style))
    for _, made in _draws(200, "short"):
        assert "subject" in made.named
        assert 2 <= len(made.named) <= 4
    dense = sum(made.named == ALL for _, made in _draws(2000)) / 2000
    assert 0.75 < dense < 0.85


def test_only_plainness_is_tacit():
    unsaid = [scene.pattern for scene, made in _draws(2000, "tacit") if "pattern" not in made.named]
    plain = sum(scene.pattern == "plain" for scene, _ in _draws(2000, "tacit"))
    assert {*unsaid} == {"plain"}
    assert 0.4 < len(unsaid) / plain < 0.75
    assert all("subject" in made.named for _, made in _draws(200, "tacit"))


def test_named_attributes_are_said_in_words_of_their_value():
    for scene, made in _draws(2000):
        for name in made.named - {"camera"}:
            phrases = _phrases(name, getattr(scene, name))
            assert any(_says(made.text, phrase) for phrase in phrases), (name, made)


@pytest.mark.parametrize("attribute", ["colour", "pattern", "setting", "motion", "subject"])
def test_attributes_that_are_not_named_are_not_said(attribute):
    phrases = [phrase for value in ATTRIBUTES[attribute] for phrase in _phrases(attribute, value)]
    for _, made in _draws(1500, "short"):
        if attribute not in made.named:
            assert not any(_says(made.text, phrase) for phrase in phrases), made


def test_no_phrase_stands_for_two_values():
    for attribute in ATTRIBUTES:
        owners: dict[str, str] = {}
        for value in ATTRIBUTES[attribute]:
            for phrase in _phrases(attribute, value):
                assert owners.setdefault(phrase, value) == value


def test_every_value_has_synonyms():
    for attribute, values in ATTRIBUTES.items():
        assert all(len(SYNONYMS[attribute][value]) >= 3 for value in values)


def test_captions_vary_and_repeat_with_their_seed():
    scene = sample_scene(random.Random(1))
    texts = {caption(scene, random.Random(i), "dense").text for i in range(100)}
    assert len(texts) > 90
    assert caption(scene, random.Random(3)) == caption(scene, random.Random(3))
    assert str(caption(scene, random.Random(3))) == caption(scene, random.Random(3)).text


def test_a_or_an():
    for _, made in _draws(2000):
        words = tokens(made.text)
        for article, word in zip(words, words[1:], strict=False):
            if article == "a":
                assert word[0] not in "aeiou", made.text
            if article == "an":
                assert word[0] in "aeiou", made.text


def test_an_unknown_style_is_named():
    with pytest.raises(ValueError, match="style is 'long'; accepted: " + ", ".join(STYLES)):
        caption(sample_scene(random.Random(0)), random.Random(0), "long")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a plain red car moves right in a meadow, the camera pans right", {*ATTRIBUTES}),
        ("a crimson automobile travels right in a grassy field, a tracking shot", set()),
        ("one red automobile heading right in a meadow", {"colour", "setting"}),
        ("a car in one plain tone crossing from left to right", {"subject"}),
    ],
)
def test_the_first_words_are_told_from_the_others(text: str, plain: set[str]):
    labels = {"subject": "car", "colour": "red", "pattern": "plain", "motion": "moves right"}
    scene = dataclasses.replace(scene_for_index(0), **labels, setting="meadow", camera="pan")
    assert {name for name in ATTRIBUTES if in_first_words(text, scene, name)} == plain
