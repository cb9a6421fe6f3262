"""What the four stages share: a borrowed network made ready to be called by the denoising loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mpl.sampling import Guided


def guided(
    name: str,
    model: Callable[..., Any],
    text: tuple[Tensor, Tensor | None],
    options: Any,
    weights: Any,
    condition: Tensor | None = None,
    level: int | None = None,
) -> Guided:
    """The borrowed model `name` with its text (positive, negative), its conditions and the options' guidance.

    Args:
        options: with `guidance` and `split_guidance`.
        condition: `(b, c2, f, h, w)`, any device.
        level: noise level of the condition, for models that are told it.
    """
    dtype = weights.dtype(name)
    positive, negative = (None if x is None else x.to(weights.device, dtype) for x in text)
    if condition is not None:
        condition = condition.to(weights.device, torch.float32)
    return Guided(
        model, positive, negative, options.guidance, dtype, condition, level, options.split_guidance
    )
