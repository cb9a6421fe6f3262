"""Training samples: storybook scenes rendered on the fly, or a folder of videos with captions."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .options import DataOptions

if TYPE_CHECKING:
    from mpl.storybook.scene import Scene

CLOCK = 29  # frames of a full clip


@dataclass(frozen=True)
class Batch:
    """One training batch. clip (b 3 f h w) in [-1, 1]; mask (b 1 f h w) covers the subject, where it is known."""

    clip: Tensor
    captions: list[str]
    mask: Tensor | None
    window: tuple[tuple[float, float, float, float], ...] | None = None  # crop per sample: top, left, height, width
    scenes: tuple[Scene, ...] = ()
    times: tuple[float, ...] = ()


class StorybookData:
    """Batches of the procedural world, each a pure function of (seed, progress): what resumes, resumes exactly."""

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        self.options = options
        self.split = split

    def scenes(self, rng: random.Random, count: int, progress: float = 1.0) -> list[Scene]:
        from mpl.storybook.scene import sample_scene

        level = min(1.0, progress / self.options.easy_until) if self.options.easy_until else 1.0
        return [sample_scene(rng, self.split, level=level) for _ in range(count)]

    def times(self, rng: random.Random) -> tuple[float, ...]:
        """Frame times of one clip on the 29-frame clock; single frames come from anywhere on it."""
        span = (self.options.frames - 1) * self.options.spacing
        if span >= CLOCK:
            raise ValueError(f"data.frames × data.spacing: {span + 1} frames do not fit the {CLOCK}-frame clip")
        start = rng.randint(0, CLOCK - 1 - span)
        return tuple(float(start + i * self.options.spacing) for i in range(self.options.frames))

    def crop_windows(self, rng: random.Random, count: int) -> tuple[tuple[float, float, float, float], ...] | None:
        """Random crops on a grid of 8 pixels, so that condition, target and latents stay in register."""
        if self.options.crop is None:
            return None
        o = self.options
        tall, wide = o.crop
        windows = []
        for _ in range(count):
            top = rng.randrange(0, o.height - tall + 1, 8)
            left = rng.randrange(0, o.width - wide + 1, 8)
            windows.append((top / o.height, left / o.width, tall / o.height, wide / o.width))
        return tuple(windows)

    def draw(self, seed: int, progress: float = 1.0) -> Batch:
        from mpl.storybook.captions import caption
        from mpl.storybook.render import render_with_mask

        rng = random.Random(seed)
        o = self.options
        if o.stills and rng.random() < o.stills:
            o = replace(o, frames=1, batch=o.batch * o.frames // 2)
        scenes = self.scenes(rng, o.batch, progress)
        captions = [caption(scene, rng, style=o.caption).text for scene in scenes]
        times = StorybookData(o, self.split).times(rng)
        windows = self.crop_windows(rng, o.batch)
        height, width = o.crop or (o.height, o.width)
        with torch.no_grad():
            clip, mask = render_with_mask(scenes, times, height, width, crop=windows)
        return Batch(clip, captions, mask, windows, tuple(scenes), times)


class FolderData:
    """Batches from a folder: `scenes.jsonl`, an object {"file", "caption"} a line, as `mpl storybook` writes it."""

    def __init__(self, options: DataOptions) -> None:
        folder = Path(options.folder or "")
        index = folder / "scenes.jsonl"
        if not index.is_file():
            raise ValueError(f"data.folder {folder}: no scenes.jsonl there; expected lines with file and caption")
        self.options = options
        self.folder = folder
        self.entries = [json.loads(line) for line in index.read_text().splitlines() if line.strip()]

    def draw(self, seed: int, progress: float = 1.0) -> Batch:
        from mpl.video import read_video, to_clip

        rng = random.Random(seed)
        o = self.options
        clips, captions = [], []
        for entry in rng.choices(self.entries, k=o.batch):
            clip = to_clip(read_video(self.folder / entry["file"]))
            span = (o.frames - 1) * o.spacing + 1
            if clip.shape[2] < span:
                raise ValueError(f"{entry['file']}: {clip.shape[2]} frames; this training needs {span} or more")
            start = rng.randint(0, clip.shape[2] - span)
            clip = clip[:, :, start : start + span : o.spacing]
            clips.append(_fit(clip, o, rng))
            captions.append(entry["caption"])
        return Batch(torch.cat(clips), captions, mask=None)


def _fit(clip: Tensor, options: DataOptions, rng: random.Random) -> Tensor:
    """Resizes to the training size (antialiased), then crops at random. (1 3 f h w) in and out."""
    frames = clip[0].transpose(0, 1)
    size = (options.height, options.width)
    frames = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=True)
    if options.crop:
        tall, wide = options.crop
        top, left = rng.randint(0, size[0] - tall), rng.randint(0, size[1] - wide)
        frames = frames[..., top : top + tall, left : left + wide]
    return frames.transpose(0, 1)[None]


def open_data(options: DataOptions, split: str = "train") -> StorybookData | FolderData:
    """The data that the options name: a folder where one is given, the storybook otherwise."""
    return FolderData(options) if options.folder else StorybookData(options, split)
