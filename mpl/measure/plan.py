"""A preset's run as moments: which model works when, beside what, and how much memory each moment needs.

GB is 10⁹ bytes. An estimate counts tensors. It leaves out what a GPU's driver and libraries take for themselves:
`CONTEXT_GB`, and the share `MARGIN` of the card for the workspaces of cuDNN, fragmentation, and the estimate's own
error, which is below 10 % where it was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mpl.config import STAGES, Preset
from mpl.measure.estimates import Estimates, clip_bytes
from mpl.options import WeightsOptions
from mpl.stages.translation import steps_from
from mpl.weights import Weights
from mpl.windows import filled_length, gaps, superres_windows

CONTEXT_GB = 0.5  # of the driver, for a process that uses the GPU
MARGIN = 0.15

# Bytes of the process itself, without a GPU: 0.43 GB with all libraries loaded, 0.7 with what the allocator keeps for
# itself during a video (measured, `docs/full_size.py --small`). What CUDA's libraries and driver take is a guess.
HOST_BASE, HOST_DRIVER = 700_000_000, 700_000_000

# Bytes a second: what a PCIe 4.0 slot and an NVMe disk sustain, rounded down.
BUS, DISK = 12e9, 2e9
# Seconds of overhead for every call of a network: about two thousand kernels, started one by one at 5 µs; and for every
# part more that feed-forwards are cut into.
CALL, PART = 0.010, 0.0015
# What a quantized T5 changes in the text states counts as so many seconds: what fits without is left as it is.
QUANTIZED = {"none": 0.0, "int8": 10.0, "nf4": 20.0}


@dataclass(frozen=True)
class Moment:
    """One model at work."""

    stage: str  # "text", or one of `STAGES`
    model: str  # of `mpl.parts.PARTS`
    work: str  # in words
    weights: int  # bytes
    activations: int  # bytes: everything on the device but models, at the worst time
    calls: int  # of the network, for one video
    clips: int = 0  # bytes in main memory: what goes in and what comes out
    file: int = 0  # bytes read where it has to be loaded


@dataclass(frozen=True)
class State:
    """The memory of one moment, in bytes."""

    moment: Moment
    resident: dict[str, int]  # other models on the device
    waiting: dict[str, int]  # models in main memory, where that is not the device
    gpu: int
    host: int
    seconds: float  # spent on moving the model there and away


@dataclass(frozen=True)
class Plan:
    """A preset with the memory that it needs."""

    preset: Preset
    states: list[State] = field(repr=False)
    calls: float  # seconds of overhead, see `CALL`

    @property
    def peak_gpu(self) -> int:
        return max(state.gpu for state in self.states)

    @property
    def peak_host(self) -> int:
        return max(state.host for state in self.states)

    @property
    def moved(self) -> float:
        """Seconds a video that models are read and moved."""
        return sum(state.seconds for state in self.states)

    @property
    def cost(self) -> float:
        """Seconds a video over a plan without any of this: what plans are ordered by."""
        return self.calls + self.moved + QUANTIZED[self.preset.weights.quantization]


def make_plan(preset: Preset, estimates: Estimates) -> Plan:
    """The memory of a preset as it is.

    Raises:
        ValueError: a model's structure is not known.
    """
    found = moments(preset, estimates)
    return Plan(preset, walk(found, preset.weights), overhead(found, preset))


def overhead(found: list[Moment], preset: Preset) -> float:
    """Seconds that calls cost over none."""
    parts = preset.translation.feed_forward_parts - 1
    return sum(m.calls * (CALL + (PART * parts if m.model == "translation" else 0)) for m in found)


def usable(vram_gb: float) -> float:
    """Bytes of a card that a plan may take."""
    return max(0.0, vram_gb * (1 - MARGIN) - CONTEXT_GB) * 1e9


def needed_gb(peak: float) -> float:
    """The smallest card, in GB, for a peak in bytes: the inverse of `usable`."""
    return (peak / 1e9 + CONTEXT_GB) / (1 - MARGIN)


# ---- moments


def moments(preset: Preset, estimates: Estimates) -> list[Moment]:
    """All moments of one video, in order.

    Raises:
        ValueError: a model's structure is not known, or a picture size that a network cannot halve so often.
    """
    needs = Weights(replace(preset.weights, device="cpu", dtype="float32", quantization="none"))
    _check_sizes(preset, estimates, needs)
    found = list(_text(preset, estimates, needs))
    for stage in STAGES:
        found += _STAGES[stage](preset, estimates, needs)
        if preset.safety and needs.has("safety"):
            size = estimates.weights("safety")
            found.append(Moment(stage, "safety", "check frames", size, estimates.safety("safety"), 1, 0, size))
    return found


def _check_sizes(preset: Preset, estimates: Estimates, needs: Weights) -> None:
    for stage in ("keyframes", "superres", "translation"):
        models = needs.needs(stage)[1:]
        unit = 1
        for name in ("vae",) if "vae" in models else models[:1] + tuple(set(models) & {"keyframes_vae"}):
            config = estimates.config(name)
            unit *= getattr(config, "patch_size", 1) * 2 ** (len(config.block_out_channels) - 1)
        for side in ("height", "width"):
            if (value := getattr(getattr(preset, stage), side)) % unit:
                raise ValueError(f"{stage}.{side} = {value}: {stage} takes multiples of {unit}")


def _text(preset: Preset, estimates: Estimates, needs: Weights) -> Iterator[Moment]:
    quantization = preset.weights.quantization
    for name in dict.fromkeys(needs.needs(stage)[0] for stage in STAGES):
        kind = quantization if name == "text" else "none"
        size, file = estimates.weights(name, kind), estimates.weights(name)
        yield Moment("text", name, "encode", size, estimates.text(name, preset.text.tokens, kind), 1, 0, file)


def _denoise(
    preset: Preset,
    estimates: Estimates,
    stage: str,
    name: str,
    shape: tuple[int, ...],
    clips: int,
    calls: int,
    guidance: float,
    split: bool,
    parts: int = 1,
    deep_every: int = 1,
) -> Moment:
    """A network that denoises `shape (b, c, f, h, w)` in so many unguided calls."""
    activations = estimates.denoiser(name, shape, preset.text.tokens, guidance, split, parts, deep_every > 1)
    size = estimates.weights(name)
    calls *= 2 if split and guidance > 1 else 1
    frames = f"{shape[0] * shape[2]} frame{'s' if shape[0] * shape[2] > 1 else ''} of {shape[4]}×{shape[3]}"
    return Moment(stage, name, f"denoise {frames}", size, activations, calls, clips, size)


def _keyframes(preset: Preset, estimates: Estimates, needs: Weights) -> Iterator[Moment]:
    o = preset.keyframes
    latent = needs.has("keyframes_vae")
    unit = 2 ** (len(estimates.config("keyframes_vae").block_out_channels) - 1) if latent else 1
    channels = estimates.config("keyframes_vae").latent_channels if latent else 3
    shape = (1, channels, o.frames, o.height // unit, o.width // unit)
    clips = clip_bytes(3, o.frames, o.height, o.width)
    how = (clips, o.steps, o.guidance, o.split_guidance)
    yield _denoise(preset, estimates, "keyframes", "keyframes", shape, *how, deep_every=o.deep_every)
    if latent:
        size = estimates.weights("keyframes_vae")
        activations = estimates.decode("keyframes_vae", o.frames, o)
        yield Moment("keyframes", "keyframes_vae", "decode", size, activations, 1, clips, size)


def _interpolation(preset: Preset, estimates: Estimates, needs: Weights) -> Iterator[Moment]:
    o, k = preset.interpolation, preset.keyframes
    count = len(gaps(k.frames, o.between))
    if not count:
        return
    together = min(o.gaps_per_batch, count)
    shape = (together, 3, o.between + 2, k.height, k.width)
    clips = clip_bytes(3, k.frames + frames(preset), k.height, k.width)
    calls = o.steps * -(-count // together)
    how = (clips, calls, o.guidance, o.split_guidance)
    yield _denoise(preset, estimates, "interpolation", "interpolation", shape, *how, deep_every=o.deep_every)


def _superres(preset: Preset, estimates: Estimates, needs: Weights) -> Iterator[Moment]:
    o, k = preset.superres, preset.keyframes
    plan = superres_windows(frames(preset), o.window, o.stride)
    clips = clip_bytes(3, frames(preset), k.height, k.width) + clip_bytes(3, frames(preset), o.height, o.width)
    if needs.has("superres_first_frame"):
        shape = (1, 3, 1, o.height, o.width)
        how = (o.first_frame_steps, o.first_frame_guidance, o.split_guidance)
        yield _denoise(preset, estimates, "superres", "superres_first_frame", shape, clips, *how)
    shape = (1, 3, max(map(len, plan)), o.height, o.width)
    how = (len(plan) * o.steps, o.guidance, o.split_guidance)
    yield _denoise(preset, estimates, "superres", "superres", shape, clips, *how, deep_every=o.deep_every)


def _translation(preset: Preset, estimates: Estimates, needs: Weights) -> Iterator[Moment]:
    o, s, count = preset.translation, preset.superres, frames(preset)
    clips = clip_bytes(3, count, s.height, s.width) + clip_bytes(3, count, o.height, o.width)
    if needs.has("upsampling"):
        u = preset.upsampling
        plan = superres_windows(count, u.window, u.stride)
        shape, calls = (1, 3, max(map(len, plan)), o.height, o.width), len(plan) * u.steps
        how = (clips, calls, u.guidance, u.split_guidance)
        yield _denoise(preset, estimates, "translation", "upsampling", shape, *how, deep_every=u.deep_every)
        return
    size, together = estimates.weights("vae"), min(o.decode_frames, count)
    work, calls = f"{together} frame{'s' if together > 1 else ''} at a time", -(-count // together)
    yield Moment(
        "translation", "vae", f"encode, {work}", size, estimates.encode("vae", together, o), calls, clips, size
    )
    unit = 2 ** (len(estimates.config("vae").block_out_channels) - 1)
    shape = (1, estimates.config("vae").latent_channels, count, o.height // unit, o.width // unit)
    start = min(o.strength, o.cap / 1000)
    steps = max(1, int(o.steps * start)) if o.grid == "published" else steps_from(int(1000 * start), o)
    how = (clips, steps, o.guidance, o.split_guidance, o.feed_forward_parts)
    yield _denoise(preset, estimates, "translation", "translation", shape, *how)
    decode = estimates.decode("vae", together, o)
    yield Moment("translation", "vae", f"decode, {work}", size, decode, calls, clips, size)


def frames(preset: Preset) -> int:
    """Frames of the finished video."""
    return filled_length(preset.keyframes.frames, preset.interpolation.between)


_STAGES = {
    "keyframes": _keyframes,
    "interpolation": _interpolation,
    "superres": _superres,
    "translation": _translation,
}


# ---- which models are where


def walk(found: list[Moment], options: WeightsOptions) -> list[State]:
    """The memory of each moment: the most of three videos, of which the first knows its prompt from the disk.

    The second reads a new one, the third has everything that is kept; `seconds` are the third's alone: of many videos,
    most are like it.

    Models come and go as `mpl.weights.Weights` has it: loaded into main memory, moved, and after use kept, moved back
    (there is room) or forgotten. A quantized T5 is loaded straight onto the device and forgotten after use.
    """
    on_cpu, limit = options.device == "cpu", options.keep_gb * 1e9
    device: dict[str, int] = {}
    waiting: dict[str, int] = {}
    kept: dict[str, int] = {}
    states: list[State] = []
    known = [index for index, m in enumerate(found) if m.stage != "text"]
    order = [*known, *range(len(found)), *range(len(found))]
    for m in (found[index] for index in order):
        quantized = m.model == "text" and options.quantization != "none"
        seconds = 0.0
        if m.model not in device:
            seconds += 0.0 if on_cpu else m.weights / BUS
            if m.model not in waiting:
                waiting[m.model] = m.file
                seconds += m.file / DISK
            if m.model == "text" and not quantized and m.weights <= limit < sum(kept.values()) + m.weights:
                for name in kept:  # it comes first, as in `Weights`
                    size = device.pop(name)
                    waiting |= {name: size} if options.offload == "stage" else {}
                kept.clear()
        loading = 0 if on_cpu else sum(waiting.values())  # this one among them
        waiting.pop(m.model, None)
        device[m.model] = m.weights
        resident = {name: size for name, size in device.items() if name != m.model}
        gpu = sum(device.values()) + m.activations
        host = HOST_BASE + 2 * m.clips + (gpu if on_cpu else HOST_DRIVER + loading)  # clips: raw and clamped
        fits = m.model in kept or sum(kept.values()) + m.weights <= limit
        if quantized:
            del device[m.model]
        elif options.offload != "none" and fits:
            kept[m.model] = m.weights
        elif options.offload == "drop":
            del device[m.model]
        elif options.offload == "stage" and not on_cpu:
            waiting[m.model] = device.pop(m.model)
            seconds += m.weights / BUS
        states.append(State(m, resident, dict(waiting), 0 if on_cpu else gpu, host, seconds))
    of_each: list[list[State]] = [[] for _ in found]
    for index, state in zip(order, states, strict=True):
        of_each[index].append(state)
    return [replace(same[-1], gpu=max(s.gpu for s in same), host=max(s.host for s in same)) for same in of_each]
