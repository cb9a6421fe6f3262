"""Training presets: one TOML block per model, read into frozen dataclasses and checked. Loads no torch."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from mpl.limits import Range, is_optional, shown
from mpl.storybook.scene import ATTRIBUTES

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "training"

TASKS = (
    "text",
    "clip",
    "vae",
    "image",
    "keyframes",
    "interpolation",
    "superres",
    "translation",
    "judge",
    "judge_detail",
)
LABELLED = ("text", "judge", "judge_detail")  # learn from labels, which only the storybook has
CLOCK = 29  # frames of a full clip
FPS = 8  # frames a second on that clock (Table 5: 8; keyframes, every fourth of them, 2)

# What not every task reads; elsewhere it would do nothing.
READ_BY = {
    "data.small": ("superres", "translation", "vae"),
    "data.stills": ("keyframes", "superres", "translation"),
    "data.tiling": ("translation", "vae"),
    "loss.draft_weight": ("keyframes",),
    "loss.warp_weight": ("interpolation",),
    "loss.fill": ("interpolation",),
    "loss.given_weight": ("interpolation",),
    "loss.noise_level_max": ("interpolation", "superres"),
    "loss.first_frame_share": ("superres",),
    "loss.blur_share": ("superres",),
    "loss.bend_share": ("superres",),
    "loss.bend_width": ("superres",),
    "loss.redrawn_share": ("keyframes", "superres"),
    "loss.turned_share": ("keyframes",),
    "loss.degraded_share": ("translation", "vae"),
    "loss.energy_weight": ("vae",),
    "loss.decoder_only": ("vae",),
    "loss.untiled_weight": ("vae",),
    "loss.paraphrases": ("text",),
    "autoencoder": ("image", "keyframes"),
}

# The types of options say what is accepted of each.
Count = Annotated[int, Range(1, 1_000_000)]
Whole = Annotated[int, Range(0, 1_000_000)]
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, 1_000_000)]
Rate = Annotated[float, Range(0, 10, above=True)]


@dataclass(frozen=True)
class OptimizerOptions:
    """How weights move: Muon for the inner matrices, AdamW for the rest (or for all)."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: Rate = 1e-3  # AdamW's
    matrix_lr: Rate = 0.02  # Muon's
    weight_decay: Share = 0.01
    betas: tuple[Share, Share] = (0.9, 0.99)
    warmup_steps: Whole = 100
    decay_from: Share = 0.7  # share of the budget after which the rate falls linearly to zero
    clip: Annotated[float, Range(0, 1_000_000, above=True)] = 1.0  # largest norm of the gradient
    ema: Share = 0.999


@dataclass(frozen=True)
class LossOptions:
    """What the denoisers minimise (eq. 5 and 6 of the paper, and what the embedded models add)."""

    p_drop: Share = 0.1  # captions replaced by the empty one (Table 5)
    log_snr_mean: float = 0.0
    log_snr_std: Weight = 2.0
    mixed_noise: Share = 0.0  # share of the noise's variance that all frames of a clip have in common
    uniform_share: Share = 1.0  # share of timesteps drawn uniformly instead (paper: all)
    cap: Annotated[int, Range(1, 1000)] = 1000  # highest timestep trained on; 900 for the expert (section 3.6)
    max_weight: Weight = 1.0  # "sample" prediction: errors count as errors of v would, 1 / (1-ᾱ), up to this much
    subject_weight: Weight = 1.0  # squared errors inside the subject's silhouette count this much
    draft_weight: Weight = 0.0  # models with drafts: weight of their cross entropy with the silhouettes
    warp_weight: Weight = 0.0  # models with a warp: weight of the moved ends' own errors
    fill: Literal["zeros", "linear"] = "zeros"  # interpolation: what stands between the given frames (paper: zeros)
    given_weight: Weight = 1.0  # interpolation: weight of the frames that are given
    noise_level_max: Annotated[int, Range(0, 1000)] = (
        0  # noise augmentation: highest level of the condition (exclusive)
    )
    first_frame_share: Share = 0.0  # superres: share of clips whose first condition frame is the true one
    blur_share: Share = 0.0  # superres: share of clips whose condition is blurred, frame by frame, by up to a pixel
    bend_share: Share = 0.0  # superres: share of clips in whose condition shapes are bent, as they come in keyframes
    bend_width: Weight = 1.0  # superres: by how many pixels of the condition at most (a standard deviation)
    redrawn_share: Share = 0.0  # keyframes, superres: share of batches that begin with what stages 1 and 2 draw
    turned_share: Share = 0.0  # keyframes: share of the other samples whose noisy subjects are turned any way
    degraded_share: Share = 0.0  # translation, vae: share that starts from what stage 4 meets in place of renders
    energy_weight: Weight = 0.0  # vae: weight of how much contrast is missing or too much, patch by patch
    paraphrases: bool = False  # text: an encoder that reads captions learns to read what people say in their place
    decoder_only: bool = False  # vae: latents stay as they are, so that the expert that speaks them stays of use
    untiled_weight: Weight = 0.0  # vae, latents staying: of how far those of whole crops are from those of tiles


