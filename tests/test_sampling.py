"""Guidance, the learned variance, and the denoising loop against known answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from stage_toys import LATENT, MEAN, SPREAD, NoNoise, exact_end, exact_model, finish, watch

from mpl.noise import SCHEDULERS, NoiseSource, add_noise, alphas_cumprod, scheduler_from_config
from mpl.sampling import (
    Guided,
    Progress,
    advance,
    ancestral_step,
    denoise,
    fold,
    predict_x0,
    start_schedule,
    threshold,
    unfold,
)

SHAPE = (1, 3, 2, 4, 4)


def run(name, steps, **config):
    scheduler = scheduler_from_config({"_class_name": name, **LATENT, **config})
    timesteps = start_schedule(scheduler, steps, "steps")
    x = NoiseSource(0).randn((1, 3, 2, 8, 8))
    out = finish(denoise(exact_model(scheduler), x, scheduler, timesteps, NoiseSource(1)))
    return out, exact_end(scheduler, x, int(timesteps[0]))


# ---- the loop


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - {"DDPMScheduler"}))
def test_more_steps_come_nearer_to_the_true_solution(name):
    few, many = (float((out - true).pow(2).mean().sqrt()) for out, true in (run(name, 12), run(name, 100)))
    assert many < few / 3 and many < 0.02


def test_the_ancestral_sampler_reaches_the_data():
    out, _ = run("DDPMScheduler", 200)
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.1)
    assert float(out.std()) == pytest.approx(SPREAD, abs=0.1)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize("steps", [4, 20])
def test_zero_terminal_snr_runs_with_v_prediction(name, steps):
    config = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    out, true = run(name, steps, **config)
    assert out.isfinite().all()
    assert float((out - true).pow(2).mean().sqrt()) < (0.2 if steps == 4 else 0.1)
    scheduler = scheduler_from_config({"_class_name": name, **LATENT, **config})
    timesteps = start_schedule(scheduler, steps, "steps")
    assert int(timesteps[0]) == 999  # pure noise
    point = exact_model(scheduler, mean=0.7, spread=0.0)
    out = finish(denoise(point, NoiseSource(2).randn(SHAPE), scheduler, timesteps, NoNoise()))
    a = alphas_cumprod(scheduler)[0]
    assert float((out - 0.7 * a.sqrt()).abs().max()) < 5 * float((1 - a).sqrt())  # what is left of the noise


def test_a_step_is_yielded_after_each_and_closing_stops_between_two():
    scheduler = scheduler_from_config({"_class_name": "DPMSolverMultistepScheduler", **LATENT})
    timesteps, calls = start_schedule(scheduler, 5, "steps"), []

    def predict(x, t):
        calls.append((int(t), torch.is_grad_enabled()))
        return torch.zeros_like(x)

    steps = denoise(predict, NoiseSource(0).randn(SHAPE), scheduler, timesteps, NoNoise())
    for index in (1, 2):
        step = next(steps)
        assert (step.index, step.total, step.timestep) == (index, 5, int(timesteps[index - 1]))
        assert step.evaluations == index and torch.is_grad_enabled()
    steps.close()
    assert [t for t, _ in calls] == timesteps[:2].tolist()
    assert not any(grad for _, grad in calls) and torch.is_grad_enabled()


def test_part_of_a_grid_continues_what_the_whole_began():
    scheduler = scheduler_from_config({"_class_name": "DDIMScheduler", **LATENT})
    timesteps = start_schedule(scheduler, 8, "steps")
    x = NoiseSource(0).randn(SHAPE)
    whole, end = watch(denoise(exact_model(scheduler), x, scheduler, timesteps, NoNoise()))
    part = denoise(exact_model(scheduler), whole[2].sample, scheduler, timesteps[3:], NoNoise())
    torch.testing.assert_close(finish(part), end)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_estimate_is_the_clean_sample_and_is_computed_when_asked(prediction, monkeypatch):
    config = {"_class_name": "DPMSolverMultistepScheduler", **LATENT, "prediction_type": prediction}
    scheduler = scheduler_from_config(config)
    timesteps = start_schedule(scheduler, 4, "steps")
    clean = NoiseSource(5).randn(SHAPE)
    x = add_noise(clean, NoiseSource(6).randn(SHAPE), scheduler, int(timesteps[0]))
    predict = exact_model(scheduler, mean=clean.double(), spread=0.0)
    asked = []
    monkeypatch.setattr("mpl.sampling.predict_x0", lambda *a: asked.append(1) or predict_x0(*a))
    step = next(denoise(predict, x, scheduler, timesteps, NoNoise()))
    assert not asked
    torch.testing.assert_close(step.estimate(), clean, atol=1e-4, rtol=0)
    assert asked


def test_ddim_draws_noise_only_above_eta_0():
    scheduler = scheduler_from_config({"_class_name": "DDIMScheduler", **LATENT})
    timesteps, x = start_schedule(scheduler, 4, "steps"), NoiseSource(0).randn(SHAPE)
    still = finish(denoise(exact_model(scheduler), x, scheduler, timesteps, NoNoise()))
    lively = [
        finish(denoise(exact_model(scheduler), x, scheduler, timesteps, NoiseSource(seed), eta=1.0))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(lively[0], lively[1]) and not torch.equal(lively[0], lively[2])
    assert not torch.equal(still, lively[0])


def test_stochastic_multistep_draws_from_the_given_source():
    config = {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}
    outs = [run(**{"name": config["_class_name"]}, steps=20, algorithm_type="sde-dpmsolver++")[0] for _ in "ab"]
    assert torch.equal(*outs) and outs[0].isfinite().all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_loop_runs_on_the_meta_device(name):
    scheduler = scheduler_from_config({"_class_name": name, "thresholding": True})
    timesteps, x = start_schedule(scheduler, 3, "steps"), torch.empty(SHAPE, device="meta")
    out = finish(denoise(lambda x, t: torch.cat([x, x], 1), x, scheduler, timesteps, NoiseSource(0)))
    assert out.device.type == "meta" and out.shape == SHAPE


def test_bad_calls_are_refused_by_name():
    scheduler = scheduler_from_config({"_class_name": "DDIMScheduler"})
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="keyframes.steps is"):
            start_schedule(scheduler, steps, "keyframes.steps")
    with pytest.raises(ValueError, match="SimpleNamespace"):
        start_schedule(SimpleNamespace(), 5, "steps")
    timesteps = start_schedule(scheduler, 2, "steps")
    with pytest.raises(ValueError, match="4 channels for 3"):
        next(denoise(lambda x, t: x.new_zeros(1, 4, 2, 4, 4), torch.zeros(SHAPE), scheduler, timesteps, NoNoise()))


def test_parts_of_a_stage_are_counted_on():
    def part(total):
        scheduler = scheduler_from_config({"_class_name": "DDIMScheduler", **LATENT})
        timesteps = start_schedule(scheduler, total, "steps")
        return denoise(exact_model(scheduler), torch.ones(SHAPE), scheduler, timesteps, NoNoise())

    progress = Progress(5)
    seen = watch(progress.follow(part(2), lambda x: x + 1))[0] + watch(progress.follow(part(3), lambda x: x + 1))[0]
    assert [step.index for step in seen] == [1, 2, 3, 4, 5] and {step.total for step in seen} == {5}
    assert [step.evaluations for step in seen] == [1, 2, 3, 4, 5]
    alone = watch(part(2))[0]
    torch.testing.assert_close(seen[0].estimate(), alone[0].estimate() + 1)


# ---- guidance


class Echo:
    """Returns the mean of the text as prediction and the text's last value as variance; records its inputs."""

    def __init__(self, out_channels: int = 3) -> None:
        self.out_channels, self.calls = out_channels, []

    def __call__(self, sample, timestep, text, class_labels=None):
        self.calls.append((sample.shape, text.shape, class_labels))
        out = text.mean((1, 2)).reshape(-1, 1, 1, 1, 1) * torch.ones(len(sample), 3, *sample.shape[2:])
        if self.out_channels == 6:
            out = torch.cat([out, 10 * out], dim=1)
        return SimpleNamespace(sample=out)


