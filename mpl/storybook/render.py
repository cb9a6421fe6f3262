"""Scenes to pixels: any resolution, frame times and crop, drawn analytically and anti-aliased.

The world's window has the aspect 9:5, so round is round at 576x320 and 64x40 stretches it a little, as the cascade
does. Rows (scene x frame) are grouped by setting for the backgrounds and by subject for the figures; a figure is drawn
only inside its box.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .canvas import RIM_COLOUR
from .motions import Pose, pose
from .scene import FRAME_ASPECT, Scene
from .settings import draw_setting
from .subjects import draw_subject
from .view import FULL, Crop, Row, View, columns, paint

Frames = int | Sequence[float] | Sequence[Sequence[float]]

# Rows drawn at once hold at most this many pixels: enough to amortise call overhead, few enough for the cache.
_CHUNK_PIXELS = 160_000
# Half side of a subject's box over half its size, large enough for every turn and for the pale rim.
_REACH = 1.42


def render(
    scenes: Scene | Sequence[Scene],
    frames: Frames,
    height: int,
    width: int,
    crop: Crop | Sequence[Crop] | None = None,
) -> Tensor:
    """Draws clips: float32 `b 3 f height width`, RGB in [-1, 1].

    `frames`: a number n means frames 0 to n-1 of the 29-frame clock; a sequence gives times in frames (fractions
    allowed), one for all scenes or one sequence per scene, equally long. `crop` = (top, left, height, width) in
    fractions of the frame, one for all scenes or one per scene: only that region is drawn, at height x width. Raises
    ValueError for empty input, a size below 1 or a bad crop.
    """
    return render_with_mask(scenes, frames, height, width, crop)[0]


def subject_mask(
    scenes: Scene | Sequence[Scene],
    frames: Frames,
    height: int,
    width: int,
    crop: Crop | Sequence[Crop] | None = None,
) -> Tensor:
    """Coverage of every pixel by the subject: float32 `b 1 f height width` in [0, 1]. Arguments as in `render`."""
    return render_with_mask(scenes, frames, height, width, crop)[1]


def render_with_mask(
    scenes: Scene | Sequence[Scene],
    frames: Frames,
    height: int,
    width: int,
    crop: Crop | Sequence[Crop] | None = None,
) -> tuple[Tensor, Tensor]:
    """`render` and `subject_mask` at the cost of one."""
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    clips = _times(frames, len(scenes))
    if not scenes or not clips[0]:
        count = len(clips[0]) if clips else frames
        raise ValueError(f"render got {len(scenes)} scenes and {count} frames; accepted: at least one of each")
    if height < 1 or width < 1:
        raise ValueError(f"height x width is {height}x{width}; accepted: at least 1x1")
    crops = _crops(crop, len(scenes))
    rows = [Row(scene, t, own) for scene, own, times in zip(scenes, crops, clips, strict=True) for t in times]
    pixels = torch.empty(len(rows), 3, height, width)
    mask = torch.zeros(len(rows), 1, height, width)
    # In inference mode small operations cost a third less; what it writes to was made outside and stays ordinary.
    with torch.inference_mode():
        per_chunk = max(1, _CHUNK_PIXELS // (height * width))
        for chosen in _groups(rows, lambda row: row.scene.setting, per_chunk):
            pixels[chosen] = draw_setting(View([rows[i] for i in chosen], height, width))
        for chosen in _groups(rows, lambda row: row.scene.subject, 2 * per_chunk):
            _place_subjects(rows, chosen, pixels, mask)
        pixels.clamp_(0.0, 1.0).mul_(2.0).sub_(1.0)
    shape = (len(scenes), len(clips[0]), -1, height, width)
    return pixels.view(shape).transpose(1, 2).contiguous(), mask.view(shape).transpose(1, 2).contiguous()


def _times(frames: Frames, count: int) -> list[list[float]]:
    """Times by scene."""
    if isinstance(frames, int):
        frames = range(frames)
    frames = list(frames)
    own = bool(frames) and not isinstance(frames[0], int | float)
    clips = [[float(t) for t in times] for times in frames] if own else [[float(t) for t in frames]] * count
    if len(clips) != count or len({len(times) for times in clips}) > 1:
        lengths = [len(times) for times in clips]
        raise ValueError(
            f"frames are of lengths {lengths} for {count} scenes; accepted: one, or equally many per scene"
        )
    return clips


def _crops(crop: Crop | Sequence[Crop] | None, count: int) -> list[Crop]:
    if crop is None:
        return [FULL] * count
    crops = [tuple(crop)] * count if isinstance(crop[0], int | float) else [tuple(own) for own in crop]
    if len(crops) != count:
        raise ValueError(f"crop has {len(crops)} entries for {count} scenes; accepted: one, or one per scene")
    for own in crops:
        top, left, tall, wide = own
        if tall <= 0 or wide <= 0 or top < 0 or left < 0 or top + tall > 1.0001 or left + wide > 1.0001:
            raise ValueError(f"crop is {own}; accepted: (top, left, height, width) inside the frame, 0 to 1")
    return crops


def _groups(rows: list[Row], key: Callable[[Row], str], largest: int) -> list[list[int]]:
    """Indices of the rows, together where `key` agrees, in chunks of at most `largest`."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[key(row)].append(index)
    return [group[i : i + largest] for group in groups.values() for i in range(0, len(group), largest)]


