"""Replay the cases of a reference folder: `python tests/reference.py DIR [--probes]`.

One line per case: name, max abs error, tolerance, and the verdict; where the verdict is bad an indented line says why.
Exit code 0 if every case is within tolerance, 1 if any is not, 2 if there is nothing to replay.

Besides its outputs a case is held to everything it states about itself: stored inputs and noise must be those of the
recipe, manifests must match their check sums, and statistics and block probes must match what they describe.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from reference_recipe import CaseError, build_model, make_input, read_json

# Of the largest expected value, for folders without tolerances.json. About 20 times what another correct order of
# operations changes; a thresholded chain of steps amplifies it most.
UNET_TOLERANCE, STAGE_TOLERANCE, THRESHOLDED_TOLERANCE = 5e-5, 2e-4, 2e-3
LARGEST_TOLERANCE = 1e-2  # whatever a file says, a visible change must show
STATISTICS_TOLERANCE = 1e-5  # of the largest value, for statistics of stored tensors
PROBE_TOLERANCE = 1e-4  # of the root mean square of a block's output
GIVEN_TOLERANCE = 1e-6  # stored inputs and noise against drawn ones


@dataclass(frozen=True)
class Result:
    """One case's verdict: `error` and `tolerance` belong to the output nearest to its limit; no reason means good."""

    name: str
    error: float
    tolerance: float
    reason: str | None = None

    def lines(self) -> Iterator[str]:
        """What is printed."""
        verdict = "PASS" if self.reason is None else "FAIL"
        yield f"{self.name:32s}  {self.error:9.3e}  {self.tolerance:9.3e}  {verdict}"
        if self.reason is not None:
            reason = " ".join(self.reason.split()).replace("PASS", "pass").replace("FAIL", "fail")
            yield f"    because: {reason[:400]}"


def find_cases(root: Path) -> list[str]:
    """Names ("unet/x", "pipelines/y") of all case folders, readable or not."""
    folders = {path.parent for path in root.glob("*/*/case.json")}
    for kind in ("unet", "pipelines"):
        folders |= {path for path in (root / kind).glob("*") if path.is_dir()}
    return sorted(folder.relative_to(root).as_posix() for folder in folders)


def read_tolerances(root: Path) -> dict[str, float]:
    """Absolute tolerance of each case that DIR/tolerances.json names; empty without that file.

    Raises:
        CaseError: the file is no such table.
    """
    if not (root / "tolerances.json").exists():
        return {}
    tolerances = {}
    for name, entry in read_json(root / "tolerances.json").items():
        atol = entry.get("atol") if isinstance(entry, dict) else None
        if not isinstance(atol, int | float) or not 0 <= atol < math.inf:
            raise CaseError(f"tolerances.json: atol of {name} is {atol!r}, a number of at least 0 is accepted")
        tolerances[name] = float(atol)
    return tolerances


def default_tolerance(case: Mapping[str, Any], largest: float) -> float:
    """Absolute tolerance of a case whose largest output is `largest`."""
    if case["type"] == "resize":  # integers
        return 0.0
    if case["type"] == "unet":
        return UNET_TOLERANCE * largest
    return (THRESHOLDED_TOLERANCE if case["scheduler"].get("thresholding") else STAGE_TOLERANCE) * largest


def largest_difference(actual: Tensor, expected: Tensor, key: str) -> float:
    """Largest absolute difference, infinity where a value is not finite.

    Raises:
        CaseError: the shapes differ.
    """
    if actual.shape != expected.shape:
        raise CaseError(f"{key} has shape {tuple(expected.shape)}, the replay gives {tuple(actual.shape)}")
    difference = (actual.detach().double() - expected.double()).abs().max().item()
    return difference if math.isfinite(difference) else math.inf


