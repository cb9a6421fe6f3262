"""Presets: everything that a run depends on, as small frozen dataclasses. Knows the standard library only.

A preset is a TOML file with one block per stage. Every value is checked when its block is made
(`mpl.limits`), so that a preset that exists holds nothing impossible; what is wrong is said once: key, value,
what is accepted.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from mpl.limits import coerce, parse, shown

STAGES = ("keyframes", "interpolation", "superres", "translation")


def stages_between(start_at: str | None, stop_after: str | None) -> tuple[str, ...]:
    """The stages from `start_at` to `stop_after`, both included; None means the first, the last.

    Raises:
        ValueError: a name that is none, or the wrong order.
    """
    for option, stage in (("start_at", start_at), ("stop_after", stop_after)):
        if stage is not None and stage not in STAGES:
            raise ValueError(f"{option} = {stage!r}: must be one of {', '.join(STAGES)}")
    first = STAGES.index(start_at) if start_at else 0
    last = STAGES.index(stop_after) if stop_after else len(STAGES) - 1
    if first > last:
        raise ValueError(f"stop_after = {stop_after!r}: comes before {start_at!r}, where the run starts")
    return STAGES[first : last + 1]


class _Checked:
    """A block that checks its values when it is made, and makes whole numbers floats where the key is one."""

    _block = ""

    def __post_init__(self) -> None:
        prefix = f"{self._block}." if self._block else ""
        types = get_type_hints(type(self))
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if not is_dataclass(value):
                object.__setattr__(self, f.name, coerce(prefix + f.name, value, types[f.name]))


@dataclass(frozen=True)
class WeightsOptions(_Checked):
    """Where the models are and how they are held."""

    _block = "weights"
    text: str = "assets/storybook/text"  # folder or hub repo with text_encoder/ and tokenizer/
    keyframes: str = "assets/storybook/keyframes"
    interpolation: str = "assets/storybook/interpolation"
    superres: str = "assets/storybook/superres"
    superres_first_frame: str | None = None
    translation: str = "assets/storybook/translation"  # unet/, scheduler/, vae/, text_encoder/, tokenizer/
    expert: str | None = None  # unet/ and scheduler/ of stage 4, where not translation's own
    upsampling: str | None = None  # stage 4 in pixels instead of latents (paper, Table 4): unet/, scheduler/
    safety: str | None = None  # the safety checker's folder or repo, all of it; the embedded world needs none
    dtype: str = "auto"  # auto | float32 | bfloat16 | float16
    device: str = "auto"  # auto | cpu | cuda | cuda:N
    # After use: none: models stay on the device; stage: they go back to the CPU's memory; drop: they are forgotten.
    offload: str = "stage"
    keep_gb: float = 0.0  # of stage and drop: models that stay on the device all the same, first come, first kept
    quantization: str = "none"  # none | int8 | nf4: the T5 encoder's


@dataclass(frozen=True)
class TextOptions(_Checked):
    """Step 0: the prompt becomes embeddings."""

    _block = "text"
    tokens: int = 32
    negative_prompt: str = ""  # pixel stages
    translation_negative_prompt: str = ""
    # A prompt that names one of the nouns, and none of the adjectives, gets one of the latter, drawn by the seed
    # (`mpl.completion`). Words and phrases with commas between; none of the `other_adjectives` is ever written.
    nouns: str = ""
    adjectives: str = ""
    other_adjectives: str = ""
    places: str = ""  # such a prompt gets one of these phrases, too,
    place_words: str = ""  # unless one of these may say a place
    no_places: str = ""  # elsewhere than in these phrases
    # Words that the models do not know, each with the one that is read in its place.
    substitutes: str = ""


@dataclass(frozen=True)
class _SampledOptions(_Checked):
    """How a stage denoises: what all four have in common."""

    steps: int = 20
    guidance: float = 1.0
    guidance_from: int = 0  # lowest timestep that is guided, and
    guidance_to: int = 999  # the highest (Kynkäänniemi et al. 2024)
    split_guidance: bool = False  # two calls, not one of [negative, positive]: saves memory
    solver: str = "checkpoint"  # checkpoint (its scheduler) | ddpm | ddim | dpm++ | sde-dpm++ | unipc | deis
    spacing: str = "checkpoint"  # of the timesteps: checkpoint | linspace | leading | trailing | karras

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guidance_from > self.guidance_to:
            raise ValueError(
                f"{self._block}.guidance_from = {self.guidance_from}: must not be above {self._block}.guidance_to "
                f"({self.guidance_to})"
            )


@dataclass(frozen=True)
class _PixelOptions(_SampledOptions):
    """What the stages in pixels have besides."""

    deep_every: int = 1  # one of so many steps computes the network's deep levels, the others use what it kept


@dataclass(frozen=True)
class KeyframesOptions(_PixelOptions):
    """Stage 1: a few frames far apart in time, from noise."""

    _block = "keyframes"
    frames: int = 8
    height: int = 40
    width: int = 64
    guidance: float = 4.0
    mixed_noise: float = 0.0  # share of the noise's variance that all frames have in common, as in the training


@dataclass(frozen=True)
class InterpolationOptions(_PixelOptions):
    """Stage 2: new frames between each pair of keyframes."""

    _block = "interpolation"
    between: int = 3  # new frames between two keyframes
    steps: int = 8
    fill: str = "zeros"  # zeros (paper) | linear (published)
    noise_level: int = 0  # timestep of the noise added to the given frames; 0 adds none
    gaps_per_batch: int = 7
    keep_keyframes: bool = True  # published: False
    shared_noise: bool = False  # published: one x_T for every gap


@dataclass(frozen=True)
class _WindowedOptions(_PixelOptions):
    """Pixels made larger under a noised bilinear condition, window by window."""

    steps: int = 8
    snr: float = 5.5  # inf adds no noise to the condition
    window: int = 8
    stride: int = 7
    chained: bool = True  # a window's first frame is conditioned on what the one before made of it (paper 3.5)
    shared_noise: bool = False  # published: every window re-seeded, so noise repeats

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride >= self.window:
            raise ValueError(
                f"{self._block}.stride = {self.stride}: must be below {self._block}.window ({self.window}), "
                "so that the last frame of one window is the first of the next"
            )


@dataclass(frozen=True)
class SuperresOptions(_WindowedOptions):
    """Stage 3: four times the size, window by window."""

    _block = "superres"
    height: int = 160
    width: int = 256
    first_frame_steps: int = 70  # only where weights name superres_first_frame
    first_frame_guidance: float = 4.0
    first_frame_noise_level: int = 150


@dataclass(frozen=True)
class UpsamplingOptions(_WindowedOptions):
    """Stage 4 where weights.upsampling names a model: as stage 3, to the size that translation says."""

    _block = "upsampling"


@dataclass(frozen=True)
class TranslationOptions(_SampledOptions):
    """Stage 4: noise the clip in latent space and denoise it with the expert (SDEdit)."""

    _block = "translation"
    height: int = 320
    width: int = 576
    steps: int = 6
    strength: float = 0.5
    cap: int = 900
    grid: str = "from_start"  # from_start | published
    step_span: int = 1  # of grid "from_start": a step covers so many timesteps at least; low starts have fewer steps
    resize: str = "bilinear"  # bilinear (paper) | published (8-bit, bicubic)
    posterior: str = "mode"  # mode | sample (published)
    decode_frames: int = 4  # frames per VAE call
    tiling: bool = False  # the autoencoder works in overlapping tiles as large as its config's sample_size
    tile_overlap: float = 0.25  # of neighbouring tiles, at least so much of their side
    feed_forward_parts: int = 1  # the network's widest layers work in so many parts, one after another: saves memory
    eta: float = 0.0  # DDIM only: 1 is ancestral (paper, Table 5), 0 deterministic (published call)


@dataclass(frozen=True)
class Preset(_Checked):
    """Everything that a run depends on, apart from prompt and seed."""

    name: str = "storybook"
    fps: int = 8
    clamp: bool = True  # clamp clips to [-1, 1] between stages (published: no)
    safety: bool = True  # every stage's result is checked, where weights.safety names a checker
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    text: TextOptions = field(default_factory=TextOptions)
    keyframes: KeyframesOptions = field(default_factory=KeyframesOptions)
    interpolation: InterpolationOptions = field(default_factory=InterpolationOptions)
    superres: SuperresOptions = field(default_factory=SuperresOptions)
    translation: TranslationOptions = field(default_factory=TranslationOptions)
    upsampling: UpsamplingOptions = field(default_factory=UpsamplingOptions)


def preset_folder() -> Path:
    """The folder of the named presets, beside the package."""
    return Path(__file__).resolve().parent.parent / "presets"


def preset_names() -> list[str]:
    """Names that `load_preset` knows: `storybook`, `quick`, …, `ablations/NAME`."""
    folder = preset_folder()
    found = sorted(folder.glob("*.toml")) + sorted(folder.glob("ablations/*.toml"))
    return [path.relative_to(folder).with_suffix("").as_posix() for path in found]


def load_preset(name_or_path: str | Path) -> Preset:
    """The preset of a name (`storybook`, `ablations/no_expert`) or of a TOML file.

    A file may say `extends = "NAME"` (or a path relative to itself) and then needs only what differs.

    Raises:
        ValueError: no such preset, broken TOML, or a key or value that is not accepted.
    """
    path = _find(str(name_or_path), Path.cwd())
    values = _read(path, ())
    values.setdefault("name", path.stem)
    try:
        return from_dict(values)
    except ValueError as error:
        raise ValueError(f"preset {path.name}: {error}") from None


def from_dict(values: Mapping[str, Any]) -> Preset:
    """The preset that `to_dict` took apart; missing keys take their defaults."""
    _refuse_unknown(values, Preset, "")
    blocks: dict[str, Any] = {}
    for key, value in values.items():
        block = _block_class(key)
        if block is None:
            blocks[key] = value
            continue
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} = {value!r}: must be a block of keys, [{key}]")
        _refuse_unknown(value, block, f"{key}.")
        blocks[key] = block(**value)
    return Preset(**blocks)


def to_dict(preset: Preset) -> dict[str, Any]:
    """The preset as nested dictionaries of JSON values; infinity is the word "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return "inf" if isinstance(value, float) and math.isinf(value) else value

    return plain(asdict(preset))


