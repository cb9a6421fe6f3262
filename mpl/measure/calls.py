"""How the stages call each model, shapes and all: work for fake models and, to compare, for real ones.

A call makes everything that lives on the device while it runs: inputs, the sampler's tensors, guidance. It makes them
on torch's default device (`with torch.device("meta")`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mpl.models.latent import set_feed_forward_parts
from mpl.models.tiles import OVERLAP, decode_frames, encode_frames
from mpl.safety import MOST
from mpl.sampling import Guided
from mpl.stages.superres import per_frame

Call = Callable[[nn.Module], Any]

# Tensors of the sample's size that the sampler holds in float32 while the network works, or just after: the sample, the
# next one, two earlier outputs (second-order multistep), and two of the step's own.
SAMPLER = 6


def text_call(tokens: int) -> Call:
    """A prompt and the negative prompt together.

    Padding is not masked: whether there is any, fake tokens cannot tell. A mask takes bytes, not megabytes.
    """

    def call(model: nn.Module) -> None:
        model(torch.zeros(2, tokens, dtype=torch.long))

    return call


def denoise_call(
    shape: tuple[int, ...],
    tokens: int,
    dtype: torch.dtype,
    guidance: float = 1.0,
    split: bool = False,
    parts: int = 1,
    deep: bool = False,
) -> Call:
    """One guided call on noisy clips `shape (b, c, f, h, w)`, and what the sampler holds.

    Of two calls (`split`) the second is made, beside the result of the first. Where deep levels are kept from one step
    to the next (`deep`), both are made, and once more with what was kept.
    """

    def call(model: nn.Module) -> None:
        config = model.config
        extra = config.in_channels - shape[1]
        width = getattr(config, "encoder_hid_dim", None) or config.cross_attention_dim
        set_feed_forward_parts(model, parts)
        x, condition = torch.zeros(shape), torch.zeros(shape[0], extra, *shape[2:]) if extra else None
        text = [torch.zeros(1, tokens, width, dtype=dtype) for _ in range(2)]
        level = 0 if getattr(config, "class_embed_type", None) else None
        network = per_frame(model) if type(model).__name__ == "UNet2DConditionModel" else model
        remembers = getattr(network, "remembers_text", False)
        how = {"split": split, "deep_every": 2} if deep else {}
        guided = guidance if deep or not split else 1.0
        predict = Guided(network, *text, guided, dtype, condition, level, remembers=remembers, **how)
        first = torch.zeros(shape[0], config.out_channels, *shape[2:]) if split and guidance > guided else None
        sampler = torch.zeros(SAMPLER - 1, *shape)  # and x
        for _ in range(2 if deep else 1):
            out = predict(x, torch.tensor(999, device="cpu"))
            del out
        del first, sampler

    return call


def encode_call(
    frames: int, height: int, width: int, dtype: torch.dtype, tiling: bool = False, overlap: float = OVERLAP
) -> Call:
    """Frames through an autoencoder's encoder."""

    def call(model: nn.Module) -> None:
        posterior = encode_frames(model, torch.zeros(frames, 3, height, width, dtype=dtype), tiling, overlap)
        (posterior.mean + posterior.std * posterior.mean).float()

    return call


def decode_call(
    frames: int, height: int, width: int, dtype: torch.dtype, tiling: bool = False, overlap: float = OVERLAP
) -> Call:
    """Latents of so many frames of `height` × `width` pixels through an autoencoder's decoder."""

    def call(model: nn.Module) -> None:
        unit = 2 ** (len(model.config.block_out_channels) - 1)
        shape = (frames, model.config.latent_channels, height // unit, width // unit)
        decode_frames(model, torch.zeros(shape, dtype=dtype), tiling, overlap)

    return call


def safety_call() -> Call:
    """The safety checker's look at a stage's frames."""

    def call(model: nn.Module) -> None:
        side = model.config.vision_config.image_size
        model.visual_projection(model.vision_model(torch.zeros(MOST, 3, side, side))[1])

    return call
