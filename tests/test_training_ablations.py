"""Trainings of the ablations: presets that extend others, keyframes in latents, superres of another factor."""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from training_toys import arguments, short_samples

from mpl.options import WeightsOptions
from mpl.sampling import fold
from mpl.training.autoencoder import Autoencoder, FrozenAutoencoder
from mpl.training.command import make_task, run
from mpl.training.options import load_task, training_presets
from mpl.weights import Weights


def test_a_preset_extends_another_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[vae]\ndata = { batch = 3, height = 32 }\n[vae.model]\na = 1\nb = 2\n")
    path = tmp_path / "mine.toml"
    path.write_text('extends = "base.toml"\n[vae]\ndata = { batch = 5 }\nmodel = { b = 4 }\n')
    options = load_task(str(path), "vae")
    assert (options.data.batch, options.data.height, options.model) == (5, 32, {"a": 1, "b": 4})
    for text, message in (
        ('extends = "mine.toml"', "extends itself"),
        ('extends = "none"', "--preset none: no such training preset; accepted: .*ablations/latent.*storybook"),
        ("extends = 3", "extends = 3: must be a text"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_task(str(path), "vae")


def test_every_ablation_s_preset_is_accepted() -> None:
    for name in training_presets():
        if name.startswith("ablations/"):
            assert load_task(name, "superres").data.frames == 8
    assert load_task("ablations/latent", "keyframes").start == ""


@pytest.fixture(scope="module")
def latent(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keyframes trained for two steps in the latents of the tiny autoencoder: a preset beside their component."""
    folder = tmp_path_factory.mktemp("latent")
    autoencoder = f'[keyframes]\nstart = ""\nautoencoder = "{trained}/assets/translation/vae"\n'
    extends = f'extends = "{trained / "tiny.toml"}"\n'
    (folder / "latent.toml").write_text(f"{extends}{autoencoder}[keyframes.model]\n{MODEL}")
    asked = {"preset": str(folder / "latent.toml"), "out": folder / "keyframes", "assets": trained / "assets"}
    with short_samples():
        run(keyframes_arguments(**asked, work=folder / "work", max_steps=2))
    return folder


MODEL = """in_channels = 4
out_channels = 4
block_out_channels = [16]
layers_per_block = 1
down_block_types = ["SimpleCrossAttnDownBlock3D"]
up_block_types = ["SimpleCrossAttnUpBlock3D"]
norm_num_groups = 4
temporal_norm_num_groups = 4
cross_attention_norm_num_groups = 4
cross_attention_dim = 16
encoder_hid_dim = 16
attention_head_dim = 8
addition_embed_type_num_heads = 2
"""


def keyframes_arguments(**changes: object) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(arguments(**changes)), "what": "keyframes"})


def test_keyframes_in_latents_are_trained_and_come_with_their_autoencoder(latent: Path, trained: Path) -> None:
    weights = Weights(WeightsOptions(text=str(trained / "assets/text"), keyframes=str(latent / "keyframes")))
    weights.check(["keyframes"], safety=False)
    assert weights.has("keyframes_vae") and weights.latent_channels("keyframes_vae") == 4
    assert (latent / "keyframes" / "vae" / "latent_rgb.json").is_file()
    assert list((latent / "work").glob("samples-*.png"))


def test_what_is_learned_are_scaled_latents_and_a_mask_as_small(latent: Path, trained: Path) -> None:
    options = load_task(str(latent / "latent.toml"), "keyframes")
    task = make_task(options, trained / "assets", latent / "keyframes")
    batch, pixels = task.draw(4, 1.0), task.data.draw(4, 1.0)
    vae = task.latents.model
    mode = vae.encode(pixels.clip[:, :, 0]).latent_dist.mode() * vae.config.scaling_factor
    torch.testing.assert_close(batch.clip[:, :, 0], mode, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fold(batch.mask), F.avg_pool2d(fold(pixels.mask), task.latents.unit))
    assert not any(p.requires_grad for p in task.latents.parameters())
    loss, _ = task.loss(task.model, batch, torch.Generator().manual_seed(0))
    assert torch.isfinite(loss)
    assert task.generate("a red car", 0, steps=2).shape == (1, 3, 8, 8, 16)


def test_a_folder_without_autoencoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"keyframes.autoencoder = .*holds no autoencoder"):
        FrozenAutoencoder(str(tmp_path), "keyframes.autoencoder")


def test_latents_of_odd_sides_are_never_halved() -> None:
    model = Autoencoder(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    shapes = set()
    for seed in range(40):
        decoded, picture, _ = model(
            torch.zeros(1, 3, 10, 16), torch.empty(0), torch.empty(0), torch.Generator().manual_seed(seed)
        )
        assert decoded.shape == picture.shape
        shapes.add(tuple(picture.shape[-2:]))
    assert shapes == {(10, 16)}


def test_superres_of_another_factor_is_given_clips_of_the_size_named(trained: Path) -> None:
    from mpl.stages.superres import upscale
    from mpl.storybook.render import render

    options = load_task(str(trained / "tiny.toml"), "superres")
    options = replace(options, data=replace(options.data, small=(20, 40), crop=None))
    task = make_task(options, trained / "assets", None)
    batch = task.data.draw(random.Random(0).getrandbits(20), 1.0)
    expected = upscale(render(batch.scenes, batch.times, 20, 40), 32, 64)
    torch.testing.assert_close(task.enlarged(batch, torch.Generator()), expected)
