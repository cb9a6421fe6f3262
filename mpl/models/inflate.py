"""Start a model from another's weights: image model to video model, three input channels to seven.

Only what the source cannot have may be missing: temporal layers, which start as the identity, and a noise-level
embedding, frame embedding, layout, input skip, refiner, warp or embedding of given frames that the target asks for by
name, which change nothing at first, or coordinates, which do. Everything else must fit exactly.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mpl.models.structure import check_positive

BLOCKS_2D = {
    "ResnetDownsampleBlock2D": "ResnetDownsampleBlock3D",
    "SimpleCrossAttnDownBlock2D": "SimpleCrossAttnDownBlock3D",
    "UNetMidBlock2DSimpleCrossAttn": "UNetMidBlock3DSimpleCrossAttn",
    "SimpleCrossAttnUpBlock2D": "SimpleCrossAttnUpBlock3D",
    "ResnetUpsampleBlock2D": "ResnetUpsampleBlock3D",
}
TEMPORAL_PARTS = ("temp_convs", "temp_attentions", "transformer_in")


def is_temporal(key: str) -> bool:
    """Whether a state-dict key belongs to a temporal layer."""
    return any(part in TEMPORAL_PARTS for part in key.split("."))


def config_from_2d(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the video model whose image part is a diffusers `UNet2DConditionModel` of this config.

    Block names unknown here are passed on, for the constructor to refuse with the accepted ones.
    """
    named = {key: value for key, value in config.items() if not key.startswith("_")}
    for option in ("down_block_types", "up_block_types"):
        named[option] = [BLOCKS_2D.get(name, name) for name in named[option]]
    named["mid_block_type"] = BLOCKS_2D.get(named["mid_block_type"], named["mid_block_type"])
    return named


def inflate_input(weights: Mapping[str, Tensor], in_channels: int, patch_size: int = 1) -> dict[str, Tensor]:
    """Weights for a model of `in_channels` input channels per pixel: known channels first, new ones at zero.

    With patches the inputs of `conv_in` are ordered channel, row, column, so new channels come last there, too; and in
    the rows of `skip_mix`, ordered input channel, output channel.

    Raises:
        ValueError: the weights have more input channels than that.
    """
    check_positive("in_channels", in_channels)
    old = weights["conv_in.weight"]
    wanted = in_channels * patch_size**2
    if wanted < old.shape[1]:
        have = old.shape[1] // patch_size**2
        raise ValueError(f"in_channels={in_channels} is not accepted; the weights to start from have {have}")
    new = old.new_zeros(old.shape[0], wanted, *old.shape[2:])
    new[:, : old.shape[1]] = old
    inflated = {**weights, "conv_in.weight": new}
    for key in ("skip_mix.weight", "skip_mix.bias"):
        if key in weights:
            rows = weights[key].shape[0] * wanted // old.shape[1]
            inflated[key] = weights[key].new_zeros(rows, *weights[key].shape[1:])
            inflated[key][: len(weights[key])] = weights[key]
    if (key := "refiner.conv_in.weight") in weights:
        kernel = weights[key]
        more = in_channels - old.shape[1] // patch_size**2
        inflated[key] = torch.cat([kernel, kernel.new_zeros(len(kernel), more, *kernel.shape[2:])], dim=1)
    return inflated


def _check_complete(path: str | Path, problem: str, keys: Iterable[str]) -> None:
    """ValueError naming the first of the offending keys, if there are any."""
    keys = sorted(keys)
    if keys:
        raise ValueError(f"the weights in {path} do not fit: {problem} {', '.join(keys[:3])} ({len(keys)} in all)")


def _load_source(cls: type[nn.Module], path: str | Path, subfolder: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """The model to start from and its config in this room's words; the checkpoint's config names its class."""
    config = cls.load_config(path, subfolder=subfolder)
    if config.get("_class_name") == "UNet2DConditionModel":
        source, info = UNet2DConditionModel.from_pretrained(path, subfolder=subfolder, output_loading_info=True)
        _check_complete(path, "missing", info["missing_keys"])
        _check_complete(path, "unexpected", info["unexpected_keys"])
        return source, config_from_2d(source.config)
    source = cls.from_pretrained(path, subfolder=subfolder)
    return source, {key: value for key, value in source.config.items() if not key.startswith("_")}


def start_from(
    cls: type[nn.Module], path: str | Path, subfolder: str | None, overrides: Mapping[str, Any]
) -> nn.Module:
    """A new video model with the weights of a checkpoint and a config changed by `overrides`.

    Args:
        cls: the class to build (`VideoUNet`).
        path: a folder (or hub name) with a diffusers `UNet2DConditionModel` of IF's structure or a model of `cls`.
        subfolder: inside it.
        overrides: config keys of the new model, `in_channels` or `class_embed_type` among them.

    Returns:
        The model in eval mode, float32.

    Raises:
        ValueError: structure and weights do not fit.
        TypeError: the class has no such key; diffusers would leave it out.
    """
    known = inspect.signature(cls.__init__).parameters.keys() - {"self"}
    if wrong := ", ".join(sorted(overrides.keys() - known)):
        raise TypeError(f"{cls.__name__} has no {wrong}; accepted: {', '.join(sorted(known))}")
    source, config = _load_source(cls, path, subfolder)
    model = cls.from_config({**config, "temporal": True, **overrides})
    weights = inflate_input(source.state_dict(), model.inputs, model.config.patch_size)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    asked = {
        "class_embed_type": "class_embedding.",
        "input_skip": "skip_mix.",
        "frame_embedding": "place_embedding.",
        "coordinates": "coordinate_map.",
        "layout_grid": "layout_draft.",
        "outline_grid": "outline_draft.",
        "refine_channels": "refiner.",
        "warped_ends": "warp.",
        "given_frames": "given_embedding",
    }
    fresh = tuple(part for option, part in asked.items() if option in overrides)
    missing = [key for key in shapes.keys() - weights.keys() if not is_temporal(key) and not key.startswith(fresh)]
    unexpected = weights.keys() - shapes.keys()
    unequal = [key for key in shapes.keys() & weights.keys() if shapes[key] != weights[key].shape]
    for problem, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", unequal)):
        _check_complete(path, problem, keys)
    if (
        "class_embed_type" in overrides
        and model.class_embedding is not None
        and "class_embedding.linear_2.weight" not in weights
    ):
        for parameter in model.class_embedding.linear_2.parameters():
            nn.init.zeros_(parameter)
    with torch.no_grad():
        model.load_state_dict(weights, strict=False)
    return model.eval()