@dataclass(frozen=True)
class DataOptions:
    """What one sample is: frames, size, crop, and the share of the world it comes from."""

    batch: Count = 32
    frames: Count = 1
    spacing: Count = 1  # frame distance on the 29-frame clock, whatever a video's own rate; keyframes use 4
    height: Count = 40
    width: Count = 64
    crop: tuple[Count, Count] | None = None  # height, width of a random crop of the full picture
    on_subject: Share = 0.0  # share of the storybook's crops that are centred on the subject, as far as the edges let
    stills: Share = 0.0  # share of batches that are single frames
    easy_until: Share = 0.0  # curriculum: the world grows from easy to full until this share of the budget
    # Values of attributes that are hard to learn (grows, bird), each with the share of samples that have
    # it for sure; the others are drawn as ever. Of the storybook alone.
    focus: dict[str, Any] = field(default_factory=dict)
    caption: Literal["mixed", "dense", "full", "short", "tacit"] = "mixed"  # style of storybook captions
    tokens: Annotated[int, Range(2, 512)] = 32  # that captions are padded or cut to
    reuse: Count = 1  # translation, vae, and what is redrawn: how often a sample is used before it is drawn anew
    small: tuple[Count, Count] | None = None  # height, width: of clips that stage 3 enlarges (without: blurred copies);
    # superres: of what is given, a quarter of the size without
    tiling: bool = False  # translation, vae: the autoencoder encodes in tiles, as the stage will
    folder: str | None = None  # train on videos with captions instead of the storybook: scenes.jsonl and files
    shards: str | None = None  # the same from tar files: a folder of them, or a pattern (videos/{000000..000127}.tar)


@dataclass(frozen=True)
class TaskOptions:
    """Everything about one training. `model` and `scheduler` are the diffusers/transformers configs."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    image_noising_scheduler: dict[str, Any] = field(default_factory=dict)
    start: str | None = None  # component to initialise from, beside the output folder; "" is none
    steps: Count | None = None  # the run ends after so many, or after --minutes or --max-steps where those are fewer
    gradient_checkpointing: bool = False  # layers are computed again for the gradient: longer steps in less memory
    autoencoder: str | None = None  # image, keyframes: folder of one; the model then learns its latents, not pixels
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    data: DataOptions = field(default_factory=DataOptions)


def load_task(preset: str, what: str) -> TaskOptions:
    """Reads the block `what` of a training preset (a name in presets/training/ or a TOML file).

    Raises ValueError naming the preset, block, key or value that is not accepted, and what is.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    blocks = _read(preset, path, ())
    if what not in blocks:
        raise ValueError(f"train {what}: not in preset {preset}; accepted: {', '.join(sorted(blocks))}")
    values = dict(_checked(what, blocks[what], dict))
    parts: dict[str, Any] = {}
    for name, kind in (("optimizer", OptimizerOptions), ("loss", LossOptions), ("data", DataOptions)):
        parts[name] = read_block(kind, values.pop(name, {}), f"{what}.{name}")
    options = replace(read_block(TaskOptions, {"name": what, **values}, what), **parts)
    _check_read(options)
    _check_data(options)
    return options


