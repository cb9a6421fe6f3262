"""Stage 1 (paper 3.3): keyframes at very low resolution from noise and text."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpl.noise import MixedNoise, Noise
from mpl.options import KeyframesOptions
from mpl.sampling import Step, denoise, fold, start_schedule, unfold
from mpl.stages.common import guided, solver
from mpl.stages.text import TextStates

if TYPE_CHECKING:
    from mpl.weights import Weights


def keyframes(
    text: TextStates, options: KeyframesOptions, weights: Weights, generator: Noise
) -> Generator[Step, None, Tensor]:
    """Denoise `options.frames` frames from noise, all at once.

    Where the checkpoint holds an autoencoder, what is denoised are its latents (paper, Table 4, "latent-based"), and
    the steps' estimates are latents, too: `(b, c, f, h / 8, w / 8)` for three halvings.

    Returns:
        The raw sample `(b, 3, f, h, w)`, about [-1, 1], float32 on the CPU; b is the text's.
    """
    scheduler = solver("keyframes", options, weights)
    timesteps = start_schedule(scheduler, options.steps, "keyframes.steps")
    latent = weights.has("keyframes_vae")
    channels, unit = (weights.latent_channels("keyframes_vae"), weights.unit("keyframes_vae")) if latent else (3, 1)
    shape = (len(text.t5), channels, options.frames, options.height // unit, options.width // unit)
    mixed = MixedNoise(generator, options.frames, options.mixed_noise)
    x = mixed.randn(shape).to(weights.device)
    with weights.borrow("keyframes") as model:
        predict = guided("keyframes", model, (text.t5, text.t5_negative), options, weights)
        x = yield from denoise(predict, x, scheduler, timesteps, mixed)
    return _decoded(x, weights) if latent else x.cpu().contiguous()


def _decoded(latents: Tensor, weights: Weights) -> Tensor:
    """Scaled latents `(b, c, f, h, w)` as a clip, float32 on the CPU."""
    with weights.borrow("keyframes_vae") as vae, torch.no_grad():
        frames = fold(latents).to(weights.device, weights.dtype("keyframes_vae")) / vae.config.scaling_factor
        pixels = vae.decode(frames).sample
    return unfold(pixels.to("cpu", torch.float32), latents.shape[2]).contiguous()
