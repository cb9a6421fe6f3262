"""Small UNet configs of the published structure, and models of them with every layer alive."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mpl.models import VideoUNet

TEXT = 16  # width of the text states

SMALL = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"],
    "up_block_types": ["SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"],
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "temporal_norm_num_groups": 8,
    "cross_attention_norm_num_groups": 8,
    "cross_attention_dim": 16,
    "encoder_hid_dim": TEXT,
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 8,
    "temporal_dropout": 0.0,
}

# DeepFloyd IF in miniature: stage I, and what stage II has besides.
PARENT = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 2,
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 32,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": TEXT,
    "encoder_hid_dim_type": "text_proj",
    "resnet_time_scale_shift": "scale_shift",
}
PARENT_SUPERRES = {
    **PARENT,
    "in_channels": 6,
    "class_embed_type": "timestep",
    "layers_per_block": [1, 2],
    "only_cross_attention": True,
    "mid_block_scale_factor": 1.4142,
    "resnet_out_scale_factor": 1.4142,
    "resnet_skip_time_act": True,
    "time_embedding_act_fn": "gelu",
    "time_embedding_dim": 64,
}


def awaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a random value (fan-in scaled), so that no layer is zero or the identity; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(0.7 * noise * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * noise)
    return model.eval()


def small_model(**changes) -> VideoUNet:
    """An awake model of the `SMALL` config with changes."""
    return awaken(VideoUNet(**{**SMALL, **changes}))


def parent_model(config: dict) -> UNet2DConditionModel:
    """An awake image model."""
    return awaken(UNet2DConditionModel(**config))


def inputs(channels: int = 3, batch: int = 2, frames: int = 3, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Sample `(b, c, f, h, w)`, timesteps `(b,)` and text `(b, 5, TEXT)`."""
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, channels, frames, size, 2 * size, generator=generator)
    return sample, torch.arange(batch) * 7 + 3, torch.randn(batch, 5, TEXT, generator=generator)
