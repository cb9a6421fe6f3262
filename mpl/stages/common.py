"""What stages share: a borrowed network made ready to be called, and a result held to what it was made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.noise import with_solver
from mpl.sampling import Guided, fold, unfold

if TYPE_CHECKING:
    from mpl.weights import Weights


class SampledOptions(Protocol):
    """What the options of every stage have; those in pixels have `deep_every` besides."""

    guidance: float
    guidance_from: int
    guidance_to: int
    split_guidance: bool
    solver: str
    spacing: str


def solver(name: str, options: SampledOptions, weights: Weights) -> Any:
    """The scheduler of the checkpoint of a model, or what the options choose instead of it, fresh.

    Raises:
        ValueError: the options do not fit together.
    """
    return with_solver(weights.scheduler(name), options.solver, options.spacing, name)


def guided(
    name: str,
    model: Callable[..., Any],
    text: tuple[Tensor, Tensor | None],
    options: SampledOptions,
    weights: Weights,
    condition: Tensor | None = None,
    level: int | None = None,
    given: Tensor | None = None,
    known: dict[Any, Any] | None = None,
) -> Guided:
    """The borrowed model `name` with its text (positive, negative), its conditions and the options' guidance.

    Args:
        options: of the stage.
        condition: `(b, c2, f, h, w)`, any device.
        level: noise level of the condition, for models that are told it.
        given: `(f,)`, true where the condition's frame is the result itself, for models that are told that.
        known: where parts of a stage, with the same text, share what depends on the text alone.
    """
    dtype = weights.dtype(name)
    positive, negative = (None if x is None else x.to(weights.device, dtype) for x in text)
    if condition is not None:
        condition = condition.to(weights.device, torch.float32)
    how: dict[str, Any] = {"split": options.split_guidance, "deep_every": getattr(options, "deep_every", 1)}
    how |= {"guidance_from": options.guidance_from, "guidance_to": options.guidance_to}
    how["remembers"] = getattr(model, "remembers_text", False)
    if known is not None:
        how["known"] = known
    if given is not None and getattr(getattr(model, "config", None), "given_frames", False):
        how["given"] = given.to(weights.device)
    return Guided(model, positive, negative, options.guidance, dtype, condition, level, **how)


def back_project(clip: Tensor, small: Tensor, pixels: int, share: float = 1.0) -> Tensor:
    """A clip with the coarse shapes of `small`, by one step of back-projection (Irani and Peleg 1991).

    Both are shrunk, by the mean over areas, to where `pixels` of `small` across are one; the difference, enlarged
    bilinearly, is added. What is finer stays the clip's own, as where a denoiser is held to low frequencies (Choi et
    al. 2021, "ILVR").

    Args:
        clip: `(b, c, f, height, width)`.
        small: `(b, c, f, h, w)`.
        pixels: 0 leaves the clip as it is.
        share: of the difference that is added, 0 to 1.
    """
    if pixels == 0:
        return clip
    made, given = fold(clip), fold(small)
    size = [max(1, side // pixels) for side in given.shape[-2:]]
    rest = F.interpolate(given, size, mode="area") - F.interpolate(made, size, mode="area")
    return unfold(made + share * F.interpolate(rest, made.shape[-2:], mode="bilinear"), clip.shape[2])
