"""Spatial attention of the pixel models: every pixel looks at the text and at all pixels of its frame, or of its video.

Feature maps are `(b*f, c, h, w)` in channels-last memory, so that their pixels are tokens `(b*f, h*w, c)` without a
copy. Short sequences go through two plain matrix products and a softmax, long ones through the fused kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.norm import GroupNorm

# Longest sequence of keys for plain matrix products. The fused kernel's backward pass is slow in bfloat16.
PLAIN_KEYS = {torch.float32: 64, torch.bfloat16: 256}

Known = dict[Any, Any]  # what depends on a text alone, by what made it
Made = TypeVar("Made")

# A CPU's softmax over rows of bfloat16 that are no multiple of a vector register is slow; a few more keys that nobody
# looks at cost less.
_ROW, _MISSING = 32, 7


def remembered(known: Known | None, key: Any, make: Callable[[], Made]) -> Made:
    """What an earlier call with the same text has put into `known`, or makes it; without `known`, in every call."""
    if known is None:
        return make()
    if key not in known:
        known[key] = make()
    return known[key]


def pixels_as_tokens(x: Tensor) -> Tensor:
    """`(n, c, h, w)` in channels-last memory as `(n, h*w, c)`, a view."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def tokens_as_pixels(x: Tensor, height: int, width: int) -> Tensor:
    """`(n, h*w, c)` as `(n, c, h, w)` in channels-last memory, a view."""
    return x.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head softmax attention, `(n, q, c)` over `(n, k, c)` to `(n, q, c)`, scores scaled by head size ** -0.5.

    Measured on two cores, forward and backward: in float32 the fused kernel takes half the time of plain products at
    672 keys and as long at 72; over 8 frames with few heads it takes one and a half times as long. In bfloat16 it takes
    as long at 672 keys, four times as long at 192, and six times as long at 72. 29 keys, a clip's frames, take half the
    time where they are filled up to 32 (37.8 ms and 19.0 for 2880 pixels, 4 heads of 12). On a GPU the fused kernel is
    right at any length, and keeps scores in float32.
    """
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if query.device.type == "cuda" or key.shape[2] > PLAIN_KEYS.get(query.dtype, 0):
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    keys, missing = key.shape[2], -key.shape[2] % _ROW
    if missing <= _MISSING and query.dtype == torch.bfloat16:
        key, value = (F.pad(x, (0, 0, 0, missing)) for x in (key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (n, heads, q, k)
    scores[..., keys:] = float("-inf")
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


class JointAttention(nn.Module):
    """Group-normed pixels attend to [text, pixels], text first, as in DeepFloyd IF (diffusers `AttnAddedKVProcessor`).

    Args:
        channels: width of the feature map.
        head_dim: size of one head; there are `channels // head_dim` heads.
        text_dim: width of the text states.
        groups: groups of the norm over pixels.
        text_norm: group-norm the text states.
        text_groups: groups of that norm.
        only_text: pixels are no keys (`only_cross_attention`); `to_k` and `to_v` do not exist then.
        over_frames: the pixels of all frames of the video are keys, not those of its own frame alone.
    """

    def __init__(
        self,
        channels: int,
        head_dim: int,
        text_dim: int,
        groups: int,
        text_norm: bool,
        text_groups: int,
        only_text: bool,
        over_frames: bool = False,
    ) -> None:
        super().__init__()
        self.heads = channels // head_dim
        inner = self.heads * head_dim
        self.group_norm = GroupNorm(groups, channels, eps=1e-5)
        self.norm_cross = GroupNorm(text_groups, text_dim, eps=1e-5) if text_norm else None
        self.to_q = nn.Linear(channels, inner)
        if not only_text:
            self.to_k = nn.Linear(channels, inner)
            self.to_v = nn.Linear(channels, inner)
        self.add_k_proj = nn.Linear(text_dim, inner)
        self.add_v_proj = nn.Linear(text_dim, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])
        self.only_text, self.over_frames = only_text, over_frames

    def of_text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the text, `(b, tokens, inner)` both."""
        if self.norm_cross is not None:  # over all tokens, as well as the channels of a group
            text = self.norm_cross(text.transpose(1, 2)).transpose(1, 2)
        return self.add_k_proj(text), self.add_v_proj(text)

    def forward(self, x: Tensor, text: Tensor, known: Known | None = None, temporal: bool = True) -> Tensor:
        """`x (b*f, c, h, w)`, `text (b, tokens, text_dim)`; all frames of a video see the same text.

        `known` keeps what depends on the text alone, from one call with it to the next. Without `temporal` every frame
        is alone, whatever `over_frames` says.
        """
        height, width = x.shape[-2:]
        tokens = pixels_as_tokens(self.group_norm(x))
        if self.over_frames and temporal:
            tokens = tokens.unflatten(0, (len(text), -1)).flatten(1, 2)  # (b, f*h*w, c)
        alike = len(tokens) // len(text)
        told = remembered(known, self, lambda: self.of_text(text))
        key, value = (of_text.repeat_interleave(alike, 0) for of_text in told)
        if not self.only_text:
            key = torch.cat([key, self.to_k(tokens)], 1)
            value = torch.cat([value, self.to_v(tokens)], 1)
        out = self.to_out[0](attend(self.to_q(tokens), key, value, self.heads))
        return x + tokens_as_pixels(out.view(len(x), -1, out.shape[-1]), height, width)
