"""Contact sheets of a training in progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor


def draw_sheet(clips: Tensor, captions: list[str], path: Path, width: int = 160) -> None:
    """One row of frames per clip (n 3 f h w in [-1, 1]), enlarged without blur, captioned; stills share rows."""
    frames = ((clips.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()
    scale = max(1, width // frames.shape[3])
    frames = np.kron(frames, np.ones((1, 1, scale, scale, 1), dtype=np.uint8))
    count, length, tall, wide, _ = frames.shape
    columns = length if length > 1 else min(4, count)
    per_row = columns // length
    rows = -(-count // per_row)
    label = 14
    sheet = Image.new("RGB", (columns * (wide + 4), rows * (tall + label + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (clip, caption) in enumerate(zip(frames, captions, strict=True)):
        top, left = (i // per_row) * (tall + label + 4), (i % per_row) * length * (wide + 4)
        draw.text((left + 2, top + 1), caption[: length * wide // 6], fill="black")
        for j, frame in enumerate(clip):
            sheet.paste(Image.fromarray(frame), (left + j * (wide + 4), top + label))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
