"""Layers that are computed again for the gradient: the same gradients, from less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers import UNet3DConditionModel
from torch import Tensor, nn
from unet_configs import SMALL, TEXT

from mpl.measure.tracker import Tracker
from mpl.models import VideoUNet
from mpl.models.latent import quicken
from mpl.training.recompute import recompute_layers

LATENT = {
    "block_out_channels": (16, 32),
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT,
    "attention_head_dim": 8,
}


def pixel_model() -> VideoUNet:
    """With dropout over frames, which has to fall on the same numbers again."""
    return VideoUNet(**SMALL | {"temporal_dropout": 0.3})


def latent_model() -> UNet3DConditionModel:
    return quicken(UNet3DConditionModel(**LATENT))


def alive(model: nn.Module) -> nn.Module:
    """Weights that a fresh model has at zero would hide what lies before them."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def step(model: nn.Module) -> Tensor:
    channels = model.config.in_channels
    clip = torch.randn(2, channels, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    text = torch.randn(2, 5, TEXT, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(4)
    loss = model(clip, torch.tensor([10, 700]), text).sample.square().mean()
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("make", [pixel_model, latent_model])
def test_gradients_are_the_same_and_take_less_memory(make: Callable[[], nn.Module]) -> None:
    plain = alive(make())
    again = copy.deepcopy(plain)
    recompute_layers(again, "option")
    assert list(again.state_dict()) == list(plain.state_dict())
    losses, peaks = [], []
    for model in (plain, again):
        with Tracker(ignored=[model]) as memory:
            losses.append(step(model))
        peaks.append(memory.peak)
    assert torch.equal(*losses)
    theirs = dict(again.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(theirs[name].grad, parameter.grad, msg=name)
        assert parameter.grad.abs().max() > 0, name
    assert peaks[1] < 0.7 * peaks[0]


def test_a_copy_computes_its_own_layers_again() -> None:
    """Not those of the model that it was copied from (FSDP2's whole copy of the weights)."""
    model = alive(pixel_model())
    recompute_layers(model, "option")
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert step(other) > 0
    assert all(p.grad is None for p in model.parameters())


def test_a_model_without_such_layers_refuses() -> None:
    with pytest.raises(ValueError, match="text.gradient_checkpointing = true: Linear has no layers"):
        recompute_layers(nn.Linear(2, 2), "text.gradient_checkpointing")
