"""The linear guess of the clean clip, and the model that adds to it."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from unet_configs import SMALL, inputs, small_model

from mpl.models import VideoUNet
from mpl.models.prior import guess_of, linear_guess, smoothed

COSINE = "squaredcos_cap_v2"


def clip_and_timesteps(*timesteps: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(len(timesteps), 3, 2, 40, 64, generator=generator), torch.tensor(timesteps)


def test_without_noise_the_guess_is_the_clip_and_of_noise_alone_what_is_near():
    noisy, steps = clip_and_timesteps(0, 999)
    near = torch.full_like(noisy, 0.25)
    mean, doubt, _ = linear_guess(noisy, near, steps, COSINE, std=0.3)
    torch.testing.assert_close(mean[0], noisy[0], atol=0.01, rtol=0)
    torch.testing.assert_close(mean[1], near[1], atol=1e-3, rtol=0)
    assert doubt[0].item() < 0.03
    assert doubt[1].item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("timestep", [50, 200, 400, 700])
def test_it_is_as_far_off_as_it_says_and_no_other_gain_is_nearer(timestep):
    """Clips drawn around `near` with deviation 0.3, noised: the guess's error is as its doubt says, and the least."""
    noise, steps = clip_and_timesteps(timestep, timestep)
    generator = torch.Generator().manual_seed(1)
    near = torch.rand(noise.shape, generator=generator)
    clean = near + 0.3 * torch.randn(noise.shape, generator=generator)
    alpha = DDPMScheduler(beta_schedule=COSINE).alphas_cumprod[timestep]
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    mean, doubt, _ = linear_guess(noisy, near, steps, COSINE, std=0.3)
    error = (mean - clean).square().mean()
    assert error.sqrt().item() == pytest.approx(0.3 * doubt[0].item(), rel=0.03)
    for other in (0.9, 1.1):
        assert (near + other * (mean - near) - clean).square().mean() > error


def test_the_residual_has_unit_variance_and_no_part_of_what_is_near():
    noise, steps = clip_and_timesteps(100, 900)
    generator = torch.Generator().manual_seed(1)
    near = torch.rand(noise.shape, generator=generator)
    clean = near + 0.3 * torch.randn(noise.shape, generator=generator)
    alpha = DDPMScheduler(beta_schedule=COSINE).alphas_cumprod[steps].view(-1, 1, 1, 1, 1)
    residual = linear_guess(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, near, steps, COSINE, std=0.3).residual
    for one, given in zip(residual, near, strict=True):
        assert one.std().item() == pytest.approx(1.0, rel=0.03)
        assert abs(torch.corrcoef(torch.stack([one.flatten(), given.flatten()]))[0, 1]) < 0.03


def test_a_model_that_begins_to_see_the_residual_gives_what_it_gave(tmp_path):
    changes = {"in_channels": 6, "prior_std": 0.1, "refine_channels": 8, "input_skip": True}
    plain = small_model(**changes)
    plain.save_pretrained(tmp_path)
    model = VideoUNet.from_pretrained_2d(tmp_path, prior_residual=True)
    sample, steps, text = inputs(6)
    with torch.no_grad():
        expected = plain(sample, steps, text).sample
        torch.testing.assert_close(model(sample, steps, text).sample, expected, atol=1e-4, rtol=1e-4)
        model.conv_in.weight[:, 6:] += 0.1
        assert not torch.allclose(model(sample, steps, text).sample, expected, atol=1e-3)
    with pytest.raises(ValueError, match="prior_residual=True"):
        VideoUNet(**SMALL, prior_residual=True)


def test_smoothing_takes_noise_out_and_leaves_an_enlarged_picture():
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 2, 40, 64)
    noise = 0.2 * torch.randn(ramp.shape, generator=generator)
    result = smoothed(ramp + noise, 4)
    torch.testing.assert_close(smoothed(ramp, 4)[..., 4:-4], ramp[..., 4:-4])
    assert (result - smoothed(ramp, 4)).std() < 0.06
    assert torch.equal(smoothed(noise, 1), noise)


def test_a_fresh_model_returns_the_guess():
    model = VideoUNet(**SMALL | {"in_channels": 6, "prior_std": 0.1})
    sample, steps, text = inputs(6)
    expected = linear_guess(sample[:, :3], sample[:, 3:], steps, COSINE, 0.1).mean
    torch.testing.assert_close(model(sample, steps, text).sample, expected)


@pytest.mark.parametrize("channels", [3, 7])
def test_a_model_whose_last_layer_is_zero_returns_the_guess(channels):
    model = small_model(in_channels=channels, prior_std=0.3, prior_pool=2, patch_size=2)
    sample, _, text = inputs(channels)
    steps = torch.tensor([20, 800])
    with torch.no_grad():
        for parameter in model.conv_out.parameters():
            parameter.zero_()
        near = smoothed(sample[:, 3:6], 2) if channels > 3 else None
        expected = linear_guess(sample[:, :3], near, steps, COSINE, 0.3).mean
        torch.testing.assert_close(model(sample, steps, text).sample, expected)


def test_noise_that_says_nothing_never_reaches_the_blocks():
    """At the last timestep the result depends on text and condition alone; without a prior it depends on the noise."""
    sample, _, text = inputs(6)
    other = torch.cat([-sample[:, :3], sample[:, 3:]], dim=1)
    with torch.no_grad():
        for std, same in ((0.3, True), (None, False)):
            model = small_model(in_channels=6, prior_std=std)
            results = [model(x, torch.tensor([999, 999]), text).sample for x in (sample, other)]
            assert torch.allclose(*results, atol=1e-2) is same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior_std": 0.0}, "prior_std=0.0 is not accepted; it must be a number above 0"),
        ({"prior_std": "wide"}, "prior_std='wide' is not accepted"),
        ({"prior_schedule": "sigmoid"}, "prior_schedule='sigmoid' is not supported; accepted: 'linear'"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        small_model(**change)


def test_given_frames_are_taken_as_they_are_and_told_apart():
    changes = {"in_channels": 6, "prior_std": 0.1, "prior_pool": 4}
    plain, model = small_model(**changes), VideoUNet(**SMALL | changes, given_frames=True).eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    sample, _, text = inputs(6)
    none, first = torch.tensor([False, False, False]), torch.tensor([True, False, False])
    with torch.no_grad():
        expected = plain(sample, 0, text).sample
        torch.testing.assert_close(model(sample, 0, text).sample, expected)
        torch.testing.assert_close(model(sample, 0, text, given=none).sample, expected)
        late = torch.tensor([999, 999])
        guess = guess_of(sample, late, first, model.config)
        torch.testing.assert_close(guess.mean[:, :, 0], sample[:, 3:, 0], atol=0.02, rtol=0)
        torch.testing.assert_close(guess.mean[:, :, 1:], guess_of(sample, late, None, plain.config).mean[:, :, 1:])
        told = model(sample, late, text, given=first).sample
        model.given_embedding += 1.0
        assert not torch.allclose(model(sample, late, text, given=first).sample, told, atol=1e-3)
        one_each = torch.stack([none, first])
        torch.testing.assert_close(
            model(sample, late, text, given=one_each).sample[1], model(sample, late, text, given=first).sample[1]
        )
