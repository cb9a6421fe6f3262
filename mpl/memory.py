"""Peaks of memory: a GPU's, or this process's where there is none."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")  # proc(5): writing 5 resets the peak of resident memory
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Peaks of one run and of its parts, in 10⁹ bytes.

    Where the system cannot reset a process's peak (outside of Linux), every peak is that since the process began.
    """

    def __init__(self, device: torch.device) -> None:
        """Begins the run and its first part."""
        self.device = device
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

    def _reset(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.init()  # where device and number format were named, nothing has asked it anything yet
            torch.cuda.reset_peak_memory_stats(self.device)
            return
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
