"""The latent UNet of stage 4, made fast: diffusers' `UNet3DConditionModel` with this project's temporal layers inside.

The class, its config and its keys stay diffusers'; only how layers over frames, feed-forwards and norms are computed
changes. The original convolves with three-dimensional kernels, for which CPUs have no fast path, and copies the clip
around each layer; its feed-forwards need a third more memory.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from mpl.models.norm import GroupNorm
from mpl.models.temporal import GatedFeedForward, TemporalConv, TemporalTransformer


class _Conv(TemporalConv):
    """Called as diffusers calls its `TemporalConvLayer`."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        return super().forward(hidden_states, num_frames)


class _Transformer(TemporalTransformer):
    """Called as diffusers calls its `TransformerTemporalModel`."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1, **unused: Any) -> tuple[Tensor]:
        return (super().forward(hidden_states, num_frames),)


def quicken(unet: UNet3DConditionModel) -> UNet3DConditionModel:
    """Replaces layers over frames, feed-forwards and norms in place, with the same weights; returns the model.

    Keys do not change.

    Raises:
        ValueError: a layer has weights that this project's does not (attention with biases, other activations).
    """
    for parent in list(unet.modules()):
        for name, layer in list(parent.named_children()):
            quick = _counterpart(layer)
            if quick is not None:
                try:
                    quick.load_state_dict(layer.state_dict(), assign=True)
                except RuntimeError as error:
                    raise ValueError(f"layer {name} of the latent UNet is not of the published structure") from error
                setattr(parent, name, quick.train(layer.training))
    return unet


def set_feed_forward_parts(unet: nn.Module, parts: int) -> None:
    """Lets every feed-forward of a quickened model work in `parts` parts (see `GatedFeedForward`); 1 is all at once."""
    for layer in unet.modules():
        if isinstance(layer, GatedFeedForward):
            layer.parts = parts


def _counterpart(layer: nn.Module) -> nn.Module | None:
    with torch.device("meta"):
        if isinstance(layer, TemporalConvLayer):
            return _Conv(layer.in_dim, layer.conv1[0].num_groups, layer.conv2[2].p)
        if isinstance(layer, TransformerTemporalModel):
            heads, head_dim = layer.num_attention_heads, layer.attention_head_dim
            return _Transformer(layer.in_channels, heads, head_dim, layer.norm.num_groups)
        if isinstance(layer, FeedForward) and isinstance(layer.net[0], GEGLU):
            return GatedFeedForward(layer.net[2].out_features)
        if type(layer) is nn.GroupNorm:
            return GroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    return None
