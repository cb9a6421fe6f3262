"""More latent channels for an autoencoder and the network that speaks its latents, beside what both have learned."""

from __future__ import annotations

from typing import TypeVar

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor

Model = TypeVar("Model", AutoencoderKL, UNet3DConditionModel)
_QUIET = -6.0  # logarithm of a new channel's variance: its noise is 1/20
_HEARD = 0.1  # of the loudest channel: what is fainter than that in the decoder is not heard
_LEAST = 1e-4  # a standard deviation: what says nothing at all is not made louder without bound


def widen_autoencoder(model: AutoencoderKL, channels: int) -> AutoencoderKL:
    """An autoencoder of the same class with more latent channels.

    What it encodes has the old channels first, as they were; the new ones are random combinations of what its encoder
    sees, which its decoder passes by: `wake_channels` lets it hear them.

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
def wake_channels(model: AutoencoderKL, pictures: Tensor) -> None:
    """Begins channels anew that the decoder hardly hears of `pictures` (n 3 h w), as new ones: half as loud as others.

    In place. Left to themselves they only fade: a decoder that passes them by tells the encoder nothing, and so learns
    nothing of them.
    """
    heard = _loudness(model, pictures)
    if (unheard := heard < _HEARD * heard.max()).any():
        _begin_anew(model, pictures, unheard, 0.5 * heard[~unheard].mean())


@torch.no_grad()
def even_channels(model: AutoencoderKL, pictures: Tensor) -> None:
    """Scales every latent channel to a standard deviation of 1 on `pictures` (n 3 h w), its noise to 1/20 at most.

    In place, and what is decoded of means stays as it was: a diffusion's noise covers a faint channel before a loud
    one, whatever the decoder makes of them.
    """
    posterior = model.encode(pictures).latent_dist
    spread = posterior.mean.std(dim=(0, 2, 3)).clamp(min=_LEAST)
    noise = posterior.logvar.mean(dim=(0, 2, 3)) - 2 * spread.log()
    made = model.quant_conv if model.quant_conv is not None else model.encoder.conv_out
    means, variances = made.bias.chunk(2)  # views
    made.weight[: len(spread)] /= spread[:, None, None, None]
    means /= spread
    variances -= 2 * spread.log() + (noise - _QUIET).clamp(min=0)
    read = model.post_quant_conv if model.post_quant_conv is not None else model.decoder.conv_in
    read.weight *= spread[:, None, None]


def _loudness(model: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Of every latent channel (c): its standard deviation times that of the decoder's weights for it."""
    columns = model.decoder.conv_in.weight.flatten(2)
    if model.post_quant_conv is not None:
        columns = torch.einsum("oik,ij->ojk", columns, model.post_quant_conv.weight[..., 0, 0])
    return model.encode(pictures).latent_dist.mean.std(dim=(0, 2, 3)) * columns.std(dim=(0, 2))


def _begin_anew(model: AutoencoderKL, pictures: Tensor, which: Tensor, loudness: Tensor) -> None:
    """Gives channels (a mask, c) random weights: uncorrelated with the others and each other on `pictures`."""
    generator, count = torch.Generator().manual_seed(0), len(which)
    both = which.repeat(2)

    def normal(like: Tensor, size: Tensor | float) -> Tensor:
        return size * torch.randn(like.shape, generator=generator).to(like)

    made = model.encoder.conv_out
    made.weight[:count][which] = normal(made.weight[:count][which], made.weight[0].numel() ** -0.5)
    for inner in (model.quant_conv, model.post_quant_conv):
        if inner is not None:
            places = both if inner is model.quant_conv else which
            inner.weight[:, places] = 0
            inner.weight[places] = torch.eye(len(places))[places][..., None, None].to(inner.weight)
            inner.bias[places] = 0
    made = model.quant_conv if model.quant_conv is not None else made
    made.weight[count:][which], made.bias[count:][which] = 0, _QUIET
    means = model.encode(pictures).latent_dist.mean.transpose(0, 1).flatten(1)
    order = torch.cat([torch.nonzero(~which), torch.nonzero(which)])[:, 0]
    shift = means.mean(dim=1)[order]
    # Gram and Schmidt's way from the others on, as rows of a triangular matrix: those of `which` are last.
    covariance = torch.cov(means[order].double())
    rows = torch.linalg.inv(torch.linalg.cholesky(covariance))[-int(which.sum()) :].float()
    made.weight[:count][which] = (rows @ made.weight[order].flatten(1)).unflatten(1, made.weight.shape[1:])
    made.bias[:count][which] = rows @ (made.bias[order] - shift)
    read = model.decoder.conv_in
    read.weight[:, which] = normal(read.weight[:, which], loudness)


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
