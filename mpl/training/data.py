"""Training samples: storybook scenes rendered on the fly, or a folder of videos with captions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mpl.limits import check_prompt
from mpl.sampling import fold, unfold

from .options import CLOCK, DataOptions

if TYPE_CHECKING:
    from mpl.storybook.scene import Scene

Window = tuple[float, float, float, float]  # of a full picture, as shares of it: top, left, height, width
Middle = tuple[float, float]  # x, y, as shares of a picture's width and height
MOST_HELD_OUT = 16  # entries of a folder


@dataclass(frozen=True)
class Batch:
    """One training batch. clip (b 3 f h w) in [-1, 1]; mask (b 1 f h w) covers the subject, where it is known."""

    clip: Tensor
    captions: list[str]
    mask: Tensor | None = None
    windows: tuple[Window, ...] | None = None  # where clips were cut from, if they were
    whole: Tensor | None = None  # uncut clips, where they cannot be rendered again from the scenes
    scenes: tuple[Scene, ...] = ()
    times: tuple[tuple[float, ...], ...] = ()  # of every sample's frames, on the 29-frame clock

    def to(self, device: torch.device) -> Batch:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, clip=self.clip.to(device), mask=mask)


def crop_windows(
    options: DataOptions, rng: random.Random, count: int, middles: Sequence[Middle | None] = ()
) -> tuple[Window, ...] | None:
    """Crops on a grid of 8 pixels, so that condition, target and latents stay in register.

    They are anywhere, but around the middle (x, y, in shares of the picture) where one is given.
    """
    if options.crop is None:
        return None
    tall, wide = options.crop
    middles = middles or [None] * count
    windows = []
    for middle in middles:
        top = rng.randrange(0, options.height - tall + 1, 8)
        left = rng.randrange(0, options.width - wide + 1, 8)
        if middle is not None:
            left = _around(middle[0] * options.width, wide, options.width)
            top = _around(middle[1] * options.height, tall, options.height)
        share = (top / options.height, left / options.width, tall / options.height, wide / options.width)
        windows.append(share)
    return tuple(windows)


def _around(middle: float, length: int, whole: int) -> int:
    """Start of the span of a length nearest to a middle that begins on the grid of 8 and lies inside the whole."""
    return min(max(0, 8 * round((middle - length / 2) / 8)), (whole - length) // 8 * 8)


def cut(pictures: Tensor, windows: tuple[Window, ...] | None) -> Tensor:
    """The window of each sample of (b … h w), all of one size; the pictures as they are where there are none."""
    if windows is None:
        return pictures
    height, width = pictures.shape[-2:]
    parts = []
    for picture, (top, left, tall, wide) in zip(pictures, windows, strict=True):
        rows = slice(round(top * height), round((top + tall) * height))
        columns = slice(round(left * width), round((left + wide) * width))
        parts.append(picture[..., rows, columns])
    return torch.stack(parts)


def reduced(batch: Batch, height: int, width: int) -> Tensor:
    """The batch's clips, uncut, at a smaller size: rendered there, or averaged where they are videos."""
    if batch.scenes:
        from mpl.storybook.render import render

        return render(batch.scenes, batch.times, height, width)
    return unfold(F.interpolate(fold(batch.whole), (height, width), mode="area"), batch.whole.shape[2])


