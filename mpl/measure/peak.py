"""What this machine can do: convolutions and matrix products of the networks' own shapes, and copies of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn import functional as F

from mpl.devices import wait

SPELL = 0.02  # seconds that one timing lasts at least: a clock's resolution and a thread's start do not count then
TIMINGS = 5
ENOUGH = 2.0  # seconds, after which no further timing begins: bfloat16 takes many on a CPU that has none
COPY_BYTES = 2**28  # far more than caches hold


@dataclass(frozen=True)
class Shape:
    """A feature map of a network: so many pictures of `height` × `width`, `channels` deep."""

    stage: str
    pictures: int
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Speed:
    """The best of several timings of one operation."""

    shape: Shape
    kind: str  # convolution | matmul
    dtype: str
    gflops: float  # 10⁹ operations per second


@dataclass(frozen=True)
class Peaks:
    """The speeds, and how fast memory is copied: bytes read and written, in 10⁹ per second."""

    speeds: tuple[Speed, ...]
    bandwidth: float

    def best(self, stage: str, kind: str, dtype: torch.dtype) -> float | None:
        """10⁹ operations per second in the best of a stage's shapes; None where none was measured."""
        found = [s.gflops for s in self.speeds if (s.shape.stage, s.kind, s.dtype) == (stage, kind, _name(dtype))]
        return max(found, default=None)


def measure(shapes: Iterable[Shape], dtypes: Iterable[torch.dtype], device: torch.device) -> Peaks:
    """Times a 3×3 convolution and a matrix product of every shape in every number format."""
    dtypes = list(dict.fromkeys(dtypes))
    speeds = [
        Speed(shape, kind, _name(dtype), flops / best_seconds(call, device) / 1e9)
        for shape in shapes
        for dtype in dtypes
        for kind, flops, call in _operations(shape, dtype, device)
        if kind != "convolution" or shape.height > 1  # of a row of tokens nobody takes one
    ]
    return Peaks(tuple(speeds), bandwidth(device))


def bandwidth(device: torch.device, size: int = COPY_BYTES) -> float:
    """10⁹ bytes per second, read and written, of copying `size` bytes."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / best_seconds(lambda: target.copy_(source), device) / 1e9


def best_seconds(call: Callable[[], Any], device: torch.device) -> float:
    """The best of a few timings, each of as many calls as make `SPELL` seconds; of slow calls two, see `ENOUGH`."""
    with torch.no_grad():
        call()  # libraries choose their kernels, memory is fetched
        once = seconds_of(call, device)
        calls = max(1, int(SPELL / max(once, 1e-9)))

        def spell() -> None:
            for _ in range(calls):
                call()

        timed, begun = [once], time.perf_counter()
        for _ in range(TIMINGS):
            timed.append(seconds_of(spell, device) / calls)
            if time.perf_counter() - begun > ENOUGH:
                break
        return min(timed)


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    """What one call takes, to the end of what it started on a GPU."""
    wait(device)
    begin = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - begin


def figures(peaks: Peaks) -> dict[str, Any]:
    """For JSON: GFLOP/s of each operation, and GB/s of a copy."""
    operations = [
        asdict(s.shape) | {"kind": s.kind, "dtype": s.dtype, "gflops": round(s.gflops, 2)} for s in peaks.speeds
    ]
    return {"operations": operations, "bandwidth_gb_per_s": round(peaks.bandwidth, 2)}


def _operations(shape: Shape, dtype: torch.dtype, device: torch.device) -> Iterable[tuple[str, int, Callable[[], Any]]]:
    """Kind, operations and call: channels to as many in 3×3 pixels; rows of channels to four times as many."""
    n, c, h, w = shape.pictures, shape.channels, shape.height, shape.width
    x = torch.randn(n, c, h, w, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(c, c, 3, 3, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    taps = 9 * (h * w) * n  # the border's zeros count, as they do in the networks' counts
    yield "convolution", 2 * taps * c * c, lambda: F.conv2d(x, kernel, padding=1)
    rows, weight = x.permute(0, 2, 3, 1).reshape(-1, c), torch.randn(4 * c, c, device=device).to(dtype)
    yield "matmul", 2 * len(rows) * c * 4 * c, lambda: F.linear(rows, weight)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
