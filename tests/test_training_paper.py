"""The paper's training preset, stage by stage, on miniatures of the models that it starts from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet3DConditionModel
from unet_configs import PARENT, PARENT_SUPERRES, parent_model

from mpl.models import VideoUNet
from mpl.models.latent import quicken
from mpl.training.command import make_task
from mpl.training.data import Batch
from mpl.training.degrade import PairBatch
from mpl.training.denoisers import DenoiserTask, DiffusionTask, InterpolationTask, SuperresTask
from mpl.training.latent import TranslationTask
from mpl.training.loop import Loop, Progress, Run
from mpl.training.optim import rate
from mpl.training.options import TaskOptions, load_task
from mpl.training.task import Task

SMALL = {
    "keyframes": {"frames": 8, "height": 8, "width": 16},
    "interpolation": {"frames": 5, "height": 8, "width": 16},
    "superres": {"frames": 3, "height": 32, "width": 64},
    "translation": {"frames": 2, "height": 32, "width": 64},
}

PUBLISHED = Path(__file__).parent / "data" / "reference" / "models"
IF = {"encoder_hid_dim": 4096, "addition_embed_type_num_heads": 64}  # with T5-XXL's states
IF_I_L = IF | {"cross_attention_dim": 1280}
IF_II_M = IF | {"cross_attention_dim": 768, "time_embedding_dim": 768, "layers_per_block": 3}


@pytest.mark.parametrize(
    ("what", "structure", "parent", "known"),
    [
        ("keyframes", "base_pixel", IF_I_L, {"video": 1.727, "image": 0.935}),  # show-1-base: 6.91 GB of float32
        ("interpolation", "base_pixel", IF_I_L, {"video": 1.727, "image": 0.935}),
        ("superres", "sr1_pixel", IF_II_M, {"image": 0.45}),
    ],
)
def test_pixel_models_have_the_size_that_is_known_of_them(
    what: str, structure: str, parent: dict, known: dict[str, float]
) -> None:
    config = json.loads((PUBLISHED / structure / "config.json").read_text()) | parent | load_task("paper", what).model
    for part, billions in known.items():
        with torch.device("meta"):
            model = VideoUNet(**config, temporal=part == "video")
        assert size(model) == pytest.approx(billions, abs=0.0051)


@dataclass(frozen=True)
class Column:
    """Of Table 5, and what goes with it: batch size per GPU, frames and their distance, size, input channels."""

    steps: int
    batch: int
    beta: tuple[float, float]
    predicts: str
    clip: tuple[int, int, int, int]
    inputs: int


LINEAR = (1e-4, 0.02)
TABLE5 = {
    "keyframes": Column(120_000, 1, LINEAR, "epsilon", (8, 4, 40, 64), 3),
    "interpolation": Column(40_000, 2, LINEAR, "epsilon", (5, 1, 40, 64), 7),
    "superres": Column(40_000, 1, LINEAR, "v_prediction", (8, 1, 160, 256), 6),
    "translation": Column(120_000, 1, (0.0015, 0.0195), "epsilon", (29, 1, 320, 576), 4),
}
TASKS = {
    "keyframes": DenoiserTask,
    "interpolation": InterpolationTask,
    "superres": SuperresTask,
    "translation": TranslationTask,
}


def dry_task(what: str) -> Task:
    """The preset's training of a model in full size without any numbers in it, told by encoders that are not there."""
    options = load_task("paper", what)
    pixels = what != "translation"
    with torch.device("meta"):
        if pixels:
            structure, parent = ("sr1_pixel", IF_II_M) if what == "superres" else ("base_pixel", IF_I_L)
            config = json.loads((PUBLISHED / structure / "config.json").read_text()) | parent | options.model
            model = VideoUNet(**config)
        else:
            model = quicken(UNet3DConditionModel(**options.model))
    width = IF["encoder_hid_dim"] if pixels else 1024

    class Dry(TASKS[what]):
        def build_model(self, init_from: Path | None) -> torch.nn.Module:
            return model

        def build_text(self) -> Callable[[list[str]], torch.Tensor]:
            return lambda captions: torch.empty(len(captions), options.data.tokens, width, device="meta")

    if not pixels:
        Dry.build = DiffusionTask.build  # without an autoencoder
    return Dry(options, Path("none"), None)