def check_given(case: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Stored inputs and noise must be those that tags and seed give.

    Raises:
        CaseError: one is not, or is not described by case.json.
    """
    given = {f"input.{name}": make_input(spec) for name, spec in case["inputs"].items()}
    if case.get("noise"):
        generator = torch.Generator("cpu").manual_seed(case["seed"])
        given |= {entry["key"]: torch.randn(entry["shape"], generator=generator) for entry in case["noise"]}
    for key, value in expected.items():
        if key.startswith(("input.", "noise.")):
            if key not in given:
                raise CaseError(f"{key} is stored, but case.json does not describe it")
            error = largest_difference(given[key], value, key)
            if error > GIVEN_TOLERANCE:
                raise CaseError(f"{key} differs from what its tag or seed gives by {error:.3e}")


def check_statistics(case: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Mean, standard deviation and largest value in case.json must describe the stored tensors.

    Raises:
        CaseError: one does not.
    """
    for key, stated in case.get("stats", {}).items():
        if key not in expected:
            raise CaseError(f"case.json has statistics of {key}, which is not stored")
        value = expected[key].double()
        actual = {"mean": value.mean(), "std": value.std(), "max_abs": value.abs().max()}
        for name, number in stated.items():
            if name in actual and not abs(number - actual[name]) <= STATISTICS_TOLERANCE * actual["max_abs"]:
                raise CaseError(f"{name} of {key} is {number} in case.json and {actual[name]:.6f} in the tensor")


class Probes:
    """Statistics of the outputs of named blocks, gathered by forward hooks."""

    def __init__(self, model: nn.Module, names: Mapping[str, Any]) -> None:
        self.seen: dict[str, tuple[list[int], float, float]] = {}
        try:
            self._handles = [
                model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: self._keep(name, out))
                for name in names
            ]
        except AttributeError as error:
            raise CaseError(f"probe of a block that is not there: {error}") from error

    def _keep(self, name: str, output: Any) -> None:
        value = output if isinstance(output, Tensor) else output[0]
        self.seen[name] = (list(value.shape), value.mean().item(), value.square().mean().sqrt().item())

    def close(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def check(self, stated: Mapping[str, Any]) -> None:
        """Compare in order, so that the first block that differs is named; CaseError if one does."""
        for name, probe in stated.items():
            if name not in self.seen:
                raise CaseError(f"block {name} did not run")
            shape, mean, rms = self.seen[name]
            limit = PROBE_TOLERANCE * max(rms, 1e-3)
            near = abs(mean - probe["mean"]) <= limit and abs(rms - probe["rms"]) <= limit
            if shape != probe["shape"] or not near:
                raise CaseError(f"block {name}: shape, mean, rms are {shape}, {mean:.6f}, {rms:.6f}; stated: {probe}")


def replay_unet(root: Path, case: Mapping[str, Any], show_probes: bool) -> dict[str, Tensor]:
    """One call of a UNet on the case's inputs; checks the probes on the way."""
    model = build_model(root, case["model"])
    inputs = {name: make_input(spec) for name, spec in case["inputs"].items()}
    labels = case.get("class_labels")
    if labels is not None:
        inputs["class_labels"] = torch.tensor(labels, dtype=torch.int64)
    probes = Probes(model, case.get("probes", {}))
    try:
        with torch.no_grad():
            sample = model(timestep=case["timestep"], **inputs).sample
    finally:
        probes.close()
    if show_probes:
        for name, (shape, mean, rms) in probes.seen.items():
            print(f"    {name:16s} {str(shape):22s} mean {mean:+.6f} rms {rms:.6f}")
    probes.check(case.get("probes", {}))
    return {"sample": sample}


def replay(root: Path, name: str, tolerances: Mapping[str, float], show_probes: bool = False) -> Result:
    """Replay one case; every problem ends in the result."""
    try:
        case, expected = read_case(root / name)
        outputs = {key: value for key, value in expected.items() if not key.startswith(("input.", "noise."))}
        check_given(case, expected)
        check_statistics(case, expected)
        if case["type"] == "unet":
            actual: dict[str, Any] = replay_unet(root, case, show_probes)
        elif case["type"] == "resize" or case["type"].startswith("pipeline/"):
            from reference_stages import replay_stage

            actual = replay_stage(root, root / name, case, expected)
        else:
            raise CaseError(f"type {case['type']!r} is not one of unet, resize, pipeline/...")
        return compare(name, case, outputs, actual, tolerances.get(name))
    except CaseError as error:
        return Result(name, math.inf, tolerances.get(name, math.nan), str(error))
    except Exception as error:  # a damaged case may provoke anything; it must cost its own line only
        return Result(name, math.inf, tolerances.get(name, math.nan), f"{type(error).__name__}: {error}")


def read_case(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """case.json and expected.safetensors of one folder; CaseError if either cannot be read."""
    case = read_json(folder / "case.json")
    try:
        return case, load_file(folder / "expected.safetensors")
    except Exception as error:
        raise CaseError(f"expected.safetensors: {error}") from error


def compare(
    name: str,
    case: Mapping[str, Any],
    outputs: Mapping[str, Tensor],
    actual: Mapping[str, Any],
    stated: float | None,
) -> Result:
    """Hold every stored output against the replay's; the result shows the one nearest to (or furthest over) its limit.

    The tolerance belongs to the final output; intermediate samples that are larger get proportionally more.
    """
    main = "sample" if case["type"] == "unet" else "frames"
    if not outputs or (case["type"] != "resize" and main not in outputs):
        raise CaseError(f"expected.safetensors holds no {main}")
    largest = {key: value.double().abs().max().item() for key, value in outputs.items()}
    reference = largest.get(main, max(largest.values()))
    base = default_tolerance(case, reference) if stated is None else min(stated, LARGEST_TOLERANCE * reference)
    worst = Result(name, 0.0, base)
    for key, value in outputs.items():
        if key not in actual:
            raise CaseError(f"{key} is stored, but the replay does not make it")
        error = largest_difference(actual[key], value, key)
        limit = base * max(1.0, largest[key] / reference) if reference else base
        reason = None if error <= limit else f"{key} differs by {error:.3e}"
        worse = error / limit > worst.error / worst.tolerance if limit and worst.tolerance else error > worst.error
        if worse and (worst.reason is None or reason is not None):
            worst = Result(name, error, limit, reason)
    if worst.reason is None and "timesteps" in case and list(actual.get("timesteps", ())) != case["timesteps"]:
        raise CaseError(f"timesteps are {case['timesteps']}, the replay visits {list(actual.get('timesteps', ()))}")
    return worst


def main(arguments: list[str] | None = None) -> int:
    """Replay all cases of a folder; returns the exit code."""
    parser = argparse.ArgumentParser(description="Replay the cases of a reference folder.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with models/, unet/, pipelines/")
    parser.add_argument("--probes", action="store_true", help="also print the statistics of every UNet block")
    options = parser.parse_args(arguments)
    build_model.cache_clear()
    names = find_cases(options.folder)
    if not names:
        print(f"{options.folder}: no case found (a case is a folder unet/NAME or pipelines/NAME with case.json)")
        return 2
    try:
        tolerances = read_tolerances(options.folder)
        results = [
            Result(name, math.inf, atol, "named in tolerances.json, but there is no such case")
            for name, atol in tolerances.items()
            if name not in names
        ]
    except CaseError as error:
        tolerances, results = {}, [Result("tolerances.json", math.inf, math.nan, str(error))]
    for result in results:
        print(*result.lines(), sep="\n", flush=True)
    for name in names:
        results.append(replay(options.folder, name, tolerances, options.probes))
        print(*results[-1].lines(), sep="\n", flush=True)
    good = sum(result.reason is None for result in results)
    print(f"{good} of {len(results)} within tolerance")
    return 0 if good == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
