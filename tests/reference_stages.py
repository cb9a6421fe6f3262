"""Replays the stage cases of a reference folder through the project's own stage functions.

A case's network, schedulers, text states, inputs and noise are put where a run has its weights, text and
seed; the stage is the one that users run, called with nothing but its public arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from reference_recipe import CaseError, build_model, make_input
from torch import Tensor

from mpl.noise import NoiseSource, scheduler_from_config, snr_of_timestep
from mpl.options import InterpolationOptions, KeyframesOptions, SuperresOptions, TranslationOptions, WeightsOptions
from mpl.sampling import Step, fold
from mpl.stages.interpolation import interpolation
from mpl.stages.keyframes import keyframes
from mpl.stages.superres import superres
from mpl.stages.text import TextStates
from mpl.stages.translation import denoise_latents, encode_clip, resize_images, to_bytes, translation

SAME = 1e-5  # seeded draws differ by less between machines, other seeds' by about 1
Steps = Generator[Step, None, Tensor]


@dataclass
class FakeWeights:
    """`mpl.weights.Weights` as stages see it, over models and scheduler configs in memory."""

    models: Mapping[str, Any]
    schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    noising: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokenizers: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = torch.device("cpu")
    number: torch.dtype = torch.float32
    borrowed: list[str] = field(default_factory=list)  # names out at this moment

    @property
    def options(self) -> WeightsOptions:
        return WeightsOptions(superres_first_frame="memory" if "superres_first_frame" in self.models else None)

    def has(self, name: str) -> bool:
        return name in self.models

    @contextmanager
    def borrow(self, name: str) -> Iterator[Any]:
        self.borrowed.append(name)
        try:
            yield self.models[name]
        finally:
            self.borrowed.remove(name)

    def tokenizer(self, name: str) -> Any:
        return self.tokenizers[name]

    def scheduler(self, name: str) -> Any:
        return scheduler_from_config(self.schedulers[name])

    def image_noising_scheduler(self, name: str) -> Any:
        return scheduler_from_config(self.noising.get(name) or self.schedulers[name])

    def dtype(self, name: str) -> torch.dtype:
        return self.number


class ReplayedNoise:
    """Stored draws in place of a seed, in order; each part of a stage gets the first `repeated` again."""

    def __init__(self, draws: Sequence[Tensor], repeated: int = 0) -> None:
        self.draws, self.repeated = list(draws), repeated
        self.leading, self.following = 0, repeated

    def randn(self, shape: Sequence[int]) -> Tensor:
        index = self.leading if self.leading < self.repeated else self.following
        if index >= len(self.draws) or self.draws[index].shape != tuple(shape):
            stored = [tuple(draw.shape) for draw in self.draws]
            raise CaseError(f"the stage's draw {index} has shape {tuple(shape)}; the case lists {stored}")
        if self.leading < self.repeated:
            self.leading += 1
        else:
            self.following += 1
        return self.draws[index]

    def spawn(self, key: int | str) -> ReplayedNoise:
        self.leading = 0
        return self

    def check_used(self) -> None:
        """Raises CaseError unless every stored draw was asked for."""
        used = self.following if self.leading == self.repeated else self.leading
        if used != len(self.draws):
            raise CaseError(f"the case lists {len(self.draws)} draws; the stage used {used}")


def replay_stage(
    root: Path, case_dir: Path, case: Mapping[str, Any], expected: Mapping[str, Tensor]
) -> dict[str, Tensor | list[int]]:
    """Run one stage case.

    Args:
        root: folder that `case["model"]` is relative to.
        case_dir: the case's own folder, for messages.
        case: content of its case.json.
        expected: content of its expected.safetensors; only noise is taken from it, checked against the seed.

    Returns:
        `frames`, `step.N` after each loop step, the `timesteps` visited; for a resize case its uint8 results.

    Raises:
        CaseError: the case contradicts itself, or asks for something that the stages do not have.
    """
    inputs = {name: make_input(spec) for name, spec in case["inputs"].items()}
    if case["type"] == "resize":
        return _replay_resize(case, inputs)
    replays: dict[str, Callable[..., tuple[Steps, ReplayedNoise]]] = {
        "pipeline/base": _base,
        "pipeline/interp": _interp,
        "pipeline/interp_loop": _interp_loop,
        "pipeline/sr1": _sr1,
        "pipeline/sr1_windows": _sr1_windows,
        "pipeline/sr2": _sr2,
    }
    if case["type"] not in replays:
        raise CaseError(f"{case_dir.name}: type {case['type']!r} is not one of {', '.join(replays)}, resize")
    try:
        steps, noise = replays[case["type"]](root, case, inputs, _draws(case, expected))
        results = _watch(steps)
    except ValueError as error:  # an option or a stage refuses what the case asks for
        raise CaseError(str(error)) from error
    noise.check_used()
    return results


def _watch(steps: Steps) -> dict[str, Tensor | list[int]]:
    timesteps: list[int] = []
    results: dict[str, Tensor | list[int]] = {"timesteps": timesteps}
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return {**results, "frames": end.value}
        timesteps.append(step.timestep)
        results[f"step.{step.index - 1}"] = step.sample


# ---- what a case gives to the stage


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool(((a.double() - b.double()).abs() <= tolerance).all())  # false for NaN


def _draws(case: Mapping[str, Any], expected: Mapping[str, Tensor]) -> list[Tensor]:
    """The stored noise, checked against the case's seed and shapes."""
    source, draws = NoiseSource(case["seed"]), []
    for entry in case["noise"]:
        draw, stored = source.randn(entry["shape"]), expected[entry["key"]]
        if stored.shape != draw.shape or not _near(stored, draw, SAME):
            raise CaseError(f"{entry['key']} is not what seed {case['seed']} gives")
        draws.append(stored)
    listed = {entry["key"] for entry in case["noise"]}
    if listed != {key for key in expected if key.startswith("noise.")}:
        raise CaseError("the noise listed and the noise stored differ")
    return draws


