"""Training presets: one TOML block per model, read into frozen dataclasses. Knows the standard library only."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class OptimizerOptions:
    """How weights move: Muon for the inner matrices, AdamW for the rest (or for all)."""

    kind: str = "adamw"  # adamw | muon
    lr: float = 1e-3  # AdamW's
    matrix_lr: float = 0.02  # Muon's
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 100
    decay_from: float = 0.7  # share of the budget after which the rate falls linearly to zero
    clip: float = 1.0
    ema: float = 0.999


@dataclass(frozen=True)
class LossOptions:
    """What the denoisers minimise (eq. 5 and 6 of the paper, and what the embedded models add)."""

    p_drop: float = 0.1  # captions replaced by the empty one (Table 5)
    log_snr_mean: float = 0.0
    log_snr_std: float = 2.0
    uniform_share: float = 1.0  # share of timesteps drawn uniformly instead (paper: all)
    cap: int = 1000  # highest timestep trained on; 900 for the expert (section 3.6)
    max_weight: float = 1.0  # "sample" prediction: errors count as errors of v would, 1 / (1-ᾱ), up to this much
    subject_weight: float = 1.0  # squared errors inside the subject's silhouette count this much
    fill: str = "zeros"  # interpolation: what stands between the given frames, zeros (paper) or linear
    given_weight: float = 1.0  # interpolation: weight of the frames that are given
    noise_level_max: int = 0  # noise augmentation: highest level of the condition (exclusive)
    first_frame_share: float = 0.0  # superres: share of clips whose first condition frame is the true one
    degraded_share: float = 0.0  # translation: share of clips that start from a blurred copy


@dataclass(frozen=True)
class DataOptions:
    """What one sample is: frames, size, crop, and the share of the world it comes from."""

    batch: int = 32
    frames: int = 1
    spacing: int = 1  # frame distance on the 29-frame clock; keyframes use 4
    height: int = 40
    width: int = 64
    crop: tuple[int, int] | None = None  # height, width of a random crop of the full picture
    stills: float = 0.0  # share of batches that are single frames
    easy_until: float = 0.0  # curriculum: the world grows from easy to full until this share of the budget
    caption: str = "mixed"  # storybook caption style: mixed | dense | short
    reuse: int = 1  # how often an encoded sample is used before it is drawn anew
    folder: str | None = None  # train on videos with captions instead of the storybook


@dataclass(frozen=True)
class TaskOptions:
    """Everything about one training. `model` and `scheduler` are the diffusers/transformers configs."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    image_noising_scheduler: dict[str, Any] = field(default_factory=dict)
    start: str | None = None  # component to initialise from, beside the output folder
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    data: DataOptions = field(default_factory=DataOptions)


def _block(kind: type, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in fields(kind)}
    for key in values:
        if key not in known:
            raise ValueError(f"{where}.{key}: unknown key; accepted: {', '.join(sorted(known))}")
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return kind(**tuples)


def load_task(preset: str, what: str) -> TaskOptions:
    """Reads the block `what` of a training preset (a name in presets/training/ or a TOML file).

    Raises ValueError naming the preset, block or key that is unknown, and what is accepted.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
        raise ValueError(f"--preset {preset}: no such training preset; accepted: {names}, or a TOML file")
    try:
        blocks = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"--preset {preset}: broken TOML: {error}") from error
    if what not in blocks:
        raise ValueError(f"train {what}: not in preset {preset}; accepted: {', '.join(sorted(blocks))}")
    values = dict(blocks[what])
    parts: dict[str, Any] = {}
    for name, kind in (("optimizer", OptimizerOptions), ("loss", LossOptions), ("data", DataOptions)):
        parts[name] = _block(kind, values.pop(name, {}), f"{what}.{name}")
    return replace(_block(TaskOptions, {"name": what, **values}, what), **parts)
