"""The video UNet of the pixel stages: reads the published checkpoints of keyframes, interpolation and superres.

It is DeepFloyd IF's image UNet (diffusers `UNet2DConditionModel` with "SimpleCrossAttn" blocks) with frames folded into
the batch and temporal layers between (paper, section 3.2). State-dict keys and config keys are those of the published
models; the few extra config keys have defaults that describe these models.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.activations import get_activation
from diffusers.models.embeddings import TextTimeEmbedding, TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_3d_condition import UNet3DConditionOutput
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models.attention import Known, remembered
from mpl.models.blocks import Conditions, DownBlock, LayerSpec, MidBlock, UpBlock, run_blocks
from mpl.models.convolution import patches
from mpl.models.coordinates import Coordinates
from mpl.models.inflate import start_from
from mpl.models.layout import Layout
from mpl.models.norm import GroupNorm
from mpl.models.outline import Outline
from mpl.models.prior import Guess, guess_of
from mpl.models.refine import InputSkip, Refiner
from mpl.models.structure import check_inputs, check_structure, per_level, without_neutral
from mpl.models.temporal import FrameEmbedding, TemporalTransformer
from mpl.models.warp import Warp


@dataclass
class VideoUNetOutput(UNet3DConditionOutput):
    """What the model predicts, the logits of its `Layout` and `Outline`, and what its `Warp` moved, if it has them."""

    draft: Tensor | None = None
    outline: Tensor | None = None
    found: Tensor | None = None
    moved: Tensor | None = None


class VideoUNet(ModelMixin, ConfigMixin):
    """Predicts noise (or v) of a noisy clip from timestep, text and, where it has one, a noise level.

    Config keys are those of the published models (diffusers' names), and:

    Args:
        temporal: False builds no temporal layers: the image model, whose keys are those of the 2-D parent.
        temporal_norm_num_groups: groups of the temporal convolutions' norms (32 in the published models, whatever
            `norm_num_groups` says; with as many groups as channels each channel's mean, and so its colour, is lost).
        temporal_attention_heads: heads of the temporal attention. None: `attention_head_dim` is their number, as
            published, where count and size are swapped; many narrow heads are slow.
        cross_attention_norm_num_groups: groups of the text norm (32 in the published models and in diffusers).
        temporal_dropout: of the temporal convolutions in training (0.1 in the published models).
        patch_size: p > 1 gathers p x p pixels into channels before `conv_in` and spreads them after `conv_out`;
            `in_channels` and `out_channels` stay per pixel.
        frame_embedding: tells every frame its place in the clip (False in the published models), see `FrameEmbedding`.
        input_skip: an `InputSkip` past the blocks (False in the published models). What the skip of Karras et al. 2022
            (eq. 7) is for: with large patches the blocks cannot carry a nearly clean picture, and need not.
        coordinates: tells every pixel its place (False in the published models), see `Coordinates`.
        layout_grid: rows and columns of a `Layout`, a draft of where the subject is; None, as published, is none.
        outline_grid: those of an `Outline`, a draft of how it is turned, shown where it is found; likewise.
        refine_channels: width of a `Refiner` at full resolution after the blocks; 0, as published, is none.
        given_frames: it can be told which frames of its condition are the result itself, not something near it; the
            next window of a superresolved clip begins with one. The published models have to see it by themselves.
        warped_ends: the condition's first and last frames, moved by a `Warp`, take the condition's place once the
            blocks have seen both; for models with `prior_std` that fill in between two frames. False as published.
        prior_std: how far the clean picture is from the condition's first `out_channels` channels (from zero where
            there are none), as a standard deviation. Where given, the model predicts the clean picture ("sample"): the
            blocks get `linear_guess` in place of the noisy channels, and add to it. None in the published models.
            Better small: what noise the guess lets through, at most half as strong, large patches cannot take out.
        prior_residual: the blocks get the guess's residual, too, as `out_channels` channels more: without it they
            hardly see the detail that is forming in the noise, and paint none of their own.
        prior_pool: the condition counts as `smoothed` by so many pixels; 4 where it was enlarged by 4.
        prior_schedule: noise schedule that `prior_std` is used with; the scheduler must have the same.
        attention_over_frames: spatial attention sees the pixels of all frames, not those of its own frame alone; one
            value, or one for each level, the middle as the last. Temporal attention looks along one pixel's place,
            where a subject that moves is seldom itself. False in the published models.
        transfromer_in_opt: (published spelling) a temporal transformer of 8 heads of 64 after `conv_in`.

    Raises:
        ValueError: naming the option, its value and what would be accepted.
    """

    _supports_gradient_checkpointing = False
    remembers_text = True  # takes `known`
    _no_split_modules = ["Resnet", "JointAttention", "TemporalConv", "TemporalTransformer"]
    _skip_layerwise_casting_patterns = ["norm", "time_embedding"]

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 3,
        out_channels: int = 6,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[str, ...] = ("ResnetDownsampleBlock3D",) + 3 * ("SimpleCrossAttnDownBlock3D",),
        mid_block_type: str | None = "UNetMidBlock3DSimpleCrossAttn",
        up_block_types: tuple[str, ...] = 3 * ("SimpleCrossAttnUpBlock3D",) + ("ResnetUpsampleBlock3D",),
        only_cross_attention: bool | tuple[bool, ...] = False,
        mid_block_only_cross_attention: bool | None = None,
        block_out_channels: tuple[int, ...] = (320, 640, 960, 1280),
        layers_per_block: int | tuple[int, ...] = 3,
        mid_block_scale_factor: float = 1.0,
        act_fn: str = "gelu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1280,
        cross_attention_norm: str | None = "group_norm",
        encoder_hid_dim: int | None = None,
        encoder_hid_dim_type: str | None = None,
        attention_head_dim: int | tuple[int, ...] = 64,
        class_embed_type: str | None = None,
        addition_embed_type: str | None = "text",
        addition_embed_type_num_heads: int = 64,
        resnet_time_scale_shift: str = "scale_shift",
        resnet_skip_time_act: bool = False,
        resnet_out_scale_factor: float = 1.0,
        time_embedding_dim: int | None = None,
        time_embedding_act_fn: str | None = None,
        timestep_post_act: str | None = None,
        transfromer_in_opt: bool = False,
        temporal: bool = True,
        temporal_norm_num_groups: int = 32,
        temporal_attention_heads: int | None = None,
        cross_attention_norm_num_groups: int = 32,
        temporal_dropout: float = 0.1,
        patch_size: int = 1,
        input_skip: bool = False,
        frame_embedding: bool = False,
        coordinates: bool = False,
        layout_grid: tuple[int, int] | None = None,
        outline_grid: tuple[int, int] | None = None,
        refine_channels: int = 0,
        prior_std: float | None = None,
        prior_schedule: str = "squaredcos_cap_v2",
        prior_pool: int = 1,
        prior_residual: bool = False,
        warped_ends: bool = False,
        given_frames: bool = False,
        attention_over_frames: bool | tuple[bool, ...] = False,
    ) -> None:
        super().__init__()
        check_structure(self.config)
        self._build_embeddings()
        self._build_blocks()

    def _build_embeddings(self) -> None:
        """Everything that makes the conditions: time, noise level, pooled text, projected text."""
        config, width = self.config, self.config.block_out_channels[0]
        time_dim = config.time_embedding_dim or 4 * width
        text_dim = config.encoder_hid_dim or config.cross_attention_dim
        self.time_proj = Timesteps(width, config.flip_sin_to_cos, config.freq_shift)
        mlp = {"act_fn": config.act_fn}
        self.time_embedding = TimestepEmbedding(width, time_dim, post_act_fn=config.timestep_post_act, **mlp)
        self.class_embedding = TimestepEmbedding(width, time_dim, **mlp) if config.class_embed_type else None
        self.encoder_hid_proj = None
        if config.encoder_hid_dim is not None:
            self.encoder_hid_proj = nn.Linear(config.encoder_hid_dim, config.cross_attention_dim)
        self.add_embedding = None
        if config.addition_embed_type == "text":
            heads = config.addition_embed_type_num_heads
            if text_dim % heads:
                raise ValueError(f"addition_embed_type_num_heads={heads} does not divide the text width {text_dim}")
            self.add_embedding = TextTimeEmbedding(text_dim, time_dim, heads)
        self.given_embedding = nn.Parameter(torch.zeros(time_dim)) if config.given_frames else None
        self.place_embedding = FrameEmbedding(time_dim) if config.frame_embedding else None
        layout, outline = config.layout_grid, config.outline_grid
        self.layout_draft = Layout(text_dim, width, layout) if layout else None
        self.outline_draft = None
        if outline:
            self.outline_draft = Outline(text_dim, width, config.norm_num_groups, time_dim, config.patch_size, outline)
        act = config.time_embedding_act_fn
        self.time_embed_act = None if act is None else get_activation(act)
        self.resnet_time_act = nn.Identity() if config.resnet_skip_time_act else get_activation(config.act_fn)

    @property
    def inputs(self) -> int:
        """Channels that the blocks get: the model's own, and those of the residual."""
        return self.config.in_channels + (self.config.out_channels if self.config.prior_residual else 0)

    def _build_blocks(self) -> None:
        config, spec = self.config, LayerSpec.of(self.config)
        widths, patch = list(config.block_out_channels), config.patch_size**2
        levels = len(widths)
        layers = per_level("layers_per_block", config.layers_per_block, levels)
        head_dims = per_level("attention_head_dim", config.attention_head_dim, levels)
        only_text = per_level("only_cross_attention", config.only_cross_attention, levels)
        over_frames = per_level("attention_over_frames", config.attention_over_frames, levels)
        looks = [
            {"only_text": text, "over_frames": frames} for text, frames in zip(only_text, over_frames, strict=True)
        ]
        scale = config.resnet_out_scale_factor
        self.conv_in = nn.Conv2d(self.inputs * patch, widths[0], 3, padding=1)
        self.coordinate_map = Coordinates(widths[0]) if config.coordinates else None
        if config.temporal and config.transfromer_in_opt:
            self.transformer_in = TemporalTransformer(widths[0], 8, 64, config.norm_num_groups)
        self.down_blocks, self.up_blocks, self.mid_block = nn.ModuleList(), nn.ModuleList(), None
        for i, name in enumerate(config.down_block_types):
            shape = (widths[max(i - 1, 0)], widths[i], layers[i], i < levels - 1)
            attention = {"attention": "CrossAttn" in name, "head_dim": head_dims[i], **looks[i]}
            self.down_blocks.append(DownBlock(spec, *shape, out_scale=scale, **attention))
        if config.mid_block_type is not None:
            only = config.mid_block_only_cross_attention
            if only is None:  # a list says nothing about the middle, as in diffusers
                only = config.only_cross_attention is True
            shape = {"head_dim": head_dims[-1], **looks[-1], "only_text": only}
            self.mid_block = MidBlock(spec, widths[-1], out_scale=config.mid_block_scale_factor, **shape)
        for i, name in enumerate(config.up_block_types):
            level = levels - 1 - i
            skips = [widths[level]] * layers[level] + [widths[max(level - 1, 0)]]
            shape = (widths[min(level + 1, levels - 1)], widths[level], skips, level > 0)
            # The head size is indexed from the front, not mirrored: harmless for a single number, and as published.
            attention = {"attention": "CrossAttn" in name, "head_dim": head_dims[i], **looks[level]}
            self.up_blocks.append(UpBlock(spec, *shape, out_scale=scale, **attention))
        self.conv_norm_out = GroupNorm(config.norm_num_groups, widths[0], eps=config.norm_eps)
        self.conv_act = get_activation(config.act_fn)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels * patch, 3, padding=1)
        if config.prior_std is not None:  # a fresh model makes the guess
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(self.conv_out.bias)
        self.warp = Warp(config.block_out_channels[0], config.patch_size) if config.warped_ends else None
        self.refiner = None
        if config.refine_channels:
            self.refiner = Refiner(spec, self.inputs, config.out_channels, config.refine_channels)
        self.skip_mix = InputSkip(spec.time_dim, self.inputs, config.out_channels) if config.input_skip else None

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """As diffusers', for configs of the published models: keys that say nothing here are checked, then dropped."""
        if isinstance(config, Mapping):
            config = without_neutral(config)
            config.pop("_class_name", None)  # published as UNet3DConditionModel
        return super().from_config(config, return_unused_kwargs, **kwargs)

    @classmethod
    def from_pretrained(cls, path: str | Path, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As diffusers', but strict: it would leave missing weights undefined and ignore others with a warning.

        Raises:
            ValueError: the checkpoint lacks weights of the model its config describes, or has others.
        """
        model, info = super().from_pretrained(path, output_loading_info=True, **kwargs)
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info[problem]:
                keys = ", ".join(str(key) for key in sorted(info[problem])[:3])
                name, count = problem.replace("_", " "), len(info[problem])
                raise ValueError(f"the weights in {path} do not fit their config: {count} {name}, such as {keys}")
        return (model, info) if output_loading_info else model

    @classmethod
    def from_pretrained_2d(cls, path: str | Path, subfolder: str | None = None, **config_overrides: Any) -> VideoUNet:
        """A video model from an image model's checkpoint: each frame goes through the image model unchanged.

        Args:
            path: folder (or hub name) with a diffusers `UNet2DConditionModel` of DeepFloyd's structure, or with a
                `VideoUNet` (one without temporal layers gets them as the identity; one with them keeps them).
            subfolder: inside it, as "unet".
            config_overrides: config keys of the new model. More `in_channels` than the source are appended with zero
                weights, which is how interpolation starts from keyframes; `class_embed_type` starts at zero, too.

        Raises:
            ValueError: a key that is not temporal is missing, too many, or of another shape.
        """
        return start_from(cls, path, subfolder, config_overrides)

    def conditions(
        self,
        timestep: Tensor | float | int,
        text: Tensor,
        class_labels: Tensor | None,
        frames: int,
        temporal: bool = True,
        places: Tensor | None = None,
        given: Tensor | None = None,
        known: Known | None = None,
    ) -> Conditions:
        """Embed timestep (number or `(b,)`), text `(b, tokens, dim)`, noise level `(b,)`, places, given frames."""
        batch, dtype = text.shape[0], self.conv_in.weight.dtype
        steps = torch.as_tensor(timestep, device=text.device).reshape(-1).expand(batch)
        time = self.time_embedding(self.time_proj(steps).to(dtype))
        if self.class_embedding is not None:
            labels = class_labels.to(text.device).reshape(-1).expand(batch)
            time = time + self.class_embedding(self.time_proj(labels).to(dtype))
        said = time
        if self.add_embedding is not None:
            said = remembered(known, self.add_embedding, lambda: self.add_embedding(text))
            time = time + said
        if self.time_embed_act is not None:
            time = self.time_embed_act(time)
        shared = known if places is None else None  # of places alike in every call
        places = torch.linspace(0, 1, frames, device=text.device) if places is None else places.to(text.device)
        places = places.expand(batch, frames)
        draft, outline = (
            None if part is None else remembered(shared, (part, frames), functools.partial(part.draft, text, places))
            for part in (self.layout_draft, self.outline_draft)
        )
        if self.place_embedding is not None:
            time = self.place_embedding(time, said, places)
        if given is not None and self.given_embedding is not None:
            time = time if len(time) > batch else time.repeat_interleave(frames, 0)
            time = time + given.to(time).expand(batch, frames).flatten()[:, None] * self.given_embedding
        if self.encoder_hid_proj is not None:
            text = remembered(known, self.encoder_hid_proj, lambda: self.encoder_hid_proj(text))
        return Conditions(self.resnet_time_act(time), text, frames, temporal, draft, outline, known)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
        temporal: bool = True,
        places: Tensor | None = None,
        given: Tensor | None = None,
        deep: dict[str, Tensor] | None = None,
        known: Known | None = None,
    ) -> VideoUNetOutput | tuple[Tensor]:
        """Run the model.

        Args:
            sample: noisy clip with its condition channels, `(b, in_channels, f, h, w)`.
            timestep: of the diffusion, a number or one per clip `(b,)`.
            encoder_hidden_states: text `(b, tokens, encoder_hid_dim or cross_attention_dim)`; no mask, padding counts.
            class_labels: noise level of the condition, `(b,)`, for models with `class_embed_type`.
            return_dict: False returns a tuple.
            temporal: False passes the layers over frames by, so that each frame goes through the image model inside
                alone (joint training on images and video: Ho et al. 2022, "Video Diffusion Models", section 3.1).
            places: of the frames in their clip, 0 to 1, `(f,)` or `(b, f)`, for models with `frame_embedding` or
                drafts; None spreads them evenly from beginning to end.
            given: true where the condition's frame is the result itself, `(f,)` or `(b, f)`, for models with
                `given_frames`, which others pass by; None says of no frame that it is.
            deep: what an earlier call has kept of the deep levels, instead of computing them; filled where it is empty.
            known: what depends on the text alone, that an earlier call with the same text has kept; likewise.

        Returns:
            `.sample`, `(b, out_channels, f, h, w)`; for models with them, `.draft`, `.outline` and
            `.found`, `(b, 1, f, rows, columns)`, and `.moved`, as the sample, for those with a warp.

        Raises:
            ValueError: a shape does not fit the model.
        """
        check_inputs(self.config, sample, timestep, encoder_hidden_states, class_labels)
        frames, patch = sample.shape[2], self.config.patch_size
        told = (timestep, encoder_hidden_states, class_labels, frames, temporal, places, given, known)
        conditions = self.conditions(*told)
        guess = guess_of(sample, timestep, given, self.config)
        if guess is not None:
            seen = (guess.residual,) if self.config.prior_residual else ()
            sample = torch.cat([guess.mean, sample[:, self.config.out_channels :], *seen], dim=1)
        x = self.conv_in(patches(sample, patch))  # (b*f, c, h, w)
        if self.coordinate_map is not None:
            x = self.coordinate_map(x)
        if self.layout_draft is not None:
            x = self.layout_draft(x, conditions.draft)
        found = None
        if self.outline_draft is not None:
            x, found = self.outline_draft(x, conditions.outline, conditions.time)
        if hasattr(self, "transformer_in") and temporal:
            x = self.transformer_in(x, frames)
        x = run_blocks(self.down_blocks, self.mid_block, self.up_blocks, x, conditions, deep)
        x, moved = self._painted(self.conv_act(self.conv_norm_out(x)), sample, guess, conditions)
        drafts = {"draft": conditions.draft, "outline": conditions.outline, "found": found}
        return VideoUNetOutput(sample=x, moved=moved, **drafts) if return_dict else (x,)

    def _painted(
        self, features: Tensor, sample: Tensor, guess: Guess | None, conditions: Conditions
    ) -> tuple[Tensor, Tensor | None]:
        """The blocks' last features as a clip `(b, out_channels, f, h, w)`, with what the guess has of it already.

        Besides, the ends moved, for models with a warp.
        """
        patch = self.config.patch_size
        x = self.conv_out(features)
        x = F.pixel_shuffle(x, patch) if patch > 1 else x
        x = x.unflatten(0, (-1, conditions.frames)).transpose(1, 2).contiguous()
        if self.skip_mix is not None:
            x = x + self.skip_mix(sample, conditions)
        if self.refiner is not None:
            x = self.refiner(x, sample, conditions)
        if guess is None:
            return x, None
        mean, moved = guess.mean, None
        if self.warp is not None:
            near = sample[:, self.config.out_channels : 2 * self.config.out_channels]
            moved = self.warp(features, near)
            # What the mean owes to `near` is its share doubt² (see `linear_guess`); that much of it moves.
            mean = mean + guess.doubt**2 * (moved - near).to(mean.dtype)
        return mean + guess.doubt * x, moved
