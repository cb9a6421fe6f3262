"""One call of each stage's network beside its roofline (Williams et al. 2009): what its operations and bytes allow."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mpl.measure.bench import Call, stage_of
from mpl.measure.flops import work_of
from mpl.measure.operators import shares_of_time
from mpl.measure.peak import Peaks, best_seconds, seconds_of
from mpl.weights import Weights


def forward_figures(
    calls: Mapping[str, Call], weights: Weights, peaks: Peaks | None, repeats: int
) -> dict[str, dict[str, Any]]:
    """By stage: median seconds of `repeats` calls as the stage makes them, operations, bytes, and what was possible.

    Bytes are those that the operations read and write (`mpl.measure.flops.Traffic`), so the roofline is that of a
    network whose operations find nothing in caches. A figure can be above it where caches hold what memory would.
    `deviation` is what the number format changes of the result: the root mean square of the difference to float32,
    over the result's own; None where it is float32, or where that does not fit. `spent` is `shares_of_time`.
    """
    exact = Weights(replace(weights.options, dtype="float32", offload="drop"))
    found = {}
    for name, call in calls.items():
        with weights.borrow(name) as model:
            run = partial(call, model)
            seconds = median_seconds(run, weights.device, repeats)
            spent, work = shares_of_time(run, weights.device), work_of(run)
            size = sum(p.numel() * p.element_size() for p in model.parameters())
            dtype = weights.dtype(name)
            result = None if dtype == torch.float32 else _result(call, model)
        changed = None if result is None else _deviation(call, result, name, exact)
        gflops = work.flops / seconds / 1e9
        found[stage_of(name)] = {
            "model": name,
            "shape": list(call.sample.shape),
            "dtype": str(dtype).removeprefix("torch."),
            "seconds": round(seconds, 5),
            "flops": work.flops,
            "bytes": work.bytes,
            "weight_bytes": size,
            "intensity": round(work.intensity, 3),
            "gflops": round(gflops, 3),
            "deviation": changed,
            "spent": spent,
            **_against(stage_of(name), dtype, gflops, work.intensity, peaks),
        }
    return found


@torch.no_grad()
def _result(call: Call, model: nn.Module) -> Tensor:
    return call(model).sample.float().cpu()


def _deviation(call: Call, result: Tensor, name: str, weights: Weights) -> float | None:
    """Of a model's result from that of the same in float32, which takes the other's place in memory."""
    try:
        with weights.borrow(name) as exact:
            wanted = _result(call.exact(), exact)
    except torch.OutOfMemoryError:
        return None
    return round(((result - wanted).square().mean() / wanted.square().mean()).sqrt().item(), 5)


def median_seconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Of so many calls, three at least, after one more."""
    with torch.no_grad():
        run()
        return statistics.median(seconds_of(run, device) for _ in range(max(repeats, 3)))


def _against(
    stage: str, dtype: torch.dtype, gflops: float, intensity: float, peaks: Peaks | None
) -> dict[str, float | None]:
    """Shares of the convolution's peak in the number format used and in bfloat16, and of the roofline."""
    own = peaks and peaks.best(stage, "convolution", dtype)
    half = peaks and peaks.best(stage, "convolution", torch.bfloat16)
    roof = min(own, intensity * peaks.bandwidth) if peaks and own else None
    return {
        "fraction_of_peak": share(gflops, own),
        "fraction_of_bf16_peak": share(gflops, half),
        "roofline_gflops": None if roof is None else round(roof, 2),
        "fraction_of_roofline": share(gflops, roof),
    }


def share(value: float | None, of: float | None) -> float | None:
    """A fraction; None where either is not known."""
    return round(value / of, 4) if value is not None and of else None


def batch_seconds(call: Call, model: Any, size: int, device: torch.device) -> float:
    """Seconds of the call with so many clips."""
    return best_seconds(partial(call.of_batch(size), model), device)
