"""Objectives and optimisers of training: known answers."""

from __future__ import annotations

import pytest
import torch

from mpl.training.objectives import (
    Schedule,
    draw_timesteps,
    level_weights,
    subject_weights,
    weighted_error,
)
from mpl.training.optim import Muon, build_optimizers, orthogonalize, rate
from mpl.training.options import LossOptions, OptimizerOptions


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(torch.linspace(0.9999, 0.0001, 1000), "v_prediction")


def test_targets_lead_back_to_the_clip(schedule: Schedule) -> None:
    x, noise, t = torch.randn(4, 3, 2, 4, 4), torch.randn(4, 3, 2, 4, 4), torch.tensor([0, 300, 700, 999])
    noisy = schedule.add_noise(x, noise, t)
    alpha, sigma = schedule.coefficients(t, x)
    v = schedule.target(x, noise, t)
    assert torch.allclose(alpha * noisy - sigma * v, x, atol=1e-5)
    epsilon = Schedule(schedule.alphas_cumprod, "epsilon")
    assert torch.equal(epsilon.target(x, noise, t), noise)


def test_timesteps_stay_below_the_cap_and_follow_the_log_snr(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    capped = draw_timesteps(20_000, schedule, LossOptions(cap=900, uniform_share=1.0), generator)
    assert capped.min() >= 0 and capped.max() == 900
    focused = LossOptions(uniform_share=0.0, log_snr_mean=-2.0, log_snr_std=0.5)
    drawn = schedule.log_snr[draw_timesteps(20_000, schedule, focused, generator)]
    assert abs(drawn.mean().item() + 2.0) < 0.05
    assert abs(drawn.std().item() - 0.5) < 0.05


def test_subject_weights_have_mean_one_and_the_asked_ratio() -> None:
    mask = torch.zeros(2, 1, 1, 4, 4)
    mask[0, ..., :2, :] = 1
    weights = subject_weights(mask, 3.0, mask)
    assert torch.allclose(weights.mean(dim=(1, 2, 3, 4)), torch.ones(2))
    assert weights[0, 0, 0, 0, 0] / weights[0, 0, 0, 3, 3] == pytest.approx(3.0)
    ones = torch.ones(2, 3, 1, 4, 4)
    assert torch.allclose(weighted_error(ones, 0 * ones, weights), torch.ones(2))


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalize(matrices, steps=8))
    assert values.min() > 0.5 and values.max() < 1.5


def test_muon_takes_the_inner_matrices_and_adamw_the_rest() -> None:
    model = torch.nn.ModuleDict({"conv_in": torch.nn.Conv2d(16, 32, 3), "inner": torch.nn.Conv2d(32, 32, 3)})
    adamw, muon = build_optimizers(model, OptimizerOptions(kind="muon"))
    assert isinstance(muon, Muon)
    assert [p.shape for g in muon.param_groups for p in g["params"]] == [model["inner"].weight.shape]
    count = sum(len(g["params"]) for g in adamw.param_groups)
    assert count == 3  # conv_in's weight and both biases


def test_muon_descends() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(16, 16))
    goal, optimizer = torch.randn(16, 16), Muon([weight], lr=0.05)
    before = (weight - goal).square().mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        (weight - goal).square().mean().backward()
        optimizer.step()
    assert (weight - goal).square().mean().item() < 0.2 * before


def test_rate_warms_up_stays_and_falls_to_zero() -> None:
    options = OptimizerOptions(warmup_steps=10, decay_from=0.5)
    assert rate(0, 0.0, options) == pytest.approx(0.1)
    assert rate(50, 0.4, options) == 1.0
    assert rate(50, 0.75, options) == pytest.approx(0.5)
    assert rate(50, 1.0, options) == 0.0


def test_clean_picture_errors_weighted_as_errors_of_v() -> None:
    """An error of x̂ moves v = (√ᾱ x_t - x) / √(1-ᾱ) by its 1/√(1-ᾱ)-fold; the bound holds for nearly clean levels."""
    schedule = Schedule(torch.tensor([0.99, 0.5, 0.0]), "sample")
    weights = level_weights(torch.tensor([0, 1, 2]), schedule, max_weight=5.0)
    assert weights.tolist() == pytest.approx([5.0, 2.0, 1.0])
    plain = Schedule(schedule.alphas_cumprod, "v_prediction")
    assert level_weights(torch.tensor([0, 1, 2]), plain, max_weight=5.0).tolist() == [1.0, 1.0, 1.0]
