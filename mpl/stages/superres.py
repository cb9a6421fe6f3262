"""Stage 3 (paper 3.5): the clip at a higher resolution in pixels, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.config import Preset
from mpl.noise import Noise, add_noise, timestep_for_snr
from mpl.options import SuperresOptions
from mpl.sampling import Progress, Step, denoise, fold, start_schedule, unfold
from mpl.stages.common import back_project, guided, solver
from mpl.stages.text import TextStates
from mpl.windows import Span, superres_windows

if TYPE_CHECKING:
    from mpl.weights import Weights

FIRST = "superres_first_frame"


def superres_noise_level(scheduler: Any, snr: float) -> int:
    """The noise level that the model is told for an SNR: a timestep of its image-noising schedule; 0 for inf.

    Args:
        scheduler: `weights.image_noising_scheduler("superres")`.

    Raises:
        ValueError: an SNR that is not above 0.
    """
    return timestep_for_snr(scheduler, snr)


def upsampling_options(preset: Preset) -> SuperresOptions:
    """How `superres` does the last stage's work in pixels."""
    size = {"height": preset.translation.height, "width": preset.translation.width}
    return SuperresOptions(**asdict(preset.upsampling), **size)


def superres(
    clip: Tensor,
    text: TextStates,
    options: SuperresOptions,
    weights: Weights,
    generator: Noise,
    first_frame: Tensor | None = None,
    name: str = "superres",
) -> Generator[Step, None, Tensor]:
    """Upscale a clip of any length in windows (`mpl.windows.superres_windows`).

    The condition is the clip upscaled bilinearly, then noised; its first frame is replaced, clean, by the frame
    that is already upscaled there: in later windows, where they are `chained`, the last of the window before (written
    anew by the later window, as published); in the first window `first_frame`, or what the image model
    `superres_first_frame` makes of it where there is one, else nothing is replaced. Where the options say so, what
    a window gives is held to what it was made from (`back_project`), before the next window sees it.

    Args:
        clip: `(b, 3, f, h, w)`.
        first_frame: `(b, 3, 1, options.height, options.width)`, upscaled by other means.
        name: of the model: "superres", or "upsampling" for the last stage in pixels.

    Returns:
        The raw sample `(b, 3, f, options.height, options.width)`, float32 on the CPU.

    Raises:
        ValueError: a first frame of another shape, or an SNR that is not above 0.
    """
    _check_first_frame(first_frame, clip, options)
    plan = superres_windows(clip.shape[2], options.window, options.stride)
    noising = weights.image_noising_scheduler(name)
    level = superres_noise_level(noising, options.snr)
    scheduler = solver(name, options, weights)
    steps = len(start_schedule(scheduler, options.steps, f"{name}.steps"))
    by_model = name == "superres" and first_frame is None and weights.has(FIRST)
    progress = Progress(len(plan) * steps + (options.first_frame_steps if by_model else 0))
    out = torch.empty(*clip.shape[:3], options.height, options.width)
    texts = (text.t5, text.t5_negative)
    if by_model:
        image = _first_frame(clip[:, :, :1], texts, options, weights, generator.spawn(FIRST))
        first_frame = yield from progress.follow(image, _previewer(out, clip, Span(0, 0, 1)))
    known: dict[Any, Any] = {}
    with weights.borrow(name) as model:
        for window in plan:
            source = generator.spawn(0 if options.shared_noise else window.index)
            small = clip[:, :, window.frames]
            condition = upscale(small, options.height, options.width)
            x = source.randn(condition.shape).to(weights.device)  # before the condition's noise, as published
            if not math.isinf(options.snr):
                condition = add_noise(condition, source.randn(condition.shape), noising, level)
            before = out[:, :, window.start : window.start + 1] if options.chained else None
            given = before if window.index else first_frame
            told = torch.zeros(condition.shape[2], dtype=torch.bool)
            if given is not None:
                condition[:, :, :1], told[0] = given, True
            predict = guided(name, model, texts, options, weights, condition, level, told, known)
            part = denoise(predict, x, scheduler, start_schedule(scheduler, options.steps, f"{name}.steps"), source)
            made = yield from progress.follow(part, _previewer(out, clip, window))
            out[:, :, window.frames] = back_project(made.cpu(), small, options.back_projection)
    return out


def upscale(clip: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, frame by frame, corner pixels on corner pixels (as published and in DeepFloyd IF)."""
    frames = F.interpolate(fold(clip), (height, width), mode="bilinear", align_corners=True)
    return unfold(frames, clip.shape[2])


def _check_first_frame(frame: Tensor | None, clip: Tensor, options: SuperresOptions) -> None:
    wanted = (len(clip), 3, 1, options.height, options.width)
    if frame is not None and frame.shape != wanted:
        raise ValueError(f"first_frame has shape {tuple(frame.shape)}; {wanted} is accepted")


def _first_frame(
    frame: Tensor, texts: tuple[Tensor, Tensor | None], options: SuperresOptions, weights: Weights, source: Noise
) -> Generator[Step, None, Tensor]:
    """Upscale one frame `(b, 3, 1, h, w)` by an image model (DeepFloyd IF-II), with its own scheduler."""
    scheduler = weights.scheduler(FIRST)
    timesteps = start_schedule(scheduler, options.first_frame_steps, "superres.first_frame_steps")
    condition, level = upscale(frame, options.height, options.width), options.first_frame_noise_level
    x = source.randn(condition.shape).to(weights.device)
    noising = weights.image_noising_scheduler(FIRST)
    condition = add_noise(condition, source.randn(condition.shape), noising, level)
    own = SuperresOptions(guidance=options.first_frame_guidance, split_guidance=options.split_guidance)
    with weights.borrow(FIRST) as model:
        predict = guided(FIRST, per_frame(model), texts, own, weights, condition, level)
        x = yield from denoise(predict, x, scheduler, timesteps, source)
    return x.cpu()


def per_frame(model: Callable[..., Any]) -> Callable[..., Any]:
    """An image model, called like a video model with one frame per clip."""

    def call(sample: Tensor, t: Tensor, text: Tensor, class_labels: Tensor) -> SimpleNamespace:
        out = model(fold(sample), t, text, class_labels=class_labels).sample
        return SimpleNamespace(sample=unfold(out, sample.shape[2]))

    return call


def _previewer(out: Tensor, clip: Tensor, window: Span) -> Callable[[Tensor], Tensor]:
    """Shows the whole clip: frames done, the window's estimate, and the rest merely upscaled."""

    def preview(x: Tensor) -> Tensor:
        rest = upscale(clip[:, :, window.stop :], *out.shape[3:]) if window.stop < clip.shape[2] else None
        parts = [out[:, :, : window.start], x] + ([] if rest is None else [rest])
        return torch.cat(parts, dim=2)

    return preview
