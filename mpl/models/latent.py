"""The networks of stage 4, made fast: diffusers' `UNet3DConditionModel` and `AutoencoderKL` with other layers inside.

Their classes, configs and keys stay diffusers'; only how layers over frames, attentions, feed-forwards, norms and
upsampling are computed changes. The original convolves over frames with three-dimensional kernels, for which CPUs have
no fast path, and copies the clip around each such layer; it projects the text in every call for every frame; its
feed-forwards need a third more memory; it doubles pictures before it convolves them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from mpl.models.attention import Known, attend, remembered
from mpl.models.convolution import doubled_conv
from mpl.models.norm import GroupNorm
from mpl.models.temporal import GatedFeedForward, TemporalConv, TemporalTransformer

Model = TypeVar("Model", bound=nn.Module)


class _Conv(TemporalConv):
    """Called as diffusers calls its `TemporalConvLayer`."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        return super().forward(hidden_states, num_frames)


class _Transformer(TemporalTransformer):
    """Called as diffusers calls its `TransformerTemporalModel`."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1, **unused: Any) -> tuple[Tensor]:
        return (super().forward(hidden_states, num_frames),)


class Upsample(Upsample2D):
    """Called as diffusers calls its `Upsample2D`."""

    def forward(self, hidden_states: Tensor, output_size: Any = None, *unused: Any, **more: Any) -> Tensor:
        """`(n, i, h, w)` to `(n, o, 2*h, 2*w)`, or to `output_size`, where an odd size was halved."""
        if output_size is not None and list(output_size) != [2 * side for side in hidden_states.shape[2:]]:
            return super().forward(hidden_states, output_size)
        return doubled_conv(hidden_states, self.conv.weight, self.conv.bias)


class LatentAttention(nn.Module):
    """Called as diffusers calls the `Attention` of its transformer blocks, but for `known` and `frames`.

    All frames of a video see the same text, so that their pixels are one long row of queries to keys found once.
    """

    def __init__(self, channels: int, inner: int, text_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(text_dim, inner, bias=False)
        self.to_v = nn.Linear(text_dim, inner, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels), nn.Identity()])

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        known: Known | None = None,
        frames: int = 1,
    ) -> Tensor:
        """Pixels `(b*f, h*w, c)`, text `(b*f, tokens, text_dim)`, the same for all frames of a video.

        `known` keeps what depends on the text alone, from one call with it to the next.
        """
        query = self.to_q(hidden_states)
        if encoder_hidden_states is None:
            return self.to_out[0](attend(query, self.to_k(hidden_states), self.to_v(hidden_states), self.heads))
        text = encoder_hidden_states[::frames]
        key, value = remembered(known, self, lambda: (self.to_k(text), self.to_v(text)))
        seen = attend(query.unflatten(0, (-1, frames)).flatten(1, 2), key, value, self.heads)
        return self.to_out[0](seen.view(query.shape))


def quicken(unet: UNet3DConditionModel) -> UNet3DConditionModel:
    """Replaces layers over frames, attentions, feed-forwards, norms and upsampling in place, with the same weights.

    Keys do not change. The model then takes `known` as `VideoUNet` does.

    Returns:
        The model.

    Raises:
        ValueError: a layer has weights that this project's does not (attention with biases, other activations).
    """
    _exchange(unet, _counterpart)
    if not getattr(unet, "remembers_text", False):
        unet.register_forward_pre_hook(_tell_attentions, with_kwargs=True)
        unet.remembers_text = True
    return unet


def fold_upsampling(vae: Model) -> Model:
    """Lets an autoencoder convolve pictures while it doubles them (`doubled_conv`), in place; keys do not change."""
    return _exchange(vae, _upsample)


def _exchange(model: Model, counterpart: Callable[[nn.Module], nn.Module | None]) -> Model:
    """Replaces every layer that has a counterpart, in place, with the same weights. Returns the model."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            quick = counterpart(layer)
            if quick is not None:
                try:
                    quick.load_state_dict(layer.state_dict(), assign=True)
                except RuntimeError as error:
                    kind = type(model).__name__
                    raise ValueError(f"layer {name} of {kind} is not of the published structure") from error
                setattr(parent, name, quick.train(layer.training))
    return model


def _tell_attentions(unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Arguments of a call as diffusers passes them on to every `LatentAttention`."""
    told = {"known": kwargs.pop("known", None), "frames": (args[0] if args else kwargs["sample"]).shape[2]}
    return args, kwargs | {"cross_attention_kwargs": told}


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
        if isinstance(layer, Attention):
            inner, channels = layer.to_q.weight.shape
            return LatentAttention(channels, inner, layer.to_k.in_features, layer.heads)
        if isinstance(layer, FeedForward) and isinstance(layer.net[0], GEGLU):
            return GatedFeedForward(layer.net[2].out_features)
        if type(layer) is nn.GroupNorm:
            return GroupNorm(layer.num_groups, layer.num_channels, layer.eps, layer.affine)
    return _upsample(layer)


def _upsample(layer: nn.Module) -> nn.Module | None:
    if type(layer) is not Upsample2D or not layer.use_conv or layer.conv.kernel_size != (3, 3):
        return None
    with torch.device("meta"):
        return Upsample(layer.channels, use_conv=True, out_channels=layer.out_channels)
