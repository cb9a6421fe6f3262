"""Memory of a run: its peaks, a GPU's or this process's where there is none, and what the allocator does in between."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")  # proc(5): writing 5 resets the peak of resident memory
_STATUS = Path("/proc/self/status")
_CONTAINER = Path("/sys/fs/cgroup")  # the kernel's cgroup-v2.rst: a container's own bound and use
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt(3), malloc.h of glibc
_MOST_KEPT = 2**30  # bytes free at the heap's end, above which glibc gives them back unasked


def keep_freed_memory() -> None:
    """From now on what a tensor leaves behind stays with the process for the next one; see `give_back_memory`.

    By default glibc takes every large tensor from the system and gives it back, so that each of its pages is mapped
    and zeroed anew in every call of a network: a fifth of the expert's time on two cores. Threads that begin later
    share one heap, since those of their own give back what they do not use. Elsewhere than on glibc nothing changes.
    """
    for option, value in ((_TRIM_THRESHOLD, _MOST_KEPT), (_MMAP_MAX, 0), (_ARENA_MAX, 1)):
        _allocator("mallopt")(option, value)


def give_back_memory() -> None:
    """Gives the system what `keep_freed_memory` has kept and nothing uses."""
    _allocator("malloc_trim")(0)


@cache
def _allocator(function: str) -> Callable[..., int]:
    """A function of glibc's allocator; one that does nothing where there is another."""
    try:
        return getattr(ctypes.CDLL(None), function)
    except (AttributeError, OSError, TypeError):
        return lambda *arguments: 0


def main_memory_left() -> int:
    """Bytes that this process can still take, of the machine's or of its container's, where that has a bound."""
    import psutil  # comes with accelerate

    left = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError, KeyError):  # no container, or none with a bound ("max")
        bound, used = (int((_CONTAINER / f"memory.{name}").read_text()) for name in ("max", "current"))
        said = dict(line.split() for line in (_CONTAINER / "memory.stat").read_text().splitlines())
        left = min(left, bound - used + int(said["inactive_file"]))  # what files take can be given back
    return left


class PeakMemory:
    """Peaks of one run and of its parts, in 10⁹ bytes.

    Where the system cannot reset a process's peak (outside of Linux), every peak is that since the process began.
    On a CPU each part begins with what is in use, and keeps what it frees.
    """

    def __init__(self, device: torch.device) -> None:
        """Begins the run and its first part."""
        self.device = device
        if device.type == "cpu":
            keep_freed_memory()
        self._earlier = 0.0  # the highest of the parts that are over
        self._reset()

    def part(self) -> None:
        """Begins another part."""
        self._earlier = max(self._earlier, self.of_part())
        self._reset()

    def of_part(self) -> float:
        """The peak of the part so far."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return _process_peak()

    def of_run(self) -> float:
        """The peak of the run so far."""
        return max(self._earlier, self.of_part())

    def end(self) -> None:
        """What the run has freed goes back to the system: nobody may ask for another one for long."""
        if self.device.type == "cpu":
            give_back_memory()

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.init()  # where device and number format were named, nothing has asked it anything yet
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        give_back_memory()
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text("5")


def _process_peak() -> float:
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    if sys.platform == "win32":
        import psutil  # comes with accelerate

        return psutil.Process().memory_info().peak_wset / 1e9
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, other systems kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
