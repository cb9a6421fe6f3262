"""Training objectives of the denoisers: noise, targets, weights. Knows tensors and schedules, no worlds, no files.

What is drawn per sample, timesteps above all, stays on the CPU with the schedules' tables; what it does to clips is
moved to where they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mpl.noise import add_noise, mix_frames

from .options import LossOptions

LOWEST_DEGRADED = 60  # timestep: below, what noise would have to stand for the difference is larger than any noise


@dataclass(frozen=True)
class Schedule:
    """The forward process of a checkpoint: ᾱ_t for t in 0…T-1 and what the network predicts."""

    alphas_cumprod: Tensor  # (T,) float32
    prediction_type: str  # epsilon | v_prediction | sample

    @property
    def log_snr(self) -> Tensor:
        return torch.log(self.alphas_cumprod) - torch.log1p(-self.alphas_cumprod)

    def coefficients(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1-ᾱ) at timesteps t (b,), shaped to broadcast over `like` (b …), on its device."""
        a = self.alphas_cumprod[t].view(-1, *([1] * (like.ndim - 1))).to(like.device)
        return a.sqrt(), (1 - a).sqrt()

    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_0), eq. 2: x, noise (b …), t (b,)."""
        return add_noise(x, noise, self.alphas_cumprod, t)

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should say: ε (eq. 5), v = √ᾱ ε - √(1-ᾱ) x (Salimans and Ho 2022), or x."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return x
        alpha, sigma = self.coefficients(t, x)
        return alpha * noise - sigma * x

    def target_from(self, noisy: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """What the network should say of `noisy` (b …) so that its clean estimate is x, whatever was noised."""
        alpha, sigma = self.coefficients(t, x)
        return self.target(x, (noisy - alpha * x) / sigma.clamp(min=1e-3), t)


def draw_timesteps(count: int, schedule: Schedule, loss: LossOptions, generator: torch.Generator) -> Tensor:
    """(count,) int64 in [0, cap]: a share uniform, the rest where logSNR is normal around the chosen mean."""
    levels = min(loss.cap + 1, len(schedule.alphas_cumprod))  # the cap itself is the stage's highest start
    uniform = torch.randint(0, levels, (count,), generator=generator)
    wanted = loss.log_snr_mean + loss.log_snr_std * torch.randn(count, generator=generator)
    # log_snr falls with t, so its negative is sorted as searchsorted needs it.
    focused = torch.searchsorted(-schedule.log_snr[:levels].contiguous(), -wanted).clamp(max=levels - 1)
    pick = torch.rand(count, generator=generator) < loss.uniform_share
    return torch.where(pick, uniform, focused)


def level_weights(t: Tensor, schedule: Schedule, max_weight: float) -> Tensor:
    """(b,) weights of the noise levels. An error of x counts as the error of v it is equal to, times 1 / (1-ᾱ).

    So a network that predicts the clean picture trains on the loss of one that predicts v ("Back to basics", Li and He
    2025, section 4.3); the bound keeps the nearly clean levels from taking over.
    """
    if schedule.prediction_type != "sample":
        return torch.ones(len(t))
    return (1 / (1 - schedule.alphas_cumprod[t])).clamp(max=max_weight)


def subject_weights(mask: Tensor | None, weight: float, like: Tensor) -> Tensor:
    """Weights with mean 1 that count the subject's pixels `weight` times. mask (b 1 f h w) in [0, 1] or None."""
    if mask is None or weight == 1.0:
        return torch.ones((), dtype=like.dtype, device=like.device)
    weights = 1.0 + (weight - 1.0) * mask
    return weights / weights.mean(dim=(1, 2, 3, 4), keepdim=True)


def weighted_error(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error per sample, (b,), in float32; weights broadcast over (b c f h w)."""
    return ((prediction.float() - target).square() * weights).flatten(1).mean(1)


def noise_like(x: Tensor, generator: torch.Generator, mixed: float = 0.0) -> Tensor:
    """Unit normal noise drawn on the CPU, the same for every device, and moved to x's.

    Of clips (b c f h w) a share `mixed` of the variance may be common to all frames.
    """
    noise = torch.randn(x.shape, generator=generator)
    if mixed:
        noise = mix_frames(noise, torch.randn(x[:, :, :1].shape, generator=generator), mixed)
    return noise.to(x.device)


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen ones of values (b,), without gradient; NaN where there are none."""
    chosen = chosen.to(values.device)
    return torch.where(chosen, values.detach(), 0.0).sum() / chosen.sum()
