"""How the reference cases make their weights and inputs; shared by the replay script and its stage part.

A reference folder stores neither weights nor inputs. Every weight is drawn from a generator seeded with the CRC-32
of "salt/key", every input from one seeded with its tag (the folder format's README). Everything is CPU, float32.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpl.models.structure import without_neutral

QUIET_SUFFIXES = ("conv4.3.weight", "proj_out.weight", "to_out.0.weight", "ff.net.2.weight")
SUM_TOLERANCE = 1e-8  # of the sum of absolute values; the stored sums are float64 over float32 draws


class CaseError(Exception):
    """A case cannot be replayed as it stands: a file is missing, damaged or contradicts another."""


def draw(tag: str, shape: Sequence[int]) -> Tensor:
    """Unit normal tensor of `shape` that depends on nothing but `tag`."""
    generator = torch.Generator("cpu").manual_seed(zlib.crc32(tag.encode("utf-8")))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def make_weight(salt: str, key: str, shape: Sequence[int]) -> Tensor:
    """The weight of one state-dict key: small biases, norms near one, fan-in scaled matrices.

    The last layer of each residual branch is scaled down, which keeps a random network well conditioned.
    """
    x = draw(f"{salt}/{key}", shape)
    if len(shape) < 2:
        return 0.05 * x if key.endswith("bias") else 1.0 + 0.1 * x
    quiet = 0.5 if key.endswith("conv2.weight") else 0.25 if key.endswith(QUIET_SUFFIXES) else 1.0
    return quiet * x * math.prod(shape[1:]) ** -0.5


def make_input(spec: Mapping[str, Any]) -> Tensor:
    """One input tensor from its {"tag", "shape", "kind"}; kind is randn (default), pixels or uint8.

    Raises:
        CaseError: the kind is unknown.
    """
    kind = spec.get("kind", "randn")
    x = draw(spec["tag"], spec["shape"])
    if kind == "randn":
        return x
    if kind == "pixels":  # [-1, 1]
        return (0.5 * x).clamp(-1.0, 1.0)
    if kind == "uint8":  # 0..255, channels last
        return ((0.25 * x + 0.5).clamp(0.0, 1.0) * 255.0).to(torch.uint8)
    raise CaseError(f"input kind {kind!r} is not one of randn, pixels, uint8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CaseError if it is missing or is no JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{path.name}: {error}") from error
    if not isinstance(value, dict):
        raise CaseError(f"{path.name}: not a JSON object")
    return value


def make_state_dict(manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """All weights of a manifest, after checking them against its parameter count and sums.

    Raises:
        CaseError: the manifest's numbers do not belong together.
    """
    weights = {key: make_weight(manifest["salt"], key, shape) for key, shape in manifest["params"].items()}
    count = sum(weight.numel() for weight in weights.values())
    if count != manifest["n_params"]:
        raise CaseError(f"manifest.json: n_params is {manifest['n_params']}, the shapes add up to {count}")
    total = sum(float(weight.double().sum()) for weight in weights.values())
    absolute = sum(float(weight.double().abs().sum()) for weight in weights.values())
    for name, value in (("sum", total), ("abs_sum", absolute)):
        if not abs(value - manifest["check"][name]) <= SUM_TOLERANCE * absolute:
            raise CaseError(f"manifest.json: {name} is {manifest['check'][name]}, the weights give {value:.6f}")
    return weights


def model_class(config: Mapping[str, Any]) -> type[nn.Module]:
    """The class a reference config describes, told from its block names."""
    blocks = config.get("down_block_types", ())
    if any("Encoder" in name for name in blocks):
        from diffusers import AutoencoderKL

        return AutoencoderKL
    if any(name.startswith(("Resnet", "SimpleCrossAttn")) for name in blocks):
        from mpl.models import VideoUNet

        return VideoUNet
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel


@lru_cache(maxsize=4)
def build_model(root: Path, model_path: str) -> nn.Module:
    """The network of `root/model_path` (config.json, manifest.json) with its recipe weights, in eval mode.

    The same object is given to all cases; `build_model.cache_clear()` forgets it.

    Raises:
        CaseError: a file is missing, the config is not accepted, or config and manifest disagree.
    """
    config = read_json(root / model_path / "config.json")
    manifest = read_json(root / model_path / "manifest.json")
    try:
        weights = make_state_dict(manifest)
        kind = model_class(config)
        model = kind(**(without_neutral(config) if kind.__name__ == "VideoUNet" else config))
        model.load_state_dict(weights, strict=True)
    except CaseError:
        raise
    except Exception as error:  # whatever a damaged config or manifest provokes belongs to the case's line
        raise CaseError(f"{model_path}: {' '.join(str(error).split())[:300]}") from error
    return model.eval()