def guided(model, guidance, **kwargs):
    positive, negative = torch.full((1, 2, 4), 2.0), torch.full((1, 2, 4), 0.5)
    return Guided(model, positive, negative, guidance, torch.float32, **kwargs)


def test_guidance_goes_from_negative_past_positive():
    model = Echo()
    predict = guided(model, 3.0)
    out = predict(torch.zeros(SHAPE), torch.tensor(5))
    torch.testing.assert_close(out, torch.full(SHAPE, 0.5 + 3.0 * (2.0 - 0.5)))
    assert len(model.calls) == 1 and model.calls[0][0] == (2, *SHAPE[1:])  # one batch of both
    assert predict.evaluations == 2


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
def test_guidance_is_off_at_1_and_below(guidance):
    model = Echo()
    predict = guided(model, guidance)
    assert torch.equal(predict(torch.zeros(SHAPE), torch.tensor(5)), torch.full(SHAPE, 2.0))
    assert predict.evaluations == 1 and model.calls[0][0] == SHAPE


def test_timesteps_below_the_interval_are_not_guided():
    model = Echo()
    predict = guided(model, 3.0, guidance_from=400)
    for timestep, value, evaluations in ((400, 5.0, 2), (399, 2.0, 3)):
        torch.testing.assert_close(predict(torch.zeros(SHAPE), torch.tensor(timestep)), torch.full(SHAPE, value))
        assert predict.evaluations == evaluations


