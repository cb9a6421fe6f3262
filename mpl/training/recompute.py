"""Gradient checkpointing (Chen et al. 2016): what layers need for the gradient is computed again, not kept."""

from __future__ import annotations

from functools import partial

from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from mpl.models.attention import JointAttention
from mpl.models.blocks import Resnet
from mpl.models.temporal import TemporalConv, TemporalTransformer

# Of pixel models, of the latent one, and of both. diffusers has a switch, but not for the published latent class.
LAYERS = (Resnet, JointAttention, ResnetBlock2D, Transformer2DModel, TemporalConv, TemporalTransformer)


def recompute_layers(model: nn.Module, option: str) -> None:
    """Lets every layer of `LAYERS` keep its inputs alone while gradients are recorded; results stay the same.

    Dropout draws the same numbers again. Keys of the weights do not change.

    Raises:
        ValueError: the model has no such layer; names the option.
    """
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    if not layers:
        kind = type(model).__name__
        raise ValueError(f"{option} = true: {kind} has no layers that can be computed again; must be false")
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
