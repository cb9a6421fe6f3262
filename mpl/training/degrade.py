"""What stage 4 meets in place of renders: results of a smaller stage, or an imitation of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.config import load_preset
from mpl.noise import NoiseSource
from mpl.options import TextOptions, TranslationOptions, WeightsOptions
from mpl.sampling import fold, last_of, unfold
from mpl.stages.superres import superres
from mpl.stages.text import TextStates, encode
from mpl.stages.translation import denoise_latents, encode_clip, resize_frames
from mpl.weights import Weights

from .data import Batch, reduced
from .language import FrozenText
from .options import DataOptions

if TYPE_CHECKING:
    from .task import Task

FACTOR = 4  # of superresolution
BLURRED_SHARE = 0.3  # of degraded clips, where superresolution makes the others
BEND_SPACING = 5  # pixels between the points that `bend` moves: lumps of about that size
BEND_HOLDS = 4  # frames between two moves: as many as keyframes lie apart
REMEMBERED = 32  # draws: how far back a step reaches for samples to use again
Sample = TypeVar("Sample")


@dataclass(frozen=True)
class PairBatch:
    """What should come out (b c … h w), and what is shown in place of some of it: degraded copies, or latents."""

    sharp: Tensor
    degraded: Tensor
    captions: list[str]


def cut_alike(pictures: Tensor, window: tuple[int, int] | None, rng: random.Random) -> Tensor:
    """A random window of each sample of (b … h w), the same for all that the sample holds; None leaves them whole."""
    if window is None:
        return pictures
    (height, width), (tall, wide) = pictures.shape[-2:], window
    parts = []
    for sample in pictures:
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        parts.append(sample[..., top : top + tall, left : left + wide])
    return torch.stack(parts)


class Reused(Generic[Sample]):
    """Samples that are costly to make: each is used about `options.reuse` times, by steps near to each other.

    A batch depends on its seed alone (and on the progress, where the world grows with it): what is not remembered of
    earlier draws, as after a start, is made for it.
    """

    def __init__(
        self, make: Callable[[int, float, int], list[Sample]], options: DataOptions, usual: float | None = None
    ) -> None:
        """`make(draw, progress, count)` makes a draw's samples; `usual` is how many a step uses on average."""
        self.make = make
        self.options = options
        self.shared = max(1, round(options.reuse / (usual or options.batch)))  # steps that share a draw
        self.known: dict[int, list[Sample]] = {}  # by draw

    def draw(self, seed: int, progress: float, rng: random.Random, count: int | None = None) -> list[Sample]:
        """`count` samples, by default a batch."""
        o = self.options
        newest = seed // self.shared
        chosen = list(self.samples(newest, progress))
        while len(chosen) < (count or o.batch):
            chosen.append(rng.choice(self.samples(newest - rng.randint(1, REMEMBERED), progress)))
        self.known = {known: samples for known, samples in self.known.items() if known >= newest - REMEMBERED}
        return chosen[:count]

    def samples(self, draw: int, progress: float) -> list[Sample]:
        if draw not in self.known:
            self.known[draw] = self.make(draw, progress, max(1, self.options.batch // self.options.reuse))
        return self.known[draw]


def blur(clip: Tensor, rng: random.Random) -> Tensor:
    """An imitation: reduced 2 to 3 times and enlarged again, (b 3 f h w)."""
    frames = fold(clip)
    factor = rng.uniform(2.0, 3.0)
    size = (round(frames.shape[-2] / factor), round(frames.shape[-1] / factor))
    small = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return unfold(F.interpolate(small, size=frames.shape[-2:], mode="bilinear"), clip.shape[2])


def soften(clip: Tensor, widths: Tensor) -> Tensor:
    """Frames of (b c f h w), each blurred by a Gaussian of its own standard deviation (b f), in pixels; 0 leaves it.

    For conditions of superresolution, whose results must be sharp where what it is given is not: the blur augmentation
    of Cascaded Diffusion Models (Ho et al. 2021, 2106.15282).
    """
    frames = fold(clip)
    reach = 3
    offsets = torch.arange(-reach, reach + 1, device=clip.device)
    widths = widths.to(clip).flatten().clamp(min=1e-3)
    kernels = (-0.5 * (offsets / widths[:, None]) ** 2).softmax(dim=1).repeat_interleave(frames.shape[1], dim=0)
    planes = frames.flatten(0, 1)[None]
    for pad, shape in (((reach, reach, 0, 0), (1, -1)), ((0, 0, reach, reach), (-1, 1))):
        padded = F.pad(planes, pad, mode="replicate")
        planes = F.conv2d(padded, kernels.unflatten(1, shape)[:, None], groups=len(kernels))
    return unfold(planes[0].unflatten(0, frames.shape[:2]), clip.shape[2])


def bend(clip: Tensor, widths: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (b c f h w), each with its shapes moved about smoothly: points BEND_SPACING apart by normal offsets.

    Their standard deviations are `widths` (b), in pixels; between points, and between their frames, moves are blended.

    For conditions of superresolution, as `soften`: keyframes hold outlines to about a pixel, each its own way, and
    between keyframes one goes over into the next. Here renders, whose outlines the result is to have, are shown with an
    elastic deformation of that kind (Simard et al. 2003).
    """
    b, _, f, h, w = clip.shape
    points = (b, 2, (f + 2) // BEND_HOLDS + 2, h // BEND_SPACING + 1, w // BEND_SPACING + 1)
    moves = torch.randn(points, generator=generator) * widths.view(-1, 1, 1, 1, 1)
    moves = F.interpolate(moves, size=((points[2] - 1) * BEND_HOLDS + 1, h, w), mode="trilinear", align_corners=True)
    first = int(torch.randint(0, BEND_HOLDS, (1,), generator=generator))
    moves = fold(moves[:, :, first : first + f]).to(clip)
    straight = F.affine_grid(torch.eye(2, 3).to(clip).expand(b * f, 2, 3), [b * f, 1, h, w], align_corners=False)
    offsets = moves.movedim(1, -1) * torch.tensor([2 / w, 2 / h]).to(clip)
    bent = F.grid_sample(fold(clip), straight + offsets, mode="bicubic", padding_mode="border", align_corners=False)
    return unfold(bent, f).clamp(-1, 1)


class Enlarger:
    """Stage 3 itself, with weights that are there already: small clips in, what stage 4 would be given of them out.

    It samples as `presets/storybook.toml` says: what comes of fewer steps is blurred, and a decoder that learned to
    sharpen it overdoes that with what it meets at last.
    """

    def __init__(self, task: Task) -> None:
        """Raises ValueError where the weights that it needs are not beside the task's own."""
        from transformers import T5EncoderModel

        superres, text = (task.sibling(f"{x}/{part}", x) for x, part in (("superres", "unet"), ("text", "tokenizer")))
        self.weights = Weights(WeightsOptions(superres=str(superres.parent.resolve()), offload="none"))
        self.text = FrozenText(text.parent, T5EncoderModel, task.options.data.tokens)
        with self.weights.borrow("superres"):  # now: loading draws random numbers, which a step's are not to follow
            pass

    def __call__(self, small: Tensor, captions: list[str], height: int, width: int, seed: int) -> Tensor:
        """Clips `(b, 3, f, h, w)` enlarged four times, then resized to the size of stage 4; on the CPU, clamped."""
        frames = small.shape[2]
        window = {"window": max(frames, 2), "stride": max(frames, 2) - 1}
        size = {"height": FACTOR * small.shape[3], "width": FACTOR * small.shape[4]}
        options = replace(load_preset("storybook").superres, **size, **window)
        clips = []
        for i, caption in enumerate(captions):
            noise = NoiseSource(seed).spawn(i)
            states = TextStates(t5=self.text([caption]).cpu())
            clips.append(last_of(superres(small[i : i + 1], states, options, self.weights, noise)))
        large = torch.cat(clips).clamp(-1, 1)
        return unfold(resize_frames(fold(large), height, width, "bilinear"), frames)


class Degrader:
    """What stage 4 would meet in place of clips, as large as they are: made by stage 3 from clips of `data.small`.

    Without `data.small`, and for a part of them, blurred copies.
    """

    def __init__(self, task: Task) -> None:
        """Raises ValueError where stage 3 is to make them and its weights are not there."""
        self.options = task.options.data
        self.enlarger = Enlarger(task) if self.options.small else None

    def __call__(self, batch: Batch, seed: int) -> Tensor:
        rng, o = random.Random(f"{seed}/degrade"), self.options
        if self.enlarger is None or rng.random() < BLURRED_SHARE:
            return blur(batch.clip, rng)
        small = reduced(batch, *o.small)
        large = self.enlarger(small, batch.captions, o.height, o.width, rng.getrandbits(62))
        return large.to(batch.clip.device)


class Translator:
    """Stage 4 itself up to its latents, with weights that are there already, on parts of clips."""

    def __init__(self, component: Path, options: DataOptions) -> None:
        """`component` holds the expert, the autoencoder and the text encoder; raises ValueError where it does not."""
        self.weights = Weights(WeightsOptions(translation=str(component.resolve()), offload="none"))
        self.options = options
        for name in ("clip", "translation", "vae"):
            with self.weights.borrow(name):  # now, as above
                pass

    def __call__(self, clip: Tensor, caption: str, seed: int) -> tuple[Tensor, Tensor]:
        """(1 3 f h w) to its scaled latents (1 c f h/8 w/8) and those that the expert makes of them, on the CPU."""
        rng = random.Random(f"{seed}/translate")
        size = {"height": clip.shape[3], "width": clip.shape[4]}
        options = TranslationOptions(steps=5, strength=rng.uniform(0.02, 0.2), tiling=self.options.tiling, **size)
        states = encode(caption, TextOptions(self.options.tokens), self.weights, pixels=False)
        noise = NoiseSource(rng.getrandbits(62))
        latents = encode_clip(clip.cpu(), options, self.weights, noise)
        return latents, last_of(denoise_latents(latents, states, options, self.weights, noise))
