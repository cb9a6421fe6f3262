"""Clips, frames and files: clip ↔ frames ↔ mp4, webm, gif; the recipe inside the file.

A clip is a float32 tensor `b c f h w` in [-1, 1], frames are uint8 `f h w c`, RGB. Files are written by
moviepy's ffmpeg beside their final name and renamed, with exactly the frames given and no padding of small
sizes. Files are read by what they contain, not by what they are called. torch, moviepy and Pillow load on
first use.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from mpl.events import Frames

MAX_FRAMES = 240  # 30 seconds at 8 fps: what one run may be asked to take in
MAX_SIDE = 8192  # pixels, width or height of a file that is read
MAX_BYTES = 1_000_000_000  # of pixels that a file may unpack to
NOTE = "AI-generated video"

# H.264 in yuv420p with the index in front plays in every browser; crf 16 is visually lossless.
_MP4 = ["-crf", "16", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
# Without the explicit format VP9 would be written as RGB (profile 1), which browsers refuse.
_WEBM = ["-crf", "24", "-b:v", "0", "-pix_fmt", "yuv420p", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1"]
_CODECS = {".mp4": ("libx264", _MP4), ".webm": ("libvpx-vp9", _WEBM)}
# What ffmpeg says of a file that was cut without coding it anew; all frames that it shows are there.
_HARMLESS = ("mmco: unref short failure", "co located POCs unavailable")
_DEMUXERS = {"mp4": "mov", "webm": "matroska", "gif": "gif", "avi": "avi"}


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; `kind` is mp4, webm, gif or avi."""

    kind: str
    height: int
    width: int
    fps: float


# ---- clips and frames


def to_frames(clip: torch.Tensor) -> Frames:
    """Frames `f h w 3` of a clip `1 3 f h w`: clamped to [-1, 1], rounded to 0…255.

    Raises:
        ValueError: the clip holds more than one video, or is none.
    """
    if clip.ndim != 5 or clip.shape[:2] != (1, 3):
        raise ValueError(f"clip of shape {tuple(clip.shape)}: must be 1 3 f h w")
    pixels = clip[0].permute(1, 2, 3, 0).float().clamp(-1, 1).add(1).mul(127.5).round()
    return pixels.cpu().numpy().astype(np.uint8)


def to_clip(frames: Frames) -> torch.Tensor:
    """The clip `1 3 f h w` of frames `f h w 3`."""
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None]
    return pixels.float().div(127.5).sub(1).contiguous()


def resize_frames(frames: Frames, height: int, width: int, enlarge_pixels: bool = False) -> Frames:
    """Frames stretched to `height` × `width`: bicubic, or with hard pixel edges to enlarge small videos."""
    from PIL import Image

    how = Image.Resampling.NEAREST if enlarge_pixels else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames])


# ---- writing


def write_video(path: str | Path, frames: Frames, fps: float, recipe: dict[str, Any] | None = None) -> Path:
    """Writes mp4, webm or gif (by the name's ending) with the recipe as the file's comment.

    Args:
        frames: `f h w 3`, both sides even for mp4 and webm (their colour is halved).
        fps: frames per second, above 0, kept to two decimals.
        recipe: JSON values; None leaves only the note that the video is AI-generated.

    Raises:
        ValueError: another ending, no frames or an odd size.
        OSError: the folder cannot be written to, or the encoder failed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (*_CODECS, ".gif"):
        raise ValueError(f"{path.name}: must end in .mp4, .webm or .gif")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames {frames.dtype} {frames.shape}: must be uint8 f h w 3 with f of 1 or more")
    if suffix != ".gif" and (frames.shape[1] % 2 or frames.shape[2] % 2):
        raise ValueError(f"frames of {frames.shape[2]}×{frames.shape[1]}: both sides must be even")
    comment = json.dumps(recipe) if recipe is not None else NOTE
    with replacing(path) as temporary:
        if suffix == ".gif":
            _write_gif(temporary, frames, fps, comment)
        else:
            _encode(temporary, frames, fps, comment, *_CODECS[suffix])
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and is gone otherwise."""
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _encode(path: Path, frames: Frames, fps: float, comment: str, codec: str, options: list[str]) -> None:
    """One ffmpeg run over the frames; raises OSError where it fails or loses a frame."""
    import imageio_ffmpeg
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

    height, width = frames.shape[1:3]
    labels = ["-metadata", f"title={NOTE}", "-metadata", f"comment={comment}"]
    with FFMPEG_VideoWriter(_named(path), (width, height), fps, codec, ffmpeg_params=options + labels) as writer:
        process = writer.proc
        for frame in frames:
            writer.write_frame(np.ascontiguousarray(frame))
    if process.returncode != 0:
        raise OSError(f"{path.parent}: the video encoder failed (is the disk full?)")
    written = imageio_ffmpeg.count_frames_and_secs(_named(path))[0]
    if written != len(frames):
        raise OSError(f"{path.parent}: the encoder wrote {written} of {len(frames)} frames")


