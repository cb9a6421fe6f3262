"""The stage cache and comparisons: what runs again, what is kept, and that it makes no difference to the result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import kept, last_frames, ran, tiny_preset

from mpl import cascade, run
from mpl.cascade import Arm, compare, generate
from mpl.config import STAGES, override
from mpl.events import StageFinished, StageStarted, TextEncoded
from mpl.store import StageCache
from mpl.weights import Weights

PROMPT = "a red car"


@pytest.fixture
def weights(tiny_weights):
    return tiny_weights


def test_only_what_a_change_touches_runs_again(tiny, weights, tmp_path):
    store = StageCache(tmp_path)
    first = list(generate(PROMPT, tiny, weights, 1, store=store))
    assert ran(first) == set(STAGES)
    again = list(generate(PROMPT, tiny, weights, 1, store=store))
    assert kept(again) == set(STAGES) and np.array_equal(last_frames(first), last_frames(again))
    assert again[0].kept and again[-1].recipe["stages"]["translation"]["seconds"] == 0
    for change, runs in (
        ({"translation.strength": 0.7}, {"translation"}),
        ({"text.translation_negative_prompt": "the sky"}, {"translation"}),
        ({"superres.snr": 2.0}, {"superres", "translation"}),
        ({"interpolation.steps": 1}, {"interpolation", "superres", "translation"}),
    ):
        events = list(generate(PROMPT, override(tiny, change), weights, 1, store=store))
        assert ran(events) == runs and kept(events) == set(STAGES) - runs, change
    for change in ({"keyframes.guidance": 3.0}, {"text.negative_prompt": "the sky"}, {"clamp": False}):
        changed = override(tiny, change)
        assert ran(generate(PROMPT, changed, weights, 1, store=store, stop_after="keyframes")) == {"keyframes"}
    for prompt, seed in ((PROMPT, 2), ("a blue car", 1)):
        assert ran(generate(prompt, tiny, weights, seed, store=store, stop_after="keyframes")) == {"keyframes"}


def test_a_result_is_the_same_with_and_without_the_cache(tiny, weights, tmp_path):
    preset = override(tiny, {"translation.posterior": "sample"})
    store = StageCache(tmp_path)
    plain = last_frames(list(generate(PROMPT, preset, weights, 1)))
    list(generate(PROMPT, preset, weights, 1, store=store))
    changed = override(preset, {"translation.strength": 0.9})
    with_latents = list(generate(PROMPT, changed, weights, 1, store=store))
    assert np.array_equal(last_frames(with_latents), last_frames(list(generate(PROMPT, changed, weights, 1))))
    assert np.array_equal(plain, last_frames(list(generate(PROMPT, preset, weights, 1, store=store))))


def test_encoded_latents_are_kept_too(tiny, weights, tmp_path, monkeypatch):
    calls = []
    real = run.encode_clip
    monkeypatch.setattr(run, "encode_clip", lambda *a: calls.append(1) or real(*a))
    store = StageCache(tmp_path)
    for strength in (0.3, 0.5, 0.7):
        list(generate(PROMPT, override(tiny, {"translation.strength": strength}), weights, 1, store=store))
    assert len(calls) == 1
    for number, change in enumerate(({"resize": "published"}, {"tiling": not tiny.translation.tiling}), 2):
        changed = override(tiny, {f"translation.{key}": value for key, value in change.items()})
        list(generate(PROMPT, changed, weights, 1, store=store))
        assert len(calls) == number


def test_encoded_latents_are_those_of_a_clip_whatever_its_prompt(tiny, weights, tmp_path, monkeypatch):
    store, encoded = StageCache(tmp_path), []
    real = run.encode_clip
    monkeypatch.setattr(run, "encode_clip", lambda *a: encoded.append(1) or real(*a))
    clip = torch.rand(1, 3, 5, 16, 32) * 2 - 1
    ends = [
        last_frames(generate(prompt, tiny, weights, 1, start_at="translation", clip=clip, store=store))
        for prompt in (PROMPT, "another prompt")
    ]
    assert len(encoded) == 1 and not np.array_equal(*ends)


def test_other_weights_are_another_result(tiny_copy, tmp_path):
    preset = override(tiny_preset(tiny_copy), {"weights.superres_first_frame": "none"})
    store = StageCache(tmp_path / "cache")
    list(generate(PROMPT, preset, Weights(preset.weights), 1, store=store))
    config = tiny_copy / "superres" / "image_noising_scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("squaredcos_cap_v2", "linear"))
    events = list(generate(PROMPT, preset, Weights(preset.weights), 1, store=store))
    assert kept(events) == {"keyframes", "interpolation"} and ran(events) == {"superres", "translation"}


# ---- comparing


def test_a_comparison_computes_shared_stages_once(tiny, weights, tmp_path):
    arms = {"a": Arm(tiny, weights), "b": Arm(override(tiny, {"translation.strength": 0.9}), weights)}
    events = list(compare(PROMPT, arms, 3, out=tmp_path))
    of = {arm: [event for name, event in events if name == arm] for arm in arms}
    assert ran(of["a"]) == set(STAGES)
    assert ran(of["b"]) == {"translation"} and kept(of["b"]) == {"keyframes", "interpolation", "superres"}
    alone = list(generate(PROMPT, arms["b"].preset, weights, 3))
    assert np.array_equal(last_frames(of["b"]), last_frames(alone))
    assert len(list(tmp_path.glob("*.mp4"))) == 2


def test_one_arm_s_models_are_in_memory_at_a_time_unless_arms_have_the_same(tiny):
    own, other = Weights(tiny.weights), Weights(tiny.weights)
    for _ in range(2):  # the second time, what the last arm left is given back first
        arms = {"a": Arm(tiny, own), "again": Arm(override(tiny, {"keyframes.steps": 1}), own), "b": Arm(tiny, other)}
        for name, event in compare(PROMPT, arms, 3, stop_after="keyframes"):
            if isinstance(event, StageFinished):
                mine, others = (other, own) if name == "b" else (own, other)
                assert mine.loaded() and not others.loaded()


def test_an_arm_may_end_earlier_than_the_other(tiny, weights):
    arms = {"a": Arm(tiny, weights), "b": Arm(tiny, weights, stop_after="superres")}
    events = list(compare(PROMPT, arms, 3))
    made = {arm: {e.stage for name, e in events if name == arm and hasattr(e, "frames")} for arm in arms}
    assert made == {"a": set(STAGES), "b": set(STAGES[:3])}


def test_a_comparison_cleans_up_and_checks_all_arms_first(tiny, weights, monkeypatch, tmp_path):
    monkeypatch.setattr(cascade.tempfile, "gettempdir", lambda: str(tmp_path))
    arms = {"a": Arm(tiny, weights), "b": Arm(override(tiny, {"keyframes.steps": 1}), weights)}
    events = compare(PROMPT, arms, 3, stop_after="interpolation")
    for _, event in events:
        if isinstance(event, StageFinished):
            break
    assert list(tmp_path.iterdir())
    events.close()
    assert not list(tmp_path.iterdir())
    bad = override(tiny, {"translation.grid": "published", "translation.strength": 0.1})
    with pytest.raises(ValueError, match="translation.strength"):
        compare(PROMPT, {"a": Arm(tiny, weights), "b": Arm(bad, weights)}, 3)
    assert not list(tmp_path.iterdir())


def test_text_is_encoded_once_for_all_and_kept_where_one_says(tiny, weights, tmp_path):
    store, own = StageCache(tmp_path / "stages"), StageCache(tmp_path / "text")
    for texts, kept_before in ((False, False), (own, False), (own, True), (True, False), (True, True), (False, False)):
        options = {"store": store, "texts": texts, "stop_after": "keyframes"}
        text = next(event for event in generate(PROMPT, tiny, weights, 1, **options))
        assert isinstance(text, TextEncoded) and text.kept == kept_before


def test_translation_shows_where_it_starts_once_its_latents_are_kept(tiny, weights, tmp_path):
    store = StageCache(tmp_path)
    assert start_of(generate(PROMPT, tiny, weights, 1, store=store)).preview is None
    shown = []
    for strength in (0.3, 0.9):
        changed = override(tiny, {"translation.strength": strength})
        shown.append(start_of(generate(PROMPT, changed, weights, 1, store=store)).preview)
    assert shown[0].shape == shown[1].shape == (5, tiny.translation.height // 8, tiny.translation.width // 8, 3)
    assert not np.array_equal(*shown)  # the stronger, the more noise
    assert start_of(generate(PROMPT, changed, weights, 1)).preview is None


def start_of(events):
    """The beginning of translation."""
    return next(e for e in list(events) if isinstance(e, StageStarted) and e.stage == "translation")
