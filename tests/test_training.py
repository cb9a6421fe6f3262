"""The training loop: exact resumption, weights that load back, and the cascade running on them."""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpl.training.options import TASKS, load_task


@pytest.mark.parametrize("what", TASKS)
def test_every_storybook_block_reads(what: str) -> None:
    assert load_task("storybook", what).name == what


def test_paper_preset_says_what_table_5_says() -> None:
    tasks = {what: load_task("paper", what) for what in ("keyframes", "interpolation", "superres", "translation")}
    kinds = [t.scheduler["prediction_type"] for t in tasks.values()]
    assert kinds == ["epsilon", "epsilon", "v_prediction", "epsilon"]
    assert all(t.optimizer.lr == 1e-4 and t.loss.p_drop == 0.1 for t in tasks.values())
    assert [t.loss.cap for t in tasks.values()] == [1000, 1000, 1000, 900]
    betas = [(t.scheduler["beta_start"], t.scheduler["beta_end"]) for t in tasks.values()]
    assert betas == [(1e-4, 0.02)] * 3 + [(0.0015, 0.0195)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[text]\nsteps = 3", "text.steps"),
        ("[text.loss]\nfoo = 1", "text.loss.foo"),
        ("[text", "broken TOML"),
        ("[vae]", "train text"),
    ],
)
def test_bad_training_presets_are_named(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=names):
        load_task(str(path), "text")


