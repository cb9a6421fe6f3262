"""What the ablations put in a stage's place: keyframes in latents, the last stage in pixels."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from tiny import tiny_preset, video_unet
from torch import Tensor

from mpl.cascade import generate
from mpl.config import Preset, override
from mpl.events import Failed, Finished, StageFinished, StageStep
from mpl.models import VideoUNet
from mpl.noise import NoiseSource
from mpl.sampling import Step
from mpl.stages.keyframes import keyframes
from mpl.stages.text import TextStates
from mpl.weights import Weights

NO_FIRST = {"weights.superres_first_frame": None}


@pytest.fixture
def latent(tiny_copy: Path) -> Preset:
    """Keyframes of 8x16 made as latents of 4 channels, 1x2 or larger, by the tiny autoencoder."""
    folder = tiny_copy / "keyframes"
    shutil.rmtree(folder / "unet")
    video_unet(4, out_channels=4).save_pretrained(folder / "unet")
    shutil.copytree(tiny_copy / "translation" / "vae", folder / "vae")
    return override(tiny_preset(tiny_copy), {**NO_FIRST, "keyframes.height": 16, "keyframes.width": 32})


def walked(steps: Generator[Step, None, Tensor]) -> tuple[list[Step], Tensor]:
    """The steps of a stage, and what it returns."""
    taken = []
    while True:
        try:
            taken.append(next(steps))
        except StopIteration as end:
            return taken, end.value


def test_keyframes_with_an_autoencoder_are_denoised_as_latents_and_decoded(latent: Preset) -> None:
    weights = Weights(latent.weights)
    weights.check(["keyframes"])
    folder, unit = f"{latent.weights.keyframes}/unet", weights.unit("keyframes_vae")
    states = TextStates(t5=torch.randn(1, 8, VideoUNet.load_config(folder)["encoder_hid_dim"]))
    steps, clip = walked(
        keyframes(states, override(latent, {"keyframes.guidance": 1}).keyframes, weights, NoiseSource(3))
    )
    assert clip.shape == (1, 3, 3, 16, 32) and clip.dtype == torch.float32
    latents = steps[-1].sample
    assert latents.shape == (1, 4, 3, 16 // unit, 32 // unit)
    with weights.borrow("keyframes_vae") as vae:
        frame = vae.decode(latents[:, :, 1] / vae.config.scaling_factor).sample
    torch.testing.assert_close(clip[:, :, 1], frame, atol=1e-4, rtol=1e-4)


def test_the_cascade_shows_and_finishes_latent_keyframes(latent: Preset) -> None:
    events = list(generate("a red car", latent, Weights(latent.weights), 0, stop_after="keyframes"))
    unit = Weights(latent.weights).unit("keyframes_vae")
    previews = [e.preview for e in events if isinstance(e, StageStep) and e.preview is not None]
    assert previews and previews[0].shape == (3, 16 // unit, 32 // unit, 3)
    assert next(e for e in events if isinstance(e, StageFinished)).frames.shape == (3, 16, 32, 3)


def test_a_size_that_the_autoencoder_cannot_halve_is_refused_before_any_work(latent: Preset) -> None:
    odd = override(latent, {"keyframes.height": 18})
    with pytest.raises(ValueError, match="keyframes.height = 18"):
        generate("a red car", odd, Weights(odd.weights), 0)


@pytest.fixture
def upsampling(tiny_copy: Path) -> Preset:
    """The last stage in pixels; the latent one's files are gone."""
    shutil.copytree(tiny_copy / "superres", tiny_copy / "upsampling")
    shutil.rmtree(tiny_copy / "translation")
    changes = {"weights.upsampling": str(tiny_copy / "upsampling"), "upsampling.steps": 3, "upsampling.snr": 20.0}
    return override(tiny_preset(tiny_copy), {**NO_FIRST, **changes, "upsampling.window": 2, "upsampling.stride": 1})


def test_the_last_stage_in_pixels_needs_no_latent_model(upsampling: Preset) -> None:
    events = list(generate("a red car", upsampling, Weights(upsampling.weights), 0))
    assert isinstance(events[-1], Finished), [e.message for e in events if isinstance(e, Failed)]
    last = [e for e in events if isinstance(e, StageFinished)][-1]
    assert last.stage == "translation" and last.frames.shape[1:] == (32, 64, 3)
    assert last.info["snr"] == 20.0 and last.info["noise_level"] > 0
    windows = len(last.frames) - 1  # of two frames, one apart
    assert last.evaluations == 3 * windows


def test_what_upsampling_lacks_is_said_before_any_work(upsampling: Preset) -> None:
    shutil.rmtree(upsampling.weights.upsampling)
    with pytest.raises(ValueError, match="weights.upsampling"):
        generate("a red car", upsampling, Weights(upsampling.weights), 0)
