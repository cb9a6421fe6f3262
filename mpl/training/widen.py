"""More latent channels for an autoencoder and the network that speaks its latents, beside what both have learned."""

from __future__ import annotations

from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor

Model = TypeVar("Model", AutoencoderKL, UNet3DConditionModel)
_QUIET = -6.0  # logarithm of a new channel's variance: its noise is 1/20


def widen_autoencoder(model: AutoencoderKL, channels: int) -> AutoencoderKL:
    """An autoencoder of the same class with more latent channels.

    What it encodes has the old channels first, as they were; the new ones are random combinations of what its encoder
    sees, which its decoder passes by until it has learned otherwise.

    Raises:
        ValueError: fewer channels than it has.
    """
    old = model.config.latent_channels
    wide = _fresh(model, "vae", old, channels, {"latent_channels": channels})
    state, known = wide.state_dict(), model.state_dict()
    for key, value in known.items():
        if state[key].shape == value.shape:
            state[key] = value
    for part in ("weight", "bias"):  # rows: means, then logarithms of variances
        key = f"encoder.conv_out.{part}"
        means, variances = state[key].chunk(2)
        state[key] = _stack(known[key].chunk(2), (means[old:], torch.zeros_like(variances[old:])))
    state["encoder.conv_out.bias"][channels + old :] = _QUIET
    new = channels - old
    for name, halves in (("quant_conv", 2), ("post_quant_conv", 1)):
        if f"{name}.weight" in known:
            weight = torch.eye(halves * channels)[..., None, None].to(known[f"{name}.weight"])
            places = torch.cat([torch.arange(old) + half * channels for half in range(halves)])
            weight[places[:, None], places] = known[f"{name}.weight"]
            state[f"{name}.weight"] = weight
            bias = known[f"{name}.bias"].chunk(halves)
            state[f"{name}.bias"] = _stack(bias, [half.new_zeros(new) for half in bias])
    state["decoder.conv_in.weight"] = _padded(known["decoder.conv_in.weight"], channels, dim=1)
    wide.load_state_dict(state)
    return wide


@torch.no_grad()
def even_channels(model: AutoencoderKL, pictures: Tensor) -> None:
    """Scales every latent channel to a standard deviation of 1 on `pictures` (n 3 h w), its noise to 1/20 at most.

    In place, and what is decoded of means stays as it was. A new channel begins far below its own noise: neither would
    its decoder ever hear of it, nor would its encoder learn what to say. And a diffusion's noise covers a faint channel
    before a loud one.
    """
    posterior = model.encode(pictures).latent_dist
    spread = posterior.mean.std(dim=(0, 2, 3))
    noise = posterior.logvar.mean(dim=(0, 2, 3)) - 2 * spread.log()
    made = model.quant_conv if model.quant_conv is not None else model.encoder.conv_out
    means, variances = made.bias.chunk(2)  # views
    made.weight[: len(spread)] /= spread[:, None, None, None]
    means /= spread
    variances -= 2 * spread.log() + (noise - _QUIET).clamp(min=0)
    read = model.post_quant_conv if model.post_quant_conv is not None else model.decoder.conv_in
    read.weight *= spread[:, None, None]


def widen_expert(model: UNet3DConditionModel, channels: int) -> UNet3DConditionModel:
    """A latent UNet of the same class with more channels, in and out: passed by, and returned as 0.

    Raises:
        ValueError: fewer channels than it has.
    """
    changes = {"in_channels": channels, "out_channels": channels}
    wide = _fresh(model, "translation", model.config.in_channels, channels, changes)
    state = model.state_dict()
    state["conv_in.weight"] = _padded(state["conv_in.weight"], channels, dim=1)
    for part in ("weight", "bias"):
        state[f"conv_out.{part}"] = _padded(state[f"conv_out.{part}"], channels, dim=0)
    wide.load_state_dict(state)
    return wide


def _fresh(model: Model, name: str, old: int, channels: int, changes: dict[str, int]) -> Model:
    if channels < old:
        raise ValueError(f"{name}.model: {channels} latent channels, but the weights to start from have {old}")
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return type(model)(**config | changes)


def _stack(known: tuple[Tensor, ...], new: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Each half with its new rows after it."""
    return torch.cat([row for pair in zip(known, new, strict=True) for row in pair])


def _padded(weight: Tensor, length: int, dim: int) -> Tensor:
    """Zeros at the end of a dimension."""
    more = list(weight.shape)
    more[dim] = length - weight.shape[dim]
    return torch.cat([weight, weight.new_zeros(more)], dim=dim)
