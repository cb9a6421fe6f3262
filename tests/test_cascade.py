"""The whole cascade on tiny random models: events, files, the stage cache, stopping, failing, comparing."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from tiny import last_frames, ran, tiny_preset

from mpl import run
from mpl.cascade import generate, result
from mpl.config import STAGES, from_dict, override
from mpl.events import (
    Failed,
    Finished,
    Notice,
    StageFinished,
    StageStarted,
    StageStep,
    Stopped,
)
from mpl.noise import stage_generator
from mpl.stages.interpolation import interpolation
from mpl.stages.keyframes import keyframes
from mpl.stages.superres import superres
from mpl.stages.text import encode
from mpl.stages.translation import translation
from mpl.video import read_recipe, read_video, to_clip, to_frames
from mpl.weights import Weights

PROMPT = "a red car"
SIZES = {"keyframes": (3, 8, 16), "interpolation": (5, 8, 16), "superres": (5, 16, 32), "translation": (5, 32, 64)}


@pytest.fixture
def weights(tiny_weights):
    return tiny_weights


def kinds(events):
    return [type(event).__name__ for event in events]


def test_a_run_from_prompt_to_file(tiny, weights, tmp_path):
    events = list(generate(PROMPT, tiny, weights, 7, out=tmp_path))
    assert kinds(events)[0] == "TextEncoded" and kinds(events)[-1] == "Finished"
    started = [e for e in events if isinstance(e, StageStarted)]
    assert [(e.stage, e.number, e.of) for e in started] == [(s, i, 4) for i, s in enumerate(STAGES, 1)]
    for event in events:
        if isinstance(event, StageFinished):
            assert event.frames.shape == (*SIZES[event.stage], 3) and event.frames.dtype == np.uint8
            assert event.fps == (4 if event.stage == "keyframes" else 8)
            assert event.seconds > 0 and event.peak_memory_gb > 0
    end = events[-1]
    text, first = events[0], next(e for e in events if isinstance(e, StageStep))
    assert end.recipe["first_preview_seconds"] >= text.seconds + first.seconds - 0.01  # both before it, and rounded
    assert sorted(os.listdir(tmp_path)) == sorted(
        [os.path.basename(end.file), os.path.basename(end.file)[:-3] + "json"]
    )
    assert read_video(end.file).shape == (5, 32, 64, 3)
    assert read_recipe(end.file) == json.loads((tmp_path / end.file).with_suffix(".json").read_text()) == end.recipe


def test_steps_count_up_and_tell_evaluations_and_time_left(tiny, weights):
    events = list(generate(PROMPT, tiny, weights, 7))
    for stage, total, evaluations in (("keyframes", 2, 4), ("interpolation", 4, 4), ("superres", 4, 4)):
        steps = [e for e in events if isinstance(e, StageStep) and e.stage == stage]
        assert [(e.index, e.total) for e in steps] == [(i + 1, total) for i in range(total)]
        assert steps[-1].evaluations == evaluations  # guidance counts twice
        assert steps[0].seconds_left is None and steps[-1].seconds_left == 0
        assert steps[0].preview.shape == (*SIZES[stage], 3)
    steps = [e for e in events if isinstance(e, StageStep) and e.stage == "translation"]
    assert steps[0].preview.shape == (5, 4, 8, 3)  # as large as the latents
    info = {e.stage: e.info for e in events if isinstance(e, StageFinished)}
    assert info["superres"] == {"snr": 5.5, "noise_level": 250}
    assert info["translation"]["timestep"] == steps[0].timestep == 500


def test_the_cascade_is_the_stages_in_a_row(tiny, weights):
    text = encode(PROMPT, tiny.text, weights)

    def done(steps):
        try:
            while True:
                next(steps)
        except StopIteration as end:
            return end.value.clamp(-1, 1)

    clip = done(keyframes(text, tiny.keyframes, weights, stage_generator(7, "keyframes")))
    clip = done(interpolation(clip, text, tiny.interpolation, weights, stage_generator(7, "interpolation")))
    clip = done(superres(clip, text, tiny.superres, weights, stage_generator(7, "superres")))
    clip = done(translation(clip, text, tiny.translation, weights, stage_generator(7, "translation")))
    events = list(generate(PROMPT, tiny, weights, 7))
    assert np.array_equal(last_frames(events), to_frames(clip))


def test_the_seed_decides_and_stages_have_noise_of_their_own(tiny, weights):
    one, same, other = (list(generate(PROMPT, tiny, weights, seed)) for seed in (1, 1, 2))
    assert np.array_equal(last_frames(one), last_frames(same))
    assert not np.array_equal(last_frames(one), last_frames(other))
    words = list(generate("a blue boat", tiny, weights, 1))
    assert not np.array_equal(last_frames(one), last_frames(words))


def test_clamping_between_stages_is_the_presets_choice(tiny, weights):
    clamped = list(generate(PROMPT, tiny, weights, 1, stop_after="superres"))
    raw = list(generate(PROMPT, override(tiny, {"clamp": False}), weights, 1, stop_after="superres"))
    first = [[e.frames for e in events if isinstance(e, StageFinished)][0] for events in (clamped, raw)]
    assert np.array_equal(*first) and not np.array_equal(last_frames(clamped), last_frames(raw))


def test_stop_after_writes_that_stage_at_its_own_size_and_rate(tiny, weights, tmp_path):
    end = result(generate(PROMPT, tiny, weights, 1, out=tmp_path, stop_after="keyframes", formats=("mp4", "gif")))
    assert read_video(end.file).shape == (3, 8, 16, 3)
    assert set(end.recipe["stages"]) == {"keyframes"} and end.recipe["stages"]["keyframes"]["fps"] == 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".gif", ".json"}


def test_start_at_takes_a_clip(tiny, weights, tmp_path):
    clip = torch.zeros(1, 3, 2, 16, 32)
    events = list(generate(PROMPT, tiny, weights, 1, out=tmp_path, start_at="translation", clip=clip, source="up.mp4"))
    assert ran(events) == {"translation"} and last_frames(events).shape == (2, 32, 64, 3)
    assert events[-1].recipe["source"]["name"] == "up.mp4" and events[-1].recipe["source"]["frames"] == 2
    events = list(
        generate(PROMPT, tiny, weights, 1, start_at="superres", clip=clip[..., :8, :16], stop_after="superres")
    )
    assert ran(events) == {"superres"}


def test_stages_that_are_not_run_need_no_weights(tiny_copy):
    import shutil

    preset = tiny_preset(tiny_copy)
    for name in ("text", "keyframes", "interpolation", "superres", "first"):
        shutil.rmtree(tiny_copy / name)
    only = {"start_at": "translation", "clip": torch.zeros(1, 3, 2, 16, 32)}
    assert isinstance(result(generate(PROMPT, preset, Weights(preset.weights), 1, **only)), Finished)
    with pytest.raises(ValueError, match="weights.text"):
        generate(PROMPT, preset, Weights(preset.weights), 1)


def test_the_image_model_of_the_first_frame_takes_part(tiny_folder, tiny, weights):
    preset = tiny_preset(tiny_folder)
    with_it = list(generate(PROMPT, preset, Weights(preset.weights), 1, stop_after="superres"))
    without = list(generate(PROMPT, tiny, weights, 1, stop_after="superres"))
    assert [e.total for e in with_it if isinstance(e, StageStep)][-1] == 6  # two steps more
    assert not np.array_equal(last_frames(with_it), last_frames(without))


# ---- what people are told


def test_unknown_words_and_cut_prompts_are_reported(tiny, weights):
    events = list(generate("a red bloat at night the sea rises zzz", tiny, weights, 1, stop_after="keyframes"))
    assert events[0].unknown_words == (("bloat", "boat"), ("zzz", None))
    notices = [e.message for e in events if isinstance(e, Notice)]
    assert "'bloat'" in notices[0] and "'boat'" in notices[0] and "'zzz'" in notices[1]
    assert "not read" in notices[2]  # 8 tokens
    assert events[-1].recipe["unknown_words"] == [["bloat", "boat"], ["zzz", None]]


def test_what_the_prompt_leaves_open_is_chosen_said_and_kept(tiny, weights):
    preset = override(tiny, {"text.nouns": "boat", "text.adjectives": "red"})
    completed = list(generate("a boat", preset, weights, 1, stop_after="keyframes"))
    assert [e.message for e in completed if isinstance(e, Notice)] == [
        "What the prompt leaves open the seed has chosen: red."
    ]
    recipe = completed[-1].recipe
    assert (recipe["prompt"], recipe["prompt_read"]) == ("a boat", "a red boat")
    said = [e for e in generate("a red boat", tiny, weights, 1, stop_after="keyframes") if isinstance(e, StageFinished)]
    kept = [e for e in completed if isinstance(e, StageFinished)]
    assert (said[0].frames == kept[0].frames).all()
    begun = {"start_at": "interpolation", "stop_after": "interpolation", "clip": to_clip(kept[0].frames)}
    later = list(generate("a boat", preset, weights, 1, **begun))
    assert later[-1].recipe["prompt_read"] == "a boat"  # what begins with a clip shows it already


def test_unknown_words_with_a_substitute_are_replaced_and_said(tiny, weights):
    preset = override(tiny, {"text.substitutes": "black: red", "text.nouns": "boat", "text.adjectives": "red, blue"})
    events = list(generate("a black boat", preset, weights, 1, stop_after="keyframes"))
    said = "These models do not know the word 'black'; they read 'red' in its place."
    assert [e.message for e in events if isinstance(e, Notice)] == [said]
    assert events[-1].recipe["prompt_read"] == "a red boat" and events[-1].recipe["unknown_words"] == []


def test_an_eta_that_the_scheduler_lacks_is_said(tiny, weights):
    preset = override(tiny, {"translation.eta": 1.0})
    notices = [e.message for e in generate(PROMPT, preset, weights, 1) if isinstance(e, Notice)]
    assert notices == ["translation.eta = 1.0: DPMSolverMultistepScheduler has no eta."]
    other = override(preset, {"translation.solver": "ddim", "translation.grid": "published"})
    assert not [e for e in generate(PROMPT, other, weights, 1) if isinstance(e, Notice)]


def test_the_recipe_makes_the_same_video_again(tiny, weights, tmp_path):
    preset = override(tiny, {"superres.snr": "inf", "translation.strength": 0.7})
    first = result(generate(PROMPT, preset, weights, 5, out=tmp_path / "a"))
    recipe = read_recipe(first.file)
    assert recipe["note"] == "AI-generated video" and recipe["versions"]["torch"] == torch.__version__
    assert recipe["stages"]["superres"]["snr"] == "inf" and recipe["stages"]["superres"]["noise_level"] == 0
    assert set(recipe["revisions"]) == {"text", "keyframes", "interpolation", "superres", "clip", "translation", "vae"}
    assert recipe["revisions"]["vae"] == weights.revision("vae")
    again = result(generate(recipe["prompt"], from_dict(recipe["preset"]), weights, recipe["seed"], out=tmp_path / "b"))
    assert np.array_equal(read_video(first.file), read_video(again.file))
    assert os.path.basename(first.file) == os.path.basename(again.file)


@pytest.mark.parametrize(
    "prompt",
    ["../../etc/passwd", "/tmp/x", "<b>a</b> & $(rm -rf ~) 'q' \\", "ünï 🚗", "🚗", "x" * 900, "a\x00b", "CON"],
)
def test_no_prompt_becomes_a_path(tiny, weights, tmp_path, prompt):
    end = result(generate(prompt, tiny, weights, 1, out=tmp_path / "out", stop_after="keyframes"))
    assert os.path.dirname(end.file) == str(tmp_path / "out")
    stem = os.path.basename(end.file)[: -len(".mp4")]
    assert stem.isascii() and stem.replace("-", "").isalnum() and len(stem) < 80
    assert os.listdir(tmp_path) == ["out"] and len(os.listdir(tmp_path / "out")) == 2


def test_different_runs_get_different_names(tiny, weights, tmp_path):
    changed = override(tiny, {"keyframes.guidance": 3})
    for preset, seed in ((tiny, 1), (tiny, 2), (changed, 1)):
        result(generate(PROMPT, preset, weights, seed, out=tmp_path, stop_after="keyframes"))
    assert len(list(tmp_path.glob("*.mp4"))) == 3


# ---- stopping and failing


@pytest.mark.parametrize("stage", STAGES)
def test_stop_ends_within_one_step_and_keeps_what_is_finished(tiny, weights, tmp_path, stage):
    seen = []
    events = []
    for event in generate(PROMPT, tiny, weights, 1, out=tmp_path, stop=lambda: bool(seen)):
        events.append(event)
        if isinstance(event, StageStep) and event.stage == stage:
            seen.append(event)
    assert len(seen) == 1  # no step after it
    end = events[-1]
    assert isinstance(end, Stopped) and (end.stage, end.index) == (stage, 1)
    assert end.recipe["stopped"] == {"stage": stage, "index": 1, "total": seen[0].total}
    before = STAGES[: STAGES.index(stage)]
    assert tuple(end.recipe["stages"]) == before
    if before:
        assert read_video(end.file).shape == (*SIZES[before[-1]], 3)
    else:
        assert end.file is None and not list(tmp_path.iterdir())


def test_closing_a_run_gives_the_models_back(tiny_folder, tiny, tmp_path):
    weights = Weights(tiny.weights)
    events = generate(PROMPT, tiny, weights, 1, out=tmp_path)
    for event in events:
        if isinstance(event, StageStep) and event.stage == "superres":
            break
    assert weights._borrowers["superres"] == 1
    events.close()
    assert not any(weights._borrowers.values()) and not list(tmp_path.iterdir())
    assert isinstance(result(generate(PROMPT, tiny, weights, 1)), Finished)


def test_a_failure_is_an_event_for_people_and_leaves_nothing(tiny, weights, tmp_path, monkeypatch):
    def failing(error):
        def superres(*_):
            raise error
            yield

        monkeypatch.setattr(run, "superres", superres)
        return list(generate(PROMPT, tiny, weights, 1, out=tmp_path))

    for error, words in (
        (torch.OutOfMemoryError("CUDA out of memory"), "Out of memory on cpu. Try"),
        (MemoryError(), "Out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), "Out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "Out of memory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("weights.superres: gone"), "weights.superres: gone"),
    ):
        events = failing(error)
        assert isinstance(events[-1], Failed) and words in events[-1].message
        assert ran(events) == {"keyframes", "interpolation"}
    with pytest.raises(RuntimeError, match="a mistake in here"):  # is not hidden
        failing(RuntimeError("a mistake in here"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="weights.superres: gone"):
        result(iter(failing(ValueError("weights.superres: gone"))))


def test_numbers_that_are_none_do_not_go_on(tiny, weights, monkeypatch):
    def keyframes(*_):
        return torch.full((1, 3, 3, 8, 16), torch.nan)
        yield

    monkeypatch.setattr(run, "keyframes", keyframes)
    end = list(generate(PROMPT, tiny, weights, 1))[-1]
    assert isinstance(end, Failed) and "keyframes made values that are no numbers, in float32" in end.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"seed": -1}, "seed = -1"),
        ({"stop_after": "text"}, "stop_after = 'text'"),
        ({"start_at": "superres"}, "needs a clip"),
        ({"clip": torch.zeros(1, 3, 2, 8, 16)}, "start_at is missing"),
        ({"start_at": "keyframes", "clip": torch.zeros(1, 3, 2, 8, 16)}, "'keyframes'"),
        ({"start_at": "superres", "clip": torch.zeros(1, 3, 2, 8, 8)}, "superres takes 1 3 f 8 16"),
        ({"start_at": "interpolation", "clip": torch.zeros(1, 3, 1, 8, 16)}, "takes 2 or more"),
        (
            {"start_at": "interpolation", "clip": torch.zeros(1, 3, 121, 8, 16)},
            "121 frames, of which interpolation makes 241: superres takes 1 to 240; the clip may have up to 120 frames",
        ),
        (
            {"start_at": "translation", "clip": torch.zeros(1, 3, 2, 16, 32), "stop_after": "superres"},
            "comes before 'translation'",
        ),
        ({"formats": ("avi",)}, "formats"),
        ({"out": __file__}, "cannot write there"),
        ({"out": __file__ + "/below"}, "cannot write there"),
    ],
)
def test_bad_input_is_refused_before_any_work(tiny, weights, options, words):
    with pytest.raises(ValueError, match=words):
        generate(**({"prompt": PROMPT, "preset": tiny, "weights": weights, "seed": 1} | options))


def test_interpolation_alone_takes_as_many_frames_as_any_stage(tiny, weights):
    for count, last in ((240, "interpolation"), (120, "superres")):
        clip = torch.zeros(1, 3, count, 8, 16)
        generate(PROMPT, tiny, weights, 1, start_at="interpolation", clip=clip, stop_after=last)


def test_a_start_that_leaves_no_step_is_refused_before_any_work(tiny, weights):
    preset = override(tiny, {"translation.grid": "published", "translation.strength": 0.1})
    with pytest.raises(ValueError, match="translation.strength"):
        generate(PROMPT, preset, weights, 1)
    assert isinstance(
        generate(PROMPT, preset, weights, 1, stop_after="superres"), type(generate(PROMPT, tiny, weights, 1))
    )
