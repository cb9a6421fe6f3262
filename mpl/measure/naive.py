"""The networks in their plain published form: what `bench --naive` compares with.

The numbers are the same; the way is that of the published implementation: contiguous memory, convolutions over frames
with three-dimensional kernels and a copy of the clip around every layer over frames, text projected anew for every
frame, the library's fused attention whatever the length, and no convolution folded into a smaller one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.config import Preset, override
from mpl.models.attention import JointAttention
from mpl.models.blocks import Conditions, Resnet
from mpl.models.latent import LatentAttention, Upsample
from mpl.models.temporal import FrameAttention, GatedFeedForward, TemporalConv, TemporalTransformer
from mpl.weights import Weights

CHANGES = {"weights.dtype": "float32", "interpolation.gaps_per_batch": 1}


def naive_preset(preset: Preset) -> Preset:
    """The preset with the number format of the published models and one gap after another."""
    return override(preset, CHANGES)


class NaiveWeights(Weights):
    """Weights whose models are plain from the moment they are loaded."""

    def _load(self, name: str) -> nn.Module:
        model = super()._load(name)
        make_plain(model)
        return model


@contextlib.contextmanager
def plain(model: nn.Module) -> Iterator[nn.Module]:
    """A float32 model in its plain form while the block runs; as it was before when it ends.

    Raises:
        ValueError: the model is of another number format.
    """
    undo = make_plain(model)
    try:
        yield model
    finally:
        undo()


def make_plain(model: nn.Module) -> Callable[[], None]:
    """Makes a float32 model plain, in place, and returns what makes it as it was.

    Raises:
        ValueError: the model is of another number format.
    """
    formats = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
    if formats - {"float32"}:
        raise ValueError(f"weights.dtype = {', '.join(sorted(formats))}: the plain form computes in float32")
    strided = [(p, p.data) for p in model.parameters() if not p.is_contiguous()]
    for parameter, data in strided:
        parameter.data = data.contiguous()
    changed = [module for module in model.modules() if _form(module)]
    for module in changed:
        module.forward = _form(module).__get__(module)
    # What comes in may be in channels-last memory, and every layer after hands on what it gets.
    first = [module for path, module in model.named_modules() if path.split(".")[-1] == "conv_in"]
    hooks = [module.register_forward_pre_hook(_contiguous) for module in first]
    remembers = getattr(model, "remembers_text", False)
    model.remembers_text = False  # it is read anew in every call

    def undo() -> None:
        for module in changed:
            del module.forward
        for hook in hooks:
            hook.remove()
        for parameter, data in strided:
            parameter.data = data
        model.remembers_text = remembers

    return undo


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return (args[0].contiguous(), *args[1:])


# ---- layers; `self` is the layer


def _resnet(self: Resnet, x: Tensor, conditions: Conditions) -> Tensor:
    branch = self.conv1(self._resized(self.act(self.norm1(x))))
    time = conditions.time.repeat_interleave(len(x) // len(conditions.time), 0)
    time = self.time_emb_proj(time)[:, :, None, None]
    if self.scale_shift:
        scale, shift = time.chunk(2, 1)
        branch = self.norm2(branch) * (1 + scale) + shift
    else:
        branch = self.norm2(branch + time)
    branch = self.conv2(self.act(branch))
    x = self._resized(x)
    if self.conv_shortcut is not None:
        x = self.conv_shortcut(x)
    return (x + branch) / self.out_scale


def _temporal_conv(self: TemporalConv, x: Tensor, frames: int) -> Tensor:
    video = x.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()  # (b, c, f, h, w)
    branch = video
    for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
        for module in layer[:-1]:
            branch = module(branch)
        branch = F.conv3d(branch, layer[-1].weight, layer[-1].bias, padding=(1, 0, 0))
    return (video + branch).transpose(1, 2).contiguous().flatten(0, 1)


def _latent_temporal_conv(self: TemporalConv, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
    return _temporal_conv(self, hidden_states, num_frames)


def _temporal_transformer(self: TemporalTransformer, x: Tensor, frames: int) -> Tensor:
    video = x.unflatten(0, (-1, frames)).transpose(1, 2).contiguous()
    tokens = self.norm(video).permute(0, 3, 4, 2, 1).contiguous()  # (b, h, w, f, c)
    hidden = self.proj_in(tokens.flatten(0, 2))
    for block in self.transformer_blocks:
        hidden = block(hidden)
    out = self.proj_out(hidden).view(tokens.shape).permute(0, 3, 4, 1, 2).contiguous()  # (b, f, c, h, w)
    return out.flatten(0, 1) + x


def _latent_temporal_transformer(
    self: TemporalTransformer, hidden_states: Tensor, num_frames: int = 1, **unused: Any
) -> tuple[Tensor]:
    return (_temporal_transformer(self, hidden_states, num_frames),)


def _frame_attention(self: FrameAttention, x: Tensor) -> Tensor:
    return self.to_out[0](_attend(self.to_q(x), self.to_k(x), self.to_v(x), self.heads))


def _feed_forward(self: GatedFeedForward, x: Tensor) -> Tensor:
    value, gate = self.net[0].proj(x).chunk(2, dim=-1)
    return self.net[2](value * F.gelu(gate))


def _joint_attention(self: JointAttention, x: Tensor, text: Tensor, known: Any = None, temporal: bool = True) -> Tensor:
    pixels = self.group_norm(x.flatten(2)).transpose(1, 2)  # (b*f, h*w, c)
    if self.over_frames and temporal:
        pixels = pixels.reshape(len(text), -1, pixels.shape[2])
    text = text.repeat_interleave(len(pixels) // len(text), 0)
    if self.norm_cross is not None:
        text = self.norm_cross(text.transpose(1, 2)).transpose(1, 2)
    key, value = self.add_k_proj(text), self.add_v_proj(text)
    if not self.only_text:
        key = torch.cat([key, self.to_k(pixels)], 1)
        value = torch.cat([value, self.to_v(pixels)], 1)
    out = self.to_out[0](_attend(self.to_q(pixels), key, value, self.heads))
    return x + out.reshape(len(x), -1, out.shape[2]).transpose(1, 2).reshape(x.shape)  # as `x` lies in memory


def _latent_attention(
    self: LatentAttention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *unused: Any, **more: Any
) -> Tensor:
    seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    out = _attend(self.to_q(hidden_states), self.to_k(seen), self.to_v(seen), self.heads)
    return self.to_out[0](out)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _form(module: nn.Module) -> Callable[..., Any] | None:
    """The plain way to compute a layer; None for layers that are plain already."""
    if type(module) in _FORMS:
        return _FORMS[type(module)]
    if isinstance(module, LatentAttention):
        return _latent_attention
    if isinstance(module, TemporalConv):  # the latent UNet's, which are called otherwise
        return _latent_temporal_conv
    return _latent_temporal_transformer if isinstance(module, TemporalTransformer) else None


_FORMS: dict[type[nn.Module], Callable[..., Any]] = {
    Resnet: _resnet,
    TemporalConv: _temporal_conv,
    TemporalTransformer: _temporal_transformer,
    FrameAttention: _frame_attention,
    GatedFeedForward: _feed_forward,
    JointAttention: _joint_attention,
    Upsample: Upsample2D.forward,
}
