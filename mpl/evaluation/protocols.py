"""Published protocols: every choice of a measurement, read from `presets/protocols/`. Loads no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from mpl.config import preset_folder
from mpl.limits import MAX_SEED, Range, shown
from mpl.training.options import Count, Whole, read_block

Seed = Annotated[int, Range(0, MAX_SEED)]
Rate = Annotated[float, Range(0, 1000, above=True)]
Side = Annotated[int, Range(0, 4096)]
Start = Literal["first", "middle", "random"]

STORYBOOK = "storybook"  # a protocol of its own kind
METRICS = ("inception_score", "fvd", "fid_vid", "clipsim")


@dataclass(frozen=True)
class PromptOptions:
    """What videos are made of, in which order."""

    source: Literal["classes", "captions", "set"]  # a TOML file of sentences, a data set's captions, a set of prompts
    file: str  # beside the protocol or in presets/protocols; the captions' usual name; the set's name
    count: Count  # classes, captions or prompts that there should be
    seed: Seed  # of the first video
    order_seed: Seed  # of the captions' order


@dataclass(frozen=True)
class VideoOptions:
    """How frames of generated and real videos are made alike, before any network's own preparation."""

    start: Start  # which frames of a generated video, where a metric looks at fewer than there are
    crop: Literal["none", "square"]  # the middle square
    height: Side  # 0: as it is
    width: Side
    antialias: bool
    compression: str


@dataclass(frozen=True)
class RealOptions:
    """Which real videos, and where in them."""

    split: str  # of the data set: what the folder given is to hold
    choice: Literal["random", "captioned"]  # of all in the folder, or those whose captions the videos are made of
    seed: Seed
    start: Start


@dataclass(frozen=True)
class InceptionScoreOptions:
    """Inception score (Salimans et al. 2016) of a classifier of videos."""

    network: Literal["c3d", "c3d_tgan2"]
    definition: str
    videos: Count
    frames: Annotated[int, Range(16, 16)]  # the C3D's
    fps: Rate
    classes: Count
    splits: Count
    seed: Seed
    batch: Count


@dataclass(frozen=True)
class FvdOptions:
    """Fréchet video distance (Unterthiner et al. 2018)."""

    network: Literal["i3d"]
    definition: str
    videos: Count
    frames: Annotated[int, Range(9, 100_000)]  # the I3D halves them three times, and pools two of what is left
    fps: Rate
    size: Annotated[int, Range(224, 224)]  # the I3D's pooling fits no other
    batch: Count


@dataclass(frozen=True)
class FidVidOptions:
    """Fréchet inception distance (Heusel et al. 2017) over the frames of videos."""

    network: Literal["inception"]
    definition: str
    videos: Count
    frames: Count
    fps: Rate
    batch: Count


@dataclass(frozen=True)
class ClipsimOptions:
    """CLIPSIM (Wu et al. 2021)."""

    network: Literal["clip"]
    definition: str
    videos: Whole  # 0: all
    frames: Annotated[int, Range(0, 0)]  # all of a video
    by_group: bool  # the mean of each category too


MetricOptions = InceptionScoreOptions | FvdOptions | FidVidOptions | ClipsimOptions


@dataclass(frozen=True)
class Protocol:
    """A measurement. Metrics that are None are not part of it."""

    name: str
    title: str
    folder: Path  # of its file
    prompts: PromptOptions
    videos: VideoOptions
    real: RealOptions | None = None
    inception_score: InceptionScoreOptions | None = None
    fvd: FvdOptions | None = None
    fid_vid: FidVidOptions | None = None
    clipsim: ClipsimOptions | None = None

    @property
    def metrics(self) -> dict[str, MetricOptions]:
        """Its metrics by name."""
        return {name: getattr(self, name) for name in METRICS if getattr(self, name) is not None}


@dataclass(frozen=True)
class CaseOptions:
    """Which captions of the storybook, and the seeds of their videos."""

    count: Count
    split: Literal["heldout", "train"]
    style: Literal["mixed", "dense", "full", "short", "tacit"]
    seed: Seed
    enlargement_share: Annotated[float, Range(0, 1, above=True)]  # of the captions, for parts that enlarge


