"""Seeded noise, schedules, signal-to-noise ratios."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler

from mpl.noise import (
    SCHEDULERS,
    JoinedNoise,
    NoiseSource,
    add_noise,
    alphas_cumprod,
    mix_frames,
    scheduler_from_config,
    snr,
    snr_of_timestep,
    stage_generator,
    timestep_for_snr,
)

COSINE = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}
LINEAR = {"_class_name": "DDPMScheduler", "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
SHAPE = (2, 3, 4, 5, 6)


def test_a_stream_depends_on_seed_and_stage_alone():
    first = stage_generator(7, "keyframes").randn(SHAPE)
    assert torch.equal(first, stage_generator(7, "keyframes").randn(SHAPE))
    others = [
        stage_generator(8, "keyframes"),
        stage_generator(7, "superres"),
        stage_generator(7 + 2**32, "keyframes"),
    ]
    for other in others:
        assert not torch.isclose(first, other.randn(SHAPE)).any()


def test_an_unnamed_source_is_the_plain_seeded_generator():
    expected = torch.randn(SHAPE, generator=torch.Generator().manual_seed(345))
    assert torch.equal(NoiseSource(345).randn(SHAPE), expected)


def test_parts_of_a_stage_draw_the_same_in_any_order():
    stage = stage_generator(0, "interpolation")
    forward = [stage.spawn(i).randn(SHAPE) for i in range(3)]
    stage.randn(SHAPE)
    backward = [stage.spawn(i).randn(SHAPE) for i in reversed(range(3))]
    for a, b in zip(forward, reversed(backward), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(forward[0], forward[1])


def test_joined_sources_draw_as_they_would_alone():
    alone = [NoiseSource(0, i) for i in range(3)]
    joined = JoinedNoise([NoiseSource(0, i) for i in range(3)])
    for _ in range(2):
        assert torch.equal(joined.randn((6, 4)), torch.cat([source.randn((2, 4)) for source in alone]))


def test_the_largest_seed_works():
    assert stage_generator(2**63 - 1, "keyframes").randn((3,)).isfinite().all()


@pytest.mark.parametrize("config, expected", [(COSINE, 5.49), (LINEAR, 1.09)])
def test_level_250_has_the_known_ratio(config, expected):
    scheduler = scheduler_from_config(config)
    assert snr_of_timestep(scheduler, 250) == pytest.approx(expected, abs=0.005)
    assert timestep_for_snr(scheduler, round(expected, 1)) == pytest.approx(250, abs=1)


@pytest.mark.parametrize("config", [COSINE, LINEAR])
def test_every_level_has_its_own_ratio(config):
    scheduler = scheduler_from_config(config)
    assert all(timestep_for_snr(scheduler, snr_of_timestep(scheduler, t)) == t for t in range(1000))


def test_no_noise_is_level_0_and_impossible_values_are_refused():
    scheduler = scheduler_from_config(COSINE)
    assert timestep_for_snr(scheduler, math.inf) == 0
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="snr"):
            timestep_for_snr(scheduler, wrong)
    with pytest.raises(ValueError, match="0 to 999"):
        snr_of_timestep(scheduler, 1000)


def test_noise_is_added_as_the_scheduler_does_and_reaches_the_ratio():
    scheduler = DDPMScheduler()
    x, noise = NoiseSource(0).randn((4, 3, 50, 50)), NoiseSource(1).randn((4, 3, 50, 50))
    steps = torch.tensor([0, 100, 500, 999])
    noisy = add_noise(x, noise, scheduler, steps)
    torch.testing.assert_close(noisy, scheduler.add_noise(x, noise, steps), atol=1e-6, rtol=0)
    torch.testing.assert_close(noisy[2:3], add_noise(x[2:3], noise[2:3], alphas_cumprod(scheduler), 500))
    only_noise = add_noise(torch.zeros_like(x[:1]), noise[:1], scheduler, 250)
    power = alphas_cumprod(scheduler)[250] / only_noise.var()
    assert float(power) == pytest.approx(snr_of_timestep(scheduler, 250), rel=0.05)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_noise_is_unit_normal_and_its_frames_correlate_by_the_share(share):
    own, common = NoiseSource(0).randn((2, 3, 4, 60, 60)), NoiseSource(1).randn((2, 3, 1, 60, 60))
    frames = mix_frames(own, common, share).transpose(1, 2).flatten(2)  # (b, f, numbers)
    for clip in frames:
        expected = torch.full((4, 4), share).fill_diagonal_(1)
        torch.testing.assert_close(torch.cov(clip), expected, atol=0.04, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_accepted_class_has_the_same_schedule(name):
    scheduler = scheduler_from_config({**LINEAR, "_class_name": name})
    torch.testing.assert_close(alphas_cumprod(scheduler), alphas_cumprod(DDPMScheduler()), atol=1e-7, rtol=0)
    assert bool((snr(alphas_cumprod(scheduler)).diff() < 0).all())


def test_multistep_solvers_end_as_published_unless_the_config_says_otherwise():
    config = {"_class_name": "DPMSolverMultistepScheduler"}
    assert scheduler_from_config(config).config.final_sigmas_type == "sigma_min"
    assert scheduler_from_config({**config, "final_sigmas_type": "zero"}).config.final_sigmas_type == "zero"


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(
    "wrong", [{"beta_schedule": "nope"}, {"num_train_timesteps": "x"}, {"beta_end": None}, {"prediction_type": "flow"}]
)
def test_a_value_that_no_class_takes_is_refused_by_key_and_value(name, wrong):
    with pytest.raises(ValueError) as error:
        scheduler_from_config({**LINEAR, "_class_name": name, **wrong})
    ((key, value),) = wrong.items()
    assert key in str(error.value) and repr(value) in str(error.value) and "\n" not in str(error.value)


def test_every_wrong_value_is_named_and_no_good_one():
    config = {**LINEAR, "_class_name": "DEISMultistepScheduler", "solver_type": "zzz", "beta_schedule": "nope"}
    with pytest.raises(ValueError) as error:
        scheduler_from_config(config)
    assert str(error.value) == "DEISMultistepScheduler refuses beta_schedule = 'nope', solver_type = 'zzz'"


@pytest.mark.parametrize("name", [None, "EulerAncestralDiscreteScheduler", "os"])
def test_other_classes_are_refused(name):
    with pytest.raises(ValueError, match="DPMSolverMultistepScheduler"):
        scheduler_from_config({"_class_name": name})
