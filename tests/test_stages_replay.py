"""The replay of stage cases: it runs the stages themselves, and finds a case whose numbers do not fit together."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import reference_stages
import torch
from reference_recipe import CaseError, make_input
from reference_stages import replay_stage
from stage_toys import V_SOLVER, WIDTH, ToyUNet, finish

from mpl.noise import NoiseSource
from mpl.options import KeyframesOptions
from mpl.stages.keyframes import keyframes
from mpl.stages.text import TextStates

SHAPE = [1, 3, 2, 8, 8]
CASE = {
    "type": "pipeline/base",
    "model": "models/toy",
    "scheduler": V_SOLVER,
    "seed": 11,
    "call": {
        "num_inference_steps": 3,
        "guidance_scale": 2.0,
        "num_frames": 2,
        "height": 8,
        "width": 8,
        "output_type": "pt",
    },
    "inputs": {
        name: {"tag": name, "shape": [1, 5, WIDTH], "kind": "randn"}
        for name in ("prompt_embeds", "negative_prompt_embeds")
    },
    "noise": [{"key": "noise.0", "shape": SHAPE}],
}


@pytest.fixture
def case(monkeypatch):
    """A case, and the tensors stored beside it."""
    weights = reference_stages.FakeWeights({"keyframes": ToyUNet(3, 3)}, {"keyframes": V_SOLVER})
    monkeypatch.setattr(reference_stages, "build_model", lambda root, path: ToyUNet(3, 3))
    inputs = {name: make_input(spec) for name, spec in CASE["inputs"].items()}
    options = KeyframesOptions(frames=2, height=8, width=8, steps=3, guidance=2.0)
    frames = finish(keyframes(TextStates(*inputs.values()), options, weights, NoiseSource(11)))
    stored = {f"input.{name}": value for name, value in inputs.items()}
    stored |= {"noise.0": NoiseSource(11).randn(SHAPE), "frames": frames}
    return copy.deepcopy(CASE), stored


def replay(case, stored):
    return replay_stage(Path("."), Path("case"), case, stored)


def test_a_case_runs_through_the_stage(case):
    results = replay(*case)
    assert torch.equal(results["frames"], case[1]["frames"])
    assert torch.equal(results["step.2"], case[1]["frames"]) and "step.3" not in results
    assert results["timesteps"] == [999, 666, 333]


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("seed", 12, "seed 12"),
        ("type", "pipeline/other", "pipeline/other"),
        ("call.eta", 0.5, "eta"),
        ("call.output_type", "pil", "pil"),
        ("call.num_frames", 3, "shape"),
        ("call.num_inference_steps", 0, "steps"),
        ("scheduler._class_name", "LCMScheduler", "LCMScheduler"),
        ("noise", [], "noise"),
    ],
)
def test_a_changed_number_is_found(case, path, value, message):
    changed, stored = case
    place, (*folders, name) = changed, path.split(".")
    for folder in folders:
        place = place[folder]
    place[name] = value
    with pytest.raises(CaseError, match=message):
        replay(changed, stored)


def test_changed_noise_is_found(case):
    spoilt = case[1]["noise.0"].clone()
    spoilt[(0,) * spoilt.ndim] += 0.5
    with pytest.raises(CaseError, match="noise.0"):
        replay(case[0], {**case[1], "noise.0": spoilt})


def test_noise_that_no_one_asked_for_is_found(case):
    changed, stored = case
    second = NoiseSource(11)
    second.randn(SHAPE)
    changed["noise"].append({"key": "noise.1", "shape": SHAPE})
    with pytest.raises(CaseError, match="2 draws; the stage used 1"):
        replay(changed, {**stored, "noise.1": second.randn(SHAPE)})