def dry_batch(task: Task) -> Batch | PairBatch:
    """What the preset's batches are, without numbers."""
    d = task.options.data
    captions = ["a"] * d.batch
    if task.options.name == "translation":
        latents = torch.empty(d.batch, 4, d.frames, d.height // 8, d.width // 8, device="meta")
        return PairBatch(latents, latents, captions)
    clip = torch.empty(d.batch, 3, d.frames, d.height, d.width, device="meta")
    return Batch(clip, captions, whole=clip)


@pytest.mark.parametrize("what", list(TABLE5))
def test_a_dry_run_of_table_5(what: str) -> None:
    """A step forth and back in full size on the meta device: shapes fit, and every weight gets its gradient."""
    task, column = dry_task(what), TABLE5[what]
    data, optimizer, loss = task.options.data, task.options.optimizer, task.options.loss
    assert task.options.steps == column.steps and data.batch == column.batch
    assert (data.frames, data.spacing, data.height, data.width) == column.clip
    assert (optimizer.kind, optimizer.lr, loss.p_drop, loss.uniform_share) == ("adamw", 1e-4, 0.1, 1.0)
    assert {rate(5000, share, optimizer) for share in (0.0, 0.5, 0.999)} == {1.0}  # one rate, after its warm-up
    assert task.schedule.prediction_type == column.predicts
    linear = (1 - torch.linspace(*column.beta, 1000)).cumprod(0)
    assert torch.allclose(task.schedule.alphas_cumprod, linear, rtol=1e-3)
    assert task.model.config.in_channels == column.inputs
    error, _ = task.loss(task.model, dry_batch(task), torch.Generator().manual_seed(0))
    error.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in task.model.parameters())


def test_a_run_is_as_long_as_table_5_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from training_toys import arguments

    from mpl.training import command, loop

    plans: list[Run] = []

    def note(task: Task, run: Run) -> SimpleNamespace:
        plans.append(run)
        return SimpleNamespace(train=lambda: None, progress=Progress())

    task = SimpleNamespace(home=lambda folder: folder)
    monkeypatch.setattr(command, "make_task", lambda *args: task)
    monkeypatch.setattr(loop, "Loop", note)
    folders = {"out": tmp_path / "out", "work": tmp_path / "work"}
    for minutes, most in ((None, None), (30.0, None), (None, 7)):
        command.run(arguments(what="keyframes", preset="paper", minutes=minutes, max_steps=most, **folders))
    command.run(arguments(what="image", minutes=None, **folders))
    assert [(run.minutes, run.max_steps) for run in plans] == [(1e6, 120_000), (30, 120_000), (1e6, 7), (60, None)]


def test_the_expert_has_the_size_of_modelscope_s_model() -> None:
    with torch.device("meta"):
        model = UNet3DConditionModel(**load_task("paper", "translation").model)
    assert size(model) == pytest.approx(1.411, rel=1e-3)


def size(model: torch.nn.Module) -> float:
    """Billions of parameters."""
    return sum(p.numel() for p in model.parameters()) / 1e9


def miniature(options: TaskOptions) -> TaskOptions:
    """The same training on small clips, of whatever width the model to start from has."""
    model = {key: value for key, value in options.model.items() if key == "in_channels"}
    return replace(options, model=model, data=replace(options.data, **SMALL[options.name]))


def test_an_expert_of_other_widths_is_no_start(assets: Path) -> None:
    options = load_task("paper", "translation")
    with pytest.raises(ValueError, match=r"block_out_channels = \[320, .*modelscope/unet has \[16, 16\]"):
        make_task(options, assets, None)


@pytest.fixture(scope="module")
def assets(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny stand-ins for all that the preset names; outputs go beside them."""
    folder = tmp_path_factory.mktemp("paper")
    parent_model(PARENT).save_pretrained(folder / "image/unet")
    parent_model(PARENT_SUPERRES).save_pretrained(folder / "image_superres/unet")
    shutil.copytree(trained / "assets/text", folder / "text")
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(trained / "assets/translation" / part, folder / "translation" / part)
    shutil.copytree(trained / "assets/translation/unet", folder / "modelscope/unet")
    return folder


@pytest.mark.slow
def test_every_stage_trains_samples_and_is_stored(assets: Path, tmp_path: Path) -> None:
    """In order: interpolation starts from what keyframes wrote."""
    channels = {"keyframes": (3, 6), "interpolation": (7, 6), "superres": (6, 6), "translation": (4, 4)}
    for what in SMALL:
        options = load_task("paper", what)
        task = make_task(miniature(options), assets, None)
        Loop(task, Run(assets / what, tmp_path / what, minutes=1e6, max_steps=1, preset="paper")).train()
        assert (tmp_path / what / "samples-000001.png").is_file()
        config = json.loads((assets / what / "unet/config.json").read_text())
        assert (config["in_channels"], config["out_channels"]) == channels[what]
        assert "--preset paper" in (assets / what / "README.md").read_text()


def test_of_an_image_model_s_last_layer_the_noise_half_is_trained_and_the_variance_half_frozen(
    assets: Path, tmp_path: Path
) -> None:
    options = miniature(load_task("paper", "keyframes"))
    assert options.optimizer.weight_decay > 0
    task = make_task(replace(options, optimizer=replace(options.optimizer, warmup_steps=0)), assets, None)
    layer, inner = task.model.conv_out, task.model.conv_in.weight
    before = layer.weight.clone(), layer.bias.clone(), inner.clone()
    loop = Loop(task, Run(tmp_path / "out", tmp_path / "work", minutes=1e6, max_steps=3))
    for _ in range(3):
        loop.step()
    assert not torch.equal(inner, before[2])
    for now, was in ((layer.weight, before[0]), (layer.bias, before[1])):
        assert (now[:3] != was[:3]).any() and torch.equal(now[3:], was[3:])
    with loop.averaged():
        assert torch.equal(layer.weight[3:], before[0][3:])
