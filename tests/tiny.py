"""Random checkpoints in the published layout, and a preset of them: the whole cascade in a few seconds on one core."""

from __future__ import annotations

from pathlib import Path

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
from mpl.models import VideoUNet

WORDS = ["a", "red", "blue", "green", "car", "boat", "ball", "crosses", "rises", "falls", "the", "sea", "sky", "night", "left", "right", "at"]
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
    DDPMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(
        folder / "superres" / "image_noising_scheduler"
    )
    translation = folder / "translation"
    _save(translation / "unet", _latent_unet())
    _save(translation / "vae", _autoencoder())
    _solver().save_pretrained(translation / "scheduler")
    _save_text(translation, _clip(len(tokenizer)), tokenizer)
    sources = {
        name: str(folder / name) for name in ("text", "keyframes", "interpolation", "superres", "translation")
    }
    if first_frame:
        _save(folder / "first" / "unet", _image_unet())
        _solver().save_pretrained(folder / "first" / "scheduler")
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


def video_unet(in_channels: int, class_embed_type: str | None = None) -> VideoUNet:
    """A pixel UNet of two levels; `in_channels` 3, 7 or 6 for the three pixel stages."""
    return VideoUNet(
        in_channels=in_channels,
        out_channels=3,
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
    return T5EncoderModel(
        T5Config(vocab_size=words, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def _clip(words: int) -> CLIPTextModel:
    config = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(
        CLIPTextConfig(vocab_size=words, max_position_embeddings=16, eos_token_id=2, **config)
    )


def _solver() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def _save(folder: Path, model: torch.nn.Module) -> None:
    model.to(torch.bfloat16).save_pretrained(folder)


def _save_text(folder: Path, encoder: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    _save(folder / "text_encoder", encoder)
    tokenizer.save_pretrained(folder / "tokenizer")