def to_toml(preset: Preset) -> str:
    """The preset as TOML that `load_preset` reads back to an equal one. Keys that are None are left out."""
    lines: list[str] = []
    values = asdict(preset)
    blocks = {key: values.pop(key) for key in list(values) if isinstance(values[key], dict)}
    for title, block in {"": values, **blocks}.items():
        if title:
            lines.append(f"\n[{title}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in block.items() if value is not None]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value of a preset's key as its file says it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)  # ints, floats, inf


def override(preset: Preset, changes: Mapping[str, Any]) -> Preset:
    """The preset with `{"translation.strength": "0.4"}` put in; texts are read as the key's type.

    Raises:
        ValueError: an unknown key, or a value that is not accepted.
    """
    known = dict(_leaves())
    changed: dict[str, dict[str, Any]] = {}  # per block, "" for the preset's own: keys that fit together only
    for key, value in changes.items():
        if key not in known:
            raise ValueError(f"unknown key {key!r}{_nearest(key, known)}")
        block, _, name = key.rpartition(".")
        changed.setdefault(block, {})[name] = parse(key, value, known[key]) if isinstance(value, str) else value
    own = changed.pop("", {})
    blocks = {block: replace(getattr(preset, block), **values) for block, values in changed.items()}
    return replace(preset, **own, **blocks)


def differences(a: Preset, b: Preset) -> dict[str, tuple[Any, Any]]:
    """What differs between two presets: `{"translation.cap": (900, 1000)}`; the name does not count."""
    return {key: (get(a, key), get(b, key)) for key, _ in _leaves() if key != "name" and get(a, key) != get(b, key)}


def get(preset: Preset, key: str) -> Any:
    """The value of a dotted key, `get(preset, "translation.strength")`."""
    value: Any = preset
    for part in key.split("."):
        value = getattr(value, part)
    return value


# ---- reading files


def _find(name: str, beside: Path) -> Path:
    for path in (preset_folder() / f"{name}.toml", beside / name, Path(name)):
        if path.is_file() and path.suffix == ".toml":
            return path
    if name.endswith(".toml"):
        raise ValueError(f"preset {shown(name)}: no such file")
    raise ValueError(f"preset {shown(name)}: must be one of {', '.join(preset_names())}, or a .toml file")


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The file's values laid over those of the preset that it extends."""
    if path.resolve() in seen:
        raise ValueError(f"preset {path.name}: extends itself")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"preset {path.name}: broken TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"preset {path.name}: cannot be read: {error}") from None
    parent = values.pop("extends", None)
    if parent is None:
        return values
    if not isinstance(parent, str):
        raise ValueError(f"preset {path.name}: extends = {parent!r}: must be a preset's name or file")
    base = _read(_find(parent, path.parent), (*seen, path.resolve()))
    base.pop("name", None)
    for key, value in values.items():
        mergeable = isinstance(value, dict) and isinstance(base.get(key), dict)
        base[key] = {**base[key], **value} if mergeable else value
    return base


# ---- checking values


def _block_class(key: str) -> type | None:
    kind = get_type_hints(Preset)[key]
    return kind if is_dataclass(kind) else None


def _leaves() -> Iterator[tuple[str, Any]]:
    """Every dotted key of a preset, with its type."""
    for key, kind in get_type_hints(Preset).items():
        if key.startswith("_"):
            continue
        if not is_dataclass(kind):
            yield key, kind
            continue
        types = get_type_hints(kind)
        for f in fields(kind):
            yield f"{key}.{f.name}", types[f.name]


def _refuse_unknown(values: Mapping[str, Any], block: type, prefix: str) -> None:
    known = [f.name for f in fields(block)]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown key {prefix + str(key)!r}{_nearest(str(key), known)}")


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
