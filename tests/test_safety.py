"""The safety checker: what it flags is neither shown, written nor kept; it runs wherever a preset names it."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import kept, ran
from transformers import CLIPConfig

from mpl import safety
from mpl.cascade import Arm, compare, generate
from mpl.config import STAGES, Preset, from_dict, load_preset, override, to_dict
from mpl.events import Failed, Finished, Notice, Stopped, Withheld
from mpl.pictures import clip_pictures
from mpl.store import StageCache
from mpl.terminal import RunFailed, Terminal
from mpl.weights import Weights

PROMPT = "a red car"
PREPARATION = {  # CLIP's, as in the published checker's folder
    "crop_size": 224,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}
NEVER, ALWAYS = 2.0, -2.0  # thresholds beyond any cosine
SHOWN = np.full((40, 64, 3), (220, 30, 30), np.uint8)
HARMLESS = np.full((40, 64, 3), (20, 60, 40), np.uint8)


def make_checker(folder: Path, threshold: float) -> StableDiffusionSafetyChecker:
    """A checker with random weights, in the published layout; every concept has the same threshold."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 4, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**small, "image_size": 32, "patch_size": 8}
    model = StableDiffusionSafetyChecker(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()
    with torch.no_grad():
        model.visual_projection.weight.normal_()
        for name in ("concept_embeds", "special_care_embeds"):
            getattr(model, name).normal_()
            getattr(model, f"{name}_weights").fill_(threshold)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    return model


@pytest.fixture
def checker(tmp_path: Path) -> Path:
    """One that flags nothing."""
    make_checker(tmp_path / "checker", NEVER)
    return tmp_path / "checker"


def with_checker(preset: Preset, folder: Path | str) -> Preset:
    return override(preset, {"weights.safety": str(folder)})


def run(preset: Preset, **options) -> list:
    return list(generate(PROMPT, preset, Weights(preset.weights), 1, **options))


def pictures_in(events: list) -> list[str]:
    """The events that hold pictures."""
    return [
        f"{type(event).__name__} {event.stage}"
        for event in events
        if getattr(event, "frames", None) is not None or getattr(event, "preview", None) is not None
    ]


# ---- the checker alone


def test_first_last_and_evenly_spaced_frames_are_looked_at():
    assert safety.sampled(29) == [0, 4, 8, 12, 16, 20, 24, 28]
    assert safety.sampled(1) == [0] and safety.sampled(8) == list(range(8))
    assert safety.sampled(240)[-1] == 239 and len(set(safety.sampled(9))) == 8


def test_pictures_are_prepared_as_pillow_would():
    """CLIP's own: Pillow's bicubic to 224 on the shorter side, the middle, mean and deviation."""
    small = np.random.default_rng(0).integers(0, 256, (8, 14, 3), np.uint8)
    frame = np.asarray(Image.fromarray(small).resize((576, 320), Image.Resampling.BICUBIC))
    picture = Image.fromarray(frame).resize((403, 224), Image.Resampling.BICUBIC).crop((89, 0, 313, 224))
    mean, std = (np.array(PREPARATION[f"image_{name}"]) for name in ("mean", "std"))
    wanted = (np.asarray(picture) / 255 - mean) / std
    made = clip_pictures(frame[None].copy(), 224, PREPARATION)[0].permute(1, 2, 0).numpy()
    assert np.abs(made - wanted).max() < 0.05  # Pillow rounds to 8 bits between


def test_one_frame_like_a_concept_is_flagged_among_others(tmp_path, tiny, caplog):
    """A concept that is a red picture's own embedding, with a threshold that only it passes."""
    folder = tmp_path / "checker"
    model = make_checker(folder, NEVER)
    with torch.no_grad():
        seen = [model.vision_model(clip_pictures(f[None], 32, PREPARATION))[1] for f in (SHOWN, HARMLESS)]
        red, green = (torch.nn.functional.normalize(model.visual_projection(x)) for x in seen)
        model.concept_embeds[5] = red[0]
        model.concept_embeds_weights[5] = (1 + (red @ green.T).item()) / 2
    model.save_pretrained(folder)
    weights = Weights(with_checker(tiny, folder).weights)
    frames = np.stack([HARMLESS] * 29)
    assert safety.check("superres", frames, weights) == [0, 4, 8, 12, 16, 20, 24, 28]
    frames[12] = SHOWN
    with caplog.at_level(logging.WARNING), pytest.raises(safety.Flagged, match="flagged the result of superres"):
        safety.check("superres", frames, weights)
    assert np.array_equal(frames[12], SHOWN) and "black image" not in caplog.text
    frames[12], frames[13] = HARMLESS, SHOWN  # between those that are looked at
    safety.check("superres", frames, weights)


def test_published_keys_in_a_pickled_file_are_read(checker, tiny):
    """Written by transformers 4: one more `vision_model.`, and `position_ids`. Computed in float32 always."""
    state = load_file(checker / "model.safetensors")
    old = {f"vision_model.{k}" if k.startswith("vision_model.") else k: v for k, v in state.items()}
    old["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    (checker / "model.safetensors").unlink()
    torch.save(old, checker / "pytorch_model.bin")
    weights = Weights(override(with_checker(tiny, checker), {"weights.dtype": "bfloat16"}).weights)
    weights.check()
    with weights.borrow("safety") as model:
        assert {p.dtype for p in model.parameters()} == {torch.float32} == {weights.dtype("safety")}
        assert torch.equal(model.concept_embeds, state["concept_embeds"])
        key = "vision_model.embeddings.patch_embedding.weight"
        assert torch.equal(model.state_dict()[key], state[key])
        assert not model.training


def test_a_checker_of_no_numbers_is_refused(checker, tiny):
    """Comparisons with them are false: it would let everything pass."""
    state = load_file(checker / "model.safetensors")
    state["concept_embeds"][3] = torch.nan
    save_file(state, checker / "model.safetensors", metadata={"format": "pt"})
    events = run(with_checker(tiny, checker), stop_after="keyframes")
    assert isinstance(events[-1], Failed) and "concept_embeds holds values that are no numbers" in events[-1].message
    assert not pictures_in(events)


# ---- runs


def test_a_run_that_passes_says_so_and_shows_nothing_unchecked(checker, tiny, tmp_path):
    preset = with_checker(tiny, checker)
    events = run(preset, out=tmp_path / "out")
    assert isinstance(events[-1], Finished) and Path(events[-1].file).is_file()
    assert pictures_in(events) == [f"StageFinished {stage}" for stage in STAGES]  # no previews
    assert any(isinstance(e, Notice) and "The safety checker is on" in e.message for e in events)
    record = events[-1].recipe["safety_checker"]
    assert record["ran"] and record["weights"] == str(checker) and record["revision"]
    assert record["frames"] == {"keyframes": [0, 1, 2]} | {stage: [0, 1, 2, 3, 4] for stage in STAGES[1:]}
    json.dumps(record)
    plain = run(tiny)
    assert np.array_equal(plain[-2].frames, events[-2].frames)  # it changes nothing
    assert plain[-1].recipe["safety_checker"]["ran"] is False
    assert "the preset names none" in plain[-1].recipe["safety_checker"]["why"]


def test_what_is_flagged_is_neither_shown_nor_written_nor_kept(tiny, tmp_path):
    make_checker(tmp_path / "checker", ALWAYS)
    store, out = StageCache(tmp_path / "cache"), tmp_path / "out"
    preset = with_checker(tiny, tmp_path / "checker")
    events = run(preset, store=store, out=out)
    message = "The safety checker flagged the keyframes, so the result is withheld. Try other words or another seed."
    assert events[-1] == Withheld(message, "keyframes") and isinstance(events[-1], Failed)
    assert not pictures_in(events) and not list(out.iterdir())
    entries = [load_file(path) for path in (tmp_path / "cache").iterdir()]
    assert [set(entry) for entry in entries] == [{"states", "negative"}] * 2  # the text's
    with pytest.raises(RunFailed, match="withheld"):
        Terminal(open("/dev/null", "w")).watch(iter(events))  # noqa: SIM115


def test_a_later_stage_that_is_flagged_leaves_what_came_before(checker, tiny, tmp_path, monkeypatch):
    real = safety.check

    def check(stage, frames, weights):
        if stage == "superres":
            raise safety.Flagged(stage)
        return real(stage, frames, weights)

    monkeypatch.setattr(safety, "check", check)
    preset, store, out = with_checker(tiny, checker), StageCache(tmp_path / "cache"), tmp_path / "out"
    events = run(preset, store=store, out=out)
    assert events[-1].stage == "superres" and "the result of superres" in events[-1].message
    assert ran(events) == {"keyframes", "interpolation"} and not list(out.iterdir())
    again = run(preset, store=store)
    assert kept(again) == {"keyframes", "interpolation"} and isinstance(again[-1], Withheld)


def test_results_of_a_run_without_the_checker_are_checked_when_it_is_on(tiny, tmp_path):
    make_checker(tmp_path / "checker", ALWAYS)
    preset, store = with_checker(tiny, tmp_path / "checker"), StageCache(tmp_path / "cache")
    off = run(override(preset, {"safety": "false"}), store=store)
    assert isinstance(off[-1], Finished) and ran(off) == set(STAGES)
    assert off[-1].recipe["safety_checker"] == {"ran": False, "why": "safety = false"}
    assert off[-1].recipe["preset"]["safety"] is False
    assert any(isinstance(e, Notice) and "switched off" in e.message for e in off)
    on = run(preset, store=store)
    assert isinstance(on[-1], Withheld) and not pictures_in(on) and not kept(on)


def test_a_stop_before_anything_was_checked_says_that_it_did_not_run(checker, tiny):
    events = run(with_checker(tiny, checker), stop=lambda: True)
    assert isinstance(events[-1], Stopped) and events[-1].recipe["safety_checker"]["ran"] is False


def test_a_comparison_ends_where_an_arm_is_flagged(tiny, tmp_path):
    make_checker(tmp_path / "checker", ALWAYS)
    preset = with_checker(tiny, tmp_path / "checker")
    arms = {"a": Arm(tiny, Weights(tiny.weights), "keyframes"), "b": Arm(preset, Weights(preset.weights))}
    events = list(compare(PROMPT, arms, 1))
    assert isinstance(events[-1][1], Withheld) and not pictures_in([e for name, e in events if name == "b"])


# ---- presets, and what is missing


def test_presets_of_published_weights_name_the_published_checker():
    for name in ("show1", "paper"):
        preset = load_preset(name)
        assert preset.safety and preset.weights.safety == "CompVis/stable-diffusion-safety-checker"
    assert load_preset("storybook").weights.safety is None
    assert from_dict(to_dict(load_preset("show1"))) == load_preset("show1")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("model.safetensors", "it holds no weight file"),
        ("config.json", "config.json is missing there"),
        ("preprocessor_config.json", "preprocessor_config.json is missing there"),
        (None, "no such folder"),
    ],
)
def test_a_checker_that_is_missing_is_an_error_before_any_work(checker, tiny, gone, words):
    preset = with_checker(tiny, checker if gone else "nowhere")
    if gone:
        (checker / gone).unlink()
    weights = Weights(preset.weights)
    with pytest.raises(ValueError, match=f"weights.safety = .*: {words}"):
        generate(PROMPT, preset, weights, 1, stop_after="keyframes")
    off = dataclasses.replace(preset, safety=False)
    assert isinstance(list(generate(PROMPT, off, weights, 1, stop_after="keyframes"))[-1], Finished)


@pytest.mark.parametrize("values", ["{}", '{"image_mean": [0, 0, 0], "image_std": [1, 0, 1]}', "[]"])
def test_a_broken_preparation_is_found_before_any_work(checker, tiny, values):
    (checker / "preprocessor_config.json").write_text(values)
    preset = with_checker(tiny, checker)
    with pytest.raises(ValueError, match="preprocessor_config.json: (image_|must hold)"):
        generate(PROMPT, preset, Weights(preset.weights), 1)


def test_a_cut_weight_file_is_found_before_any_work(checker, tiny):
    path = checker / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    preset = with_checker(tiny, checker)
    with pytest.raises(ValueError, match="truncated"):
        generate(PROMPT, preset, Weights(preset.weights), 1)


def test_the_download_of_the_published_checker_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    source = load_preset("show1").weights.safety
    preset = with_checker(tiny, source)
    with pytest.raises(ValueError) as error:
        generate(PROMPT, preset, Weights(preset.weights), 1)
    assert f"weights.safety: https://huggingface.co/{source} (about 1.2 GB" in str(error.value)
    assert f'hf download {source} --include "*.json" --include "*.safetensors" --include "*.bin"' in str(error.value)
