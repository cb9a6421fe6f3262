"""The judge: a small video classifier trained on renders, the oracle that evaluation asks what a clip shows.

It names every attribute of a storybook clip and gives the features in which results and renders are compared. Nothing
that generates is trained with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F


def _convolution(inputs: int, outputs: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(groups, outputs),
        nn.SiLU(),
    )


class Judge(ModelMixin, ConfigMixin):
    """Classifies clips of a fixed number of frames.

    Frames pass one after another through a convolutional trunk. A frame's feature joins two readings of the last map:
    one with its layout (a linear layer over the whole map), so that place and direction can be read, and one without
    (mean and maximum over the map), since a subject is the same wherever it stands. What a single frame shows is
    judged on the mean over frames, what moves on all frames in order.

    Args:
        attributes: number of values by attribute.
        moving: names of the attributes judged on frames in order.
        height, width: size the clip is brought to (antialiased) before it is looked at; divisible by 8 · patch_size.
        frames: number of frames expected.
        patch_size: pixels gathered into channels first.
        channels: widths at full, half, quarter and eighth of the patched size.
        features: width of the per-frame feature.
    """

    @register_to_config
    def __init__(
        self,
        attributes: Mapping[str, int],
        moving: tuple[str, ...] = ("motion", "camera"),
        height: int = 40,
        width: int = 64,
        frames: int = 8,
        patch_size: int = 1,
        channels: tuple[int, ...] = (32, 64, 96, 128),
        features: int = 192,
    ) -> None:
        super().__init__()
        stride = patch_size * 2 ** (len(channels) - 1)
        if height % stride or width % stride:
            raise ValueError(f"height={height}, width={width}: both must be divisible by {stride}")
        layers = [_convolution(3 * patch_size**2, channels[0], 1, 8)]
        for before, after in zip(channels[:-1], channels[1:], strict=True):
            layers += [_convolution(before, after, 2, 8), _convolution(after, after, 1, 8)]
        self.trunk = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        flat = channels[-1] * (height // stride) * (width // stride)
        self.layout = nn.Sequential(nn.Dropout(0.1), nn.Linear(flat, features))
        self.content = nn.Sequential(nn.LayerNorm(2 * channels[-1]), nn.Linear(2 * channels[-1], features))
        self.to_feature = nn.Sequential(nn.LayerNorm(features), nn.SiLU())
        if set(moving) & set(attributes):
            self.over_time = nn.Sequential(nn.Linear(frames * features, 2 * features), nn.SiLU())
        self.heads = nn.ModuleDict(
            {k: nn.Linear(2 * features if k in moving else features, n) for k, n in attributes.items()}
        )

    def features(self, clip: Tensor) -> Tensor:
        """clip (b 3 f h w) in [-1, 1], any size, to features (b f features)."""
        frames = clip.transpose(1, 2).flatten(0, 1)
        size = (self.config.height, self.config.width)
        if frames.shape[-2:] != size:
            frames = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
        patched = F.pixel_unshuffle(frames, self.config.patch_size).contiguous(memory_format=torch.channels_last)
        maps = self.trunk(patched)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        features = self.to_feature(self.layout(maps.flatten(1)) + self.content(pooled))
        return features.unflatten(0, (len(clip), -1))

    def clip_features(self, clip: Tensor) -> Tensor:
        """clip (b 3 f h w) with the configured number of frames, to what it is judged by as a whole (b 2·features).

        Raises:
            ValueError: another number of frames, or a judge of single frames.
        """
        self._check(clip)
        if not hasattr(self, "over_time"):
            raise ValueError("this judge looks at single frames: it has no features of clips")
        return self.over_time(self.features(clip).flatten(1))

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """clip (b 3 f h w) with the configured number of frames, to logits (b, values) by attribute."""
        self._check(clip)
        features = self.features(clip)
        still = features.mean(1)
        moving = self.over_time(features.flatten(1)) if hasattr(self, "over_time") else None
        return {k: head(moving if k in self.config.moving else still) for k, head in self.heads.items()}

    def by_frame(self, clip: Tensor) -> dict[str, Tensor]:
        """clip (b 3 f h w) of any number of frames, to logits (b f values) by attribute that a single frame shows."""
        features = self.features(clip)
        return {k: head(features) for k, head in self.heads.items() if k not in self.config.moving}

    def _check(self, clip: Tensor) -> None:
        if clip.shape[2] != self.config.frames:
            raise ValueError(f"clip has {clip.shape[2]} frames; the judge was made for {self.config.frames}")
