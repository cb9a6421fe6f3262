"""Where models run, and in which number format: decided by options and by what this machine has."""

from __future__ import annotations

import contextlib
import os

import torch


def choose_device(option: str) -> tuple[torch.device, str]:
    """The device for `weights.device`, and the reason.

    Raises:
        ValueError: the option names a GPU that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    own = int(os.environ.get("LOCAL_RANK", 0)) % max(1, count)  # under torchrun each process of a machine has its own
    if option == "auto":
        if not count:
            return torch.device("cpu"), "no CUDA device found"
        name = torch.cuda.get_device_name(own)
        if not _has_kernels(own):
            return torch.device("cpu"), f"this torch was built without kernels for {name}"
        return torch.device("cuda", own), f"{name} found"
    device = torch.device(option)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"weights.device = {option}: this machine has {count} CUDA devices; accepted: auto, cpu")
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", own)
    if device.type == "cuda" and not _has_kernels(device.index or 0):
        lacking = f"this torch was built without kernels for {torch.cuda.get_device_name(device.index or 0)}"
        raise ValueError(f"weights.device = {option}: {lacking}; accepted: auto, cpu")
    return device, "asked for"


def _has_kernels(index: int) -> bool:
    """Whether this build of torch can compute on a GPU: binaries run on later minor versions, PTX on all later ones."""
    if torch.version.hip:
        return True
    major, minor = torch.cuda.get_device_capability(index)
    for built in torch.cuda.get_arch_list():
        kind, _, version = built.partition("_")
        number = int("".join(filter(str.isdigit, version)) or 0)
        if kind == "compute" and number <= 10 * major + minor:
            return True
        if kind == "sm" and number // 10 == major and number % 10 <= minor:
            return True
    return False


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose_dtype(option: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The number format for `weights.dtype` on a device, and the reason.

    float16 is never used on a CPU, where it is many times slower than float32.

    Raises:
        ValueError: float16 on a CPU.
    """
    if option == "float16" and device.type == "cpu":
        raise ValueError("weights.dtype = float16: too slow on a CPU; accepted there: auto, float32, bfloat16")
    if option != "auto":
        return getattr(torch, option), "asked for"
    if device.type == "cuda":
        # It is asked of the current one.
        with torch.cuda.device(device) if device.index is not None else contextlib.nullcontext():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        if native:
            return torch.bfloat16, "native on this GPU"
        return torch.float16, "this GPU has no bfloat16"
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return torch.bfloat16, "native on this CPU"
    return torch.float32, "this CPU has no fast bfloat16"
