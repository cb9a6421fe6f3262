"""Clips to start a run from: what a file holds becomes the input of a stage, or one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpl.config import Preset
from mpl.video import MAX_FRAMES, probe, read_video, sniff, to_clip


def read_clip(path: str | Path, stage: str, preset: Preset, resize: bool = False) -> Tensor:
    """The clip `1 3 f h w` in a file, as the input of a stage.

    The file is a video; or a `.npy` or `.safetensors` array (its tensor `clip`, or its only one): float32
    clip `3 f h w` or `1 3 f h w` in [-1, 1], or uint8 frames `f h w 3`. Pictures are stretched where `resize`
    allows it.

    Raises:
        ValueError: the file is broken, or not what the stage takes.
    """
    path = Path(path)
    sizes = input_sizes(stage, preset)
    try:
        kind = sniff(path)
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error.strerror}") from None
    if kind in ("mp4", "webm", "gif", "avi"):
        info = probe(path)
        size = _fit(path.name, (info.height, info.width), stage, sizes, resize)
        # Frames become frames of the preset's rate: of a faster video as many as pass in that time. Keyframes stay all.
        fps = preset.fps if stage != "interpolation" and info.fps > 1.1 * preset.fps else None
        clip, size = to_clip(read_video(path, size, fps=fps)), None
    elif kind in ("npy", "safetensors"):
        clip = _read_array(path, kind)
        size = _fit(path.name, (clip.shape[-2], clip.shape[-1]), stage, sizes, resize)
    else:
        accepted = "mp4, webm, gif or avi, or a clip as .npy or .safetensors"
        raise ValueError(f"{path.name}: cannot be read as a video: its content must be {accepted}")
    check_frames(clip.shape[2], stage, path.name)  # before they grow: so many of one pixel fit into a small file
    return clip if size is None else resize_clip(clip, *size)


def input_sizes(stage: str, preset: Preset) -> list[tuple[int, int]]:
    """The (height, width) that a stage takes, the preferred one last.

    Raises:
        ValueError: the stage has no clip as input.
    """
    small = (preset.keyframes.height, preset.keyframes.width)
    middle = (preset.superres.height, preset.superres.width)
    large = (preset.translation.height, preset.translation.width)
    sizes = {"interpolation": [small], "superres": [small], "translation": [middle, large]}
    if stage not in sizes:
        raise ValueError(f"stage {stage!r}: must be one of {', '.join(sizes)}: only these take a clip")
    return sizes[stage]


def check_frames(count: int, stage: str, name: str) -> None:
    """Raises ValueError where a stage cannot take this number of frames, and says why."""
    if stage == "interpolation" and count < 2:
        raise ValueError(f"{name} has 1 frame: interpolation fills the gaps between frames and takes 2 or more")
    if not 1 <= count <= MAX_FRAMES:
        raise ValueError(f"{name} has {count} frames: {stage} takes 1 to {MAX_FRAMES}")


def _fit(
    name: str, size: tuple[int, int], stage: str, sizes: list[tuple[int, int]], resize: bool
) -> tuple[int, int] | None:
    """The size to stretch to, None where it is right; raises ValueError where `resize` does not allow it."""
    if 0 in size:
        raise ValueError(f"{name} is {size[1]}×{size[0]}: it holds no pixels")
    if size in sizes:
        return None
    if resize:
        return sizes[-1]
    wanted = " or ".join(f"{w}×{h}" for h, w in sizes)
    raise ValueError(f"{name} is {size[1]}×{size[0]}: {stage} takes {wanted}; resize it (--resize)")


def _read_array(path: Path, kind: str) -> Tensor:
    """The clip `1 3 f h w` of an array file; raises ValueError where it holds none."""
    try:
        if kind == "npy":
            array = np.load(path, allow_pickle=False)
        else:
            from safetensors.numpy import load_file

            arrays = load_file(path)
            array = arrays["clip"] if "clip" in arrays else next(iter(arrays.values()))
    except Exception as error:  # each format has its own; all mean the same to the person
        raise ValueError(f"{path.name}: broken file: {error}") from None
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3:
        return to_clip(array)
    if array.ndim == 4:
        array = array[None]
    if array.ndim != 5 or array.shape[:2] != (1, 3) or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{path.name} holds {array.dtype} {array.shape}: must be a float clip 3 f h w or 1 3 f h w "
            "in [-1, 1], or uint8 frames f h w 3"
        )
    largest = np.abs(array).max(initial=0)
    if not largest <= 4:  # raw samples of a stage may leave [-1, 1] a little; 0…255 and NaN are mistakes
        raise ValueError(f"{path.name}: values reach {largest:g}: a clip's are in [-1, 1]")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def resize_clip(clip: Tensor, height: int, width: int) -> torch.Tensor:
    """A clip stretched to `height` × `width`: bilinear, antialiased where it shrinks."""
    flat = clip[0].transpose(0, 1)  # f c h w
    flat = torch.nn.functional.interpolate(flat, (height, width), mode="bilinear", antialias=True)
    return flat.transpose(0, 1)[None].contiguous()