class StorybookData:
    """Batches of the procedural world, each a pure function of (seed, progress): what resumes, resumes exactly."""

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        self.options = options
        self.split = split

    def scenes(self, rng: random.Random, count: int, progress: float = 1.0) -> list[Scene]:
        from mpl.storybook.scene import sample_scene

        level = min(1.0, progress / self.options.easy_until) if self.options.easy_until else 1.0
        return [sample_scene(rng, self.split, level=level) for _ in range(count)]

    def times(self, rng: random.Random, frames: int) -> tuple[float, ...]:
        """Times of a clip's frames on the 29-frame clock; single frames come from anywhere on it."""
        start = rng.randint(0, CLOCK - 1 - (frames - 1) * self.options.spacing)
        return tuple(float(start + i * self.options.spacing) for i in range(frames))

    def middles(self, scenes: list[Scene], times: Sequence[Sequence[float]], rng: random.Random) -> list[Middle | None]:
        """A place on the subject, a little off its middle, for a share `on_subject` of the samples."""
        from mpl.storybook.motions import pose
        from mpl.storybook.scene import FRAME_ASPECT

        found: list[Middle | None] = []
        for scene, moments in zip(scenes, times, strict=True):
            if not self.options.on_subject or rng.random() >= self.options.on_subject:
                found.append(None)
                continue
            at = pose(scene, moments[len(moments) // 2])
            x, y = (rng.uniform(-0.7, 0.7) * scale for scale in (at.scale_x, at.scale_y))
            found.append(((at.x + x) / FRAME_ASPECT + 0.5, 0.5 - at.y - y))
        return found

    def draw(self, seed: int, progress: float = 1.0, count: int | None = None) -> Batch:
        """`count` samples, by default a batch of them."""
        from mpl.storybook.captions import caption
        from mpl.storybook.render import render_with_mask

        rng = random.Random(seed)
        o = self.options
        count, frames = count or o.batch, o.frames
        if o.stills and rng.random() < o.stills:
            count, frames = max(1, count * frames // 2), 1
        scenes = self.scenes(rng, count, progress)
        captions = [caption(scene, rng, style=o.caption).text for scene in scenes]
        times = tuple(self.times(rng, frames) for _ in range(count))
        windows = crop_windows(o, rng, count, self.middles(scenes, times, rng))
        height, width = o.crop or (o.height, o.width)
        with torch.no_grad():
            clip, mask = render_with_mask(scenes, times, height, width, crop=windows)
        return Batch(clip, captions, mask, windows, scenes=tuple(scenes), times=times)

    def captions(self, count: int) -> list[str]:
        """The same few captions every time, each naming everything."""
        from mpl.storybook.captions import caption

        rng = random.Random(0)
        return [caption(scene, rng, style="dense").text for scene in self.scenes(rng, count)]


class FolderData:
    """Batches from a folder: `scenes.jsonl`, an object {"file", "caption"} a line, as `mpl storybook` writes it.

    The last tenth of the lines, at least one and at most 16, is held out.
    """

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        """Raises ValueError naming the file and line that cannot be used."""
        self.options = options
        self.folder = Path(options.folder or "")
        entries = read_index(self.folder)
        held = min(MOST_HELD_OUT, max(1, len(entries) // 10))
        self.entries = entries[-held:] if split == "heldout" else entries[:-held]

    def draw(self, seed: int, progress: float = 1.0, count: int | None = None) -> Batch:
        """`count` clips, by default a batch of them.

        Raises ValueError for a video that cannot be read or has too few frames.
        """
        rng = random.Random(seed)
        o = self.options
        chosen = rng.choices(self.entries, k=count or o.batch)
        whole = torch.cat([self.clip(file, rng) for file, _ in chosen])
        windows = crop_windows(o, rng, len(chosen))
        return Batch(cut(whole, windows), [caption for _, caption in chosen], windows=windows, whole=whole)

    def clip(self, file: str, rng: random.Random) -> Tensor:
        """A random span of a video at the training size, antialiased: (1 3 f h w)."""
        from mpl.video import read_video, to_clip

        o = self.options
        clip = to_clip(read_video(self.folder / file))
        span = (o.frames - 1) * o.spacing + 1
        if clip.shape[2] < span:
            raise ValueError(f"{self.folder / file}: {clip.shape[2]} frames; this training needs {span} or more")
        start = rng.randint(0, clip.shape[2] - span)
        frames = fold(clip[:, :, start : start + span : o.spacing])
        frames = F.interpolate(frames, (o.height, o.width), mode="bilinear", antialias=True)
        return unfold(frames, o.frames)

    def captions(self, count: int) -> list[str]:
        return [caption for _, caption in self.entries[:count]]


def read_index(folder: Path) -> list[tuple[str, str]]:
    """(file, caption) of every line of a folder's index. Raises ValueError naming the file and line that is wrong."""
    index = folder / "scenes.jsonl"
    if not index.is_file():
        raise ValueError(f"data.folder {folder}: no scenes.jsonl there; expected lines with file and caption")
    entries = []
    for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{index} line {number}"
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: no JSON: {error}") from None
        if not isinstance(values, dict) or not isinstance(values.get("file"), str) or "caption" not in values:
            raise ValueError(f'{where}: must be an object {{"file": …, "caption": …}}')
        if not (folder / values["file"]).is_file():
            raise ValueError(f"{where}: no file {values['file']} in {folder}")
        entries.append((values["file"], check_prompt(values["caption"], f"{where}: caption")))
    if len(entries) < 2:
        raise ValueError(f"{index}: {len(entries)} videos; 2 or more are needed, as the last ones are held out")
    return entries


def open_data(options: DataOptions, split: str = "train") -> StorybookData | FolderData:
    """The data that the options name: a folder where one is given, the storybook otherwise."""
    return FolderData(options, split) if options.folder else StorybookData(options, split)
