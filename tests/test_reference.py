"""The stored reference numbers are reached, and a folder with one number changed is found out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import reference
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data" / "reference"
NAME = "unet/interp_pixel_small"


# One core takes 3 to 5 seconds for each of these, and the others show the same code.
LONG = ("pipelines/base_18steps", "unet/sr2_latent_odd")


def test_the_cases_that_ship_are_there():
    assert len(reference.find_cases(DATA)) == 17


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in reference.find_cases(DATA)]
)
def test_stored_case_is_within_tolerance(name):
    result = reference.replay(DATA, name, reference.read_tolerances(DATA))
    assert result.reason is None
    assert result.error <= result.tolerance


@pytest.fixture
def folder(tmp_path) -> Path:
    """A reference folder with one UNet case and nothing beside it."""
    shutil.copytree(DATA / NAME, tmp_path / NAME)
    shutil.copytree(DATA / "models" / "interp_pixel", tmp_path / "models" / "interp_pixel")
    return tmp_path


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def verdicts(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Verdict by case of what was printed; no other line may hold these words."""
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "PASS" in line or "FAIL" in line]
    assert all(len(line) == 4 for line in lines)
    return {line[0]: line[3] for line in lines}


def test_the_script_needs_no_file_beside_the_cases(folder):
    command = [sys.executable, "tests/reference.py", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    line, summary = run.stdout.splitlines()
    name, error, tolerance, verdict = line.split()
    assert (name, verdict) == (NAME, "PASS")
    assert 0 < float(error) < float(tolerance) < 1e-3
    assert summary == "1 of 1 within tolerance"


def test_probes_can_be_shown(folder, capsys):
    assert reference.main([str(folder), "--probes"]) == 0
    assert "up_blocks.1" in capsys.readouterr().out


def change_output(folder: Path) -> None:
    path = folder / NAME / "expected.safetensors"
    sample = load_file(path)["sample"]
    sample[0, 1, 1, 3, 4] += 0.002
    save_file({"sample": sample}, path)


def drop_weight(folder: Path) -> None:
    edit(folder / "models/interp_pixel/manifest.json", lambda m: m["params"].popitem())


CHANGES = {
    "an expected value": change_output,
    "a timestep": lambda folder: edit(folder / NAME / "case.json", lambda c: c.update(timestep=c["timestep"] + 1)),
    "a statistic": lambda folder: edit(folder / NAME / "case.json", lambda c: c["stats"]["sample"].update(mean=0.01)),
    "a probe": lambda folder: edit(folder / NAME / "case.json", lambda c: c["probes"]["mid_block"].update(rms=1.0)),
    "a tag": lambda folder: edit(folder / NAME / "case.json", lambda c: c["inputs"]["sample"].update(tag="another")),
    "a type": lambda folder: edit(folder / NAME / "case.json", lambda c: c.update(type="unknown")),
    "a group count": lambda folder: edit(
        folder / "models/interp_pixel/config.json", lambda c: c.update(norm_num_groups=16)
    ),
    "a head size": lambda folder: edit(
        folder / "models/interp_pixel/config.json", lambda c: c.update(attention_head_dim=8)
    ),
    "a check sum": lambda folder: edit(
        folder / "models/interp_pixel/manifest.json", lambda m: m["check"].update(sum=m["check"]["sum"] + 0.1)
    ),
    "a weight": drop_weight,
    "a missing manifest": lambda folder: (folder / "models/interp_pixel/manifest.json").unlink(),
    "a missing expectation": lambda folder: (folder / NAME / "expected.safetensors").unlink(),
    "a truncated expectation": lambda folder: (folder / NAME / "expected.safetensors").write_bytes(b"1234567"),
    "broken JSON": lambda folder: (folder / NAME / "case.json").write_text('{"type": '),
    "an extra output": lambda folder: save_file(
        {"sample": torch.zeros(1, 6, 3, 12, 20), "other": torch.zeros(1)}, folder / NAME / "expected.safetensors"
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found(folder, capsys, what):
    CHANGES[what](folder)
    assert reference.main([str(folder)]) == 1
    assert verdicts(capsys) == {NAME: "FAIL"}


def test_one_bad_case_does_not_hide_the_others(folder, capsys):
    (folder / "pipelines" / "empty").mkdir(parents=True)
    shutil.copytree(folder / NAME, folder / "unet" / "second")
    edit(folder / "unet/second/case.json", lambda c: c.update(timestep=500))
    (folder / "tolerances.json").write_text(json.dumps({"unet/absent": {"atol": 1e-4}, NAME: {"atol": 7e-5}}))
    assert reference.main([str(folder)]) == 1
    bad = dict.fromkeys(("pipelines/empty", "unet/second", "unet/absent"), "FAIL")
    assert verdicts(capsys) == {NAME: "PASS", **bad}


def test_a_stated_tolerance_counts_but_hides_nothing(folder, capsys):
    (folder / "tolerances.json").write_text(json.dumps({NAME: {"atol": 1e-9}}))
    assert reference.main([str(folder)]) == 1
    (folder / "tolerances.json").write_text(json.dumps({NAME: {"atol": 100}}))
    change_output(folder)
    path = folder / NAME / "expected.safetensors"
    save_file({"sample": load_file(path)["sample"] + 0.05}, path)
    edit(folder / NAME / "case.json", lambda c: c.pop("stats"))
    assert reference.main([str(folder)]) == 1
    (folder / "tolerances.json").write_text(json.dumps({NAME: {"atol": "much"}}))
    assert reference.main([str(folder)]) == 1


def test_a_folder_without_cases_says_so(tmp_path, capsys):
    assert reference.main([str(tmp_path)]) == 2
    assert "no case found" in capsys.readouterr().out