def _place_subjects(rows: list[Row], chosen: list[int], pixels: Tensor, mask: Tensor) -> None:
    """Draws the subjects of the chosen rows (all of one kind) over their pixels, and notes their coverage."""
    height, width = pixels.shape[-2:]
    boxes = {i: _pixel_box(rows[i], pose(rows[i].scene, rows[i].frame), height, width) for i in chosen}
    seen = [i for i in chosen if boxes[i] is not None]
    if not seen:
        return
    tall = max(boxes[i][1] - boxes[i][0] for i in seen)
    wide = max(boxes[i][3] - boxes[i][2] for i in seen)
    # All boxes get the size of the largest, moved inside the picture where they would stick out.
    corners = [(min(boxes[i][0], height - tall), min(boxes[i][2], width - wide)) for i in seen]
    parts = [rows[i] for i in seen]
    x, y, px = _box_grid(parts, corners, (tall, wide), (height, width))
    picture, coverage, rim = draw_subject(parts, x, y, px)
    edge = paint(RIM_COLOUR)[0]
    for index, (top, left) in enumerate(corners):
        region = (seen[index], slice(None), slice(top, top + tall), slice(left, left + wide))
        below = pixels[region]
        below.lerp_(edge, rim[index])
        below.mul_(1.0 - coverage[index]).add_(picture[index])
        mask[region] = coverage[index]


def _pixel_box(row: Row, at: Pose, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Rows and columns (first, past last) that the subject can touch; None if it is outside the crop."""
    top, left, tall, wide = row.crop
    reach = _REACH * max(at.scale_x, at.scale_y)
    per_x, per_y = width / (wide * FRAME_ASPECT), height / tall
    middle_x = (at.x / FRAME_ASPECT + 0.5 - left) / wide * width
    middle_y = (0.5 - at.y - top) / tall * height
    box = (
        max(0, math.floor(middle_y - reach * per_y - 1)),
        min(height, math.ceil(middle_y + reach * per_y + 1)),
        max(0, math.floor(middle_x - reach * per_x - 1)),
        min(width, math.ceil(middle_x + reach * per_x + 1)),
    )
    return box if box[1] > box[0] and box[3] > box[2] else None


def _box_grid(
    rows: list[Row], corners: list[tuple[int, int]], box: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Screen coordinates (R, 1, w), (R, h, 1) and pixel width (R, 1, 1) of boxes inside pictures of a size."""
    (tall, wide), (height, width) = box, size
    top, left, crop_tall, crop_wide, line, column = columns(
        [(*row.crop, *corner) for row, corner in zip(rows, corners, strict=True)]
    )
    across = torch.arange(wide, dtype=torch.float32) + (column + 0.5)
    down = torch.arange(tall, dtype=torch.float32).view(-1, 1) + (line + 0.5)
    x = (left + crop_wide * (across / width) - 0.5) * FRAME_ASPECT
    y = 0.5 - (top + crop_tall * (down / height))
    return x, y, (crop_wide * (FRAME_ASPECT / width) * (crop_tall / height)).sqrt()
