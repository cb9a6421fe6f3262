"""The layers that make a video model of an image model: convolution and attention over frames (paper, section 3.2).

The memory of a channels-last `(b*f, c, h, w)` tensor is that of a channels-last `(b, c, f, h*w)` tensor. In this view a
convolution over frames is a plain 2-D convolution with a 3x1 kernel and a norm over whole videos is a plain group norm,
both without a copy.
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.attention import attend
from mpl.models.convolution import frame_conv
from mpl.models.norm import GroupNorm


def as_videos(x: Tensor, frames: int) -> Tensor:
    """`(b*f, c, h, w)` in channels-last memory as `(b, c, f, h*w)`, a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, frames, x.shape[2] * x.shape[3], x.shape[1]).permute(0, 3, 1, 2)


def as_frames(x: Tensor, height: int, width: int) -> Tensor:
    """`(b, c, f, h*w)` as `(b*f, c, h, w)`, both in channels-last memory, a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, height, width, x.shape[1]).permute(0, 3, 1, 2)


_LOUD = 8.0  # of the hidden layer: beginning at zero beside a timestep of norm 100, a place would be heard after hours


class FrameEmbedding(nn.Module):
    """Tells each frame its place in the clip, by adding to the condition vector what the place changes of it.

    The published models know it only from the zeros beyond either end of a temporal convolution, too faint a signal to
    learn motion from in hours. Text and place meet in one hidden layer: "moves right" says where to be when. With it
    single frames that know their time teach motion, too. A fresh layer adds nothing.

    The pooled text is normed before it meets the place: as it comes, or with the timestep in it, it is so much larger
    than a place that the hidden layer saturates, and no place is ever learned.
    """

    def __init__(self, dim: int, width: int = 128) -> None:
        super().__init__()
        self.waves = Timesteps(width, True, 0)
        self.condition, self.place, self.out = nn.Linear(dim, width), nn.Linear(width, width), nn.Linear(width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, condition: Tensor, text: Tensor, places: Tensor) -> Tensor:
        """The place's change of `condition (b, dim)`, as `text (b, dim)` would have it, added: `(b*f, dim)`.

        `places (b, f)` are 0 at the clip's beginning and 1 at its end.
        """
        frames = places.shape[1]
        waves = self.waves(1000 * places.flatten()).to(condition.dtype)
        said = self.condition(F.layer_norm(text, text.shape[-1:]))
        hidden = said.repeat_interleave(frames, 0) + self.place(waves)
        return condition.repeat_interleave(frames, 0) + self.out(_LOUD * F.silu(hidden))


class TemporalConv(nn.Module):
    """Four times group norm, SiLU, 1-D convolution over frames; the sum is added to the input.

    A fresh layer is the identity: its last convolution is zero. SiLU whatever the model's activation is. The published
    models have 32 groups here whatever the rest has, and dropout 0.1 before all convolutions but the first.
    """

    def __init__(self, channels: int, groups: int, dropout: float) -> None:
        super().__init__()
        for index in range(1, 5):
            norm, conv = GroupNorm(groups, channels, eps=1e-5), nn.Conv3d(channels, channels, (3, 1, 1))
            drop = [nn.Dropout(dropout)] if index > 1 else []
            self.add_module(f"conv{index}", nn.Sequential(norm, nn.SiLU(), *drop, conv))
        self.make_identity()

    def make_identity(self) -> None:
        """Zero the last convolution, so that the layer returns its input."""
        nn.init.zeros_(self.conv4[-1].weight)
        nn.init.zeros_(self.conv4[-1].bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`(b*f, c, h, w)` to the same; frames beyond either end count as zero."""
        video = as_videos(x, frames)
        branch = video
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            for module in layer[:-1]:
                branch = module(branch)
            branch = frame_conv(branch, layer[-1].weight, layer[-1].bias)
        return as_frames(video + branch, *x.shape[-2:])


class FrameAttention(nn.Module):
    """Self attention over frames; queries, keys and values have no bias."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """`(n, frames, c)` to the same."""
        return self.to_out[0](attend(self.to_q(x), self.to_k(x), self.to_v(x), self.heads))


class GatedFeedForward(nn.Module):
    """Linear to 4c values and 4c gates, values times GELU of the gates, linear back (GEGLU).

    With `parts` above 1, so many parts of the rows go through one after another: the hidden layer, the widest tensor of
    the latent model, is never whole in memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parts = 1
        gate = nn.Module()
        gate.proj = nn.Linear(channels, 8 * channels)
        self.net = nn.ModuleList([gate, nn.Identity(), nn.Linear(4 * channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """`(n, ..., c)` to the same."""
        if self.parts == 1 or len(x) == 1:
            return self._whole(x)
        return torch.cat([self._whole(rows) for rows in x.chunk(self.parts)])

    def _whole(self, x: Tensor) -> Tensor:
        proj = self.net[0].proj
        # Two products write two whole tensors; halves of one would be strided in all that follows, a third slower.
        (value, gate), (value_bias, gate_bias) = proj.weight.chunk(2), proj.bias.chunk(2)
        return self.net[2](F.linear(x, value, value_bias) * F.gelu(F.linear(x, gate, gate_bias)))


class FrameBlock(nn.Module):
    """Two self attentions over frames and a feed-forward, each on layer-normed input and added to it."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = FrameAttention(channels, heads)
        self.attn2 = FrameAttention(channels, heads)
        self.ff = GatedFeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, frames, c)` to the same."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x))
        return x + self.ff(self.norm3(x))


class TemporalTransformer(nn.Module):
    """Attention over frames at each pixel, no text and no frame positions; the output is added to the input.

    The published pixel models swap head count and head size here: the count is the config's `attention_head_dim`.
    A fresh layer is the identity (zero `proj_out`; the published code leaves it random).

    Args:
        channels: width of the feature map.
        heads, head_dim: of the attention; its inner width is their product.
        groups: groups of the norm, which spans frames and pixels (eps 1e-6).
    """

    def __init__(self, channels: int, heads: int, head_dim: int, groups: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList([FrameBlock(inner, heads)])
        self.proj_out = nn.Linear(inner, channels)
        self.make_identity()

    def make_identity(self) -> None:
        """Zero the output projection, so that the layer returns its input."""
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """`(b*f, c, h, w)` to the same."""
        video = as_videos(x, frames)
        tokens = self.norm(video).permute(0, 3, 2, 1)  # (b, h*w, f, c)
        hidden = self.proj_in(tokens).flatten(0, 1)
        for block in self.transformer_blocks:
            hidden = block(hidden)
        out = self.proj_out(hidden).view(tokens.shape)
        return as_frames(video + out.permute(0, 3, 2, 1), *x.shape[-2:])
