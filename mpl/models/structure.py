"""What a config of the pixel UNet may say: accepted values, checks, and per-level lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

DOWN_BLOCKS = ("ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D")
UP_BLOCKS = ("SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D")
MID_BLOCKS = ("UNetMidBlock3DSimpleCrossAttn", None)

CHOICES: dict[str, tuple[Any, ...]] = {
    "mid_block_type": MID_BLOCKS,
    "class_embed_type": (None, "timestep"),
    "addition_embed_type": (None, "text"),
    "cross_attention_norm": (None, "group_norm"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "encoder_hid_dim_type": (None, "text_proj"),
    "prior_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
}

# Keys of published configs that change nothing while they hold one of these values; any other value is refused.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "addition_time_embed_dim": (None,),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "downsample_padding": (1,),
    "dropout": (0, None),
    "dual_cross_attention": (False,),
    "num_attention_heads": (None,),
    "num_class_embeds": (None,),
    "projection_class_embeddings_input_dim": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_type": ("positional",),
}
# These are read by block types or precisions that do not occur here, whatever their value.
UNUSED = (
    "reverse_transformer_layers_per_block",
    "transformer_layers_per_block",
    "upcast_attention",
    "use_linear_projection",
)


def check_choice(option: str, value: Any, accepted: Sequence[Any]) -> None:
    """ValueError naming option, value and accepted values unless `value` is one of them."""
    if value not in accepted:
        listed = ", ".join(repr(item) for item in accepted)
        raise ValueError(f"{option}={value!r} is not supported; accepted: {listed}")


def check_positive(option: str, value: Any) -> None:
    """ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{option}={value!r} is not accepted; it must be an integer of at least 1")


def per_level(option: str, value: Any, levels: int) -> list[Any]:
    """One value per level, from a list of that length or a single value for all."""
    if not isinstance(value, list | tuple):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(f"{option}={list(value)} has {len(value)} entries; one value or {levels} are accepted")
    return list(value)


def without_neutral(config: Mapping[str, Any]) -> dict[str, Any]:
    """A published config without the keys that say nothing, each checked to say nothing.

    Raises:
        ValueError: a key asks for something these models do not have.
    """
    kept = {}
    for key, value in config.items():
        if key in NEUTRAL:
            check_choice(key, value, NEUTRAL[key])
        elif key not in UNUSED:
            kept[key] = value
    return kept


def check_structure(config: Mapping[str, Any]) -> None:
    """Check the block names, choices and divisibilities of a whole config.

    Raises:
        ValueError: naming the option, its value and what would be accepted.
    """
    for option, accepted in CHOICES.items():
        check_choice(option, config[option], accepted)
    widths = config["block_out_channels"]
    for option, accepted in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
        if len(config[option]) != len(widths):
            raise ValueError(
                f"{option}={list(config[option])} has {len(config[option])} entries; "
                f"block_out_channels has {len(widths)}"
            )
        for name in config[option]:
            check_choice(option, name, accepted)
    for option in ("in_channels", "out_channels", "patch_size", "prior_pool", "cross_attention_dim"):
        check_positive(option, config[option])
    std = config["prior_std"]
    if std is not None and not (isinstance(std, int | float) and 0 < std < float("inf")):
        raise ValueError(f"prior_std={std!r} is not accepted; it must be a number above 0")
    for layers in per_level("layers_per_block", config["layers_per_block"], len(widths)):
        check_positive("layers_per_block", layers)
    groups = {"norm_num_groups": config["norm_num_groups"]}
    if config["temporal"]:
        groups["temporal_norm_num_groups"] = config["temporal_norm_num_groups"]
    for option, count in groups.items():
        check_positive(option, count)
        for width in widths:
            if width % count:
                raise ValueError(f"{option}={count} does not divide block_out_channels={list(widths)}")
    refine, count = config["refine_channels"], config["norm_num_groups"]
    if not isinstance(refine, int) or refine < 0 or refine % count:
        raise ValueError(
            f"refine_channels={refine!r} is not accepted; it must be a multiple of norm_num_groups={count}"
        )
    if config["prior_residual"] and std is None:
        raise ValueError("prior_residual=True is not accepted without prior_std")
    if config["warped_ends"] and (config["prior_std"] is None or config["in_channels"] < 2 * config["out_channels"]):
        raise ValueError("warped_ends=True is not accepted without prior_std and a condition of out_channels channels")
    for option in ("layout_grid", "outline_grid"):
        for side in config[option] or ():
            check_positive(option, side)
    if config["cross_attention_norm"] == "group_norm":
        option, dim = "cross_attention_norm_num_groups", config["cross_attention_dim"]
        check_positive(option, config[option])
        if dim % config[option]:
            raise ValueError(f"{option}={config[option]} does not divide cross_attention_dim={dim}")
    _check_heads(config)


def _check_heads(config: Mapping[str, Any]) -> None:
    """Every attention width must be a multiple of the head size its block reads."""
    widths = list(config["block_out_channels"])
    sizes = per_level("attention_head_dim", config["attention_head_dim"], len(widths))
    rows = list(zip(config["down_block_types"], widths, sizes, strict=True))
    rows += list(zip(config["up_block_types"], reversed(widths), sizes, strict=True))
    rows.append((config["mid_block_type"] or "", widths[-1], sizes[-1]))
    heads = config["temporal_attention_heads"]
    options = [("attention_head_dim", None)] + ([("temporal_attention_heads", heads)] if heads is not None else [])
    for name, width, size in rows:
        for option, count in options if "SimpleCrossAttn" in name else ():
            value = size if count is None else count
            check_positive(option, value)
            if width % value:
                raise ValueError(f"{option}={value} does not divide the width {width} of a {name}")


def check_inputs(
    config: Mapping[str, Any], sample: Tensor, timestep: Any, text: Tensor, class_labels: Tensor | None
) -> None:
    """Check what a model of a whole config is called with.

    Raises:
        ValueError: a shape does not fit the model.
    """
    if sample.ndim != 5 or sample.shape[1] != config["in_channels"]:
        raise ValueError(
            f"sample has shape {tuple(sample.shape)}; (b, c, f, h, w) with c = {config['in_channels']} is accepted"
        )
    batch, unit = sample.shape[0], config["patch_size"] * 2 ** (len(config["block_out_channels"]) - 1)
    height, width = sample.shape[-2:]
    if height % unit or width % unit:
        raise ValueError(f"sample is {width}x{height} pixels (width x height); multiples of {unit} are accepted")
    text_dim = config["encoder_hid_dim"] or config["cross_attention_dim"]
    if text.ndim != 3 or text.shape[0] != batch or text.shape[2] != text_dim:
        raise ValueError(
            f"encoder_hidden_states has shape {tuple(text.shape)}; ({batch}, tokens, {text_dim}) is accepted"
        )
    if (class_labels is None) != (config["class_embed_type"] is None):
        need = "needs" if config["class_embed_type"] else "does not take"
        raise ValueError(f"class_labels={class_labels}: this model {need} a noise level per clip")
    for option, value in (("timestep", timestep), ("class_labels", class_labels)):
        if isinstance(value, Tensor) and value.numel() not in (1, batch):
            raise ValueError(f"{option} has {value.numel()} values; 1 or {batch} are accepted")
