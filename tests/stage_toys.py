"""Small stand-ins for the networks of the stages: quick, seeded, sensitive to all they are given."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL
from reference_stages import FakeWeights
from torch import Tensor, nn

from mpl.noise import alphas_cumprod
from mpl.sampling import Step
from mpl.stages.text import TextStates

WIDTH = 8  # of the text states
SOLVER = {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2"}
V_SOLVER = {**SOLVER, "prediction_type": "v_prediction"}
ANCESTRAL = {**SOLVER, "_class_name": "DDPMScheduler", "variance_type": "learned_range", "thresholding": True}
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
MEAN, SPREAD = 0.3, 0.5  # of the toy data: every value is normal and known
COSINE = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}


class ToyUNet(nn.Module):
    """A convolution over space and time plus what text, timestep and noise level say; records its calls."""

    def __init__(self, in_channels: int, out_channels: int, flat: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(in_channels)
        self.flat = flat  # an image model: (b, c, h, w)
        self.mix = nn.Conv3d(in_channels, out_channels, (1 if flat else 3, 3, 3), padding=(0 if flat else 1, 1, 1))
        self.read = nn.Linear(WIDTH, out_channels)
        for p in self.parameters():
            p.data = 0.1 * torch.randn(p.shape, generator=generator)
        self.calls: list[SimpleNamespace] = []

    def forward(
        self, sample: Tensor, timestep: Tensor, text: Tensor, class_labels: Tensor | None = None
    ) -> SimpleNamespace:
        self.calls.append(
            SimpleNamespace(sample=sample, timestep=timestep, labels=class_labels, grad=torch.is_grad_enabled())
        )
        x = self.mix(sample.unsqueeze(2) if self.flat else sample)
        told = self.read(text.mean(1)) + timestep / 1000
        if class_labels is not None:
            told = told + class_labels.unsqueeze(1) / 1000
        x = torch.tanh(x + told[:, :, None, None, None])
        return SimpleNamespace(sample=x.squeeze(2) if self.flat else x)


def toy_vae() -> AutoencoderKL:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    )
    return vae.eval()


def toy_weights(scheduler: dict[str, Any] = V_SOLVER, first_frame: bool = False, **changes: Any) -> FakeWeights:
    """Toys for all four stages, all with the same scheduler."""
    models: dict[str, Any] = {
        "keyframes": ToyUNet(3, 3),
        "interpolation": ToyUNet(7, 3),
        "superres": ToyUNet(6, 3),
        "translation": ToyUNet(4, 4),
        "vae": toy_vae(),
    }
    if first_frame:
        models["superres_first_frame"] = ToyUNet(6, 6, flat=True)
    models.update(changes.pop("models", {}))
    noising = {"superres": COSINE, "superres_first_frame": COSINE}
    return FakeWeights(models, dict.fromkeys(models, scheduler), noising, **changes)


def toy_text(batch: int = 1) -> TextStates:
    generator = torch.Generator().manual_seed(1)
    return TextStates(*(torch.randn(batch, 5, WIDTH, generator=generator) for _ in range(4)))


def finish(steps: Generator[Step, None, Tensor]) -> Tensor:
    """What a stage returns."""
    return watch(steps)[1]


def watch(steps: Generator[Step, None, Tensor]) -> tuple[list[Step], Tensor]:
    """All steps of a stage, and what it returns."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as end:
            return seen, end.value


class NoNoise:
    """A source that deterministic samplers never ask."""

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        raise AssertionError("noise was drawn")


def exact_model(
    scheduler: Any, mean: Tensor | float = MEAN, spread: float = SPREAD
) -> Callable[[Tensor, Tensor], Tensor]:
    """The ideal prediction for data of normal values, in the scheduler's parametrisation."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        a = alphas_cumprod(scheduler)[int(t)]
        x0 = mean + a.sqrt() * spread**2 / (a * spread**2 + 1 - a) * (x.double() - a.sqrt() * mean)
        e = (x.double() - a.sqrt() * x0) / (1 - a).sqrt()
        v = a.sqrt() * e - (1 - a).sqrt() * x0
        return {"epsilon": e, "v_prediction": v, "sample": x0}[scheduler.config.prediction_type].float()

    return predict


def exact_end(scheduler: Any, x: Tensor, start: int, end: int = 0) -> Tensor:
    """Where the probability flow takes `x` from timestep `start` to `end`, for the same data."""
    a = alphas_cumprod(scheduler)
    z = (x.double() - a[start].sqrt() * MEAN) / (a[start] * SPREAD**2 + 1 - a[start]).sqrt()
    return a[end].sqrt() * MEAN + (a[end] * SPREAD**2 + 1 - a[end]).sqrt() * z
