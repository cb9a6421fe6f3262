"""Published networks as extractors: pictures in 8 bits in, features out. They know no metrics.

torchvision is not needed: the I3D is cd-fvd's, the others are TorchScript that users supply.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpl.loading import first_line

from .samples import resize

# TGAN2's calculation of the inception score: frames of 128×128, bicubic, of which the middle 112×112 is looked at, less
# the mean picture, which is 128 high and 171 wide.
TGAN2_SIDE, C3D_SIDE, C3D_FRAMES, TGAN2_WIDTH = 128, 112, 16, 171


class I3D(nn.Module):
    """400 Kinetics logits, as TATS prepares pictures: bilinear without antialias, stretched, in [-1, 1]."""

    num_features = 400  # torchmetrics asks for it

    def __init__(self, path: Path, size: int = 224) -> None:
        """Raises ImportError where cd-fvd is not installed, ValueError where the file holds no I3D."""
        super().__init__()
        try:
            from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
        except ImportError as error:
            how = "pip install --no-deps -r requirements-evaluation.txt"
            raise ImportError(f"cd-fvd, which has the I3D, cannot be imported ({error}): {how}") from None
        self.size = size
        self.network = InceptionI3d(self.num_features, in_channels=3)
        try:
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: holds no weights of the I3D: {first_line(error)}") from None
        self.eval()

    def forward(self, clips: Tensor) -> Tensor:
        """Logits `(b, 400)` in float64 of clips, uint8 `(b 3 f h w)`, f of 9 or more."""
        return self.network(resize(clips, self.size, "bilinear") / 127.5 - 1).double()


class C3D(nn.Module):
    """Log-probabilities of UCF-101's classes by a C3D in TorchScript, of 16 frames."""

    def __init__(self, path: Path, classes: int, mean: Path | None = None) -> None:
        """`mean` is that of a network whose pictures are prepared here, as TGAN2 does it; others prepare their own.

        Raises:
            ValueError: a file is not what it should be.
        """
        super().__init__()
        self.network, self.path, self.classes = _script(path), path, classes
        self.register_buffer("mean", None if mean is None else _tgan2_mean(mean))
        _try(self, path, torch.zeros(1, 3, C3D_FRAMES, C3D_SIDE, C3D_SIDE, dtype=torch.uint8))

    def forward(self, clips: Tensor) -> Tensor:
        """Log-probabilities `(b, classes)` in float64 of clips, uint8 `(b 3 16 h w)`.

        Raises:
            ValueError: the network gives something else than probabilities.
        """
        found = self.network(clips if self.mean is None else self._prepared(clips))
        right = isinstance(found, Tensor) and found.shape == (len(clips), self.classes) and bool((found >= 0).all())
        if not right or not torch.allclose(found.sum(1), found.new_ones(len(found)), atol=1e-2):
            raise ValueError(f"{self.path}: does not give probabilities of {self.classes} classes")
        # 1e-12 in place of 0: its logarithm times 0 would not be a number.
        return found.double().clamp(min=1e-12).log()

    def _prepared(self, clips: Tensor) -> Tensor:
        """Float32 `(b 3 16 112 112)`, BGR, about [-128, 128]."""
        x = resize(clips, TGAN2_SIDE, "bicubic").flip(1) - self.mean
        edge = (TGAN2_SIDE - C3D_SIDE) // 2
        return x[..., edge : edge + C3D_SIDE, edge : edge + C3D_SIDE]


class Inception(nn.Module):
    """Pooled features of Inception-v3 in TorchScript, which resizes to 299×299 itself."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError where the file is no TorchScript, or none of an Inception."""
        super().__init__()
        self.network = _script(path)
        self.num_features = _try(self, path, torch.zeros(1, 3, 299, 299, dtype=torch.uint8)).shape[-1]

    def forward(self, pictures: Tensor) -> Tensor:
        """Features `(n, 2048)` in float64 of pictures, uint8 `(n 3 h w)`."""
        return self.network(pictures, return_features=True).double()


def c3d(files: Mapping[str, Path], classes: int) -> C3D:
    """The C3D of a network's files: a TorchScript, and the mean picture where its pictures are prepared here."""
    script = next(path for path in files.values() if path.suffix == ".pt")
    return C3D(script, classes, next((path for path in files.values() if path.suffix == ".npz"), None))


@torch.no_grad()
def _try(network: nn.Module, path: Path, pictures: Tensor) -> Tensor:
    """What a network makes of black pictures: whether it takes them is known before there are videos to measure."""
    try:
        return network(pictures)
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"{path}: does not take pictures as it should: {first_line(error)}") from None


def _script(path: Path) -> nn.Module:
    try:
        return torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(f"{path}: is no TorchScript: {first_line(error)}") from None


def _tgan2_mean(path: Path) -> Tensor:
    """`(3 16 128 128)`, BGR: the middle of the mean picture, without 21 columns on its left and 22 on its right."""
    shape = (3, C3D_FRAMES, TGAN2_SIDE, TGAN2_WIDTH)
    try:
        with np.load(path) as values:
            mean = np.asarray(values["mean"], np.float32).reshape(shape)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: holds no mean picture {shape}: {first_line(error)}") from None
    left = (TGAN2_WIDTH - TGAN2_SIDE) // 2
    return torch.from_numpy(mean[..., left : left + TGAN2_SIDE].copy())
