"""Stage 4 (paper 3.6), expert translation: the resized clip is noised and denoised in latent space."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mpl.models.tiles import decode_frames, encode_frames
from mpl.noise import Noise, add_noise, with_solver
from mpl.options import TranslationOptions
from mpl.sampling import Step, denoise, fold, start_schedule, unfold
from mpl.stages.common import back_project, guided
from mpl.stages.text import TextStates

if TYPE_CHECKING:
    from mpl.weights import Weights


def translation(
    clip: Tensor,
    text: TextStates,
    options: TranslationOptions,
    weights: Weights,
    generator: Noise,
    latents: Tensor | None = None,
) -> Generator[Step, None, Tensor]:
    """Resize, encode, noise, denoise from there under the same text (SDEdit, Meng et al. 2021), decode.

    Where the options say so, the result is held to the clip (`back_project`), by as much as the noise at the start
    leaves of its variance: nearly all at a low strength, little where much is to be drawn anew.

    Args:
        clip: `(b, 3, f, h, w)`.
        latents: what `encode_clip(clip, options, weights, generator)` gave before; spares encoding. The noise
            drawn after it is the same either way.

    Returns:
        `(b, 3, f, options.height, options.width)`, not clamped, float32 on the CPU. The steps' estimates
        are latents `(b, c, f, height / 8, width / 8)`, not decoded.

    Raises:
        ValueError: a start that leaves no step; text without CLIP states.
    """
    scheduler = weights.scheduler("translation")
    start = translation_timesteps(scheduler, options)[0]  # before any work
    if latents is None:
        latents = encode_clip(clip, options, weights, generator)
    latents = yield from denoise_latents(latents, text, options, weights, generator)
    made = decode_latents(latents, options, weights)
    kept = scheduler.alphas_cumprod[start].item()  # of the clip's variance, under the noise
    for first in range(0, made.shape[2], options.decode_frames):  # in parts, not to hold the large clip twice
        frames = slice(first, first + options.decode_frames)
        made[:, :, frames] = back_project(made[:, :, frames], clip[:, :, frames], options.back_projection, kept)
    return made


def translation_timesteps(scheduler: Any, options: TranslationOptions) -> list[int]:
    """The timesteps that translation runs; the first is the one that the latents are noised to.

    It is the first of the grid that is not above min(strength * 1000, cap). `grid = "published"` has `steps` steps
    over the whole schedule (50 at strength 0.8: 40 run, from 799; the published code counts int(steps * strength)
    from the end, which can be one fewer). `grid = "from_start"` has them all from the start down, evenly; fewer
    where each would cover less than `step_span` timesteps.

    Args:
        scheduler: `weights.scheduler("translation")`; it is not changed.

    Raises:
        ValueError: no step is left, or the scheduler cannot start anywhere.
    """
    return _schedule(type(scheduler).from_config(scheduler.config), options)[1].tolist()


def _schedule(scheduler: Any, options: TranslationOptions) -> tuple[Any, Tensor]:
    """The scheduler that the options choose, set, and the timesteps to run. The given one may be it."""
    scheduler = with_solver(scheduler, options.solver, options.spacing, "translation")
    trained = scheduler.config.num_train_timesteps
    limit = min(options.strength * trained, options.cap)
    grid = start_schedule(scheduler, options.steps, "translation.steps")
    if options.grid == "published":
        kept, lowest = grid[grid <= limit], int(grid[-1])
    elif options.grid == "from_start":
        if options.spacing != "checkpoint" or getattr(scheduler.config, "use_karras_sigmas", False):
            raise ValueError(
                f"translation.grid is 'from_start', which has even steps, and translation.spacing {options.spacing!r}; "
                "a spacing of its own is accepted with translation.grid = 'published'"
            )
        kept, lowest = _from_start(scheduler, min(int(limit), trained - 1), options), 1
    else:
        raise ValueError(f"translation.grid is {options.grid!r}; 'from_start' or 'published' is accepted")
    if not len(kept):
        raise ValueError(
            f"translation.strength {options.strength} with translation.cap {options.cap} leaves none of "
            f"{options.steps} steps: the lowest of this grid is timestep {lowest}; raise one of the three"
        )
    return scheduler, kept


def steps_from(start: int, options: TranslationOptions) -> int:
    """Steps of `grid = "from_start"` from a timestep down."""
    return min(options.steps, max(start // options.step_span, 1))


def _from_start(scheduler: Any, start: int, options: TranslationOptions) -> Tensor:
    """Set the steps' timesteps evenly from `start` down; 0, where the last step ends, is not one of them."""
    if type(scheduler).__name__ not in ("DPMSolverMultistepScheduler", "DDPMScheduler"):
        raise ValueError(
            f"translation.grid is 'from_start' and the scheduler {type(scheduler).__name__}; with this grid "
            "DPMSolverMultistepScheduler or DDPMScheduler is accepted, with grid = 'published' any"
        )
    steps = steps_from(start, options)
    timesteps = np.unique(np.linspace(0, start, steps + 1).round().astype(int))[:0:-1]
    if len(timesteps):
        scheduler.set_timesteps(timesteps=timesteps.tolist())
    return scheduler.timesteps if len(timesteps) else torch.empty(0)


