"""The weights in assets/storybook do the work: shuffled ones make their stage collapse."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mpl.cascade import generate
from mpl.config import Preset, load_preset, override
from mpl.evaluation.storybook import cases, verdict
from mpl.events import StageFinished
from mpl.models.judge import Judge
from mpl.noise import NoiseSource
from mpl.stages.translation import decode_latents, encode_clip, resize_frames
from mpl.storybook.render import render
from mpl.storybook.scene import scene_for_index
from mpl.video import to_clip
from mpl.weights import Weights

ASSETS = Path(__file__).parents[1] / "assets" / "storybook"
STEPS = {"keyframes.steps": "6", "interpolation.steps": "3", "superres.steps": "3", "translation.steps": "2"}
STEPS |= {"translation.strength": "0.3"}  # enough noise for the expert to matter


OFFLINE = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError(f"the network was asked: {args}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mpl.__main__ import main

sizes = {"superres": (80, 128), "translation": (160, 288)}
small = [f"{stage}.steps=1" for stage in ("keyframes", "interpolation", *sizes)]
small += [f"{stage}.{side}={size}" for stage, both in sizes.items() for side, size in zip(("height", "width"), both)]
small += ["keyframes.frames=2", "interpolation.between=1"]
sys.exit(main(["generate", "a red car", "--preset", "quick", "--out", sys.argv[1], "--set", *small]))
"""


def test_the_shipped_models_need_no_network(tmp_path: Path) -> None:
    env = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": ""}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path)]
    done = subprocess.run(command, cwd=ASSETS.parents[1], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def preset() -> Preset:
    return override(load_preset("quick"), STEPS)


def shuffled(preset: Preset, name: str) -> Weights:
    """The shipped weights, with the values of every matrix of one model put in a random order."""
    weights = Weights(preset.weights)
    generator = torch.Generator().manual_seed(0)
    with weights.borrow(name) as model, torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.copy_(p.flatten()[torch.randperm(p.numel(), generator=generator)].view_as(p))
    return weights


def stage(weights: Weights, preset: Preset, name: str, prompt: str, clip: Tensor | None = None) -> Tensor:
    options = {"stop_after": name} if clip is None else {"stop_after": name, "start_at": name, "clip": clip}
    events = generate(prompt, preset, weights, 5, **options)
    return to_clip(next(e.frames for e in events if isinstance(e, StageFinished) and e.stage == name))


def error(result: Tensor, truth: Tensor) -> float:
    return (result - truth).square().mean().item()


def test_the_shipped_judges_name_what_renders_show() -> None:
    for name, times, size in (("judge", range(0, 29, 4), (40, 64)), ("judge_detail", [14.0], (320, 576))):
        judge, right = Judge.from_pretrained(ASSETS / name, torch_dtype=torch.float32).eval(), Counter[str]()
        with torch.no_grad():
            for case in cases(24):
                clip = render([case.scene], [tuple(map(float, times))], *size)
                seen = verdict(judge, clip)
                right.update(key for key, value in seen.items() if value == case.scene.labels[key])
        assert all(right[key] >= (18 if key == "camera" else 23) for key in judge.config.attributes), right


def test_keyframes_follow_the_setting_and_shuffled_ones_do_not(preset: Preset) -> None:
    def contrast(weights: Weights) -> float:
        """How much brighter a day is than a night, with the same noise."""
        day = stage(weights, preset, "keyframes", "a red ball in a sunny sky")
        night = stage(weights, preset, "keyframes", "a red ball in a starry night")
        return (day - night).mean().item()

    real = contrast(Weights(preset.weights))
    assert real > 0.5
    assert abs(contrast(shuffled(preset, "keyframes"))) < 0.3 * real


@pytest.mark.parametrize(
    ("name", "low", "high", "frames"),
    [
        ("interpolation", (40, 64), (40, 64), 9),
        ("superres", (40, 64), (160, 256), 8),
        ("translation", (160, 256), (320, 576), 2),
    ],
)
def test_later_stages_come_near_the_render_and_shuffled_ones_do_not(
    name: str, low: tuple[int, int], high: tuple[int, int], frames: int, preset: Preset
) -> None:
    scene = scene_for_index(0, "heldout")
    given, truth = render(scene, frames, *low), render(scene, frames, *high)
    given = given[:, :, ::4] if name == "interpolation" else given
    prompt = f"a {scene.colour} {scene.subject}"
    real = error(stage(Weights(preset.weights), preset, name, prompt, given), truth)
    assert real < 0.1
    assert error(stage(shuffled(preset, name), preset, name, prompt, given), truth) > 2 * real


def test_every_shipped_file_is_small_and_every_component_has_its_card() -> None:
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < 9e6
    assert sum(path.stat().st_size for path in files) < 60e6
    arms = [path.stat().st_size for path in (ASSETS.parent / "ablations").rglob("*") if path.is_file()]
    assert max(arms) < 9e6 and sum(arms) < 60e6
    cards = {path.parent.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("README.md")}
    assert {"text", "clip", "keyframes", "interpolation", "superres", "translation", "translation/vae"} <= cards


def test_a_plain_sky_comes_back_plain() -> None:
    """What every column of the picture is off by, in steps of 1/255; tiles have left lines in it."""
    preset = load_preset("storybook")
    height = torch.linspace(0, 1, 160)[:, None].expand(160, 256)
    sky = torch.stack([0.5 * height - 0.2, 0.5 * height + 0.3, torch.full_like(height, 0.9)])[None, :, None]
    weights = Weights(preset.weights)
    latents = encode_clip(sky, preset.translation, weights, NoiseSource(0))
    back = decode_latents(latents, preset.translation, weights)[:, :, 0]
    wanted = resize_frames(sky[:, :, 0], *back.shape[2:], preset.translation.resize)
    off = 127.5 * (back - wanted).mean((0, 1, 2))
    inside = off[8:-8]
    assert off.abs().max() < 2.5
    assert inside.max() - inside.min() < 0.6 and inside.mean().abs() < 1.5
