"""Stage 2 (paper 3.4): new frames between each pair of keyframes, all pairs as one batch if memory allows."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpl.noise import JoinedNoise, Noise, add_noise
from mpl.options import InterpolationOptions
from mpl.sampling import Progress, Step, denoise, start_schedule
from mpl.stages.common import guided, solver
from mpl.stages.text import TextStates
from mpl.windows import Span, batches, filled_length, gaps

if TYPE_CHECKING:
    from mpl.weights import Weights


def interpolation(
    clip: Tensor, text: TextStates, options: InterpolationOptions, weights: Weights, generator: Noise
) -> Generator[Step, None, Tensor]:
    """Fill the gaps between the frames of `clip`.

    Each gap draws its noise from a source of its own, so the result does not depend on `gaps_per_batch`
    beyond rounding; with `shared_noise` they all draw the same. With `keep_keyframes` the frames of `clip`
    come out as they went in; without, every frame is the model's and a frame that two gaps share is the
    later one's (published).

    Args:
        clip: keyframes `(b, 3, n, h, w)`, n at least 1 (one keyframe is returned as it is).

    Returns:
        `(b, 3, (n - 1) * (between + 1) + 1, h, w)`, float32 on the CPU.
    """
    plan = gaps(clip.shape[2], options.between)
    if not plan:
        return clip
    scheduler = solver("interpolation", options, weights)
    parts = batches(plan, options.gaps_per_batch)
    steps = len(start_schedule(scheduler, options.steps, "interpolation.steps"))
    progress = Progress(steps * len(parts))
    out = linear_blend(clip, options.between)  # where a gap is not done yet, previews show a blend
    known: dict[Any, Any] = {}
    with weights.borrow("interpolation") as model:
        for part in parts:
            sources = [generator.spawn(0 if options.shared_noise else gap.index) for gap in part]
            length, height, width = len(part[0]), *clip.shape[3:]
            shape = (len(part) * len(clip), 3, length, height, width)
            noise = JoinedNoise(sources)
            x = noise.randn(shape).to(weights.device)
            condition = _part_condition(clip, part, options, scheduler, noise)
            texts = (text.t5, text.t5_negative)
            predict = guided("interpolation", model, texts, options, weights, condition, known=known)
            timesteps = start_schedule(scheduler, options.steps, "interpolation.steps")

            def preview(x: Tensor, part: Sequence[Span] = part) -> Tensor:
                return _write(out.clone(), x, part, options.keep_keyframes)

            x = yield from progress.follow(denoise(predict, x, scheduler, timesteps, noise), preview)
            _write(out, x.cpu(), part, options.keep_keyframes)
    return out


def gap_condition(first: Tensor, last: Tensor, between: int, fill: str) -> Tensor:
    """The four condition channels of a gap: given pixels, and a mask, 1 on the given frames (equation 6).

    Args:
        first, last: the frames on both sides, `(b, 3, h, w)`, noised already where they are to be.
        fill: what stands where no frame is given: "zeros" (paper) or "linear", a blend in time (published).

    Returns:
        `(b, 4, between + 2, h, w)`.

    Raises:
        ValueError: another `fill`.
    """
    if fill not in ("zeros", "linear"):
        raise ValueError(f"interpolation.fill is {fill!r}; 'zeros' or 'linear' is accepted")
    out = first.new_zeros(len(first), 4, between + 2, *first.shape[2:])
    if fill == "linear":
        out[:, :3] = _line(first, last, between)
    out[:, :3, 0], out[:, :3, -1] = first, last
    out[:, 3, [0, -1]] = 1
    return out


def _part_condition(
    clip: Tensor, part: Sequence[Span], options: InterpolationOptions, scheduler: Any, noise: Noise
) -> Tensor:
    """Conditions of some gaps, `(gaps * b, 4, f, h, w)`; the given frames noised by `options.noise_level`.

    The noise augmentation (paper 3.4) is on the model's own schedule and the model is not told its level.
    """
    pairs = torch.cat([clip[:, :, gap.index : gap.index + 2] for gap in part])  # (gaps * b, 3, 2, h, w)
    if options.noise_level > 0:
        pairs = add_noise(pairs, noise.randn(pairs.shape), scheduler, options.noise_level)
    return gap_condition(pairs[:, :, 0], pairs[:, :, 1], options.between, options.fill)


def _line(first: Tensor, last: Tensor, between: int) -> Tensor:
    """(b, c, h, w) twice -> (b, c, between + 2, h, w), linear from one to the other."""
    share = torch.linspace(0, 1, between + 2).reshape(1, 1, -1, 1, 1).to(first)
    return (1 - share) * first.unsqueeze(2) + share * last.unsqueeze(2)


def linear_blend(clip: Tensor, between: int) -> Tensor:
    """Keyframes (b c f h w) with `between` frames blended into each gap: where the stage starts, what it must beat."""
    shape = list(clip.shape)
    shape[2] = filled_length(shape[2], between)
    out = torch.empty(shape, dtype=torch.float32)
    for gap in gaps(clip.shape[2], between):
        out[:, :, gap.frames] = _line(clip[:, :, gap.index], clip[:, :, gap.index + 1], between)
    out[:, :, :: between + 1] = clip
    return out


def _write(out: Tensor, x: Tensor, part: Sequence[Span], keep: bool) -> Tensor:
    """Put the frames of some gaps, `(gaps * b, 3, f, h, w)`, into the clip, in order."""
    for gap, frames in zip(part, x.chunk(len(part)), strict=True):
        if keep:
            out[:, :, gap.start + 1 : gap.stop - 1] = frames[:, :, 1:-1]
        else:
            out[:, :, gap.frames] = frames
    return out
