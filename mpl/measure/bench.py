"""Whole runs of the cascade, timed by their own events, one configuration or two in turn; and what they did."""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from mpl.cascade import Arm, generate
from mpl.events import Event, Failed, Finished, StageFinished, Stopped, TextEncoded
from mpl.measure.flops import counting_flops
from mpl.measure.peak import Shape
from mpl.parts import PARTS
from mpl.terminal import RunFailed
from mpl.weights import Weights

DENOISERS = ("video_unet", "latent_unet")  # kinds of models
READERS = ("t5", "clip")
TEXT = "text"  # step 0 among the stages
_STAGES = {
    "clip": TEXT,
    "keyframes_vae": "keyframes",
    "superres_first_frame": "superres",
    "vae": "translation",
    "upsampling": "translation",
}  # of models that are not called as their stage


@dataclass(frozen=True)
class StageTime:
    """What one stage took, in seconds; samples put through its network; the peak, in 10⁹ bytes."""

    seconds: float
    evaluations: int
    peak_memory_gb: float | None


@dataclass(frozen=True)
class RunTime:
    """What one run took, from the prompt to the written video, and to the first preview (None: there was none)."""

    seconds: float
    first_preview: float | None
    peak_memory_gb: float
    stages: dict[str, StageTime]


@dataclass(frozen=True)
class Call:
    """One call of a network as a stage made it: the sample `(b, c, f, h, w)`, timestep, text, and labels by name."""

    sample: Tensor
    timestep: Tensor
    text: Tensor
    labels: dict[str, Tensor]
    known: dict[Any, Any] = field(default_factory=dict)  # what depends on the text, once there was a call

    def __call__(self, model: nn.Module) -> Any:
        known = {"known": self.known.setdefault(model, {})} if getattr(model, "remembers_text", False) else {}
        return model(self.sample, self.timestep, self.text, **self.labels, **known)

    def of_batch(self, size: int) -> Call:
        """The same with the first clip of the batch, so many times."""
        labels = {key: _first(value, size) if key == "class_labels" else value for key, value in self.labels.items()}
        return Call(_first(self.sample, size), self.timestep, _first(self.text, size), labels)

    def exact(self) -> Call:
        """The same in float32."""
        labels = {k: v.float() if v.is_floating_point() else v for k, v in self.labels.items()}
        return Call(self.sample.float(), self.timestep, self.text.float(), labels)


@dataclass(frozen=True)
class Counted:
    """What a run did: operations by stage; by the models' names denoisers' largest calls, and others' largest inputs.

    Of an autoencoder that is the decoder's, which works on as many pixels as the encoder does, and has more layers.
    """

    flops: dict[str, int]
    calls: dict[str, Call] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)


def timed_runs(
    arms: Mapping[str, Arm], prompt: str, seed: int, repeats: int, say: Callable[[str], None]
) -> dict[str, list[RunTime]]:
    """Times runs of the arms, in turn: A B A B …, so that a machine that slows down slows them alike.

    Raises:
        RunFailed: a run broke off.
    """
    times: dict[str, list[RunTime]] = {name: [] for name in arms}
    for number in range(1, repeats + 1):
        for name, arm in arms.items():
            times[name].append(timed_run(arm, prompt, seed))
            say(f"{name}, run {number} of {repeats}: {times[name][-1].seconds:.2f} s")
    return times


def timed_run(arm: Arm, prompt: str, seed: int) -> RunTime:
    """Times a run; its video is written, then thrown away."""
    stages: dict[str, StageTime] = {}
    with tempfile.TemporaryDirectory() as folder:
        begin = perf_counter()
        for event in _events(arm, prompt, seed, folder):
            if isinstance(event, TextEncoded):
                stages[TEXT] = StageTime(event.seconds, 0, None)
            elif isinstance(event, StageFinished):
                stages[event.stage] = StageTime(event.seconds, event.evaluations, event.peak_memory_gb)
        seconds = perf_counter() - begin
    recipe = event.recipe
    return RunTime(seconds, recipe["first_preview_seconds"], recipe["peak_memory_gb"], stages)


def counted_run(arm: Arm, prompt: str, seed: int) -> Counted:
    """Counts a run and notes its networks' calls: slower than others, and what warms them up, the video's writer, too.

    Raises:
        RunFailed: the run broke off.
    """
    made = Counted({})
    with tempfile.TemporaryDirectory() as folder, noting_calls(arm.weights, made), counting_flops() as counter:
        for event in _events(arm, prompt, seed, folder):
            if isinstance(event, TextEncoded):
                made.flops[TEXT] = counter.lap()
            elif isinstance(event, StageFinished):
                made.flops[event.stage] = counter.lap()
    return made


@contextlib.contextmanager
def noting_calls(weights: Weights, into: Counted) -> Iterator[None]:
    """Notes the largest call of each model that is borrowed while the block runs, the first of those as large."""
    borrow = weights.borrow

    @contextlib.contextmanager
    def watched(name: str) -> Iterator[nn.Module]:
        with borrow(name) as model:
            asked = getattr(model, "decoder", model) if PARTS[name].kind == "autoencoder" else model
            note = _note_call if PARTS[name].kind in DENOISERS else _note_input
            hook = asked.register_forward_pre_hook(partial(note, into, name), with_kwargs=True)
            try:
                yield model
            finally:
                hook.remove()

    weights.borrow = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        del weights.borrow