def _call(case: Mapping[str, Any], *known: str, output: Sequence[str] = ("pt",)) -> dict[str, Any]:
    """The call's arguments; CaseError for one that the stage has no option for, so that none is ignored."""
    call = dict(case["call"])
    unknown = sorted(set(call) - {"num_inference_steps", "guidance_scale", "output_type", *known})
    if unknown:
        raise CaseError(f"call has {', '.join(unknown)}, which the stage has no option for")
    if call["output_type"] not in output:
        raise CaseError(f"output_type {call['output_type']!r} is not one of {', '.join(output)}")
    return call


def _common(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"steps": call["num_inference_steps"], "guidance": float(call["guidance_scale"])}


def _text(inputs: Mapping[str, Tensor], clip: bool = False) -> TextStates:
    states = inputs["prompt_embeds"], inputs["negative_prompt_embeds"]
    return TextStates(*states, *states) if clip else TextStates(*states)


def _weights(root: Path, case: Mapping[str, Any], name: str) -> FakeWeights:
    models = {name: build_model(root, case["model"])}
    if "vae" in case:
        models["vae"] = build_model(root, case["vae"])
    noising = {name: case["image_noising_scheduler"]} if "image_noising_scheduler" in case else {}
    return FakeWeights(models, {name: case["scheduler"]}, noising)


# ---- one function per type: the stage's generator and the noise it is given


