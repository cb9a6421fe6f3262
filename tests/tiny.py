"""Random checkpoints in the published layout, and a preset of them: the cascade in seconds on one core."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
    UNet3DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from mpl.config import Preset, from_dict
from mpl.events import Event, StageFinished, StageKept
from mpl.models import VideoUNet

WORDS = ["a", "red", "blue", "green", "car", "boat", "ball", "crosses", "rises", "the", "sea", "sky", "at", "night"]
WIDTH = 16  # of the text states


def make_tiny_weights(folder: str | Path, first_frame: bool = False) -> Preset:
    """Writes every model of the cascade, tiny and random, under `folder`; returns a preset that uses them.

    Sizes are 16×8 → 32×16 → 64×32 pixels, 3 keyframes → 5 frames; two steps a stage.
    """
    folder = Path(folder)
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    _save_text(folder / "text", _t5(len(tokenizer)), tokenizer)
    for name, channels, levels in (
        ("keyframes", 3, None),
        ("interpolation", 7, None),
        ("superres", 6, "timestep"),
    ):
        _save(folder / name / "unet", video_unet(channels, levels))
        _solver().save_pretrained(folder / name / "scheduler")
        without_new_keys(folder / name / "scheduler" / "scheduler_config.json")
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(folder / "superres" / "image_noising_scheduler")
    translation = folder / "translation"
    _save(translation / "unet", _latent_unet())
    _save(translation / "vae", _autoencoder())
    _solver().save_pretrained(translation / "scheduler")
    _save_text(translation, _clip(len(tokenizer)), tokenizer)
    if first_frame:
        _save(folder / "first" / "unet", _image_unet())
        _solver().save_pretrained(folder / "first" / "scheduler")
    return tiny_preset(folder)


def tiny_preset(folder: str | Path) -> Preset:
    """The preset of what `make_tiny_weights` wrote in `folder`."""
    folder = Path(folder)
    sources = {name: str(folder / name) for name in ("text", "keyframes", "interpolation", "superres", "translation")}
    if (folder / "first").is_dir():
        sources["superres_first_frame"] = str(folder / "first")
    return from_dict(
        {
            "name": "tiny",
            "weights": {**sources, "device": "cpu", "dtype": "float32"},
            "text": {"tokens": 8},
            "keyframes": {"frames": 3, "height": 8, "width": 16, "steps": 2, "guidance": 2.0},
            "interpolation": {"between": 1, "steps": 2, "gaps_per_batch": 1},
            "superres": {
                "height": 16,
                "width": 32,
                "steps": 2,
                "window": 4,
                "stride": 3,
                "first_frame_steps": 2,
            },
            "translation": {"height": 32, "width": 64, "steps": 2, "decode_frames": 2},
        }
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows `WORDS`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", "</s>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", model_max_length=16
    )


def video_unet(in_channels: int, class_embed_type: str | None = None, out_channels: int = 3) -> VideoUNet:
    """A pixel UNet of two levels; `in_channels` 3, 7 or 6 for the three pixel stages."""
    return VideoUNet(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"),
        up_block_types=("SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"),
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
        addition_embed_type_num_heads=2,
        class_embed_type=class_embed_type,
        norm_num_groups=8,
        temporal_norm_num_groups=8,
        cross_attention_norm_num_groups=8,
    )


def _image_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=6,
        out_channels=3,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=32,  # its text norm has 32 groups
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        class_embed_type="timestep",
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=8,
    )


def _latent_unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        block_out_channels=(32, 32),  # its temporal convolutions have 32 groups
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    )


def _t5(words: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=words, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def _clip(words: int) -> CLIPTextModel:
    config = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=words, max_position_embeddings=16, eos_token_id=2, **config))


def _solver() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def without_new_keys(config: Path) -> None:
    """Makes a scheduler's config look as in the published checkpoints, older than this key."""
    values = json.loads(config.read_text())
    del values["final_sigmas_type"]
    config.write_text(json.dumps(values))


def _save(folder: Path, model: torch.nn.Module) -> None:
    torch.nn.Module.to(model, torch.bfloat16)  # not the model's own `to`, which warns
    model.save_pretrained(folder)


def _save_text(folder: Path, encoder: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    _save(folder / "text_encoder", encoder)
    tokenizer.save_pretrained(folder / "tokenizer")


def ran(events: Iterable[Event]) -> set[str]:
    """The stages that ran."""
    return {event.stage for event in events if isinstance(event, StageFinished)}


def kept(events: Iterable[Event]) -> set[str]:
    """The stages that came from the cache."""
    return {event.stage for event in events if isinstance(event, StageKept)}


def last_frames(events: Iterable[Event]) -> np.ndarray:
    """The frames of the last stage."""
    return [event.frames for event in events if isinstance(event, StageFinished | StageKept)][-1]
