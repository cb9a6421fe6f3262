"""Cost against the clip's frames, its pixels, and the batch: measured points, and the power law that fits them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mpl.config import Preset
from mpl.measure.bench import Call, stage_of
from mpl.measure.forward import batch_seconds
from mpl.measure.peak import seconds_of
from mpl.memory import PeakMemory
from mpl.noise import stage_generator
from mpl.sampling import last_of
from mpl.stages.interpolation import interpolation
from mpl.stages.keyframes import keyframes
from mpl.stages.superres import superres, upsampling_options
from mpl.stages.text import TextStates, encode
from mpl.stages.translation import decode_latents, denoise_latents
from mpl.weights import Weights

FRAMES = (8, 15, 22, 29)  # one to four windows of 8 at stride 7
SIDES = (0.5, 0.75, 1.0)  # of the preset's height and width
BATCHES = (1, 2, 4)


@dataclass(frozen=True)
class Point:
    """What a size cost: median seconds, and the peak of memory in 10⁹ bytes (None: not measured)."""

    size: int
    seconds: float
    peak_memory_gb: float | None = None


@dataclass(frozen=True)
class Line:
    """Costs of one kind of work against one size, the rest being the same."""

    what: str
    against: str  # frames | pixels | batch
    points: tuple[Point, ...]
    clip_gb: float | None = None  # of the clip that is made, for one more frame

    @property
    def exponent(self) -> float | None:
        """1 is linear in the size, 2 quadratic; None where there are no two sizes."""
        return exponent([p.size for p in self.points], [p.seconds for p in self.points])

    @property
    def gb_per_frame(self) -> float | None:
        """Memory that one more frame costs, by least squares, in 10⁹ bytes."""
        known = [(p.size, p.peak_memory_gb) for p in self.points if p.peak_memory_gb is not None]
        if self.against != "frames" or len(known) < 2:
            return None
        return float(np.polyfit(*zip(*known, strict=True), 1)[0])


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """b of cost = a · size^b, by least squares of logarithms; None for fewer than two different sizes."""
    if len(set(sizes)) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


Work = Callable[[int, int, int], Callable[[], Any]]  # frames, height, width → what is timed


def scaling_lines(preset: Preset, weights: Weights, prompt: str, calls: Mapping[str, Call], repeats: int) -> list[Line]:
    """All lines: the stages' against frames and pixels, the networks' against the batch.

    Interpolation makes frames by whole gaps: the numbers of frames next to those of the others are measured.
    """
    pixels = weights.has("upsampling")
    text = encode(prompt, preset.text, weights, translation=not pixels)
    lines = []
    for what, stage, make in _works(preset, weights, text):
        height, width = _side(preset, stage)
        unit, gap = weights.picture_unit(stage), preset.interpolation.between + 1 if stage == "interpolation" else 1
        sizes = [(max(1, frames // gap) * gap + (gap > 1), height, width) for frames in FRAMES]
        points = _points(make, sizes, [frames for frames, _, _ in sizes], weights.device, repeats)
        lines.append(Line(what, "frames", points, 4 * 3 * height * width / 1e9))
        sizes = [(sizes[0][0], *_scaled(height, width, unit, side)) for side in SIDES]
        points = _points(make, sizes, [h * w for _, h, w in sizes], weights.device, repeats)
        lines.append(Line(what, "pixels", points))
    return lines + [_batch_line(name, call, weights) for name, call in calls.items()]


def figures(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "what": line.what,
            "against": line.against,
            "exponent": None if line.exponent is None else round(line.exponent, 3),
            "gb_per_frame": None if line.gb_per_frame is None else round(line.gb_per_frame, 5),
            "clip_gb_per_frame": None if line.clip_gb is None else round(line.clip_gb, 5),
            "points": [
                {"size": p.size, "seconds": round(p.seconds, 5), "peak_memory_gb": p.peak_memory_gb}
                for p in line.points
            ],
        }
        for line in lines
    ]


def _works(preset: Preset, weights: Weights, text: TextStates) -> Iterable[tuple[str, str, Work]]:
    """What is measured, the stage that says its size, and its maker."""
    yield "keyframes", "keyframes", _keyframes(preset, weights, text)
    yield "interpolation", "interpolation", _interpolation(preset, weights, text)
    yield "superres", "superres", _superres(preset, weights, text, "superres")
    if weights.has("upsampling"):
        yield "upsampling", "translation", _superres(preset, weights, text, "upsampling")
        return
    yield "translation", "translation", _translation(preset, weights, text)
    yield "decode", "translation", _decode(preset, weights)


def _side(preset: Preset, stage: str) -> tuple[int, int]:
    options = preset.keyframes if stage == "interpolation" else getattr(preset, stage)
    return options.height, options.width


def _keyframes(preset: Preset, weights: Weights, text: TextStates) -> Work:
    def make(frames: int, height: int, width: int) -> Callable[[], Any]:
        options = replace(preset.keyframes, frames=frames, height=height, width=width)
        return lambda: last_of(keyframes(text, options, weights, stage_generator(0, "keyframes")))

    return make


def _interpolation(preset: Preset, weights: Weights, text: TextStates) -> Work:
    options = preset.interpolation

    def make(frames: int, height: int, width: int) -> Callable[[], Any]:
        clip = torch.rand(1, 3, (frames - 1) // (options.between + 1) + 1, height, width) * 2 - 1
        return lambda: last_of(interpolation(clip, text, options, weights, stage_generator(0, "interpolation")))

    return make


def _superres(preset: Preset, weights: Weights, text: TextStates, name: str) -> Work:
    whole = preset.superres if name == "superres" else upsampling_options(preset)
    below = preset.keyframes if name == "superres" else preset.superres

    def make(frames: int, height: int, width: int) -> Callable[[], Any]:
        clip = torch.rand(1, 3, frames, below.height, below.width) * 2 - 1
        options = replace(whole, height=height, width=width)
        return lambda: last_of(superres(clip, text, options, weights, stage_generator(0, name), name=name))

    return make


def _translation(preset: Preset, weights: Weights, text: TextStates) -> Work:
    def make(frames: int, height: int, width: int) -> Callable[[], Any]:
        latents, options = _latents(weights, frames, height, width), preset.translation
        noise = stage_generator(0, "translation")
        return lambda: last_of(denoise_latents(latents, text, options, weights, noise))

    return make


def _decode(preset: Preset, weights: Weights) -> Work:
    def make(frames: int, height: int, width: int) -> Callable[[], Any]:
        latents = _latents(weights, frames, height, width)
        return lambda: decode_latents(latents, preset.translation, weights)

    return make


def _latents(weights: Weights, frames: int, height: int, width: int) -> torch.Tensor:
    unit = weights.unit("vae")
    return torch.randn(1, weights.latent_channels("vae"), frames, height // unit, width // unit)


def _points(
    make: Work, sizes: Sequence[tuple[int, int, int]], counts: Sequence[int], device: torch.device, repeats: int
) -> tuple[Point, ...]:
    """Small sizes first: a system may leave a process the memory that it once had."""
    make(*sizes[0])()  # not counted
    points = []
    for size, count in zip(sizes, counts, strict=True):
        call, memory = make(*size), PeakMemory(device)
        seconds = statistics.median(seconds_of(call, device) for _ in range(repeats))
        points.append(Point(count, seconds, round(memory.of_part(), 4)))
    return tuple(points)


def _batch_line(name: str, call: Call, weights: Weights) -> Line:
    with weights.borrow(name) as model:
        points = tuple(Point(size, batch_seconds(call, model, size, weights.device)) for size in BATCHES)
    return Line(f"{stage_of(name)} network", "batch", points)


def _scaled(height: int, width: int, unit: int, by: float) -> tuple[int, int]:
    """Both sides times `by`, as near as the network can."""
    return tuple(max(unit, int(side * by) // unit * unit) for side in (height, width))
