"""What the four stages share: a borrowed network made ready to be called by the denoising loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from mpl.noise import with_solver
from mpl.sampling import Guided

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
