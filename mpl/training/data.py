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

from .footage import open_footage
from .options import CLOCK, FPS, DataOptions
from .tars import OPTION, Sample, find_shards, own_shards, read_samples

if TYPE_CHECKING:
    from mpl.storybook.scene import Scene

Entry = TypeVar("Entry")

Window = tuple[float, float, float, float]  # of a full picture, as shares of it: top, left, height, width
Times = tuple[tuple[float, ...], ...]  # of every sample's frames, on the 29-frame clock
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
    times: Times = ()
    drawn: Tensor | None = None  # the uncut clips as they are drawn wrong, where they are (b 3 f h w)
    drawn_at: tuple[int, int] = (0, 1000)  # from which timestep to before which keyframes are shown those

    def to(self, device: torch.device) -> Batch:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, clip=self.clip.to(device), mask=mask)


def batch_size(options: DataOptions, rng: random.Random, count: int | None) -> tuple[int, int]:
    """How many samples to draw, by default a batch, and of how many frames: more stills in place of fewer clips."""
    count = count or options.batch
    if options.stills and rng.random() < options.stills:
        return max(1, count * options.frames // 2), 1
    return count, options.frames


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
        return [sample_scene(rng, self.split, level=level, **self.focused(rng)) for _ in range(count)]

    def focused(self, rng: random.Random) -> dict[str, str]:
        """The attribute that the options' `focus` pins for one scene, if any."""
        from mpl.storybook.scene import ATTRIBUTES

        left = rng.random() if self.options.focus else 1.0  # nothing is drawn without one: old seeds give old scenes
        for value, share in self.options.focus.items():
            left -= share
            if left < 0:
                return {name: value for name, values in ATTRIBUTES.items() if value in values}
        return {}

    def times(self, rng: random.Random, frames: int) -> tuple[float, ...]:
        """Times of a clip's frames on the 29-frame clock; single frames come from anywhere on it."""
        start = rng.randint(0, CLOCK - 1 - (frames - 1) * self.options.spacing)
        return tuple(float(start + i * self.options.spacing) for i in range(frames))

    def middles(
        self, scenes: Sequence[Scene], times: Sequence[Sequence[float]], rng: random.Random
    ) -> list[Middle | None]:
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

        rng = random.Random(seed)
        count, frames = batch_size(self.options, rng, count)
        scenes = self.scenes(rng, count, progress)
        captions = [caption(scene, rng, style=self.options.caption).text for scene in scenes]
        return self.shown(scenes, captions, tuple(self.times(rng, frames) for _ in scenes), rng)

    def shown(self, scenes: Sequence[Scene], captions: list[str], times: Times, rng: random.Random) -> Batch:
        """Scenes at their moments, random parts of them where the options cut any."""
        from mpl.storybook.render import render_with_mask

        o = self.options
        windows = crop_windows(o, rng, len(scenes), self.middles(scenes, times, rng))
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
    """Batches of videos with captions, each a pure function of its seed and of the entries.

    Videos that prove unreadable or too short are passed over, and counted.
    """

    option: str  # that names the videos
    entries: Sequence[Entry]

    def __init__(self, options: DataOptions) -> None:
        self.options = options
        self.unreadable = set[str]()

    @abc.abstractmethod
    def name(self, entry: Entry) -> str:
        """What to call a video."""

    @abc.abstractmethod
    def read(self, entry: Entry, rng: random.Random, places: Sequence[int]) -> tuple[Tensor, str]:
        """A video's `span`, and its caption. Raises ValueError or OSError where it cannot be used."""

    @abc.abstractmethod
    def captions(self, count: int) -> list[str]:
        """The first few, at most `count`."""

    def all_captions(self) -> list[str]:
        """Those that any process learns from: what makes a vocabulary must be the same in all of them."""
        return self.captions(len(self.entries))

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """What the videos are, for the card."""

    def draw(self, seed: int, progress: float = 1.0, count: int | None = None) -> Batch:
        """`count` samples, by default a batch of them."""
        rng = random.Random(seed)
        count, frames = batch_size(self.options, rng, count)
        places = [self.places(rng, frames) for _ in range(count)]
        clips, captions = zip(*(self.pick(rng, taken) for taken in places), strict=True)
        whole = torch.cat(clips)
        windows = crop_windows(self.options, rng, count)
        # Models that are told no times take a clip for a whole one, however short it is: so do these.
        unit = (CLOCK - 1) / max(1, self.last)
        times = tuple(tuple(place * unit for place in taken) for taken in places)
        return Batch(cut(whole, windows), list(captions), windows=windows, whole=whole, times=times)

    @property
    def last(self) -> int:
        """Place of a clip's last frame, in frames at `FPS` from its first."""
        return (self.options.frames - 1) * self.options.spacing

    def places(self, rng: random.Random, frames: int) -> tuple[int, ...]:
        """Places of a sample's frames in their clip; single frames come from anywhere in it."""
        if frames == 1:
            return (rng.randint(0, self.last),)
        return tuple(range(0, self.last + 1, self.options.spacing))

    def pick(self, rng: random.Random, places: Sequence[int]) -> tuple[Tensor, str]:
        """As `read`, of a random video. Raises RunFailed where one after the other cannot be used."""
        for _ in range(MOST_UNREADABLE):
            entry = rng.choice(self.entries)
            try:
                return self.read(entry, rng, places)
            except (ValueError, OSError) as error:
                if (name := self.name(entry)) not in self.unreadable:
                    self.unreadable.add(name)
                    self.say(f"{len(self.unreadable)} videos passed over so far; now {name}: {error}")
        raise RunFailed(f"{self.option}: {MOST_UNREADABLE} videos in a row cannot be used, {name} the last of them")

    def span(self, path: Path, rng: random.Random, places: Sequence[int]) -> Tensor:
        """Frames at places of a clip that lies anywhere in a video, at the training size, antialiased: (1 3 f h w).

        Places count at `FPS` by the file's own times: of a faster video frames are left out, of a slower one repeated.
        Raises ValueError where it cannot be read, or ends before such a clip does.
        """
        from mpl.video import to_clip

        footage = open_footage(path)
        first = footage.first_moment(self.last / FPS, rng)
        frames = footage.frames([footage.shown_at(first + place / FPS) for place in places])
        size = (self.options.height, self.options.width)
        small = [F.interpolate(fold(to_clip(frame)), size, mode="bilinear", antialias=True) for frame in frames]
        return unfold(torch.cat(small), len(places))

    def say(self, words: str) -> None:
        tqdm.write(f"{self.option}: {words}", sys.stderr)


class FolderData(VideoData[tuple[str, str]]):
    """Videos of a folder: `scenes.jsonl`, an object {"file", "caption"} a line, as `mpl storybook` writes it.

    The last tenth of the lines, at least one and at most 16, is held out.
    """

    option = "data.folder"

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        """Raises ValueError naming the file and line that cannot be used."""
        super().__init__(options)
        self.folder = Path(options.folder or "")
        learned, held = hold_out(read_index(self.folder, self.option))
        self.entries = held if split == "heldout" else learned

    def name(self, entry: tuple[str, str]) -> str:
        return entry[0]

    def read(self, entry: tuple[str, str], rng: random.Random, places: Sequence[int]) -> tuple[Tensor, str]:
        file, caption = entry
        return self.span(self.folder / file, rng, places), caption

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
    without video or caption are left out from the start, and counted.
    """

    option = OPTION

    def __init__(self, options: DataOptions, split: str = "train") -> None:
        """Raises ValueError naming shards that are not there or broken, or too few for the processes."""
        super().__init__(options)
        self.pattern = options.shards or ""
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
            raise ValueError(f"{OPTION} = {shown(self.pattern)}: no video to use for {split} in {names}")

    def name(self, entry: Sample) -> str:
        return f"{entry.shard.name}: {entry.name}"

    def read(self, entry: Sample, rng: random.Random, places: Sequence[int]) -> tuple[Tensor, str]:
        with tempfile.TemporaryDirectory() as folder:  # a decoder needs a file: the end may tell of the beginning
            file = Path(folder, "video")
            file.write_bytes(entry.read())
            return self.span(file, rng, places), entry.caption

    def captions(self, count: int) -> list[str]:
        return [sample.caption for sample in self.entries[:count]]

    def all_captions(self) -> list[str]:
        return [sample.caption for shard in find_shards(self.pattern) for sample in read_samples(shard)[0]]

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
