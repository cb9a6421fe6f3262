"""What each model of a preset is made of: its own config where it is on this machine, else what is published of it."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

from mpl import checkpoints
from mpl.config import preset_folder
from mpl.loading import channels_last, read_json
from mpl.options import WeightsOptions
from mpl.parts import CONFIG_KEYS, part_of


@dataclass(frozen=True)
class Structure:
    """One model's kind (`Part.kind`) and config, without weights."""

    kind: str
    config: dict[str, Any]
    known: str  # where the config is from
    assumed: str = ""  # what of it is a guess


def find(options: WeightsOptions, name: str) -> Structure:
    """The structure of a preset's model.

    Raises:
        ValueError: its source is neither on this machine nor among the published ones, or its config is broken.
    """
    part = part_of(name, options)
    source = getattr(options, part.option)
    root = checkpoints.locate(source) if source else None
    path = root / part.folder / "config.json" if root else None
    if path and path.is_file():
        config = read_json(path)
        if lacking := [key for key in CONFIG_KEYS[part.kind] if key not in config]:
            raise ValueError(f"{path}: says no {', '.join(lacking)}")
        return Structure(part.kind, config, str(path))
    published = _published()
    entry = published.get((str(source).partition("@")[0], part.folder))
    if entry is None:
        known = ", ".join(dict.fromkeys(known for known, _ in published))
        raise ValueError(
            f"weights.{part.option} = {source}: not on this machine, and its structure is not known; known are {known}"
        )
    return Structure(part.kind, entry["config"], entry["known"], entry.get("assumed", ""))


def build(structure: Structure, dtype: torch.dtype) -> nn.Module:
    """The model in eval mode, its weights as `dtype` and not initialised to anything; in `torch.device("meta")`, fake.

    Raises:
        ValueError: the config is not that of such a model.
    """
    with _default_dtype(dtype):
        try:
            model = _BUILDERS[structure.kind](structure.config)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{structure.known}: no config of a {structure.kind}: {error}") from error
    return channels_last(model.eval().requires_grad_(False))


@cache
def _published() -> dict[tuple[str, str], dict[str, Any]]:
    """Source and folder → what `presets/structures` says of that model."""
    found = {}
    for path in sorted((preset_folder() / "structures").glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["network"]:
            found[entry["source"], entry["folder"]] = entry
    return found


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _video_unet(config: dict[str, Any]) -> nn.Module:
    from mpl.models import VideoUNet

    return VideoUNet.from_config(config)


def _latent_unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet3DConditionModel

    from mpl.models.latent import quicken

    return quicken(UNet3DConditionModel.from_config(config))


def _image_unet(config: dict[str, Any]) -> nn.Module:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_config(config)


def _autoencoder(config: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    from mpl.models.latent import fold_upsampling

    return fold_upsampling(AutoencoderKL.from_config(config))


def _t5(config: dict[str, Any]) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(T5Config(**_without_dtype(config)))


def _clip(config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**_without_dtype(config)))


def _safety_checker(config: dict[str, Any]) -> nn.Module:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    return StableDiffusionSafetyChecker(CLIPConfig(**_without_dtype(config)))


def _without_dtype(config: dict[str, Any]) -> dict[str, Any]:
    """What a model computes in is the preset's to say, not its files'."""
    return {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}


_BUILDERS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "video_unet": _video_unet,
    "image_unet": _image_unet,
    "latent_unet": _latent_unet,
    "autoencoder": _autoencoder,
    "t5": _t5,
    "clip": _clip,
    "safety_checker": _safety_checker,
}
