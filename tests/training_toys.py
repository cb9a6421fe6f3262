"""What the training tests share: a tiny world trained for two steps, the command's arguments, a task of one layer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mpl.training.loop import Loop, Run
from mpl.training.options import OptimizerOptions, TaskOptions
from mpl.training.task import Task


def arguments(**changes: object) -> argparse.Namespace:
    """Parsed arguments of `train text`, changed."""
    from mpl.training.command import add_arguments

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["text", "--minutes", "1000"])
    return argparse.Namespace(**{**vars(args), **changes})


TINY = """
[text]
model = { d_model = 16, d_kv = 8, num_heads = 2, d_ff = 16, num_layers = 1, dropout_rate = 0.0 }
optimizer = { lr = 1e-2, warmup_steps = 2 }
data = { batch = 16 }

[clip]
optimizer = { warmup_steps = 2 }
data = { batch = 4, height = 16, width = 16 }
[clip.model]
projection_dim = 8
text = { hidden_size = 16, intermediate_size = 16, num_hidden_layers = 1, num_attention_heads = 2, projection_dim = 8 }
[clip.model.vision]
hidden_size = 16
intermediate_size = 16
num_hidden_layers = 1
num_attention_heads = 2
image_size = 16
patch_size = 8
projection_dim = 8

[vae]
data = { batch = 2, height = 32, width = 64, crop = [32, 32] }
[vae.model]
block_out_channels = [8, 8]
norm_num_groups = 4
layers_per_block = 1
down_block_types = ["DownEncoderBlock2D", "DownEncoderBlock2D"]
up_block_types = ["UpDecoderBlock2D", "UpDecoderBlock2D"]

[image]
scheduler = PIXEL
optimizer = { kind = "muon", warmup_steps = 2, ema = 0.5 }
loss = { subject_weight = 3.0 }
data = { batch = 2, height = 8, width = 16, easy_until = 0.5 }
[image.model]
out_channels = 3
block_out_channels = [16, 16]
layers_per_block = 1
down_block_types = ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"]
up_block_types = ["SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"]
norm_num_groups = 4
temporal_norm_num_groups = 4
cross_attention_norm_num_groups = 4
cross_attention_dim = 16
encoder_hid_dim = 16
attention_head_dim = 8
addition_embed_type_num_heads = 2
temporal_dropout = 0.0
temporal = false

[keyframes]
start = "image"
scheduler = PIXEL
loss = { draft_weight = 0.5 }
model = { layout_grid = [2, 4] }
data = { batch = 2, frames = 8, spacing = 4, height = 8, width = 16, stills = 0.5 }

[interpolation]
start = "keyframes"
scheduler = PIXEL
loss = { fill = "linear", noise_level_max = 100, given_weight = 0.2 }
data = { batch = 2, frames = 5, height = 8, width = 16 }
[interpolation.model]
in_channels = 7

[superres]
scheduler = PIXEL
loss = { noise_level_max = 301, first_frame_share = 0.5 }
data = { batch = 2, frames = 3, height = 32, width = 64, crop = [16, 16] }
[superres.model]
in_channels = 6
out_channels = 3
patch_size = 4
class_embed_type = "timestep"
only_cross_attention = true
block_out_channels = [16, 16]
layers_per_block = 1
down_block_types = ["ResnetDownsampleBlock3D", "SimpleCrossAttnDownBlock3D"]
up_block_types = ["SimpleCrossAttnUpBlock3D", "ResnetUpsampleBlock3D"]
norm_num_groups = 4
temporal_norm_num_groups = 4
cross_attention_norm_num_groups = 4
cross_attention_dim = 16
encoder_hid_dim = 16
attention_head_dim = 8
addition_embed_type_num_heads = 2

[translation]
scheduler = LATENT
loss = { cap = 900, degraded_share = 0.5 }
data = { batch = 2, frames = 2, height = 32, width = 64, crop = [16, 32], small = [8, 16], reuse = 4 }
[translation.model]
in_channels = 4
out_channels = 4
block_out_channels = [16, 16]
layers_per_block = 1
down_block_types = ["DownBlock3D", "CrossAttnDownBlock3D"]
up_block_types = ["CrossAttnUpBlock3D", "UpBlock3D"]
norm_num_groups = 4
cross_attention_dim = 16
attention_head_dim = 8

[judge]
data = { batch = 2, frames = 8, spacing = 4, height = 16, width = 32 }
[judge.model]
hidden = ["pattern"]
height = 16
width = 32
channels = [8, 8, 8]
features = 8
"""
SCHEDULERS = {
    "PIXEL": '{ beta_schedule = "squaredcos_cap_v2", prediction_type = "v_prediction", CLASS }',
    "LATENT": '{ beta_schedule = "scaled_linear", beta_start = 0.00085, beta_end = 0.012, CLASS }',
    "CLASS": '_class_name = "DPMSolverMultistepScheduler"',
}
for name, value in SCHEDULERS.items():
    TINY = TINY.replace(name, value)
ORDER = ("text", "clip", "vae", "image", "keyframes", "interpolation", "superres", "translation", "judge")


@contextmanager
def short_samples() -> Iterator[None]:
    """Sheets of samples in two steps a caption: nobody looks at what two steps of training have taught."""
    from mpl.training.denoisers import DenoiserTask

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DenoiserTask, "generate", partialmethod(DenoiserTask.generate, steps=2))
        yield


def train_tiny_world(root: Path) -> None:
    """assets/ with all components, each trained for two steps by the command; runs/, and tiny.toml."""
    from mpl.training.command import run

    preset = root / "tiny.toml"
    preset.write_text(TINY)
    for what in ORDER:
        options = {"what": what, "preset": str(preset), "max_steps": 2, "out": root / "assets" / what}
        with short_samples():
            answer = run(arguments(work=root / "runs" / what, sample_every=1e9, **options))
        assert answer["steps"] == 2


class ToyTask(Task):
    """One linear layer that learns to say 1; `broken` names what goes wrong."""

    broken = ""

    def build(self, init_from: Path | None) -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(2, 1)

    def draw(self, seed: int, progress: float) -> SimpleNamespace:
        x = torch.randn(4, 2, generator=torch.Generator().manual_seed(seed))
        return SimpleNamespace(x=x, captions=["a"] * 4)

    def loss(self, model: nn.Module, batch: SimpleNamespace, generator: torch.Generator) -> tuple[Tensor, dict]:
        loss = (model(batch.x) - 1).square().mean()
        if self.broken == "loss":
            loss = loss * float("nan")
        return loss, {"loss_part": loss.detach(), "loss_absent": torch.tensor(float("nan"))}

    def sample(self, path: Path) -> None:
        if self.broken == "sample":
            raise RuntimeError("no picture")
        path.write_text("picture")

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), folder / "weights.pt")


def toy_loop(folder: Path, lr: float = 0.01, ema: float = 0.999, **run: object) -> Loop:
    """A loop of the toy task, 4 steps unless told otherwise, in `folder`."""
    task = ToyTask(TaskOptions("toy", optimizer=OptimizerOptions(lr=lr, ema=ema, warmup_steps=0)), folder, None)
    settings = {"minutes": 1e6, "max_steps": 4, **run}
    return Loop(task, Run(folder / "out", folder / "work", **settings))