def test_two_calls_equal_one_batch():
    x = NoiseSource(0).randn((2, *SHAPE[1:]))
    outs = {}
    for split in (False, True):
        model = Echo(6)
        predict = guided(model, 2.5, split=split, condition=torch.zeros(2, 4, *SHAPE[2:]), level=250)
        outs[split] = predict(x, torch.tensor(5))
        batch = 2 if split else 4
        assert len(model.calls) == 4 / batch and predict.evaluations == 4
        for shape, text, labels in model.calls:
            assert shape == (batch, 7, *SHAPE[2:]) and text[0] == batch
            assert labels.tolist() == [250] * batch and labels.dtype == torch.int64
    assert torch.equal(outs[False], outs[True])


def test_the_variance_is_the_positive_branch_unguided():
    out = guided(Echo(6), 3.0)(torch.zeros(SHAPE), torch.tensor(5))
    assert torch.equal(out[:, 3:], torch.full(SHAPE, 20.0)) and torch.equal(out[:, :3], torch.full(SHAPE, 5.0))


def test_each_clip_of_a_batch_keeps_its_own_text():
    text = torch.tensor([1.0, 2.0]).reshape(2, 1, 1)
    predict = Guided(Echo(), text, None, 1.0, torch.float32)
    out = predict(torch.zeros(4, *SHAPE[1:]), torch.tensor(5))  # two gaps of two clips
    assert out[:, 0, 0, 0, 0].tolist() == [1, 2, 1, 2]


def test_guidance_without_negative_text_is_refused():
    with pytest.raises(ValueError, match="guidance is 2"):
        Guided(Echo(), torch.ones(1, 1, 1), None, 2.0, torch.float32)


# ---- steps of the schedulers


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large", "learned", "learned_range"])
@pytest.mark.parametrize("clip", [{"clip_sample": False}, {"thresholding": True, "sample_max_value": 1.5}, {}])
def test_the_ancestral_step_is_the_librarys(prediction, variance, clip):
    scheduler = DDPMScheduler(prediction_type=prediction, variance_type=variance, **clip)
    scheduler.set_timesteps(10)
    x, output = NoiseSource(1).randn((4, 3, 6, 7)), NoiseSource(2).randn((4, 6, 6, 7))
    if variance == "learned":
        output = torch.cat([output[:, :3], output[:, 3:].abs()], dim=1)
    for t in (scheduler.timesteps[0], scheduler.timesteps[4], scheduler.timesteps[-1]):
        given = output if "learned" in variance else output[:, :3]
        theirs = scheduler.step(given, t, x, generator=NoiseSource(9).generator).prev_sample
        torch.testing.assert_close(
            ancestral_step(scheduler, output, t, x, NoiseSource(9)), theirs, atol=2e-6, rtol=1e-6
        )


def test_a_learned_variance_that_is_not_there_is_refused():
    scheduler = DDPMScheduler(variance_type="learned_range")
    scheduler.set_timesteps(10)
    with pytest.raises(ValueError, match="learned_range"):
        ancestral_step(scheduler, torch.zeros(1, 3, 4, 4), torch.tensor(900), torch.zeros(1, 3, 4, 4), NoiseSource(0))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_solvers_ignore_the_variance_whatever_their_config_says(prediction):
    x, output = NoiseSource(1).randn((2, 3, 6, 7)), NoiseSource(2).randn((2, 6, 6, 7))
    outs = []
    for variance, given in ((None, output[:, :3]), (None, output), ("learned_range", output)):
        config = {"prediction_type": prediction, "variance_type": variance}
        scheduler = scheduler_from_config({"_class_name": "DPMSolverMultistepScheduler", **config})
        t = start_schedule(scheduler, 5, "steps")[0]
        outs.append(advance(scheduler, given, t, x, NoNoise()))
    assert torch.equal(outs[0], outs[1]) and torch.equal(outs[0], outs[2])


def test_thresholding_is_known_and_per_frame():
    x0 = torch.linspace(-2, 2, 101).reshape(1, 1, 1, 101)
    s = float(x0.abs().flatten().quantile(0.9))
    assert 1 < s < 2
    torch.testing.assert_close(threshold(x0, 0.9, 5.0), x0.clamp(-s, s) / s)
    torch.testing.assert_close(threshold(x0, 0.9, 1.0), x0.clamp(-1, 1))
    torch.testing.assert_close(threshold(x0 / 4, 0.9, 5.0), x0 / 4)  # nothing is blown up
    frames = torch.cat([0.3 * x0, 100 * x0])
    torch.testing.assert_close(threshold(frames, 0.9, 1.5)[:1], 0.3 * x0)
    clip = torch.stack([0.3 * x0[0], 100 * x0[0]], dim=1)[None]  # (1, 1, 2, 1, 101): a wild second frame
    torch.testing.assert_close(unfold(threshold(fold(clip), 0.9, 1.5), 2)[:, :, :1], clip[:, :, :1])


def test_folding_is_undone():
    clip = NoiseSource(0).randn((2, 3, 5, 4, 6))
    assert fold(clip).shape == (10, 3, 4, 6)
    assert torch.equal(fold(clip)[6], clip[1, :, 1])
    assert torch.equal(unfold(fold(clip), 5), clip)