def encode_clip(clip: Tensor, options: TranslationOptions, weights: Weights, generator: Noise) -> Tensor:
    """Resize and encode a clip, `options.decode_frames` frames at a time.

    Returns:
        Latents `(b, c, f, height / 8, width / 8)` times the autoencoder's scaling factor, float32 on the CPU.

    Raises:
        ValueError: a size that the autoencoder cannot halve so often, or an unknown option.
    """
    if options.posterior not in ("mode", "sample"):
        raise ValueError(f"translation.posterior is {options.posterior!r}; 'mode' or 'sample' is accepted")
    frames, noise, parts = fold(clip), None, []
    with weights.borrow("vae") as vae:
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        for side in ("height", "width"):
            if getattr(options, side) % factor:
                value = getattr(options, side)
                raise ValueError(f"translation.{side} is {value}; a multiple of {factor} is accepted")
        if options.posterior == "sample":
            size = (options.height // factor, options.width // factor)
            shape = (len(frames), vae.config.latent_channels, *size)
            noise = generator.spawn("posterior").randn(shape).split(options.decode_frames)
        for i, part in enumerate(frames.split(options.decode_frames)):
            pixels = resize_frames(part, options.height, options.width, options.resize)
            with torch.inference_mode():
                pixels = pixels.to(weights.device, weights.dtype("vae"))
                posterior = encode_frames(vae, pixels, options.tiling, options.tile_overlap)
            latent = posterior.mean
            if noise is not None:
                latent = latent + posterior.std * noise[i].to(latent)
            parts.append(latent.to("cpu", torch.float32) * vae.config.scaling_factor)
    return unfold(torch.cat(parts), clip.shape[2])


def noise_latents(latents: Tensor, options: TranslationOptions, weights: Weights, generator: Noise) -> Tensor:
    """Latents `(b, c, f, h, w)` noised to the first timestep: where translation starts, float32 on the CPU."""
    scheduler, timesteps = _schedule(weights.scheduler("translation"), options)
    frames = fold(latents)
    noise = generator.spawn("start").randn(frames.shape)
    return unfold(add_noise(frames, noise, scheduler, timesteps[0]), latents.shape[2])


def denoise_latents(
    latents: Tensor, text: TextStates, options: TranslationOptions, weights: Weights, generator: Noise
) -> Generator[Step, None, Tensor]:
    """Noise the latents `(b, c, f, h, w)` to the first timestep and denoise all frames at once.

    Returns:
        Latents as they came, float32 on the CPU.
    """
    from mpl.models.latent import set_feed_forward_parts  # with its library, which takes seconds to import

    if text.clip is None:
        raise ValueError("text has no CLIP states, which translation needs: encode(..., translation=True)")
    scheduler, timesteps = _schedule(weights.scheduler("translation"), options)
    x = noise_latents(latents, options, weights, generator).to(weights.device)
    with weights.borrow("translation") as model:
        set_feed_forward_parts(model, options.feed_forward_parts)
        predict = guided("translation", model, (text.clip, text.clip_negative), options, weights)
        source = generator.spawn("steps")
        x = yield from denoise(predict, x, scheduler, timesteps, source, options.eta)
    return x.cpu().contiguous()


def decode_latents(latents: Tensor, options: TranslationOptions, weights: Weights) -> Tensor:
    """Latents `(b, c, f, h, w)` -> clip `(b, 3, f, 8 h, 8 w)`, `options.decode_frames` frames at a time."""
    out = None
    with weights.borrow("vae") as vae:
        for i, frames in enumerate(latents.transpose(1, 2) / vae.config.scaling_factor):
            for start in range(0, len(frames), options.decode_frames):
                part = frames[start : start + options.decode_frames].to(weights.device, weights.dtype("vae"))
                with torch.inference_mode():
                    pixels = decode_frames(vae, part, options.tiling, options.tile_overlap).transpose(0, 1)
                if out is None:
                    out = torch.empty(len(latents), len(pixels), len(frames), *pixels.shape[2:])
                out[i, :, start : start + pixels.shape[1]] = pixels
    return out


def resize_frames(frames: Tensor, height: int, width: int, how: str) -> Tensor:
    """Frames `(n, 3, h, w)` in [-1, 1] at another size.

    Args:
        how: "bilinear" (paper 3.6), or "published": rounded down to 8 bits, then Pillow's antialiased
            bicubic.

    Raises:
        ValueError: another `how`.
    """
    if how == "bilinear":
        if frames.shape[2:] == (height, width):
            return frames
        return F.interpolate(frames, (height, width), mode="bilinear", align_corners=False)
    if how != "published":
        raise ValueError(f"translation.resize is {how!r}; 'bilinear' or 'published' is accepted")
    images = resize_images(to_bytes(frames), height, width)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def to_bytes(frames: Tensor) -> np.ndarray:
    """Frames `(n, 3, h, w)` in [-1, 1] as uint8 `(n, h, w, 3)`, rounded down, as published."""
    levels = (frames * 0.5 + 0.5).clamp(0, 1) * 255
    return levels.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def resize_images(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 `(n, h, w, 3)` at another size, by Pillow's bicubic filter."""
    resized = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])
