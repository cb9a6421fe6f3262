"""Paraphrases: what they keep of a caption, what they may not say."""

import random
from collections import defaultdict

from mpl.storybook.captions import MAX_TOKENS, SYNONYMS, VOCABULARY, caption, tokens
from mpl.storybook.paraphrases import NAMES, PREPOSITIONS, UNHEARD, WAYS, WORDS, paraphrase
from mpl.storybook.phrases import SIZES
from mpl.storybook.scene import sample_scene


def draws(count: int):
    rng = random.Random(0)
    for _ in range(count):
        text = caption(sample_scene(rng, "all"), rng, "mixed").text
        yield tokens(text), paraphrase(text, rng)


def said_of(text: str, count: int = 300) -> list[tuple[str, ...]]:
    rng = random.Random(1)
    return [paraphrase(text, rng).words for _ in range(count)]


def test_words_are_known_in_order_and_few() -> None:
    known = {*VOCABULARY, *WORDS, UNHEARD, ",", "."}
    changed = added = 0
    for words, made in draws(3000):
        assert set(made.words) <= known and len(made.words) == len(made.sources) <= MAX_TOKENS
        places = [place for place in made.sources if place is not None]
        assert places == list(range(len(places)))  # all words in their order, but for the last of what is too long
        assert len(places) == len(words)
        changed += sum(made.words[i] != words[p] for i, p in enumerate(made.sources) if p is not None)
        added += made.sources.count(None)
    assert changed > 1500 and added > 1500


def test_every_word_occurs() -> None:
    missing = {*WORDS, UNHEARD}
    for _, made in draws(20_000):
        missing -= set(made.words)
        if not missing:
            return
    raise AssertionError(missing)


def test_no_name_stands_for_two_values() -> None:
    values = defaultdict(set)
    for attribute, named in SYNONYMS.items():
        for value, phrases in named.items():
            for word in {word for phrase in phrases for word in tokens(phrase)} & NAMES.keys():
                values[word].add((attribute, value))
    values |= {names[0]: {("size", size)} for size, names in SIZES.items() if names[0] in NAMES}
    stands_for = defaultdict(set)
    for word, others in NAMES.items():
        assert values[word], word
        for other in others:
            assert other not in VOCABULARY or other == "beach", other  # a beach ball is none
            stands_for[other] |= values[word]
    assert not {word: found for word, found in stands_for.items() if len(found) > 1}


def test_places_can_be_before_anything_and_times_cannot() -> None:
    rng = random.Random(1)
    made = [paraphrase("a ball on a lawn", rng) for _ in range(400)]
    assert {one.words[one.sources.index(2)] for one in made} == {*PREPOSITIONS}
    for text in ("a ball on a winter day", "a ball under the stars", "a ball in front of a brick wall"):
        assert all(tokens(text)[2] in words for words in said_of(text))


def test_things_go_in_many_ways_where_a_direction_is_said() -> None:
    there = {word for words in said_of("a ghost moves right") for word in words}
    assert there >= {*WAYS, "moves"}
    assert not {word for words in said_of("a ghost bounces") for word in words} & {*WAYS} - {"flies", "swims", "sails"}
