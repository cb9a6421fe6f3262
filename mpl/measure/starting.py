"""Beginnings: every model from disk, and the page from nothing to an answer."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mpl.config import STAGES, Preset, preset_folder
from mpl.terminal import RunFailed
from mpl.weights import Weights

APP = preset_folder().parent / "app.py"
TIMEOUT = 120.0  # seconds for the page's first answer


def loading_figures(preset: Preset, repeats: int) -> dict[str, dict[str, Any]]:
    """By model: median seconds from disk into fresh `Weights`, its files read once before, and its bytes.

    The first load is not counted: it imports libraries.
    """
    weights = Weights(preset.weights)
    names = dict.fromkeys(name for stage in STAGES for name in weights.needs(stage))
    return {name: _loading(preset, name, repeats) for name in names if weights.has(name)}


def _loading(preset: Preset, name: str, repeats: int) -> dict[str, Any]:
    taken, size = [], 0
    for _ in range(repeats + 1):
        weights = Weights(preset.weights)
        begin = time.perf_counter()
        with weights.borrow(name) as model:
            taken.append(time.perf_counter() - begin)
            size = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"seconds": round(statistics.median(taken[1:]), 4), "bytes": size}


Command = Callable[[int, str], Sequence[str]]  # port, output folder → what is started


def app_command(preset: str) -> Command:
    """The page with a preset: a name, or a file as seen from here."""
    preset = str(Path(preset).resolve()) if Path(preset).is_file() else preset
    return lambda port, out: [sys.executable, str(APP), "--preset", preset, "--port", str(port), "--out", out]


def app_figures(command: Command, repeats: int) -> dict[str, Any]:
    """Of so many cold starts: the median of seconds and all of them, and the highest peak.

    Cold is the process: the system may have the files in its cache.

    Raises:
        RunFailed: as `cold_start`.
    """
    starts = [cold_start(command) for _ in range(repeats)]
    peaks = [start["peak_memory_gb"] for start in starts if start["peak_memory_gb"] is not None]
    seconds = [start["seconds"] for start in starts]
    return {"seconds": statistics.median(seconds), "starts": seconds, "peak_memory_gb": max(peaks, default=None)}


def cold_start(command: Command, timeout: float = TIMEOUT) -> dict[str, Any]:
    """Seconds from the start of a process to its page's first good answer, and its peak of memory until then.

    The process is ended in any case. Its peak, in 10⁹ bytes, is None where the system does not tell.

    Raises:
        RunFailed: it ended by itself, or did not answer in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as log:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        begin = time.perf_counter()
        process = subprocess.Popen(command(port, folder), cwd=APP.parent, stdout=log, stderr=log, env=environment)
        try:
            while not _answers(port):
                if process.poll() is not None:
                    log.seek(0)
                    said = (log.read().strip().splitlines() or ["nothing"])[-1]
                    raise RunFailed(f"the page's process ended with {process.returncode}, saying: {said}")
                if time.perf_counter() - begin > timeout:
                    raise RunFailed(f"the page did not answer within {timeout:g} s")
                time.sleep(0.02)
            return {"seconds": round(time.perf_counter() - begin, 3), "peak_memory_gb": _peak(process.pid)}
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
    try:
        with opener.open(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


def _peak(process: int) -> float | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e9, 3)
    return None
