"""A server with the page and a browser in front of it, for the scripts beside this file."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass(frozen=True)
class Server:
    """A server that answers: where, and its process."""

    address: str
    process: int
    seconds: float  # from its start to its first answer

    @property
    def memory_mb(self) -> float:
        """What the process holds now, in MB of 10⁶ bytes."""
        return self._status_mb("VmRSS")

    @property
    def peak_mb(self) -> float:
        """The most that it has held so far."""
        return self._status_mb("VmHWM")

    def _status_mb(self, field: str) -> float:
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError(f"the kernel does not say {field} of the server")

    @property
    def processor_s(self) -> float:
        """The processor time that it has used so far, of all its threads."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serve(*options: str) -> Iterator[Server]:
    """`python app.py` with an empty output folder, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w") as log:
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--out", folder, *options]
        started = time.monotonic()
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        try:
            address = f"http://127.0.0.1:{port}/"
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(address):
                    break
                if server.poll() is not None:
                    raise SystemExit((Path(folder) / "log").read_text())
                time.sleep(0.05)
            yield Server(address, server.pid, time.monotonic() - started)
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def browse() -> Iterator[Any]:
    """The machine's Chromium."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        raise SystemExit("no chromium on this machine (apt install chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()
