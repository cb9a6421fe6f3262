"""The paper's training preset, stage by stage, on miniatures of the models that it starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel
from unet_configs import PARENT, PARENT_SUPERRES, parent_model

from mpl.models import VideoUNet
from mpl.training.command import make_task
from mpl.training.loop import Loop, Run
from mpl.training.options import TaskOptions, load_task

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


def test_the_variance_of_an_image_model_gets_no_gradient(assets: Path) -> None:
    task = make_task(miniature(load_task("paper", "keyframes")), assets, None)
    loss, _ = task.loss(task.model, task.draw(0, 0.0), torch.Generator().manual_seed(0))
    loss.backward()
    gradient = task.model.conv_out.weight.grad
    assert gradient[:3].abs().sum() > 0 and gradient[3:].abs().sum() == 0