def _read(preset: str, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A preset's blocks, laid over those of the one that it `extends` (a name, or a file beside it), key by key."""
    if path in seen:
        raise ValueError(f"--preset {preset}: {path.name} extends itself")
    if not path.is_file():
        names = ", ".join(training_presets())
        raise ValueError(f"--preset {preset}: no such training preset; accepted: {names}, or a TOML file")
    try:
        blocks = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--preset {preset}: broken TOML: {error}") from error
    parent = blocks.pop("extends", None)
    if parent is None:
        return blocks
    name = _checked("extends", parent, str)
    base = path.parent / name if name.endswith(".toml") else PRESETS / f"{name}.toml"
    return _merged(_read(name, base, (*seen, path)), blocks)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def training_presets() -> list[str]:
    """Names that `load_task` knows."""
    return sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.toml"))


def read_block(kind: type, values: Any, where: str) -> Any:
    """A dataclass of options from a block of TOML, every value checked.

    Raises:
        ValueError: an unknown key, or a value that its type does not accept; names both, and what is accepted.
    """
    kinds = get_type_hints(kind, include_extras=True)
    for key in _checked(where, values, dict):
        if key not in kinds:
            raise ValueError(f"{where}.{key}: unknown key; accepted: {', '.join(sorted(kinds))}")
    return kind(**{key: _checked(f"{where}.{key}", value, kinds[key]) for key, value in values.items()})


def _checked(where: str, value: Any, kind: Any) -> Any:
    """The value in the type `kind`; raises ValueError naming the key, the value and what is accepted."""
    if is_optional(kind):  # TOML has no null: None is only ever the default
        kind = get_args(kind)[0]
    limit = None
    if get_origin(kind) is Annotated:
        kind, limit = get_args(kind)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if isinstance(value, list) and len(value) == len(kinds):
            return tuple(_checked(where, v, k) for v, k in zip(value, kinds, strict=True))
        accepted = f"a list of {len(kinds)} numbers"
    elif kind is bool:
        if isinstance(value, bool):
            return value
        accepted = "true or false"
    elif get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        accepted = "one of " + ", ".join(get_args(kind))
    else:
        kind = get_origin(kind) or kind
        accepted = {int: "a whole number", float: "a number", str: "a text", dict: "a block of keys"}[kind]
        fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if fits and (limit is None or limit.accepts(value)):
            return kind(value)
        accepted = str(limit).replace("a number", accepted) if limit else accepted
    raise ValueError(f"{where} = {shown(value)}: must be {accepted}")


def _check_data(options: TaskOptions) -> None:
    """What keys of the data block ask of each other."""
    name, data = options.name, options.data
    if data.folder and data.shards:
        raise ValueError(f"{name}.data.shards = {shown(data.shards)}: data.folder is given, too; leave one of them out")
    for key in ("folder", "shards"):
        if (value := getattr(data, key)) and name in LABELLED:
            raise ValueError(
                f"{name}.data.{key} = {shown(value)}: {name} learns from the storybook's labels; leave it out"
            )
    if name == "translation" and 0 < data.stills < 1:  # samples are kept and mixed, which are then of two lengths
        raise ValueError(f"{name}.data.stills = {data.stills}: must be 0 or 1")
    span = (data.frames - 1) * data.spacing + 1
    if span > CLOCK and not (data.folder or data.shards):
        raise ValueError(
            f"{name}.data.frames = {data.frames} with spacing {data.spacing}: {span} frames of a clip; at most {CLOCK}"
        )
    for key in ("redrawn_share", "turned_share"):
        share = getattr(options.loss, key)
        if share and (data.folder or data.shards or options.autoencoder):
            where = f"{name}.loss.{key} = {share:g}"
            raise ValueError(f"{where}: accepted in pixels, and with the storybook, whose scenes are drawn")
        if share and name == "keyframes" and data.crop:
            raise ValueError(f"keyframes.loss.{key}: whole clips are drawn; leave data.crop out")
    _check_focus(f"{name}.data.focus", data)
    if data.crop and (data.crop[0] > data.height or data.crop[1] > data.width):
        raise ValueError(f"{name}.data.crop = {list(data.crop)}: at most [{data.height}, {data.width}] is accepted")


def _check_read(options: TaskOptions) -> None:
    """That no key is changed that the task would not read."""
    usual = TaskOptions(options.name)
    for key, tasks in READ_BY.items():
        value = reduce(getattr, key.split("."), options)
        if options.name not in tasks and value != reduce(getattr, key.split("."), usual):
            raise ValueError(f"{options.name}.{key} = {shown(value)}: accepted with: {', '.join(tasks)}")


def _check_focus(where: str, data: DataOptions) -> None:
    if data.focus and (data.folder or data.shards):
        raise ValueError(f"{where} = {shown(data.focus)}: only the storybook can draw what is asked; leave it out")
    accepted = [value for values in ATTRIBUTES.values() for value in values]
    for value, share in data.focus.items():
        if value not in accepted:
            raise ValueError(f"{where}.{shown(value)}: unknown value; accepted: {', '.join(accepted)}")
        _checked(f"{where}.{value}", share, Share)
    if (total := sum(data.focus.values())) > 1:
        raise ValueError(f"{where}: its shares come to {total:g}; at most 1 is accepted")
