"""Training samples: storybook scenes rendered on the fly, or videos with captions in a folder or in tar shards."""

from __future__ import annotations

import abc
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mpl.limits import check_prompt, shown
from mpl.sampling import fold, unfold
from mpl.terminal import RunFailed

from .options import CLOCK, DataOptions
from .tars import Sample, find_shards, own_shards, read_samples

if TYPE_CHECKING:
    from mpl.events import Frames
    from mpl.storybook.scene import Scene

Entry = TypeVar("Entry")

Window = tuple[float, float, float, float]  # of a full picture, as shares of it: top, left, height, width
Middle = tuple[float, float]  # x, y, as shares of a picture's width and height
MOST_HELD_OUT = 16  # videos
MOST_UNREADABLE = 100  # videos in a row, before a run gives up


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


class VideoData(abc.ABC, Generic[Entry]):
    """Batches of videos with captions, each a pure function of its seed and of the entries."""

    entries: Sequence[Entry]

    def __init__(self, options: DataOptions) -> None:
        self.options = options

    @abc.abstractmethod
    def pick(self, rng: random.Random) -> tuple[Tensor, str]:
        """A random span of one of the videos, (1 3 f h w), and its caption."""

    @abc.abstractmethod
    def captions(self, count: int) -> list[str]:
        """The first few, at most `count`."""

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """What the videos are, for the card."""

    def draw(self, seed: int, progress: float = 1.0, count: int | None = None) -> Batch:
        """`count` clips, by default a batch of them."""
        rng = random.Random(seed)
        clips, captions = zip(*(self.pick(rng) for _ in range(count or self.options.batch)), strict=True)
        whole = torch.cat(clips)
        windows = crop_windows(self.options, rng, len(clips))
        return Batch(cut(whole, windows), list(captions), windows=windows, whole=whole)

    def span(self, frames: Frames, rng: random.Random) -> Tensor:
        """A random span of a video's frames at the training size, antialiased: (1 3 f h w).

        Raises ValueError where there are too few.
        """
        from mpl.video import to_clip

        o = self.options
        span = (o.frames - 1) * o.spacing + 1
        if len(frames) < span:
            raise ValueError(f"{len(frames)} frames; this training needs {span} or more")
        start = rng.randint(0, len(frames) - span)
        chosen = fold(to_clip(frames[start : start + span : o.spacing]))
        return unfold(F.interpolate(chosen, (o.height, o.width), mode="bilinear", antialias=True), o.frames)


class FolderData(VideoData[tuple[str, str]]):
    """Videos of a folder: `scenes.jsonl`, an object {"file", "caption"} a line, as `mpl storybook` writes it.

    The last tenth of the lines, at least one and at most 16, is held out.
    """

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        """Raises ValueError naming the file and line that cannot be used."""
        super().__init__(options)
        self.folder = Path(options.folder or "")
        learned, held = hold_out(read_index(self.folder, "data.folder"))
        self.entries = held if split == "heldout" else learned

    def pick(self, rng: random.Random) -> tuple[Tensor, str]:
        """Raises ValueError for a video that cannot be read or has too few frames."""
        from mpl.video import read_video

        file, caption = rng.choice(self.entries)
        frames = read_video(self.folder / file)
        try:
            return self.span(frames, rng), caption
        except ValueError as error:
            raise ValueError(f"{self.folder / file}: {error}") from None

    def captions(self, count: int) -> list[str]:
        return [caption for _, caption in self.entries[:count]]

    @property
    def source(self) -> str:
        return f"folder `{self.folder.name}`"


class ShardData(VideoData[Sample]):
    """Videos of tar shards. Of n processes each draws from every n-th shard, and from no other.

    A batch depends on its seed, on the shards and on the number of processes alone, not on batches before it: a run
    that goes on with as many processes goes on exactly, with another number on other videos. Videos are drawn with
    replacement, evenly over a process's own; there is no order, and there are no epochs.

    Of the first shard the last tenth, at least one sample and at most 16, is held out from all processes. Samples
    without video or caption are left out from the start, and counted; videos that prove unreadable or too short are
    passed over, and counted.
    """

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        """Raises ValueError naming shards that are not there or broken, or too few for the processes."""
        super().__init__(options)
        self.pattern, self.unreadable = options.shards or "", set[str]()
        self.entries, problems = [], []
        shards = find_shards(self.pattern)
        own = own_shards(shards) if split == "train" else shards[:1]
        for shard in own:
            usable, others = read_samples(shard)
            if shard == shards[0]:
                usable = hold_out(usable)[split == "heldout"]
            self.entries += usable
            problems += others
        if problems and split == "train":
            of = len(problems) + len(self.entries)
            self.say(f"{len(problems)} of {of} samples left out; the first: {problems[0]}")
        if not self.entries:
            names = ", ".join(shard.name for shard in own)
            raise ValueError(f"data.shards = {shown(self.pattern)}: no video to use for {split} in {names}")

    def pick(self, rng: random.Random) -> tuple[Tensor, str]:
        """Raises RunFailed where one video after the other cannot be used."""
        for _ in range(MOST_UNREADABLE):
            sample = rng.choice(self.entries)
            try:
                return self.span(self.frames(sample), rng), sample.caption
            except (ValueError, OSError) as error:
                if (name := f"{sample.shard.name}: {sample.name}") not in self.unreadable:
                    self.unreadable.add(name)
                    self.say(f"{len(self.unreadable)} videos passed over so far; now {name}: {error}")
        raise RunFailed(f"data.shards: {MOST_UNREADABLE} videos in a row cannot be used, {name} the last of them")

    def frames(self, sample: Sample) -> Frames:
        from mpl.video import read_video

        with tempfile.TemporaryDirectory() as folder:  # a decoder needs a file: the end may tell of the beginning
            file = Path(folder, "video")
            file.write_bytes(sample.read())
            return read_video(file)

    def say(self, words: str) -> None:
        tqdm.write(f"data.shards: {words}", sys.stderr)

    def captions(self, count: int) -> list[str]:
        return [sample.caption for sample in self.entries[:count]]

    @property
    def source(self) -> str:
        return f"tar shards `{Path(self.pattern).name}` as the first process had them"


def hold_out(entries: Sequence[Entry]) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """Entries to learn from, and those that are not: the last tenth, at least one and at most 16."""
    count = min(MOST_HELD_OUT, max(1, len(entries) // 10))
    return entries[:-count], entries[-count:]


def read_index(folder: Path, option: str) -> list[tuple[str, str]]:
    """(file, caption) of every line of a folder's index. Raises ValueError naming the file and line that is wrong."""
    index = folder / "scenes.jsonl"
    if not index.is_file():
        raise ValueError(f"{option} {folder}: no scenes.jsonl there; expected lines with file and caption")
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


def open_data(options: DataOptions, split: str = "train") -> StorybookData | FolderData | ShardData:
    """The data that the options name: a folder or shards where they are given, the storybook otherwise."""
    if options.shards:
        return ShardData(options, split)
    return FolderData(options, split) if options.folder else StorybookData(options, split)