def _write_gif(path: Path, frames: Frames, fps: float, comment: str) -> None:
    """GIF counts hundredths of a second: frames alternate (12, 13, …) so that the whole keeps its length.

    Equal neighbours are stored once and shown longer.
    """
    from PIL import Image

    ends = [round(100 * (i + 1) / fps) for i in range(len(frames))]
    durations = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    sample = frames[:: max(1, len(frames) // 8)]  # one palette for all, or still areas would flicker
    palette = Image.fromarray(np.concatenate(list(sample))).quantize(256)
    images = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, comment=comment.encode())


# ---- reading


def sniff(path: str | Path) -> str | None:
    """What a file contains, by its first bytes: mp4, webm, gif, avi, npy, safetensors, or None."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head[4:8] == b"ftyp":
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "webm"
    if head[:4] == b"GIF8":
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return "safetensors"
    return None


def probe(path: str | Path) -> VideoInfo:
    """Size and frame rate of a video file.

    Raises:
        ValueError: no such file, no video that can be read, or one larger than `MAX_SIDE`.
    """
    import imageio_ffmpeg

    path = Path(path)
    kind = video_kind(path)
    source = imageio_ffmpeg.read_frames(_named(path), input_params=["-f", _DEMUXERS[kind]])
    with contextlib.closing(source):
        try:
            about = next(source)
        except (StopIteration, RuntimeError, OSError):
            about = {"source_size": (0, 0)}
    width, height = about["size"] if "size" in about else about["source_size"]  # phones store videos turned
    if not width or not height:
        raise ValueError(f"{path.name}: broken video: it cannot be decoded")
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"{path.name} is {width}×{height}: at most {MAX_SIDE} pixels a side are accepted")
    return VideoInfo(kind, height, width, float(about["fps"]))


def read_video(
    path: str | Path, size: tuple[int, int] | None = None, max_frames: int = MAX_FRAMES, fps: float | None = None
) -> Frames:
    """All frames of a video file, uint8 `f h w 3`; `size` (height, width) stretches them while they are read.

    With `fps` those that are shown so many times a second.

    Raises:
        ValueError: as `probe`; the video ends in the middle or is damaged; it has more than `max_frames` frames, or
            more than `MAX_BYTES` of pixels.
    """
    path = Path(path)
    info = probe(path)
    height, width = size or (info.height, info.width)
    limit = min(max_frames, MAX_BYTES // (height * width * 3))
    rate = [] if fps is None else [f"fps={fps:g}"]
    scale = [] if size is None else [f"scale={width}:{height}:flags=bicubic"]
    filters = ["-vf", ",".join(rate + scale)] if rate or scale else []
    output = [*filters, "-fps_mode", "passthrough", "-frames:v", str(limit + 1), "-f", "rawvideo", "-pix_fmt", "rgb24"]
    done = _ffmpeg(path, info.kind, ["-map", "0:v:0", *output])
    frames = np.frombuffer(done.stdout, np.uint8)
    if done.returncode or _complaints(done.stderr) or not len(frames) or len(frames) % (height * width * 3):
        raise ValueError(f"{path.name}: broken video: it is damaged or ends in the middle")
    frames = frames.reshape(-1, height, width, 3).copy()  # writable, as torch wants it
    if len(frames) > limit:
        raise ValueError(f"{path.name} has more than {limit} frames of {width}×{height}: cut it shorter")
    return frames


def _complaints(said: bytes) -> bool:
    """Whether ffmpeg says more than that a file was cut without coding it anew, which loses no frame that it shows."""
    lines = said.decode(errors="replace").splitlines()
    return any(line.strip() and not any(words in line for words in _HARMLESS) for line in lines)


def read_recipe(path: str | Path) -> dict[str, Any] | None:
    """The recipe inside a video file made here, or None.

    Raises:
        ValueError: no such file, or no video.
    """
    path = Path(path)
    kind = video_kind(path)
    if kind == "gif":
        from PIL import Image

        try:
            with Image.open(path) as image:
                comment = image.info.get("comment", b"").decode("utf-8", "replace")
        except (OSError, SyntaxError, Image.DecompressionBombError):
            raise ValueError(f"{path.name}: broken video: it is damaged or too large") from None
    else:
        text = _ffmpeg(path, kind, ["-f", "ffmetadata"]).stdout.decode("utf-8", "replace")
        found = re.search(r"^comment=((?:[^\\\n]|\\.)*)", text, re.MULTILINE | re.IGNORECASE | re.DOTALL)
        comment = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else ""
    try:
        recipe = json.loads(comment)
    except (ValueError, RecursionError):
        return None
    return recipe if isinstance(recipe, dict) else None


def video_kind(path: Path) -> str:
    """The kind of a video file: mp4, webm, gif or avi. Raises ValueError where it is none."""
    try:
        kind = sniff(path)
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error.strerror}") from None
    if kind not in _DEMUXERS:
        raise ValueError(f"{path.name}: cannot be read as a video: its content must be mp4, webm, gif or avi")
    return kind


def _named(path: Path) -> str:
    """A file as ffmpeg is told of it: of a relative path it would take what is before a colon for a protocol."""
    return str(path.absolute())


def _ffmpeg(path: Path, kind: str, options: list[str]) -> subprocess.CompletedProcess[bytes]:
    """What ffmpeg makes of a video file on its standard output; any complaint is on its standard error.

    The demuxer is named, so that a playlist in disguise cannot make ffmpeg open other files or addresses.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-f", _DEMUXERS[kind], "-i", _named(path)]
    return subprocess.run([*command, *options, "-"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
