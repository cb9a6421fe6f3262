"""Contact sheets of results, small enough for a page."""

from __future__ import annotations

import io
from pathlib import Path

from .document import Picture

SIZE = (2000, 20_000)  # pixels at most, width and height


def contact_sheet(path: Path | None, key: str, shown: str) -> tuple[list[Picture], tuple[str, ...]]:
    """A result's sheet, and a line of text where it is not beside the result that names it.

    Args:
        key: of the result.
        shown: whose middle frames it shows, in words.

    Raises:
        ValueError: it is no picture.
    """
    if path is None:
        return [], ()
    if not path.is_file():
        return [], (f"The contact sheet, {path.name}, is not beside the result.",)
    text = f"Middle frames of {shown} and of the scene's render, for each of a few captions."
    return [Picture(f"sheet-{key.lower()}", "Contact sheet", text, _jpeg(path))], ()


def _jpeg(path: Path) -> bytes:
    from PIL import Image

    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: no picture that can be read: {error}") from None
    picture.thumbnail(SIZE, Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85, optimize=True)
    return data.getvalue()