def _note_call(into: Counted, name: str, _: nn.Module, args: tuple[Tensor, ...], labels: dict[str, Any]) -> None:
    if name not in into.calls or into.calls[name].sample.numel() < args[0].numel():
        own = ("deep", "known", "cross_attention_kwargs")
        into.calls[name] = Call(*args, {key: value for key, value in labels.items() if key not in own})


def _note_input(into: Counted, name: str, _: nn.Module, args: tuple[Tensor, ...], labels: dict[str, Any]) -> None:
    shape = tuple(next(x for x in (*args, *labels.values()) if isinstance(x, Tensor)).shape)
    into.inputs[name] = max(into.inputs.get(name, (0,)), shape, key=math.prod)


def shapes(counted: Counted, weights: Weights) -> list[Shape]:
    """The feature maps of the networks' levels, as their stages call them; of a text, its tokens as one row."""
    found = []
    for name, shape in {**counted.inputs, **{name: call.sample.shape for name, call in counted.calls.items()}}.items():
        kind, stage = PARTS[name].kind, stage_of(name)
        with weights.borrow(name) as model:
            config = model.config
        if kind in READERS:
            width = config.d_model if kind == "t5" else config.hidden_size
            found.append(Shape(stage, shape[0], width, 1, shape[1]))
        elif kind != "safety_checker":
            pictures, (h, w) = shape[0] * math.prod(shape[2:-2]), shape[-2:]
            cell = Fraction(getattr(config, "patch_size", 1))
            if kind == "autoencoder":  # latents, which are as small as its last level
                cell /= 2 ** (len(config.block_out_channels) - 1)
            for level, channels in enumerate(config.block_out_channels):
                sides = (max(int(side / (cell * 2**level)), 1) for side in (h, w))
                found.append(Shape(stage, pictures, channels, *sides))
    return found


def stage_of(model: str) -> str:
    """The stage that a model works for."""
    return _STAGES.get(model, model)


def stage_figures(times: Sequence[RunTime], flops: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """By stage, step 0 among them: medians over the runs, the least and the most seconds, and operations per second."""
    found = {}
    for name in times[0].stages:
        ran = [time.stages[name] for time in times]
        figures = _spread("seconds", [stage.seconds for stage in ran])
        gflops = flops[name] / figures["seconds"] / 1e9 if figures["seconds"] else None
        memory = [stage.peak_memory_gb for stage in ran if stage.peak_memory_gb is not None]
        found[name] = figures | {
            "evaluations": ran[0].evaluations,
            "flops": flops[name],
            "gflops": None if gflops is None else round(gflops, 3),
            "fraction_of_peak": None,  # where the machine's peaks are measured, they are put in
            "fraction_of_matmul_peak": None,
            "peak_memory_gb": max(memory, default=None),
        }
    return found


def whole_figures(times: Sequence[RunTime], flops: Mapping[str, int]) -> dict[str, Any]:
    """Of the runs as wholes: from the prompt to a written video."""
    previews = [time.first_preview for time in times if time.first_preview is not None]
    return _spread("seconds", [time.seconds for time in times]) | {
        "first_preview_seconds": statistics.median(previews) if previews else None,
        "flops": sum(flops.values()),
        "peak_memory_gb": max(time.peak_memory_gb for time in times),
        "runs": [round(time.seconds, 3) for time in times],
    }


def ratio_figures(times: Mapping[str, Sequence[RunTime]]) -> dict[str, Any]:
    """How many times as long as the first of two arms the second takes: each of its runs over the one before it."""
    (a, first), (b, second) = times.items()
    pairs = list(zip(first, second, strict=True))
    ratios = {"whole": _spread("ratio", [two.seconds / one.seconds for one, two in pairs])}
    for stage in first[0].stages.keys() & second[0].stages.keys():
        values = [two.stages[stage].seconds / max(one.stages[stage].seconds, 1e-3) for one, two in pairs]
        ratios[stage] = _spread("ratio", values)
    order = ["whole", *first[0].stages]
    return {"of": b, "to": a, "ratios": {name: ratios[name] for name in order if name in ratios}}


def _spread(what: str, values: Iterable[float]) -> dict[str, float]:
    values = list(values)
    found = {what: statistics.median(values), f"{what}_min": min(values), f"{what}_max": max(values)}
    return {key: round(value, 4) for key, value in found.items()}


def _events(arm: Arm, prompt: str, seed: int, out: str) -> Iterator[Event]:
    """A run's events to its end; raises RunFailed where it breaks off."""
    for event in generate(prompt, arm.preset, arm.weights, seed, out=out):
        if isinstance(event, Failed):
            raise RunFailed(event.message)
        assert not isinstance(event, Stopped)  # nobody asks for it
        yield event
    assert isinstance(event, Finished)


def _first(x: Tensor, size: int) -> Tensor:
    return x[:1].repeat(size, *(1 for _ in x.shape[1:]))


def formats(counted: Counted, weights: Weights) -> dict[str, torch.dtype]:
    """What each stage computes in: its denoiser, where it has one."""
    return {stage_of(name): weights.dtype(name) for name in (*counted.inputs, *counted.calls)}
