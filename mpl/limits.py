"""What each key of a preset accepts, and the checks of values, seeds, prompts and folders. Standard library only."""

from __future__ import annotations

import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

PROMPT_LIMIT = 1000  # characters; 77 T5 tokens are about 300
MAX_SEED = 2**63 - 1
_BROKEN = re.compile("[\ud800-\udfff]")  # lone surrogates: what Python makes of bytes that are not UTF-8


@dataclass(frozen=True)
class Range:
    """Numbers accepted for a key: `low` (itself too unless `above`) to `high`, in multiples of `multiple`."""

    low: float
    high: float
    above: bool = False  # low itself is not accepted
    multiple: int = 1
    infinite: bool = False  # inf is accepted too

    def accepts(self, value: float) -> bool:
        if value in (math.inf, -math.inf):
            return self.infinite and value > 0
        inside = self.low < value if self.above else self.low <= value
        return inside and value <= self.high and (self.multiple == 1 or value % self.multiple == 0)

    def __str__(self) -> str:
        first = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        text = f"a number {first} to {self.high:g}"
        if self.multiple > 1:
            text += f", a multiple of {self.multiple}"
        return text + (", or inf" if self.infinite else "")


@dataclass(frozen=True)
class Choice:
    """Words accepted for a key: `values`, or what matches `pattern` (described by `words`)."""

    values: tuple[str, ...]
    pattern: str = ""
    words: str = ""

    def accepts(self, value: str) -> bool:
        return value in self.values or bool(self.pattern and re.fullmatch(self.pattern, value))

    def __str__(self) -> str:
        return "one of " + ", ".join(self.values) + (f", {self.words}" if self.words else "")


@dataclass(frozen=True)
class Length:
    """Texts accepted for a key: up to `limit` characters, empty ones where `empty`."""

    limit: int
    empty: bool = True

    def accepts(self, value: str) -> bool:
        return len(value) <= self.limit and (self.empty or bool(value.strip())) and not _BROKEN.search(value)

    def __str__(self) -> str:
        return f"a text of {0 if self.empty else 1} to {self.limit} characters in UTF-8"


@dataclass(frozen=True)
class Pairs:
    """Texts accepted for a key: words with others that stand for them, "black: blue, grey: white", or nothing."""

    limit: int

    def accepts(self, value: str) -> bool:
        return Length(self.limit).accepts(value) and all(
            all(side.strip() for side in part.split(":")) and part.count(":") == 1
            for part in value.split(",")
            if part.strip()
        )

    def __str__(self) -> str:
        return f'pairs of words like "black: blue, grey: white", in at most {self.limit} characters'


Limit = Range | Choice | Length | Pairs

_SIZE = Range(2, 4096, multiple=2)  # even: yuv420p halves both sides
_LATENT_SIZE = Range(8, 4096, multiple=8)  # the autoencoder divides by 8
_STEPS = Range(1, 1000)
_GUIDANCE = Range(0, 100)  # 1 and below switch guidance off
_LEVEL = Range(0, 999)  # timesteps of a 1000-step schedule
_FOLDER = Length(1000, empty=False)


def _sampled(block: str) -> dict[str, Limit]:
    """What the blocks of all four stages have in common."""
    return {
        f"{block}.steps": _STEPS,
        f"{block}.guidance": _GUIDANCE,
        f"{block}.guidance_from": _LEVEL,
        f"{block}.guidance_to": _LEVEL,
        f"{block}.solver": Choice(("checkpoint", "ddpm", "ddim", "dpm++", "sde-dpm++", "unipc", "deis")),
        f"{block}.spacing": Choice(("checkpoint", "linspace", "leading", "trailing", "karras")),
    }


def _in_pixels(block: str) -> dict[str, Limit]:
    """What the blocks of the stages in pixels have in common."""
    return {**_sampled(block), f"{block}.deep_every": Range(1, 1000)}


def _windowed(block: str) -> dict[str, Limit]:
    """What the blocks of window-by-window upscaling have in common."""
    return {
        **_in_pixels(block),
        f"{block}.snr": Range(0, 1e6, above=True, infinite=True),
        f"{block}.window": Range(2, 512),
        f"{block}.stride": Range(1, 511),
        f"{block}.back_projection": Range(0, 64),
    }