def _base(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    call, noise = _call(case, "num_frames", "height", "width"), ReplayedNoise(draws)
    size = {"frames": call["num_frames"], "height": call["height"], "width": call["width"]}
    options = KeyframesOptions(**size, **_common(call))
    return keyframes(_text(inputs), options, _weights(root, case, "keyframes"), noise), noise


def _interp(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    given = inputs["pixel_values"]
    if given.shape[2] != case["call"]["num_frames"]:
        raise CaseError(f"num_frames differs from the {given.shape[2]} of pixel_values")
    own = [inputs["init_noise"]] if "init_noise" in inputs else []
    noise = ReplayedNoise(own + draws)
    return _interpolate(root, case, inputs, given[:, :, [0, -1]], noise), noise


def _interp_loop(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    noise = ReplayedNoise(draws, repeated=1)  # every pair starts from the same x_T
    return _interpolate(root, case, inputs, inputs["key_frames"], noise), noise


def _interpolate(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], clip: Tensor, noise: ReplayedNoise
) -> Steps:
    call = _call(case, "num_frames", "height", "width", "cond_interpolation")
    if not call.get("cond_interpolation"):
        raise CaseError("cond_interpolation is off, which the published stage cannot do")
    if clip.shape[3:] != (call["height"], call["width"]):
        raise CaseError(f"height and width differ from the given frames' {tuple(clip.shape[3:])}")
    options = InterpolationOptions(
        between=call["num_frames"] - 2,
        fill="linear",
        gaps_per_batch=1,
        keep_keyframes=False,
        shared_noise=True,
        **_common(call),
    )
    return interpolation(clip, _text(inputs), options, _weights(root, case, "interpolation"), noise)


def _sr1(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    noise = ReplayedNoise(draws)
    window = max(2, inputs["image"].shape[2])  # all frames at once
    return _upscale(root, case, inputs, noise, window, window - 1), noise


def _sr1_windows(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    noise = ReplayedNoise(draws, repeated=len(draws))  # every window starts from the seed
    size, stride, count = (case["window"][key] for key in ("size", "stride", "count"))
    if inputs["image"].shape[2] != size + stride * (count - 1):
        raise CaseError(f"{count} windows of {size} at stride {stride} do not cover the image's frames")
    return _upscale(root, case, inputs, noise, size, stride), noise


def _upscale(
    root: Path,
    case: Mapping[str, Any],
    inputs: Mapping[str, Tensor],
    noise: ReplayedNoise,
    window: int,
    stride: int,
) -> Steps:
    call = _call(case, "height", "width", "noise_level")
    weights = _weights(root, case, "superres")
    options = SuperresOptions(
        height=call["height"],
        width=call["width"],
        snr=snr_of_timestep(weights.image_noising_scheduler("superres"), call["noise_level"]),
        window=window,
        stride=stride,
        shared_noise=True,
        **_common(call),
    )
    clip = inputs.get("all_frame_cond", inputs["image"])  # given at full size, it stays as it is
    return superres(clip, _text(inputs), options, weights, noise, inputs.get("first_frame_cond"))


def _sr2(
    root: Path, case: Mapping[str, Any], inputs: Mapping[str, Tensor], draws: list[Tensor]
) -> tuple[Steps, ReplayedNoise]:
    call, noise = _call(case, "strength", "eta", output=("pt", "latent")), ReplayedNoise(draws)
    weights, text = _weights(root, case, "translation"), _text(inputs, clip=True)
    images = inputs["video_uint8"]  # at the size of the result, so that nothing is resized
    clip = (images.float() / 255 * 2 - 1).permute(3, 0, 1, 2).unsqueeze(0)
    options = TranslationOptions(
        height=images.shape[1],
        width=images.shape[2],
        strength=_strength(weights.scheduler("translation"), call["num_inference_steps"], call["strength"]),
        cap=1000,
        grid="published",
        posterior="sample",
        eta=float(call.get("eta", 0.0)),
        **_common(call),
    )
    if call["output_type"] == "pt":
        return translation(clip, text, options, weights, noise), noise
    latents = encode_clip(clip, options, weights, noise)
    return denoise_latents(latents, text, options, weights, noise), noise


def _strength(scheduler: Any, steps: int, strength: float) -> float:
    """The strength at which the stage starts where the published call does: it counts steps from the grid's end."""
    scheduler.set_timesteps(steps)
    skipped = max(steps - int(steps * strength), 0)
    if skipped >= len(scheduler.timesteps):
        raise CaseError(f"strength {strength} leaves none of {steps} steps")
    return min((int(scheduler.timesteps[skipped]) + 0.5) / scheduler.config.num_train_timesteps, 1.0)


def _replay_resize(case: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor | list[int]]:
    """8-bit frames through the published resize, and a float clip to 8 bits."""
    if case["pil_default_filter"] != "bicubic":
        raise CaseError(f"pil_default_filter {case['pil_default_filter']!r} is not 'bicubic'")
    width, height = case["size_w_h"]
    resized = resize_images(inputs["video_uint8"].numpy(), height, width)
    return {
        "frames_uint8": torch.from_numpy(resized),
        "float_to_uint8": torch.from_numpy(to_bytes(fold(inputs["float_video"]))),
    }
