"""Frames of video files by the time at which they are shown; files may be of any length and frame rate.

A file is looked through for its times, which decodes nothing. Then the frames that are asked for are decoded, from the
key frame before them on: what lies elsewhere in a long video costs neither decoding nor memory.
"""

from __future__ import annotations

import random
import re
import subprocess
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mpl.video import video_kind

if TYPE_CHECKING:
    from mpl.events import Frames

KEPT = 1000  # files whose frames' times are remembered
_BROKEN = "broken video: it is damaged or ends in the middle"
# The exit code says what is wrong. Complaints alone say nothing: where a span begins, frames that nobody asked for may
# lack others that they refer to.
_PIPES: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


@dataclass(frozen=True)
class Footage:
    """When a video file shows its frames, in seconds."""

    path: Path
    kind: str
    starts: Sequence[float]  # ascending
    end: float

    def first_moment(self, length: float, rng: random.Random) -> float:
        """Where a span of so many seconds between its first and last frame may begin, anywhere in the video.

        Raises ValueError where the video is too short.
        """
        seconds = self.end - self.starts[0]
        if length and seconds <= length:  # the last frame would be shown no more
            raise ValueError(f"{seconds:.3g} seconds long; this training needs more than {length:.3g}")
        return rng.uniform(self.starts[0], self.end - length)

    def shown_at(self, moment: float) -> int:
        """The frame that is shown then. At an even rate it is the one whose middle is nearest in time."""
        return max(0, bisect_right(self.starts, moment) - 1)

    def frames(self, places: Sequence[int]) -> Iterator[Frames]:
        """A frame `1 h w 3` for each of ascending places, which may repeat. Raises ValueError for a damaged video.

        One at a time is in memory: they come as large as the file has them.
        """
        at, picture = -1, None
        with subprocess.Popen(self._decoder(sorted(set(places))), **_PIPES) as decoder:
            assert decoder.stdout is not None  # it is a pipe
            for place in places:
                if place != at:
                    at, picture = place, _next_picture(decoder.stdout)
                yield picture
        if decoder.returncode:
            raise ValueError(_BROKEN)

    def _decoder(self, wanted: Sequence[int]) -> list[str]:
        """The command that writes these frames in the format ppm, one after another."""
        first, seek = wanted[0], []
        if first:  # a little early, but nearer to this frame than to the one before: coarse clocks round
            start = self.starts[first]
            seek = ["-ss", f"{start - (start - self.starts[first - 1]) / 4:.6f}"]
        chosen = "+".join(rf"eq(n\,{place - first})" for place in wanted)
        output = ["-vf", f"select={chosen}", "-fps_mode", "passthrough", "-frames:v", str(len(wanted))]
        return _command(self.path, self.kind, seek, [*output, "-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe"])


def open_footage(path: Path) -> Footage:
    """Looks a video file through. Where it has no times, as H.264 in AVI, its even rate and the order of storage count.

    Raises:
        ValueError: no video that can be read, or one that ends in the middle.
    """
    state = path.stat()
    return _look_through(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=KEPT)  # which a draw from a long video would wait for every time
def _look_through(path: Path, size: int, changed: int) -> Footage:
    kind = video_kind(path)
    done = subprocess.run(_command(path, kind, [], ["-c", "copy", "-f", "framecrc"]), **_PIPES, check=False)
    listing = done.stdout.decode()
    unit = re.search(r"^#tb 0: (\d+)/(\d+)$", listing, re.MULTILINE)
    rows = [line.split(",") for line in listing.splitlines() if not line.startswith("#")]
    # Columns 1 to 3: when a frame is decoded, when it is shown (the lowest number where nothing says), how long.
    times = [(max(int(row[1]), int(row[2])), int(row[3])) for row in rows]
    shown = sorted(time for time in times if time[0] >= 0)  # what lies before was cut off without coding it anew
    if done.returncode or unit is None or not shown:
        raise ValueError(_BROKEN)
    second = int(unit[2]) / int(unit[1])
    return Footage(path, kind, array("d", (start / second for start, _ in shown)), sum(shown[-1]) / second)


def _next_picture(stream: IO[bytes]) -> Frames:
    head = b"".join(stream.readline() for _ in range(3))
    size = re.fullmatch(rb"P6\n(\d+) (\d+)\n255\n", head)  # told anew by each picture: phones store videos turned
    if size is None:
        raise ValueError(_BROKEN)
    width, height = int(size[1]), int(size[2])
    pixels = bytearray(stream.read(3 * height * width))  # which torch may write to
    if len(pixels) < 3 * height * width:
        raise ValueError(_BROKEN)
    return np.frombuffer(pixels, np.uint8).reshape(1, height, width, 3)


def _command(path: Path, kind: str, start: Sequence[str], output: Sequence[str]) -> list[str]:
    """An ffmpeg command about a video's pictures, which writes to its standard output.

    The demuxer is named, so that a playlist in disguise cannot make ffmpeg open other files.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-xerror", "-f", kind, *start]
    return [*command, "-i", str(path.absolute()), "-map", "0:v:0", *output, "-"]  # a relative a:b is a protocol
