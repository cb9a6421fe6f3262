"""The operations of a video, counted on fake tensors by `docs/cost.py`, are those that a run really makes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mpl.cascade import Arm
from mpl.config import Preset, override, to_toml
from mpl.measure import bench
from mpl.weights import Weights

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "cost.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cost", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counted_on_fake_tensors_as_in_a_run(script: ModuleType, tiny: Preset, tmp_path: Path) -> None:
    fewer = {"translation.strength": 0.035, "translation.steps": 5, "translation.step_span": 10}  # three steps
    preset = override(tiny, {"weights.dtype": "float32", "weights.device": "cpu", **fewer})
    (tmp_path / "mine.toml").write_text(to_toml(preset))
    found = script.cost(str(tmp_path / "mine.toml"))
    run = bench.counted_run(Arm(preset, Weights(preset.weights)), "a red car", 0)
    for stage in ("keyframes", "superres", "translation"):
        assert found[stage] * 1e12 == pytest.approx(run.flops[stage], rel=0.1), stage


def test_it_runs_from_anywhere_as_it_is_written_down(tiny: Preset, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(to_toml(tiny))
    command = [sys.executable, str(SCRIPT), "mine.toml", "--sustained", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("| mine.toml | "), done.stderr


def test_twice_the_steps_cost_twice_as_much(script: ModuleType, tiny: Preset, tmp_path: Path) -> None:
    costs = []
    for steps in (2, 4):
        (tmp_path / "mine.toml").write_text(to_toml(override(tiny, {"keyframes.steps": steps})))
        costs.append(script.cost(str(tmp_path / "mine.toml")))
    assert costs[1]["keyframes"] == 2 * costs[0]["keyframes"] > 0 and costs[1]["superres"] == costs[0]["superres"]
