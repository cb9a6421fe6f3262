"""Noise: seeded draws, schedules as checkpoints describe them, signal-to-noise ratio and timestep.

Every draw happens on the CPU in float32 and is moved afterwards, so that a seed gives the same noise on any
device. A schedule is a diffusers scheduler object; all of them here are variance preserving: x_t = sqrt(a)
x_0 + sqrt(1 - a) e with a = `alphas_cumprod[t]`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import diffusers
import torch
from torch import Tensor

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
_REFUSALS = (ArithmeticError, RuntimeError, TypeError, ValueError)  # what their classes raise at a wrong value

# What the options call them.
SOLVERS = {
    "ddpm": "DDPMScheduler",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "sde-dpm++": "DPMSolverMultistepScheduler",  # new noise in every step (Lu et al. 2022, DPM-Solver++, appendix B)
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
}
KARRAS = ("dpm++", "sde-dpm++", "unipc", "deis")  # that can space their timesteps as Karras et al. 2022, equation 5
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class Noise(Protocol):
    """Where a stage takes its noise from."""

    def randn(self, shape: Sequence[int]) -> Tensor:
        """The next unit normal draw: float32 on the CPU."""

    def spawn(self, key: int | str) -> Noise:
        """A source of its own for one part of a stage, at its beginning; equal keys give equal sources."""


class NoiseSource:
    """A seeded stream of noise, and independent streams below it.

    What a child draws depends on seed and key alone, not on what was drawn before: the order in which parts
    of a stage run, and how many run as one batch, changes nothing.
    """

    def __init__(self, seed: int, *path: int | str) -> None:
        """Seed 0 ... 2**63 - 1, taken as it is where `path` is empty, else hashed together with it."""
        self.seed, self.path = seed, path
        if path:
            digest = hashlib.blake2b(json.dumps([seed, *path]).encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "big") >> 1
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def randn(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.float32)

    def spawn(self, key: int | str) -> NoiseSource:
        return NoiseSource(self.seed, *self.path, key)


class JoinedNoise:
    """Several sources side by side in the batch: each draws its own share of every draw."""

    def __init__(self, sources: Sequence[Noise]) -> None:
        self.sources = list(sources)

    def randn(self, shape: Sequence[int]) -> Tensor:
        share = (shape[0] // len(self.sources), *shape[1:])
        return torch.cat([source.randn(share) for source in self.sources])

    def spawn(self, key: int | str) -> JoinedNoise:
        return JoinedNoise([source.spawn(key) for source in self.sources])


def mix_frames(own: Tensor, common: Tensor, share: float) -> Tensor:
    """Unit normal noise whose frames have something in common: Ge et al. 2023, "Preserve Your Own Correlation", 4.1.

    Args:
        own: a draw for each frame, `(b, c, f, h, w)`.
        common: a draw for each clip, `(b, c, 1, h, w)`.
        share: of the variance that is common, 0 to 1; their "mixed" noise with alpha 1 is 0.5.
    """
    return share**0.5 * common + (1 - share) ** 0.5 * own


class MixedNoise:
    """A source whose draws are those of clips, with frames that have something in common as in `mix_frames`."""

    def __init__(self, source: Noise, frames: int, share: float) -> None:
        """Draws `source` what a frame has of its own, and from a source below it what a clip's have in common."""
        self.own, self.common, self.frames, self.share = source, source.spawn("common"), frames, share

    def randn(self, shape: Sequence[int]) -> Tensor:
        """Of `(b, c, f, h, w)`, or of `(b*f, c, h, w)`, a clip's frames next to each other."""
        own = self.own.randn(shape)
        if not self.share:
            return own
        if len(shape) == 5:
            return mix_frames(own, self.common.randn((*shape[:2], 1, *shape[3:])), self.share)
        clips = own.unflatten(0, (-1, self.frames))
        return mix_frames(clips, self.common.randn((len(clips), 1, *shape[1:])), self.share).flatten(0, 1)

    def spawn(self, key: int | str) -> MixedNoise:
        return MixedNoise(self.own.spawn(key), self.frames, self.share)


def stage_generator(seed: int, stage: str) -> NoiseSource:
    """The noise of one stage of a run: an independent stream for each (seed, stage)."""
    return NoiseSource(seed, stage)


def scheduler_from_config(config: Mapping[str, Any]) -> Any:
    """A fresh scheduler from the content of a checkpoint's `scheduler_config.json`.

    The multistep solvers end at the schedule's lowest noise (timestep 0), as when the published checkpoints
    were made; newer diffusers versions end at none unless told, which moves the result by 2e-2. A config
    that says `final_sigmas_type` itself is obeyed.

    Raises:
        ValueError: `_class_name` is missing or not one of `SCHEDULERS`, or the class refuses another value.
    """
    name = config.get("_class_name")
    if name not in SCHEDULERS:
        raise ValueError(f"scheduler _class_name is {name!r}; accepted are {', '.join(SCHEDULERS)}")
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    if name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
        settings.setdefault("final_sigmas_type", "sigma_min")
    kind = getattr(diffusers, name)
    try:
        scheduler = kind.from_config(settings)
    except _REFUSALS as error:
        wrong = [f"{key} = {value!r}" for key, value in settings.items() if _refuses(kind, key, value)]
        raise ValueError(f"{name} refuses {', '.join(wrong) or 'these settings together'}") from error
    if scheduler.config.prediction_type not in PREDICTION_TYPES:  # diffusers would say so at the first step
        known = ", ".join(PREDICTION_TYPES)
        raise ValueError(f"scheduler prediction_type is {scheduler.config.prediction_type!r}; accepted are {known}")
    return scheduler