LIMITS: dict[str, Limit] = {
    "name": Length(100, empty=False),
    "fps": Range(1, 60),
    "weights.text": _FOLDER,
    "weights.keyframes": _FOLDER,
    "weights.interpolation": _FOLDER,
    "weights.superres": _FOLDER,
    "weights.superres_first_frame": _FOLDER,
    "weights.translation": _FOLDER,
    "weights.expert": _FOLDER,
    "weights.upsampling": _FOLDER,
    "weights.safety": _FOLDER,
    "weights.dtype": Choice(("auto", "float32", "bfloat16", "float16")),
    "weights.device": Choice(("auto", "cpu", "cuda"), r"cuda:\d+", "cuda:N"),
    "weights.offload": Choice(("none", "stage", "drop")),
    "weights.keep_gb": Range(0, 1000),
    "weights.quantization": Choice(("none", "int8", "nf4")),
    "text.tokens": Range(2, 512),
    "text.negative_prompt": Length(PROMPT_LIMIT),
    "text.translation_negative_prompt": Length(PROMPT_LIMIT),
    "text.nouns": Length(8 * PROMPT_LIMIT),
    "text.adjectives": Length(8 * PROMPT_LIMIT),
    "text.other_adjectives": Length(8 * PROMPT_LIMIT),
    "text.places": Length(8 * PROMPT_LIMIT),
    "text.place_words": Length(8 * PROMPT_LIMIT),
    "text.no_places": Length(8 * PROMPT_LIMIT),
    "text.substitutes": Pairs(8 * PROMPT_LIMIT),
    "keyframes.frames": Range(1, 128),
    "keyframes.height": _SIZE,
    "keyframes.width": _SIZE,
    **_in_pixels("keyframes"),
    "keyframes.mixed_noise": Range(0, 1),
    "interpolation.between": Range(1, 15),
    **_in_pixels("interpolation"),
    "interpolation.fill": Choice(("zeros", "linear")),
    "interpolation.noise_level": _LEVEL,
    "interpolation.gaps_per_batch": Range(1, 128),
    "superres.height": _SIZE,
    "superres.width": _SIZE,
    **_windowed("superres"),
    "superres.first_frame_steps": _STEPS,
    "superres.first_frame_guidance": _GUIDANCE,
    "superres.first_frame_noise_level": _LEVEL,
    "translation.height": _LATENT_SIZE,
    "translation.width": _LATENT_SIZE,
    **_sampled("translation"),
    "translation.strength": Range(0, 1, above=True),
    "translation.cap": Range(1, 1000),
    "translation.grid": Choice(("from_start", "published")),
    "translation.step_span": Range(1, 1000),
    "translation.resize": Choice(("bilinear", "published")),
    "translation.posterior": Choice(("mode", "sample")),
    "translation.decode_frames": Range(1, 512),
    "translation.back_projection": Range(0, 64),
    "translation.tile_overlap": Range(0, 0.5),
    "translation.feed_forward_parts": Range(1, 64),
    "translation.eta": Range(0, 1),
    **_windowed("upsampling"),
}


def is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and type(None) in get_args(kind)


def coerce(key: str, value: Any, kind: Any) -> Any:
    """The value in the key's type and inside its limits; raises ValueError otherwise."""
    if is_optional(kind):
        if value is None or value == "":
            return None
        kind = get_args(kind)[0]
    if kind is float and value == "inf":
        value = math.inf  # as `to_dict` writes it
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        value = float(value)  # larger ones are no floats
    if type(value) is not kind:
        raise ValueError(f"{key} = {shown(value)}: must be {accepted(key, kind)}")
    limit = LIMITS.get(key)
    if limit is not None and not limit.accepts(value):
        raise ValueError(f"{key} = {shown(value)}: must be {accepted(key, kind)}")
    return value


def parse(key: str, text: str, kind: Any) -> Any:
    """A value from the command line, read as the key's type; raises ValueError where it is none."""
    text = text.strip()
    if is_optional(kind):
        return None if text.lower() in ("", "none") else text
    if kind is bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in known:
            return known[text.lower()]
    elif kind is str:
        return text
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise ValueError(f"{key} = {shown(text)}: must be {accepted(key, kind)}")


def accepted(key: str, kind: Any) -> str:
    if kind is bool:
        return "true or false"
    text = str(LIMITS[key]) if key in LIMITS else kind.__name__
    return text.replace("a number", "a whole number") if kind is int else text


def shown(value: Any) -> str:
    """The value as it was written, shortened."""
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (str, bool)) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def check_seed(value: Any, option: str = "seed") -> int:
    """The seed as an int in 0…2⁶³−1, from an int or its decimal digits.

    Raises:
        ValueError: anything else.
    """
    wrong = ValueError(f"{option} = {shown(value)}: must be a whole number from 0 to {MAX_SEED} (2^63 - 1)")
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,19}\s*", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise wrong
    return value


def check_prompt(prompt: Any, option: str = "prompt") -> str:
    """The prompt, stripped and on one line.

    Raises:
        ValueError: it is empty, not a text, not UTF-8, or longer than `PROMPT_LIMIT` characters.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"{option} is empty: write what the video should show, in 1 to {PROMPT_LIMIT} characters")
    if len(prompt) > PROMPT_LIMIT:
        raise ValueError(f"{option} has {len(prompt)} characters: at most {PROMPT_LIMIT} are accepted")
    if broken := _BROKEN.search(prompt):
        place = broken.start() + 1
        raise ValueError(f"{option} holds {broken[0]!r} at character {place}: only text in UTF-8 is accepted")
    return " ".join(prompt.split())


def check_path(path: str, option: str) -> str:
    """The name of a file or folder, as a recipe can write it.

    Raises:
        ValueError: it holds null characters, or bytes that are not UTF-8.
    """
    if "\0" in path or _BROKEN.search(path):
        raise ValueError(f"{option} = {path!r}: must be a path in UTF-8 without null characters")
    return path


def check_folder(folder: str | Path, option: str = "out") -> Path:
    """A folder to write to, made if need be and proved writable.

    Raises:
        ValueError: it cannot be made or written to, or its name is none.
    """
    folder = Path(check_path(str(folder), option))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{option} = {folder}: cannot write there: {error.strerror or error}") from None
    return folder
