"""What a step of full-size training holds, estimated: `python docs/training_memory.py [--preset paper]`.

One line of JSON for each denoiser of the preset: what its weights, their gradients, AdamW's two moments and the running
average take in float32 (20 bytes a weight), and the most that a step of one clip holds besides, with and without
`gradient_checkpointing`. Fake tensors in bfloat16 throughout; autocast keeps some in float32, so that a real step takes
more. Half a minute on one core; needs neither weights nor a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mpl.config import load_preset  # noqa: E402
from mpl.measure.structures import build, find  # noqa: E402
from mpl.measure.tracker import Tracker  # noqa: E402
from mpl.models import attention  # noqa: E402
from mpl.training.options import DataOptions, load_task  # noqa: E402
from mpl.training.recompute import recompute_layers  # noqa: E402

STAGES = ("keyframes", "interpolation", "superres", "translation")
LATENT = 8  # pixels of a side that a latent stands for


class Fused(torch.autograd.Function):
    """What a GPU's kernel for attention keeps and returns: no scores, but a sum for each row of them."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out, sums = torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


def held(model: nn.Module, data: DataOptions) -> float:
    """GB of a step forth and back on one clip, but for the weights and what gathers in their gradients."""
    config = model.config
    side = LATENT if config.in_channels == 4 else 1
    text_width = getattr(config, "encoder_hid_dim", None) or config.cross_attention_dim
    with torch.device("meta"):
        clip = torch.empty(1, config.in_channels, data.frames, data.height // side, data.width // side)
        text = torch.empty(1, data.tokens, text_width, dtype=torch.bfloat16)
        labels = {"class_labels": torch.zeros(1)} if getattr(config, "class_embed_type", None) else {}
        kernel = mock.patch.object(F, "scaled_dot_product_attention", Fused.apply)
        at_any_length = mock.patch.object(attention, "PLAIN_KEYS", {})
        with kernel, at_any_length, Tracker(ignored=[model]) as memory:
            loss = model(clip.bfloat16(), torch.zeros(1), text, **labels).sample.float().square().mean()
            for parameter in model.parameters():  # an optimiser that takes each gradient as it comes
                parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
            loss.backward()
    return memory.peak / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="paper")
    preset = parser.parse_args().preset
    weights = load_preset("show1").weights
    for stage in STAGES:
        line: dict[str, object] = {"stage": stage}
        for again in (False, True):
            with torch.device("meta"):
                model = build(find(weights, stage), torch.bfloat16).requires_grad_(True).train()
            if again:
                recompute_layers(model, "gradient_checkpointing")
            line["weights_gb"] = round(sum(p.numel() for p in model.parameters()) * 20 / 1e9, 1)
            line["step_checkpointed_gb" if again else "step_gb"] = round(held(model, load_task(preset, stage).data), 1)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