def with_solver(scheduler: Any, solver: str, spacing: str, block: str) -> Any:
    """The same schedule of noise, solved otherwise: a fresh scheduler, or the given one where nothing is changed.

    Args:
        scheduler: the checkpoint's. What it says of its noise, of what its network predicts and of where it ends holds.
        solver: a key of `SOLVERS`, or "checkpoint" for its own class.
        spacing: of the timesteps: linspace, leading, trailing (Lin et al. 2023, table 2), karras, or "checkpoint".
        block: of the options, for the error.

    Raises:
        ValueError: the solver cannot space its timesteps so.
    """
    own = _word(scheduler)
    chosen = own if solver == "checkpoint" else solver
    if spacing == "karras" and chosen not in KARRAS:
        raise ValueError(
            f"{block}.spacing is 'karras' and the solver {chosen}; with it {', '.join(KARRAS)} is accepted"
        )
    if chosen == own and spacing == "checkpoint":
        return scheduler
    changes: dict[str, Any] = {"_class_name": SOLVERS[chosen]}
    if spacing == "karras":
        changes["use_karras_sigmas"] = True
    elif spacing != "checkpoint":
        changes |= {"use_karras_sigmas": False, "timestep_spacing": spacing}
    if chosen != own:
        changes |= _fitted(scheduler.config, chosen)
    return scheduler_from_config({**scheduler.config, **changes})


def _fitted(config: Mapping[str, Any], chosen: str) -> dict[str, Any]:
    """What another solver needs to be told, since a checkpoint's own has no word for it or means another thing.

    DDPM's and DDIM's own default clips the clean picture, which multistep solvers do not, and latents must not be.
    Where noise is renewed, a last step of second order would leave some in that no step after it takes out.
    """
    found: dict[str, Any] = {"algorithm_type": "dpmsolver++"}
    if chosen == "deis":
        found["algorithm_type"] = "deis"
    elif chosen == "sde-dpm++":
        found |= {"algorithm_type": "sde-dpmsolver++", "euler_at_final": True}
    elif chosen in ("ddpm", "ddim") and "clip_sample" not in config:
        found["clip_sample"] = False
    return found


def _word(scheduler: Any) -> str:
    """What the options call a scheduler's solver."""
    new_noise = str(getattr(scheduler.config, "algorithm_type", "")).startswith("sde")
    return next(
        word
        for word, name in SOLVERS.items()
        if name == type(scheduler).__name__ and new_noise == word.startswith("sde")
    )


def _refuses(kind: Any, key: str, value: Any) -> bool:
    """Whether a scheduler's class fails on one setting alone: its own words do not name the key."""
    try:
        kind.from_config({key: value})
    except _REFUSALS:
        return True
    return False


def alphas_cumprod(scheduler: Any) -> Tensor:
    """The share of signal power left at each timestep, `(T,)` float64 on the CPU."""
    return scheduler.alphas_cumprod.detach().to("cpu", torch.float64)


def snr(alphas_cumprod: Tensor) -> Tensor:
    """Signal-to-noise ratio a / (1 - a) of the given cumulative alphas."""
    return alphas_cumprod / (1 - alphas_cumprod)


def snr_of_timestep(scheduler: Any, timestep: int) -> float:
    """The SNR after noise of `timestep` was added.

    Raises:
        ValueError: the timestep is outside the schedule.
    """
    alphas = alphas_cumprod(scheduler)
    if not 0 <= timestep < len(alphas):
        raise ValueError(f"noise level is {timestep}; 0 to {len(alphas) - 1} is accepted")
    return float(snr(alphas[timestep]))


def timestep_for_snr(scheduler: Any, target: float) -> int:
    """The timestep whose SNR is nearest to `target`, in decibels. Infinity, meaning no noise at all, gives 0.

    `timestep_for_snr(s, snr_of_timestep(s, t)) == t` for every t of a schedule that falls strictly.

    Raises:
        ValueError: the ratio is not above 0.
    """
    if not target > 0:
        raise ValueError(f"snr is {target}; a number above 0, or inf for no noise, is accepted")
    if math.isinf(target):
        return 0
    return int((snr(alphas_cumprod(scheduler)).log() - math.log(target)).abs().argmin())


def add_noise(x: Tensor, noise: Tensor, scheduler_or_alphas: Any, timestep: int | Tensor) -> Tensor:
    """sqrt(a_t) x + sqrt(1 - a_t) noise.

    Args:
        x: any shape `(b, ...)`.
        noise: unit normal, as `x`.
        scheduler_or_alphas: a scheduler, or its cumulative alphas `(T,)`.
        timestep: one for all, or one per sample `(b,)`.
    """
    is_tensor = isinstance(scheduler_or_alphas, Tensor)
    alphas = scheduler_or_alphas if is_tensor else alphas_cumprod(scheduler_or_alphas)
    a = alphas[torch.as_tensor(timestep, device=alphas.device)].reshape(-1, *[1] * (x.ndim - 1))
    signal, rest = a.sqrt().to(x.device, x.dtype), (1 - a).sqrt().to(x.device, x.dtype)
    return signal * x + rest * noise
