"""What the noisy picture and a picture near the result say of it before any network is asked.

A condition that is nearly the result already, as superres and interpolation have, makes most of the work linear. The
blocks are given the linear part done and add to it; so noise that carries no information never reaches them, and a
nearly clean picture need not pass through them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional as F


class Guess(NamedTuple):
    """A guess of the clean clip `(b, c, f, h, w)`, how far it may be off, and what it was made of.

    The doubt `(b, 1, 1, 1, 1)` is 0 where the noisy clip is clean and 1 where it is noise alone. The residual is what
    the noisy clip has beside the picture near it, of about unit variance: noise, and detail that the guess hardly has.
    """

    mean: Tensor
    doubt: Tensor
    residual: Tensor


@cache
def prior_alphas(schedule: str) -> Tensor:
    """ᾱ_t of a noise schedule of diffusers by its name, with the betas that diffusers gives it, `(1000,)` float64."""
    with torch.device("cpu"):
        return DDPMScheduler(beta_schedule=schedule).alphas_cumprod.double()


def linear_guess(noisy: Tensor, near: Tensor | None, timestep: Tensor, schedule: str, std: float) -> Guess:
    """The mean of x_0 given x_t, where x_0 is normal around `near` with deviation `std` s, and its deviation over s.

    With x_t = √ᾱ x_0 + √(1-ᾱ) ε and v = s²ᾱ + 1 - ᾱ, the product of the two normal densities has the mean
    near + (s²√ᾱ / v) (x_t - √ᾱ near) and the variance s² (1-ᾱ) / v. With `near` zero these are c_skip and c_out of
    Karras et al. 2022, table 1, for σ² = (1-ᾱ)/ᾱ.

    Args:
        noisy: x_t, `(b, c, f, h, w)`.
        near: a picture near the clean one, of the same shape; None is zero.
        timestep: whole numbers, `(b,)`.
        schedule: diffusers' name of the noise schedule, of 1000 timesteps.
    """
    a = prior_alphas(schedule)[timestep.long().cpu()].view(-1, 1, 1, 1, 1)
    total = std**2 * a + 1 - a
    gain, doubt = std**2 * a.sqrt() / total, ((1 - a) / total).sqrt()
    gain, alpha, doubt = (value.to(noisy.device, noisy.dtype) for value in (gain, a.sqrt(), doubt))
    rest = noisy if near is None else noisy - alpha * near
    mean = gain * rest if near is None else near + gain * rest
    return Guess(mean, doubt, rest / total.sqrt().to(noisy.device, noisy.dtype))


def smoothed(clip: Tensor, pool: int) -> Tensor:
    """Means of blocks of pool x pool pixels, enlarged bilinearly again: `(b, c, f, h, w)` to the same.

    Of a picture that was enlarged by `pool` little but noise is lost.
    """
    if pool == 1:
        return clip
    frames = clip.transpose(1, 2).flatten(0, 1)
    small = F.avg_pool2d(frames, pool)
    large = F.interpolate(small, size=frames.shape[-2:], mode="bilinear")
    return large.unflatten(0, (len(clip), -1)).transpose(1, 2)


def guess_of(
    sample: Tensor, timestep: Tensor | float | int, given: Tensor | None, config: Mapping[str, Any]
) -> Guess | None:
    """What a model's sample `(b, in_channels, f, h, w)` says of the result; None for models without `prior_std`.

    Args:
        timestep: a number, or one per clip `(b,)`.
        given: true where the condition's frame is the result itself and not to be smoothed, `(f,)` or `(b, f)`.
        config: of the model.
    """
    channels, std, schedule = config["out_channels"], config["prior_std"], config["prior_schedule"]
    if std is None:
        return None
    noisy, near = sample[:, :channels], sample[:, channels : 2 * channels]
    steps = torch.as_tensor(timestep).reshape(-1).expand(len(sample))
    if not near.shape[1]:
        return linear_guess(noisy, None, steps, schedule, std)
    smooth = smoothed(near, config["prior_pool"])
    if given is not None and config["given_frames"]:
        smooth = torch.where(given.to(near.device).view(-1, 1, near.shape[2], 1, 1), near, smooth)
    return linear_guess(noisy, smooth, steps, schedule, std)
