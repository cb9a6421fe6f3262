"""Loading one model: which class, strictly which keys, quantized or not, quietly. Knows folders only."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpl import checkpoints
from mpl.noise import scheduler_from_config

log = logging.getLogger(__name__)

# Keys that old checkpoints hold and today's classes compute: dropped by name, with a line in the log.
DROPPED_KEYS = {"text_model.embeddings.position_ids"}


def load_model(
    kind: str,
    folder: Path,
    dtype: torch.dtype,
    quantization: str = "none",
    device: torch.device | None = None,
) -> nn.Module:
    """A model in eval mode, from a folder in diffusers' or transformers' layout, on the CPU.

    Args:
        kind: `video_unet`, `image_unet`, `latent_unet`, `autoencoder`, `t5`, `clip` or `safety_checker`.
        quantization: `none`, or bitsandbytes' `int8` or `nf4` for the transformers' kinds: these load onto `device`.

    Raises:
        ValueError: a weight file is missing or broken, or holds other keys or shapes than the config asks for.
    """
    found = checkpoints.weight_files(folder, half=dtype != torch.float32)
    if found is None:
        raise ValueError(f"{folder} holds no weight file")
    for path in found.files:
        checkpoints.verify(path)
    kwargs: dict[str, Any] = {"variant": found.variant, "use_safetensors": found.safetensors}
    if quantization != "none":
        kwargs["quantization_config"] = _quantization(quantization, dtype)
        kwargs["device_map"] = {"": str(device or "cpu")}
    try:
        with quiet():
            model, report = _LOADERS[kind](folder, dtype, kwargs)
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        # While weights are quantized, the library turns a full GPU into an error of its own.
        full = " Is the GPU's memory full?" if quantization != "none" and device and device.type == "cuda" else ""
        raise ValueError(f"{folder} cannot be loaded: {first_line(error)}{full}") from error
    _check_keys(report, folder)
    return channels_last(model.eval().requires_grad_(False))


def _load_diffusers(class_of: Callable[[], Any]) -> Callable[..., tuple[nn.Module, dict[str, Any]]]:
    def load(folder: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        return class_of().from_pretrained(
            folder, torch_dtype=dtype, local_files_only=True, output_loading_info=True, **kwargs
        )

    return load


def _load_transformers(class_name: str) -> Callable[..., tuple[nn.Module, dict[str, Any]]]:
    def load(folder: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
        import transformers

        return getattr(transformers, class_name).from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True, **kwargs
        )

    return load


def _diffusers_class(name: str) -> Callable[[], Any]:
    def find() -> Any:
        import diffusers

        return getattr(diffusers, name)

    return find


def _load_latent_unet(folder: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    from mpl.models.latent import quicken

    model, report = _load_diffusers(_diffusers_class("UNet3DConditionModel"))(folder, dtype, kwargs)
    return quicken(model), report


def _load_autoencoder(folder: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    from mpl.models.latent import fold_upsampling

    model, report = _load_diffusers(_diffusers_class("AutoencoderKL"))(folder, dtype, kwargs)
    return fold_upsampling(model), report


def _load_safety_checker(folder: Path, dtype: torch.dtype, kwargs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """Stable Diffusion's safety checker. diffusers 0.42 suits it to transformers 5 itself: nothing is patched here.

    Values that are no numbers are refused: whatever is compared with them passes.
    """
    from diffusers.pipelines.stable_diffusion import safety_checker

    logging.getLogger(safety_checker.__name__).setLevel(logging.ERROR)  # it warns of black images; we show none
    model, report = safety_checker.StableDiffusionSafetyChecker.from_pretrained(
        folder, dtype=dtype, local_files_only=True, output_loading_info=True, **kwargs
    )
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise ValueError(f"{key} holds values that are no numbers")
    return model, report


def _video_unet() -> Any:
    from mpl.models import VideoUNet

    return VideoUNet


_LOADERS = {
    "video_unet": _load_diffusers(_video_unet),
    "image_unet": _load_diffusers(_diffusers_class("UNet2DConditionModel")),
    "latent_unet": _load_latent_unet,
    "autoencoder": _load_autoencoder,
    "t5": _load_transformers("T5EncoderModel"),
    "clip": _load_transformers("CLIPTextModel"),
    "safety_checker": _load_safety_checker,
}


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    """transformers' bitsandbytes settings."""
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_keys(report: dict[str, Any], where: Path) -> None:
    """Raises ValueError on missing, unexpected or misshapen keys, save those that are dropped by name."""
    unexpected = set(report.get("unexpected_keys", ()))
    for key in sorted(unexpected & DROPPED_KEYS):
        log.warning("%s: key %s of an older format is not used", where, key)
    problems = {
        "missing": set(report.get("missing_keys", ())),
        "unexpected": unexpected - DROPPED_KEYS,
        "misshapen": {str(key) for key in report.get("mismatched_keys", ())},
    }
    for what, keys in problems.items():
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (" …" if len(keys) > 3 else "")
            raise ValueError(f"{where}: {len(keys)} {what} keys: {shown}")


def channels_last(model: nn.Module) -> nn.Module:
    """Puts 2-D convolutions' weights in the memory format that is fastest on CPUs and GPUs alike, in place.

    `Module.to(memory_format=…)` would do it, but refuses models that have convolutions over frames, too.
    """
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or reports of the libraries while they load: what matters is checked and said here."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(lib.get_verbosity(), lib.is_progress_bar_enabled()) for lib in libraries]
    for lib in libraries:
        lib.set_verbosity_error()
        lib.disable_progress_bar()
    try:
        yield
    finally:
        for lib, (verbosity, bars) in zip(libraries, before, strict=True):
            lib.set_verbosity(verbosity)
            if bars:
                lib.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ValueError where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {first_line(error)}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold a JSON object")
    return values


def first_line(error: BaseException) -> str:
    """What a library's error says, without the page that may follow."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def read_scheduler(folder: Path) -> Any:
    """A fresh scheduler of a checkpoint's folder; raises ValueError where its config is none."""
    path = folder / "scheduler_config.json"
    config = read_json(path)
    try:
        return scheduler_from_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
