"""The paper's training preset, stage by stage, on miniatures of the models that it starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from unet_configs import PARENT, PARENT_SUPERRES, parent_model

from mpl.training.command import make_task
from mpl.training.loop import Loop, Run
from mpl.training.options import load_task

SMALL = {
    "keyframes": {"frames": 8, "height": 8, "width": 16},
    "interpolation": {"frames": 5, "height": 8, "width": 16},
    "superres": {"frames": 3, "height": 32, "width": 64},
    "translation": {"frames": 2, "height": 32, "width": 64},
}


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
    for what, small in SMALL.items():
        options = load_task("paper", what)
        task = make_task(replace(options, data=replace(options.data, **small)), assets, None)
        Loop(task, Run(assets / what, tmp_path / what, minutes=1e6, max_steps=1, preset="paper")).train()
        assert (tmp_path / what / "samples-000001.png").is_file()
        config = json.loads((assets / what / "unet/config.json").read_text())
        assert (config["in_channels"], config["out_channels"]) == channels[what]
        assert "--preset paper" in (assets / what / "README.md").read_text()


def test_the_variance_of_an_image_model_gets_no_gradient(assets: Path) -> None:
    options = load_task("paper", "keyframes")
    task = make_task(replace(options, data=replace(options.data, **SMALL["keyframes"])), assets, None)
    loss, _ = task.loss(task.model, task.draw(0, 0.0), torch.Generator().manual_seed(0))
    loss.backward()
    gradient = task.model.conv_out.weight.grad
    assert gradient[:3].abs().sum() > 0 and gradient[3:].abs().sum() == 0
