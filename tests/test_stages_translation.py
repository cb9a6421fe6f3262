"""Stage 4: where it starts, what it encodes, and its solver against a known solution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from stage_toys import (
    LATENT,
    MEAN,
    SPREAD,
    NoNoise,
    exact_end,
    exact_model,
    finish,
    toy_text,
    toy_weights,
    watch,
)

from mpl.noise import NoiseSource, add_noise, scheduler_from_config, stage_generator
from mpl.options import TranslationOptions
from mpl.sampling import denoise
from mpl.stages.common import back_project
from mpl.stages.text import TextStates
from mpl.stages.translation import (
    decode_latents,
    denoise_latents,
    encode_clip,
    resize_frames,
    resize_images,
    to_bytes,
    translation,
    translation_timesteps,
)

OPTIONS = TranslationOptions(height=16, width=24, steps=3, strength=0.5, decode_frames=2)
SOLVER = {"_class_name": "DPMSolverMultistepScheduler", **LATENT}
DDIM = {"_class_name": "DDIMScheduler", **LATENT, "steps_offset": 1}


def clip(frames: int = 5, height: int = 8, width: int = 12) -> torch.Tensor:
    return NoiseSource(5).randn((1, 3, frames, height, width)).clamp(-1, 1)


def start(config, **changes) -> tuple[int, int]:
    """First timestep and number of steps."""
    options = replace(TranslationOptions(grid="published", steps=50, cap=1000), **changes)
    timesteps = translation_timesteps(scheduler_from_config(config), options)
    return timesteps[0], len(timesteps)


# ---- where it starts


@pytest.mark.parametrize(
    "config, changes, expected",
    [
        (SOLVER, {"strength": 0.8}, (799, 40)),  # published
        (DDIM, {"strength": 0.8}, (781, 40)),  # published
        (SOLVER, {"strength": 0.8, "steps": 6}, (666, 4)),
        (DDIM, {"strength": 0.7, "steps": 5}, (601, 4)),
        (SOLVER, {"strength": 1.0}, (999, 50)),
        (SOLVER, {"strength": 1.0, "cap": 900}, (899, 45)),
        (SOLVER, {"strength": 0.8, "cap": 500}, (500, 25)),
        (SOLVER, {"strength": 0.5, "grid": "from_start", "steps": 6}, (500, 6)),
        (SOLVER, {"strength": 0.57, "grid": "from_start", "steps": 6}, (570, 6)),
        (SOLVER, {"strength": 1.0, "grid": "from_start", "steps": 6, "cap": 900}, (900, 6)),
        (SOLVER, {"strength": 1.0, "grid": "from_start", "steps": 6}, (999, 6)),
        (SOLVER, {"strength": 0.003, "grid": "from_start", "steps": 6}, (3, 3)),
        (SOLVER, {"strength": 0.1, "grid": "from_start", "steps": 6, "step_span": 30}, (100, 3)),
        (SOLVER, {"strength": 0.01, "grid": "from_start", "steps": 6, "step_span": 30}, (10, 1)),
    ],
)
def test_strength_cap_and_grid_give_the_start(config, changes, expected):
    assert start(config, **changes) == expected


def test_steps_from_the_start_are_even_and_end_above_0():
    options = TranslationOptions(grid="from_start", steps=5, strength=0.5)
    assert translation_timesteps(scheduler_from_config(SOLVER), options) == [500, 400, 300, 200, 100]


@pytest.mark.parametrize(
    "config, changes",
    [
        (SOLVER, {"strength": 0.1, "steps": 5}),
        (SOLVER, {"strength": 0.5, "steps": 5, "cap": 10}),
        (SOLVER, {"strength": 0.0005, "grid": "from_start"}),
    ],
)
def test_a_start_that_leaves_no_step_says_so_before_any_work(config, changes):
    with pytest.raises(ValueError, match="leaves none of") as error:
        start(config, **changes)
    assert str(changes["strength"]) in str(error.value)
    weights = toy_weights(config)
    options = replace(OPTIONS, **{"grid": "published", **changes})
    with pytest.raises(ValueError, match="leaves none of"):
        next(translation(clip(), toy_text(), options, weights, NoiseSource(0)))
    assert weights.models["translation"].calls == []


def test_a_scheduler_that_cannot_start_anywhere_is_named():
    with pytest.raises(ValueError, match="DDIMScheduler.*published"):
        start(DDIM, grid="from_start", strength=0.5)


def test_asking_for_the_timesteps_leaves_the_scheduler_alone():
    scheduler = scheduler_from_config(SOLVER)
    scheduler.set_timesteps(7)
    translation_timesteps(scheduler, OPTIONS)
    assert len(scheduler.timesteps) == 7


# ---- the solver from there


def solve(options, config=SOLVER) -> tuple[torch.Tensor, torch.Tensor]:
    """The stage's schedule on data whose solution is known: result and truth."""
    scheduler = scheduler_from_config(config)
    timesteps = translation_timesteps(scheduler, options)
    if options.grid == "from_start":
        scheduler.set_timesteps(timesteps=timesteps)
    else:
        scheduler.set_timesteps(options.steps)
    clean = MEAN + SPREAD * NoiseSource(3).randn((1, 3, 2, 8, 8))
    x = add_noise(clean, NoiseSource(4).randn(clean.shape), scheduler, timesteps[0])
    kept = scheduler.timesteps[-len(timesteps) :]
    out = finish(denoise(exact_model(scheduler), x, scheduler, kept, NoNoise()))
    return out, exact_end(scheduler, x, timesteps[0])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_multistep_solver_is_right_from_any_start(prediction):
    config = {**SOLVER, "prediction_type": prediction}
    errors = []
    for steps in (6, 12, 50, 200):
        options = TranslationOptions(grid="from_start", steps=steps, strength=0.5)
        out, true = solve(options, config)
        errors.append(float((out - true).pow(2).mean().sqrt()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.1 and errors[1] < 0.03 and errors[-1] < 1e-3


def test_the_same_timesteps_give_the_same_result_on_both_grids():
    whole, _ = solve(TranslationOptions(grid="published", steps=40, strength=0.5, cap=1000))
    spread, _ = solve(TranslationOptions(grid="from_start", steps=20, strength=0.5))
    torch.testing.assert_close(whole, spread, atol=5e-3, rtol=0)  # 999 and 1000 round differently


# ---- the whole stage


def test_it_turns_a_small_clip_into_a_large_one():
    weights = toy_weights()
    seen, out = watch(translation(clip(), toy_text(), OPTIONS, weights, stage_generator(0, "translation")))
    assert out.shape == (1, 3, 5, 16, 24) and out.dtype == torch.float32 and out.is_contiguous()
    assert [step.timestep for step in seen] == [500, 333, 167]
    assert seen[0].estimate().shape == (1, 4, 5, 2, 3)  # latents
    again = finish(translation(clip(), toy_text(), OPTIONS, toy_weights(), stage_generator(0, "translation")))
    assert torch.equal(out, again)
    assert weights.models["translation"].calls[0].sample.shape == (1, 4, 5, 2, 3)  # all frames at once


def test_the_result_is_held_to_the_clip_by_what_the_noise_leaves_of_it():
    """The mean of 2×2 given pixels is kept, by as much as the first timestep has of the clip's variance."""
    plain, held = (
        finish(translation(clip(), toy_text(), options, toy_weights(), stage_generator(0, "translation")))
        for options in (OPTIONS, replace(OPTIONS, back_projection=2))
    )
    share = toy_weights().scheduler("translation").alphas_cumprod[500].item()
    assert 0.05 < share < 0.95
    torch.testing.assert_close(held, back_project(plain, clip(), 2, share))
    assert not torch.equal(held, plain)


def test_it_is_told_clips_text():
    weights, text = toy_weights(), toy_text()
    swapped = TextStates(text.clip, text.clip_negative, text.t5, text.t5_negative)
    options = replace(OPTIONS, guidance=3.0)
    outs = [finish(translation(clip(), t, options, weights, NoiseSource(0))) for t in (text, swapped)]
    assert not torch.equal(*outs)
    with pytest.raises(ValueError, match="CLIP"):
        finish(translation(clip(), TextStates(text.t5, None), OPTIONS, weights, NoiseSource(0)))


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_kept_latents_give_what_encoding_gives(posterior):
    options, source = replace(OPTIONS, posterior=posterior), stage_generator(0, "translation")
    latents = encode_clip(clip(), options, toy_weights(), source)
    assert latents.shape == (1, 4, 5, 2, 3)
    given = finish(translation(clip(), toy_text(), options, toy_weights(), source, latents=latents))
    encoded = finish(translation(clip(), toy_text(), options, toy_weights(), stage_generator(0, "translation")))
    assert torch.equal(given, encoded)


def test_slices_do_not_matter():
    for posterior in ("mode", "sample"):
        encoded, decoded = [], []
        for size in (1, 2, 5, 9):
            options, weights = replace(OPTIONS, decode_frames=size, posterior=posterior), toy_weights()
            encoded.append(encode_clip(clip(), options, weights, NoiseSource(0)))
            decoded.append(decode_latents(encoded[0], options, weights))
        for a, b in zip(encoded[1:] + decoded[1:], [encoded[0]] * 3 + [decoded[0]] * 3, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_several_clips_do_not_mix():
    both = torch.cat([clip(), -clip()])
    weights = toy_weights()
    latents = encode_clip(both, OPTIONS, weights, NoiseSource(0))
    torch.testing.assert_close(latents[1:], encode_clip(-clip(), OPTIONS, weights, NoiseSource(0)))
    decoded = decode_latents(latents, OPTIONS, weights)
    torch.testing.assert_close(decoded[1:], decode_latents(latents[1:], OPTIONS, weights))


def test_latents_are_scaled_and_decoding_undoes_it():
    weights = toy_weights()
    vae = weights.models["vae"]
    latents = encode_clip(clip(), OPTIONS, weights, NoiseSource(0))
    with torch.no_grad():
        pixels = resize_frames(clip()[0].transpose(0, 1), 16, 24, "bilinear")
        mode = vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(latents[0].transpose(0, 1), mode * 0.18215, atol=1e-6, rtol=0)
        frames = vae.decode(mode).sample
    torch.testing.assert_close(decode_latents(latents, OPTIONS, weights)[0].transpose(0, 1), frames)


def test_noise_starts_at_the_first_timestep():
    weights, latents = toy_weights(), NoiseSource(8).randn((1, 4, 3, 2, 3))
    next(denoise_latents(latents, toy_text(), OPTIONS, weights, NoiseSource(0)))
    noise = NoiseSource(0).spawn("start").randn((3, 4, 2, 3))  # frames are the batch, as published
    noised = add_noise(latents[0].transpose(0, 1), noise, weights.scheduler("translation"), 500)
    given = weights.models["translation"].calls[0].sample
    torch.testing.assert_close(given[0].transpose(0, 1), noised)


@pytest.mark.parametrize("close_after", [1, 2])
def test_closed_between_two_steps_it_gives_everything_back(close_after):
    weights = toy_weights()
    steps = translation(clip(), toy_text(), OPTIONS, weights, NoiseSource(0))
    for _ in range(close_after):
        next(steps)
    assert weights.borrowed == ["translation"] and torch.is_grad_enabled()
    steps.close()
    assert weights.borrowed == []


def test_the_latent_loop_runs_on_the_models_device():
    weights = toy_weights(device=torch.device("meta"))
    weights.models["translation"].to("meta")
    latents = NoiseSource(8).randn((1, 4, 3, 2, 3))
    step = next(denoise_latents(latents, toy_text(), OPTIONS, weights, NoiseSource(0)))
    assert step.sample.device.type == "meta"


@pytest.mark.parametrize(
    "change, named",
    [
        ({"resize": "nearest"}, "translation.resize"),
        ({"posterior": "mean"}, "translation.posterior"),
        ({"grid": "full"}, "translation.grid"),
    ],
)
def test_unknown_choices_are_refused_by_name(change, named):
    class Free:  # options as they would be without the preset's own checks
        pass

    options = Free()
    options.__dict__.update(OPTIONS.__dict__ | change)
    with pytest.raises(ValueError, match=named):
        finish(translation(clip(), toy_text(), options, toy_weights(), NoiseSource(0)))


def test_networks_in_half_precision_get_their_own_numbers():
    weights = toy_weights(number=torch.bfloat16)
    for model in weights.models.values():
        model.to(torch.bfloat16)
    for posterior in ("mode", "sample"):
        out = finish(translation(clip(), toy_text(), replace(OPTIONS, posterior=posterior), weights, NoiseSource(0)))
        assert out.dtype == torch.float32 and out.isfinite().all()


# ---- resizing


def test_bytes_are_rounded_down_as_published():
    frames = torch.tensor([-1.5, -1.0, 0.0, 0.999, 1.0, 2.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_bytes(frames)[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_published_resizing_is_pillows_bicubic():
    image = (np.arange(8 * 10 * 3) * 7 % 256).astype(np.uint8).reshape(1, 8, 10, 3)
    expected = np.asarray(Image.fromarray(image[0]).resize((15, 12), Image.Resampling.BICUBIC))
    assert (resize_images(image, 12, 15)[0] == expected).all()
    frames = torch.from_numpy(image).permute(0, 3, 1, 2) / 255 * 2 - 1 + 1e-3  # rounding down finds it again
    resized = resize_frames(frames, 12, 15, "published")
    expected_frames = torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255 * 2 - 1
    torch.testing.assert_close(resized[0], expected_frames)


def test_bilinear_resizing_keeps_flat_colour_ramps_and_size():
    ramp = torch.linspace(-1, 1, 8).reshape(1, 1, 1, 8).expand(1, 3, 6, 8)
    wide = resize_frames(ramp, 6, 16, "bilinear")
    inner = wide[0, 0, 0, 1:-1].diff()
    torch.testing.assert_close(inner, torch.full_like(inner, 1 / 7))
    assert resize_frames(ramp, 6, 8, "bilinear") is ramp