def arguments(**changes: object) -> argparse.Namespace:
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
data = { batch = 2, frames = 2, height = 32, width = 64, crop = [16, 32], reuse = 2 }
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All components of a tiny world, each trained for two steps by the command."""
    from mpl.training.command import run

    root = tmp_path_factory.mktemp("tiny")
    preset = root / "tiny.toml"
    preset.write_text(TINY)
    for what in ORDER:
        options = {"what": what, "preset": str(preset), "max_steps": 2, "out": root / "assets" / what}
        answer = run(arguments(work=root / "runs" / what, sample_every=1e9, **options))
        assert answer["steps"] == 2
    return root


def test_components_lie_in_the_published_layout(trained: Path) -> None:
    assets = trained / "assets"
    for path in (
        "text/text_encoder/model.safetensors",
        "text/tokenizer/tokenizer.json",
        "keyframes/unet/config.json",
        "keyframes/scheduler/scheduler_config.json",
        "superres/image_noising_scheduler/scheduler_config.json",
        "translation/unet/diffusion_pytorch_model.safetensors",
        "translation/vae/latent_rgb.json",
        "translation/text_encoder/config.json",
        "judge/config.json",
    ):
        assert (assets / path).is_file(), path
    card = (assets / "keyframes" / "README.md").read_text()
    assert "license: apache-2.0" in card and "python -m mpl train keyframes" in card


def test_weights_are_stored_as_bfloat16(trained: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(trained / "assets/keyframes/unet/diffusion_pytorch_model.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.bfloat16}


def test_the_cascade_runs_on_what_was_trained(trained: Path) -> None:
    from mpl.cascade import generate
    from mpl.config import load_preset, override
    from mpl.events import Finished, StageFinished
    from mpl.weights import Weights

    names = ("text", "keyframes", "interpolation", "superres", "translation")
    folders = {f"weights.{name}": str(trained / "assets" / name) for name in names}
    sizes = {"keyframes.height": "8", "keyframes.width": "16", "superres.height": "32", "superres.width": "64"}
    sizes |= {"translation.height": "32", "translation.width": "64"}
    steps = {f"{stage}.steps": "2" for stage in names[1:]}
    preset = override(load_preset("storybook"), folders | sizes | steps)
    events = list(generate("a red car moves right", preset, Weights(preset.weights), 3))
    shapes = [e.frames.shape for e in events if isinstance(e, StageFinished)]
    assert isinstance(events[-1], Finished), events[-1]
    assert shapes == [(8, 8, 16, 3), (29, 8, 16, 3), (29, 32, 64, 3), (29, 32, 64, 3)]


def test_a_second_training_goes_on_from_the_first(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import run

    out = tmp_path / "assets" / "text"
    options = {"what": "text", "preset": str(trained / "tiny.toml"), "max_steps": 1, "out": out}
    run(arguments(work=tmp_path / "runs", init_from=trained / "assets" / "text", **options))
    from safetensors.torch import load_file

    first = load_file(trained / "assets/text/text_encoder/model.safetensors")
    second = load_file(out / "text_encoder/model.safetensors")
    moved = max((first[k].float() - second[k].float()).abs().max().item() for k in first)
    assert moved < 0.1  # one step of warm-up away, not a fresh start


def test_a_killed_run_goes_on_exactly_where_it_was_saved(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import make_task
    from mpl.training.loop import Loop, Run

    def loop(work: str) -> Loop:
        options = load_task(str(trained / "tiny.toml"), "image")
        torch.manual_seed(0)
        task = make_task(options, trained / "assets", None)
        return Loop(task, Run(tmp_path / "out", tmp_path / work, minutes=1e6, max_steps=6))

    whole = loop("whole")
    losses = [whole.step()["loss"] for _ in range(6)]
    part = loop("part")
    before = [part.step()["loss"] for _ in range(3)]
    part.save_state()
    for _ in range(2):
        part.step()  # lost with the kill
    again = loop("part")
    assert again.progress.step == 3
    after = [again.step()["loss"] for _ in range(3)]
    assert before + after == losses
    for a, b in zip(whole.ema.shadow_params, again.ema.shadow_params, strict=True):
        assert torch.equal(a, b)


def test_storybook_batches_depend_on_the_seed_alone() -> None:
    from mpl.training.data import DataOptions, StorybookData

    data = StorybookData(DataOptions(batch=2, frames=2, height=8, width=16))
    one, two, other = data.draw(5), data.draw(5), data.draw(6)
    assert torch.equal(one.clip, two.clip) and one.captions == two.captions
    assert not torch.equal(one.clip, other.clip)


def test_generators_never_see_held_out_scenes() -> None:
    from mpl.storybook.scene import is_heldout
    from mpl.training.data import DataOptions, StorybookData

    scenes = StorybookData(DataOptions()).scenes(random.Random(0), 300)
    assert not any(is_heldout(s.labels) for s in scenes)


def test_superres_condition_is_the_stage_s_own_cut_to_the_crop(trained: Path) -> None:
    from mpl.stages.superres import upscale
    from mpl.storybook.render import render
    from mpl.training.command import make_task

    task = make_task(load_task(str(trained / "tiny.toml"), "superres"), trained / "assets", None)
    batch = task.draw(1, 1.0)
    whole = upscale(render(batch.scenes, batch.times, 8, 16), 32, 64)
    top, left, tall, wide = (round(a * b) for a, b in zip(batch.windows[0], (32, 64, 32, 64), strict=True))
    expected = whole[0, :, :, top : top + tall, left : left + wide]
    assert torch.allclose(task.enlarged(batch)[0], expected, atol=1e-6)


def test_a_folder_of_videos_trains_too(trained: Path, tmp_path: Path) -> None:
    import numpy as np

    from mpl.training.data import open_data
    from mpl.video import write_video

    frames = np.random.default_rng(0).integers(0, 255, (29, 40, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, 8)
    (tmp_path / "scenes.jsonl").write_text(2 * (json.dumps({"file": "a.mp4", "caption": "noise"}) + "\n"))
    options = load_task(str(trained / "tiny.toml"), "keyframes").data
    batch = open_data(replace(options, folder=str(tmp_path))).draw(0)
    assert batch.clip.shape == (2, 3, 8, 8, 16) and batch.captions == ["noise", "noise"]
    with pytest.raises(ValueError, match="no scenes.jsonl"):
        open_data(replace(options, folder=str(tmp_path / "none")))


@pytest.mark.parametrize(
    ("changes", "names"),
    [({"what": "nothing"}, "nothing"), ({"minutes": 0.0}, "--minutes"), ({"init_from": Path("/none")}, "--init-from")],
)
def test_bad_training_arguments_are_named(changes: dict[str, object], names: str) -> None:
    from mpl.training.command import run

    with pytest.raises(ValueError, match=names):
        run(arguments(**changes))
