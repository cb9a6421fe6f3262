"""Kept embeddings: text models are borrowed for new prompts only, and nothing else about a run changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import last_frames, tiny_preset

from mpl import weights as weights_room
from mpl.cascade import Arm, compare, generate
from mpl.config import override
from mpl.engine import Ask, Engine
from mpl.events import Notice, TextEncoded
from mpl.recipe import Files
from mpl.stages.text import encode
from mpl.store import StageCache
from mpl.weights import Weights

PROMPT = "a red car"
TEXT = {"text", "clip"}


@pytest.fixture
def cache(tmp_path):
    return StageCache(tmp_path / "text")


def borrowed(preset, cache, prompt=PROMPT, **options):
    """The models that an encoding borrows, and what it gives."""
    weights, names = Weights(preset.weights), []
    real = weights.borrow
    weights.borrow = lambda name: names.append(name) or real(name)
    return names, encode(prompt, preset.text, weights, cache=cache, **options)


def same(a, b):
    states = ("t5", "t5_negative", "clip", "clip_negative")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in states)


# ---- runs


def test_a_known_prompt_loads_no_text_model_and_gives_the_same_frames(tiny, cache):
    made = []
    for texts, loads, kept in ((False, TEXT, False), (cache, TEXT, False), (cache, set(), True), (False, TEXT, False)):
        weights = Weights(tiny.weights)
        made.append(list(generate(PROMPT, tiny, weights, 1, texts=texts)))
        assert made[-1][0] == TextEncoded(PROMPT, (), made[-1][0].seconds, kept)
        assert weights.loaded().keys() & TEXT == loads and "keyframes" in weights.loaded()
    assert all(np.array_equal(last_frames(made[0]), last_frames(events)) for events in made[1:])


def test_what_a_person_should_know_is_said_of_kept_embeddings_too(tiny, cache):
    prompt = "a bleu car crosses the red sea at night at night"
    weights = Weights(tiny.weights)
    said = []
    for _ in range(2):
        events = list(generate(prompt, tiny, weights, 1, texts=cache, stop_after="keyframes"))
        said.append([event.message for event in events if isinstance(event, Notice)])
    assert events[0].kept and events[0].unknown_words == (("bleu", "blue"),)
    assert events[-1].recipe["unknown_words"] == [["bleu", "blue"]]
    assert said[0] == said[1] and "'bleu'" in said[1][0] and "'at night at night' is not read" in said[1][1]


def test_runs_of_stage_4_alone_find_clip_s_entry_of_whole_runs(tiny, cache):
    whole = borrowed(tiny, cache, "a bleu car")[1]
    names, alone = borrowed(tiny, cache, "a bleu car", pixels=False)
    assert names == [] and alone.t5 is None and torch.equal(alone.clip, whole.clip)
    assert alone.unknown == whole.unknown == (("bleu", "blue"),)


def test_the_page_and_comparisons_use_them(tiny, cache, tmp_path):
    def kept(events):
        return [event.kept for event in events if isinstance(event, TextEncoded)]

    ask = Ask(PROMPT, tiny, 1, stop_after="keyframes")
    assert kept(Engine(texts=cache).run(ask, Files(None), lambda: False)) == [False]
    pairs = Engine(texts=cache).compare({"a": ask, "b": ask}, Files(None), lambda: False)
    assert kept(event for _, event in pairs) == [True, True]
    arm = Arm(tiny, Weights(tiny.weights), "keyframes")
    assert kept(event for _, event in compare("a blue car", {"a": arm, "b": arm}, 1, texts=cache)) == [False, True]


# ---- entries


def test_each_encoder_has_its_own_entry(tiny, cache, tmp_path):
    names, _ = borrowed(tiny, cache, translation=False)
    assert names == ["text"] and len(list(cache.folder.iterdir())) == 1
    names, states = borrowed(tiny, cache)
    assert names == ["clip"] and not states.kept and len(list(cache.folder.iterdir())) == 2
    names, again = borrowed(tiny, cache)
    assert names == [] and again.kept and same(states, again) and same(again, borrowed(tiny, None)[1])
    assert borrowed(tiny, cache, "A  red Car")[0] == ["clip"]  # T5 reads small letters


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"text.tokens": 9}, ["text", "clip"]),
        ({"text.negative_prompt": "the sky"}, ["text"]),
        ({"text.translation_negative_prompt": "the sky"}, ["clip"]),
        ({"weights.dtype": "bfloat16"}, ["text", "clip"]),
        ({"weights.quantization": "int8"}, ["text"]),
        ({"weights.quantization": "nf4"}, ["text"]),
        ({"superres.snr": 2.0, "weights.offload": "drop"}, []),
    ],
)
def test_what_an_embedding_depends_on_is_in_its_key(tiny, cache, monkeypatch, changes, expected):
    real = weights_room.load_model
    plain = "none"  # the tiny encoder is too narrow for bitsandbytes' kernels
    monkeypatch.setattr(weights_room, "load_model", lambda *a: real(*a[:3], plain, a[4]))
    borrowed(tiny, cache)
    changed = override(tiny, changes)
    assert borrowed(changed, cache)[0] == expected
    assert borrowed(changed, cache)[0] == []
    assert borrowed(tiny, cache)[0] == []  # beside it
    assert borrowed(tiny, cache, "a blue car")[0] == ["text", "clip"]


@pytest.mark.parametrize(("folder", "expected"), [("text", ["text"]), ("translation", ["clip"])])
def test_other_weights_are_another_embedding(tiny_copy, cache, folder, expected):
    preset = tiny_preset(tiny_copy)
    _, before = borrowed(preset, cache)
    path = tiny_copy / folder / "text_encoder" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a sign or an exponent, of the last weight
    path.write_bytes(data)
    names, after = borrowed(preset, cache)
    assert names == expected and after.t5.shape == before.t5.shape
    assert borrowed(preset, cache)[0] == []


def test_the_least_recently_used_prompt_goes_first(tiny, cache):
    borrowed(tiny, cache, translation=False)
    bounded = StageCache(cache.folder, 2 * cache.bytes() + 10)
    for prompt in ("a blue car", "a green car"):
        borrowed(tiny, bounded, prompt, translation=False)
    assert bounded.bytes() <= bounded.max_bytes
    assert borrowed(tiny, bounded, "a blue car", translation=False)[0] == []
    assert borrowed(tiny, bounded, translation=False)[0] == ["text"]


def test_a_cleared_cache_knows_nothing(tiny, cache):
    borrowed(tiny, cache)
    cache.clear()
    assert borrowed(tiny, cache)[0] == ["text", "clip"]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_broken_entry_is_made_again(tiny, cache, damage):
    _, before = borrowed(tiny, cache)
    for path in cache.folder.iterdir():
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
    names, after = borrowed(tiny, cache)
    assert names == ["text", "clip"] and same(before, after)
    assert borrowed(tiny, cache)[0] == []


def test_a_run_with_other_weights_gives_the_former_ones_back_first(tiny):
    engine, held = Engine(), []
    for preset in (tiny, override(tiny, {"weights.dtype": "bfloat16"})):
        list(engine.run(Ask(PROMPT, preset, 1, stop_after="keyframes"), Files(None), lambda: False))
        held.append(engine.machine(preset).loaded)
    assert held[1]["keyframes"] == held[0]["keyframes"] // 2  # of one set alone
