"""Sampling: classifier-free guidance, the learned variance, and the one denoising loop of all stages.

The checkpoint's own diffusers scheduler takes the steps; the loop, its noise and what happens to a learned
variance are ours. Schedulers see frames as the batch, (b*f, c, h, w), so that whatever they do per sample
(dynamic thresholding above all) is done per frame, as in the published stages.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from mpl.noise import SCHEDULERS, Noise

LEARNED = ("learned", "learned_range")


@dataclass(frozen=True)
class Step:
    """One denoising step that has just been taken."""

    index: int  # 1 ... total
    total: int
    timestep: int  # that the network was asked about
    evaluations: int  # samples put through the network since the stage began; guided ones count twice
    sample: Tensor  # the noisy sample after this step, (b, c, f, h, w), on the model's device
    estimate: Callable[[], Tensor]  # computes the result as this step sees it: clip or scaled latents, CPU


@dataclass
class Guided:
    """A network with its text and conditions, guided: (x, t) -> output, `(b, c or 2c, f, h, w)`.

    Guidance is on above 1: out = negative + guidance * (positive - negative), in one call with the batch
    [negative, positive], or in two where `split` is set (half the memory, the same result). Timesteps outside
    `guidance_from` to `guidance_to` are not guided: at low ones little is decided, and guidance magnifies errors.
    Condition channels are the same for both. Of an output with twice the noisy channels the second half, the
    variance, is taken from the positive call, unguided.

    Where `deep_every` is above 1, one of so many calls computes the network's deep levels, and those after it use what
    it kept (Ma et al. 2023, "DeepCache"); where guidance begins or ends they are computed as well.
    """

    model: Callable[..., Any]  # VideoUNet or UNet3DConditionModel
    text: Tensor  # (1 or b, tokens, dim), on the model's device
    negative: Tensor | None  # likewise; may be None where guidance is off
    guidance: float
    dtype: torch.dtype  # that the network computes in
    condition: Tensor | None = None  # (b, c2, f, h, w): joined to the noisy channels
    level: int | None = None  # noise level of the condition, told as class label
    given: Tensor | None = None  # (f,): true where the condition's frame is the result itself
    split: bool = False
    guidance_from: int = 0
    guidance_to: int = 999
    deep_every: int = 1
    remembers: bool = False  # the network takes `known`: what depends on the text alone is computed once
    evaluations: int = 0
    calls: int = 0
    guiding: bool = False  # whether the last call was guided
    known: dict[tuple[str, int], dict[Any, Any]] = field(default_factory=dict)  # by whose text, for how many clips
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.guided and self.negative is None:
            raise ValueError(f"guidance is {self.guidance}; without negative text only 1 or below is accepted")

    @property
    def guided(self) -> bool:
        return self.guidance > 1

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        channels, batch = x.shape[1], len(x)
        sample = x if self.condition is None else torch.cat([x, self.condition], dim=1)
        positive = _spread(self.text, batch)
        guides = self.guided and self.guidance_from <= t <= self.guidance_to
        if self.calls % self.deep_every == 0 or guides != self.guiding:
            self.kept = {}
        self.calls, self.guiding = self.calls + 1, guides
        if not guides:
            return self._run(sample, t, positive, "positive")
        negative = _spread(self.negative, batch)
        if self.split:
            low = self._run(sample, t, negative, "negative")
            high = self._run(sample, t, positive, "positive")
        else:
            both = torch.cat([sample, sample]), t, torch.cat([negative, positive])
            low, high = self._run(*both, "both").chunk(2)
        out = low[:, :channels] + self.guidance * (high[:, :channels] - low[:, :channels])
        return torch.cat([out, high[:, channels:]], dim=1)

    def _run(self, sample: Tensor, t: Tensor, text: Tensor, who: str) -> Tensor:
        labels: dict[str, Any] = {}
        if self.remembers:
            labels["known"] = self.known.setdefault((who, len(sample)), {})
        if self.deep_every > 1:
            labels["deep"] = self.kept.setdefault(who, {})
        if self.level is not None:
            labels["class_labels"] = torch.full((len(sample),), self.level, device=sample.device)
        if self.given is not None:
            labels["given"] = self.given
        self.evaluations += len(sample)
        return self.model(sample.to(self.dtype), t.to(sample.device), text, **labels).sample.float()


def _spread(text: Tensor, batch: int) -> Tensor:
    """Text of one prompt, or of each clip, for a batch whose clips repeat in that order."""
    return text.repeat(batch // len(text), 1, 1)


def start_schedule(scheduler: Any, steps: int, option: str) -> Tensor:
    """Set the scheduler to `steps` steps over its whole range and return its timesteps, falling, `(n,)`.

    Raises:
        ValueError: naming `option`, or a scheduler class that the loop does not know.
    """
    if type(scheduler).__name__ not in SCHEDULERS:
        raise ValueError(f"scheduler is {type(scheduler).__name__}; accepted are {', '.join(SCHEDULERS)}")
    most = scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise ValueError(f"{option} is {steps}; 1 to {most} is accepted")
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    scheduler: Any,
    timesteps: Tensor,
    generator: Noise,
    eta: float = 0.0,
) -> Generator[Step, None, Tensor]:
    """Denoise `x`, yielding after every step; it can be closed between two.

    Args:
        predict: (x, t) -> the network's output, `(b, c, f, h, w)` or with 2c channels (see `Guided`);
            called without gradients. Its attribute `evaluations`, if any, counts the samples; otherwise x
            counts as b per step.
        x: float32 noise or noised clip `(b, c, f, h, w)` on the model's device.
        scheduler: freshly set (`start_schedule`), used by this loop alone.
        timesteps: the last ones of `scheduler.timesteps`, as many as are to be run.
        generator: gives the noise of ancestral samplers, one draw `(b*f, c, h, w)` per step.
        eta: of DDIM: 0 is deterministic, 1 ancestral.

    Returns:
        The final sample, `(b, c, f, h, w)`.

    Raises:
        ValueError: the network's output has neither c nor 2c channels.
    """
    total, frames = len(timesteps), x.shape[2]
    if hasattr(scheduler, "set_begin_index"):  # part of a grid: said rather than searched for
        scheduler.set_begin_index(len(scheduler.timesteps) - total)
    before = getattr(predict, "evaluations", 0)
    for index, t in enumerate(timesteps, start=1):
        with torch.inference_mode():
            output = fold(predict(x, t))
        sample = fold(x)
        if output.shape[1] not in (sample.shape[1], 2 * sample.shape[1]):
            raise ValueError(f"the model returns {output.shape[1]} channels for {sample.shape[1]} noisy ones")
        x = unfold(advance(scheduler, output, t, sample, generator, eta), frames)
        evaluations = getattr(predict, "evaluations", before + index * len(x)) - before
        estimate = partial(_estimate, scheduler, output, t, sample, frames)
        yield Step(index, total, int(t), evaluations, x, estimate)
    return x


def advance(scheduler: Any, output: Tensor, t: Tensor, x: Tensor, generator: Noise, eta: float = 0.0) -> Tensor:
    """One step of the scheduler, `(n, c, h, w)`, from an output of c or 2c channels.

    Only the ancestral sampler uses a learned variance. For all others it is cut off here: the published
    stages leave that to the solver, which keeps 3 channels, whatever c is, and only for epsilon-prediction.
    """
    if isinstance(scheduler, DDPMScheduler):
        return ancestral_step(scheduler, output, t, x, generator)
    mean = output[:, : x.shape[1]]
    if isinstance(scheduler, DDIMScheduler):
        noise = generator.randn(x.shape).to(x.device) if eta > 0 else None
        return scheduler.step(mean, t, x, eta=eta, variance_noise=noise, return_dict=False)[0]
    if str(getattr(scheduler.config, "algorithm_type", "")).startswith("sde"):
        noise = generator.randn(x.shape).to(x.device)
        return scheduler.step(mean, t, x, variance_noise=noise, return_dict=False)[0]
    return scheduler.step(mean, t, x, return_dict=False)[0]


def ancestral_step(scheduler: DDPMScheduler, output: Tensor, t: Tensor, x: Tensor, generator: Noise) -> Tensor:
    """One step of ancestral sampling (Ho et al. 2020, equations 6 and 7).

    A learned range lies between the two fixed variances, in logarithms (Nichol and Dhariwal 2021, eq. 15).

    Equals `DDPMScheduler.step`, which cannot be given its noise: `torch.Generator`s alone would tie what a
    gap draws to how many gaps run as one batch. No noise is drawn at t = 0.
    """
    channels = x.shape[1]
    before = scheduler.previous_timestep(t)
    a, one = scheduler.alphas_cumprod[t], torch.tensor(1.0)
    a_before = scheduler.alphas_cumprod[before] if before >= 0 else one
    alpha = a / a_before
    x0 = predict_x0(scheduler, output[:, :channels], t, x)
    mean = a_before**0.5 * (1 - alpha) / (1 - a) * x0 + alpha**0.5 * (1 - a_before) / (1 - a) * x
    if t == 0:
        return mean
    low = ((1 - a_before) / (1 - a) * (1 - alpha)).clamp(min=1e-20)
    kind = scheduler.config.variance_type
    if kind in LEARNED and output.shape[1] == channels:
        raise ValueError(
            f"variance_type is {kind!r}, but the model returns no variance; a scheduler with 'fixed_small' is accepted"
        )
    if kind == "learned":
        variance = output[:, channels:]
    elif kind == "learned_range":
        share = (output[:, channels:] + 1) / 2
        variance = torch.exp(share * (1 - alpha).log() + (1 - share) * low.log())
    elif kind in ("fixed_large", "fixed_large_log"):
        variance = 1 - alpha
    else:
        variance = low
    return mean + variance**0.5 * generator.randn(x.shape).to(x.device)


def predict_x0(scheduler: Any, mean: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """The clean sample `(n, c, h, w)` that the network's output means, clipped as the config says.

    Raises:
        ValueError: a prediction type other than epsilon, v_prediction and sample.
    """
    config, a = scheduler.config, scheduler.alphas_cumprod[int(t)]
    if config.prediction_type == "epsilon":
        x0 = (x - (1 - a) ** 0.5 * mean) / a**0.5
    elif config.prediction_type == "v_prediction":
        x0 = a**0.5 * x - (1 - a) ** 0.5 * mean
    elif config.prediction_type == "sample":
        x0 = mean
    else:
        known = "epsilon, v_prediction, sample"
        raise ValueError(f"scheduler prediction_type is {config.prediction_type!r}; accepted are {known}")
    if config.thresholding:
        return threshold(x0, config.dynamic_thresholding_ratio, config.sample_max_value)
    if getattr(config, "clip_sample", False):
        return x0.clamp(-config.clip_sample_range, config.clip_sample_range)
    return x0


def threshold(x0: Tensor, ratio: float, most: float) -> Tensor:
    """Dynamic thresholding (Imagen, section 2.3) of each sample of `(n, c, h, w)`.

    s is the `ratio` quantile of the sample's absolute values, at least 1 and at most `most`; the sample is
    clipped to [-s, s] and divided by s.
    """
    s = x0.flatten(1).abs().quantile(ratio, dim=1).clamp(1, most).reshape(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


def _estimate(scheduler: Any, output: Tensor, t: Tensor, x: Tensor, frames: int) -> Tensor:
    return unfold(predict_x0(scheduler, output[:, : x.shape[1]], t, x), frames).cpu()


def last_of(steps: Generator[Step, None, Tensor]) -> Tensor:
    """What a denoising walk returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def fold(x: Tensor) -> Tensor:
    """(b, c, f, h, w) -> (b*f, c, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: Tensor, frames: int) -> Tensor:
    """(b*f, c, h, w) -> (b, c, f, h, w)."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


class Progress:
    """Numbers the steps of a stage that denoises in several parts: one count, one total."""

    def __init__(self, total: int) -> None:
        self.total, self.index, self.evaluations = total, 0, 0

    def follow(
        self, steps: Generator[Step, None, Tensor], preview: Callable[[Tensor], Tensor]
    ) -> Generator[Step, None, Tensor]:
        """The steps of one part, numbered on; `preview` turns the part's estimate into the clip's."""
        last = None
        try:
            while True:
                last = next(steps)
                yield replace(
                    last,
                    index=self.index + last.index,
                    total=self.total,
                    evaluations=self.evaluations + last.evaluations,
                    estimate=partial(_preview, preview, last.estimate),
                )
        except StopIteration as end:
            self.index += last.index if last else 0
            self.evaluations += last.evaluations if last else 0
            return end.value
        finally:
            steps.close()


def _preview(preview: Callable[[Tensor], Tensor], estimate: Callable[[], Tensor]) -> Tensor:
    return preview(estimate())
