"""Metrics over videos, fed one video at a time: torchmetrics' distances on the published networks' features."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mpl.loading import first_line

from .clipsim import ClipScorer
from .extractors import I3D, Inception, c3d
from .metrics import mean_interval
from .protocols import ClipsimOptions, FidVidOptions, FvdOptions, InceptionScoreOptions, MetricOptions

if TYPE_CHECKING:
    from mpl.events import Frames

    from .items import Item


class FrechetDistance:
    """Fréchet distance of two sets of features, by torchmetrics: means and unbiased covariances, in float64."""

    compares = True  # with real videos

    def __init__(self, extractor: nn.Module, device: torch.device, batch: int, each_frame: bool = False) -> None:
        """The extractor says its `num_features`; features are float64, so that the distance is.

        Args:
            each_frame: the extractor takes pictures `(n 3 h w)`, and every frame is a sample of its own.
        """
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.metric = FrechetInceptionDistance(extractor).to(device)
        self.device, self.batch, self.each_frame = device, batch, each_frame
        self.waiting: dict[bool, list[Tensor]] = {True: [], False: []}

    def add(self, clip: Tensor, real: bool = False) -> None:
        """One video, uint8 `3 f h w`; all of the same shape."""
        self.waiting[real].append(clip)
        if len(self.waiting[real]) == self.batch:
            self._flush(real)

    @torch.no_grad()
    def _flush(self, real: bool) -> None:
        if clips := self.waiting[real]:
            x = torch.stack(clips).to(self.device)
            self.metric.update(x.transpose(1, 2).flatten(0, 1) if self.each_frame else x, real=real)
            self.waiting[real] = []

    def value(self) -> float:
        """The distance. Needs two samples on either side."""
        for real in (True, False):
            self._flush(real)
        return self.metric.cpu().compute().item()  # eigenvalues on a GPU need a library that not all builds have


class InceptionScore:
    """Inception score by torchmetrics: samples are dealt to splits at random, by the protocol's seed."""

    compares = False

    def __init__(self, extractor: nn.Module, device: torch.device, batch: int, splits: int, seed: int) -> None:
        from torchmetrics.image.inception import InceptionScore as Metric

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that features are kept: a few numbers for each video
            self.metric = Metric(extractor, splits=splits).to(device)
        self.device, self.batch, self.seed = device, batch, seed
        self.waiting: list[Tensor] = []
        self.count = 0

    def add(self, clip: Tensor) -> None:
        """One video, uint8 `3 f h w`."""
        self.waiting.append(clip)
        self.count += 1
        if len(self.waiting) == self.batch:
            self._flush()

    @torch.no_grad()
    def _flush(self) -> None:
        if self.waiting:
            self.metric.update(torch.stack(self.waiting).to(self.device))
            self.waiting = []

    def value(self) -> tuple[float, float | None, int]:
        """Mean and standard deviation over the splits (None of one), and their number.

        torchmetrics deals ⌈n / splits⌉ samples to each, so that few samples may make fewer splits.
        """
        self._flush()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that one split has no deviation
            torch.manual_seed(self.seed)
            mean, deviation = self.metric.cpu().compute()
        each = -(-self.count // self.metric.splits)
        splits = -(-self.count // each)
        return mean.item(), deviation.item() if splits > 1 else None, splits


class Clipsim:
    """CLIPSIM, and that of each group."""

    compares = False

    def __init__(self, scorer: ClipScorer) -> None:
        self.scorer = scorer
        self.scores: dict[str, list[float]] = defaultdict(list)
        self.frames = 0

    def add(self, item: Item, frames: Frames) -> None:
        self.scores[item.group].append(self.scorer.score(item.prompt, frames))
        self.frames += len(frames)

    def figure(self, by_group: bool) -> dict[str, Any]:
        """Mean over videos with its 95 % interval, in [-1, 1]."""
        every = [score for scores in self.scores.values() for score in scores]
        found: dict[str, Any] = {"value": _mean(every), **_interval(every), "frames": self.frames}
        if by_group:
            groups = self.scores.items()
            found["groups"] = {k: {"value": _mean(v), **_interval(v), "n": len(v)} for k, v in groups}
        return found


Score = FrechetDistance | InceptionScore | Clipsim


def build_score(options: MetricOptions, files: Mapping[str, Path], device: torch.device) -> Score:
    """The metric that a protocol's block describes, with its network read from its files.

    Raises:
        ValueError: a file that is not what it should be, or a package that is not installed.
    """
    match options:
        case FvdOptions():
            return FrechetDistance(I3D(_only(files), options.size), device, options.batch)
        case FidVidOptions():
            return FrechetDistance(Inception(_only(files)), device, options.batch, each_frame=True)
        case InceptionScoreOptions():
            network = c3d(files, options.classes)
            return InceptionScore(network, device, options.batch, options.splits, options.seed)
        case ClipsimOptions():
            return Clipsim(_clip(next(iter(files.values())).parent, device))


def _clip(folder: Path, device: torch.device) -> ClipScorer:
    try:
        return ClipScorer(folder, device)
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{folder}: holds no readable CLIP: {first_line(error)}") from None


def _only(files: Mapping[str, Path]) -> Path:
    (path,) = files.values()
    return path


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _interval(values: list[float]) -> dict[str, float | None]:
    figures = mean_interval(torch.tensor(values, dtype=torch.float64))
    return {"low": figures["low"], "high": figures["high"]}
