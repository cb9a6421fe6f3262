"""More latent channels beside what an autoencoder and an expert have learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from unet_configs import awaken

from mpl.training.options import load_task
from mpl.training.widen import even_channels, wake_channels, widen_autoencoder, widen_expert

VAE = {
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "norm_num_groups": 1,
    "latent_channels": 4,
}
EXPERT = {
    "block_out_channels": [16, 16],
    "down_block_types": ["CrossAttnDownBlock3D", "DownBlock3D"],
    "up_block_types": ["UpBlock3D", "CrossAttnUpBlock3D"],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 16,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 4,
}


def picture() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("quant", [True, False])
@torch.no_grad()
def test_a_widened_autoencoder_makes_the_same_pictures_of_the_old_channels(quant: bool) -> None:
    old = awaken(AutoencoderKL(**VAE, use_quant_conv=quant, use_post_quant_conv=quant))
    wide = widen_autoencoder(old, 7).eval()
    before, after = old.encode(picture()).latent_dist, wide.encode(picture()).latent_dist
    assert type(wide) is AutoencoderKL and wide.config.latent_channels == after.mean.shape[1] == 7
    torch.testing.assert_close(after.mean[:, :4], before.mean)
    torch.testing.assert_close(after.logvar[:, :4], before.logvar)
    assert after.mean[:, 4:].std() > 0.01 and (after.logvar[:, 4:] == -6).all()
    torch.testing.assert_close(wide.decode(after.mean).sample, old.decode(before.mean).sample)


@pytest.mark.parametrize("quant", [True, False])
@torch.no_grad()
def test_channels_are_made_equally_loud_and_pictures_stay(quant: bool) -> None:
    model = awaken(AutoencoderKL(**VAE, use_quant_conv=quant, use_post_quant_conv=quant)).eval()
    before = model.encode(picture()).latent_dist
    decoded = model.decode(before.mean).sample
    even_channels(model, picture())
    after = model.encode(picture()).latent_dist
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(4), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(after.mean).sample, decoded, rtol=1e-4, atol=1e-4)
    relative = before.logvar.mean(dim=(0, 2, 3)) - 2 * before.mean.std(dim=(0, 2, 3)).log()
    torch.testing.assert_close(after.logvar.mean(dim=(0, 2, 3)), relative.clamp(max=-6.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("quant", [True, False])
@torch.no_grad()
def test_channels_that_are_not_heard_begin_anew_and_are(quant: bool) -> None:
    old = awaken(AutoencoderKL(**VAE, use_quant_conv=quant, use_post_quant_conv=quant)).eval()
    model = widen_autoencoder(old, 7).eval()
    wake_channels(model, picture())
    even_channels(model, picture())
    after = model.encode(picture()).latent_dist
    means = after.mean.transpose(0, 1).flatten(1)
    torch.testing.assert_close(means.std(dim=1), torch.ones(7), rtol=1e-3, atol=1e-3)
    known = old.encode(picture()).latent_dist.mean
    torch.testing.assert_close(after.mean[:, :4], known / known.std(dim=(0, 2, 3), keepdim=True), rtol=1e-3, atol=1e-3)
    alike = torch.corrcoef(means).fill_diagonal_(0)[4:]
    assert alike.abs().max() < 1e-3 and (after.logvar[:, 4:] == -6).all()
    without = after.mean.clone()
    without[:, 4:] = 0
    assert (model.decode(after.mean).sample - model.decode(without).sample).abs().mean() > 0.01


def test_new_channels_of_an_autoencoder_learn() -> None:
    wide = widen_autoencoder(awaken(AutoencoderKL(**VAE)), 7)
    (wide.decode(wide.encode(picture()).latent_dist.mean).sample - picture()).abs().mean().backward()
    assert (wide.decoder.conv_in.weight.grad[:, 4:].abs().amax((0, 2, 3)) > 0).all()


@torch.no_grad()
def test_a_widened_expert_says_the_same_of_the_old_channels() -> None:
    old = awaken(UNet3DConditionModel(**EXPERT))
    wide = widen_expert(old, 6).eval()
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(1, 6, 3, 8, 8, generator=generator), torch.randn(1, 5, 16, generator=generator)
    before, after = old(latents[:, :4], 100, text).sample, wide(latents, 100, text).sample
    torch.testing.assert_close(after[:, :4], before)
    assert after.shape == latents.shape and not after[:, 4:].any()


def test_channels_are_not_taken_away() -> None:
    with pytest.raises(ValueError, match="vae.model: 3 latent channels, but the weights to start from have 4"):
        widen_autoencoder(AutoencoderKL(**VAE), 3)
    with pytest.raises(ValueError, match="translation.model: 2 latent channels, but the weights to start from have 4"):
        widen_expert(UNet3DConditionModel(**EXPERT), 2)


def test_training_widens_what_it_goes_on_from(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    wider = replace(options, model={**options.model, "latent_channels": 6})
    assets = trained / "assets"
    task = make_task(wider, assets, assets / "translation")
    assert task.model.config.latent_channels == 6
    task.loss(task.model, task.draw(0, 1.0), torch.Generator().manual_seed(0))[0].backward()
