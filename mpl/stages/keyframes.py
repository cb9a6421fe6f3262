"""Stage 1 (paper 3.3): keyframes at very low resolution from noise and text."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from torch import Tensor

from mpl.config import KeyframesOptions
from mpl.noise import Noise, mix_frames
from mpl.sampling import Step, denoise, start_schedule
from mpl.stages.common import guided
from mpl.stages.text import TextStates

if TYPE_CHECKING:
    from mpl.weights import Weights


def keyframes(
    text: TextStates, options: KeyframesOptions, weights: Weights, generator: Noise
) -> Generator[Step, None, Tensor]:
    """Denoise `options.frames` frames from noise, all at once.

    Returns:
        The raw sample `(b, 3, f, h, w)`, about [-1, 1], float32 on the CPU; b is the text's.
    """
    scheduler = weights.scheduler("keyframes")
    timesteps = start_schedule(scheduler, options.steps, "keyframes.steps")
    shape = (len(text.t5), 3, options.frames, options.height, options.width)
    x = generator.randn(shape)
    if options.mixed_noise:
        common = generator.spawn("common").randn((*shape[:2], 1, *shape[3:]))
        x = mix_frames(x, common, options.mixed_noise)
    x = x.to(weights.device)
    with weights.borrow("keyframes") as model:
        predict = guided("keyframes", model, (text.t5, text.t5_negative), options, weights)
        x = yield from denoise(predict, x, scheduler, timesteps, generator)
    return x.cpu().contiguous()