@dataclass(frozen=True)
class StorybookProtocol:
    """The measurement of the embedded models; `judges` and `figures` say what each looks at, and what each is."""

    title: str
    cases: CaseOptions
    choices: Mapping[str, str]
    judges: Mapping[str, str]
    figures: Mapping[str, str]


_BLOCKS = {
    "prompts": PromptOptions,
    "videos": VideoOptions,
    "real": RealOptions,
    "inception_score": InceptionScoreOptions,
    "fvd": FvdOptions,
    "fid_vid": FidVidOptions,
    "clipsim": ClipsimOptions,
}


def protocol_folder() -> Path:
    """The folder of the named protocols."""
    return preset_folder() / "protocols"


def protocol_names() -> tuple[str, ...]:
    """Names that `load_protocol` knows."""
    return tuple(sorted(path.stem for path in protocol_folder().glob("*.toml") if path.stem != STORYBOOK))


def load_storybook_protocol() -> StorybookProtocol:
    """The choices of `evaluate storybook`. Raises ValueError as `load_protocol`."""
    path = protocol_folder() / f"{STORYBOOK}.toml"
    values = read_toml(path)
    cases = _whole_block(CaseOptions, values.get("cases", {}), f"protocol {path.name}: cases")
    return StorybookProtocol(values["title"], cases, values["choices"], values["judges"], values["figures"])


def load_protocol(name: str) -> Protocol:
    """The protocol of a name (`ucf101`) or of a TOML file. A file states every choice: nothing has a default.

    Raises:
        ValueError: no such protocol, broken TOML, or a key or value that is missing or not accepted.
    """
    path = protocol_folder() / f"{name}.toml" if name in protocol_names() else Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise ValueError(f"protocol {shown(name)}: must be one of {', '.join(protocol_names())}, or a TOML file")
    if path.stem in protocol_names() and path.resolve() != (protocol_folder() / path.name).resolve():
        raise ValueError(f"protocol {shown(name)}: a file of another name is accepted; {path.stem} is one of ours")
    try:
        return _protocol(path, read_toml(path))
    except ValueError as error:
        raise ValueError(f"protocol {path.name}: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises ValueError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None


def _protocol(path: Path, values: Mapping[str, Any]) -> Protocol:
    if unknown := set(values) - {*_BLOCKS, "title"}:
        raise ValueError(f"{', '.join(sorted(unknown))}: unknown; accepted: title, {', '.join(_BLOCKS)}")
    title = values.get("title")
    if not isinstance(title, str) or not title:
        raise ValueError("title: must be a text")
    blocks = {key: _whole_block(kind, values[key], key) for key, kind in _BLOCKS.items() if key in values}
    if lacking := [key for key in ("prompts", "videos") if key not in blocks]:
        raise ValueError(f"{', '.join(lacking)}: missing")
    protocol = Protocol(path.stem, title, path.parent, **blocks)
    if not protocol.metrics:
        raise ValueError(f"names no metric; accepted: {', '.join(METRICS)}")
    if protocol.real is None and (protocol.fvd or protocol.fid_vid):
        raise ValueError("real: missing; fvd and fid_vid compare with real videos")
    if protocol.real and protocol.real.choice == "captioned" and protocol.prompts.source != "captions":
        raise ValueError('real.choice = "captioned": needs prompts.source = "captions"')
    if protocol.prompts.source == "classes" and not all(options.videos for options in protocol.metrics.values()):
        raise ValueError("videos = 0: classes have no end; must be a whole number from 1")
    if not protocol.videos.height == protocol.videos.width == 0 and 0 in (
        protocol.videos.height,
        protocol.videos.width,
    ):
        raise ValueError("videos.height, videos.width: must both be 0, or none")
    if protocol.videos.height == 0 and set(protocol.metrics) - {"clipsim"}:
        raise ValueError(
            "videos.height, videos.width: must not be 0 but for clipsim alone; others take videos together"
        )
    return protocol


def _whole_block(kind: type, values: Any, where: str) -> Any:
    """A block that states all of its keys."""
    if isinstance(values, Mapping) and (lacking := [f.name for f in fields(kind) if f.name not in values]):
        raise ValueError(f"{where}.{lacking[0]}: missing; a protocol states every choice")
    return read_block(kind, values, where)
