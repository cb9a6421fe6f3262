"""Cold start of the page, as the bench measures it. No test looks at how long anything took."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mpl.measure import starting
from mpl.terminal import RunFailed


def stub_page(port: int, out: str) -> list[str]:
    """A server with a page."""
    return [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", out]


def test_a_page_is_waited_for_and_ended():
    started = []

    def command(port: int, out: str) -> list[str]:
        started.append(port)
        return stub_page(port, out)

    found = starting.cold_start(command)
    assert found["seconds"] > 0
    assert found["peak_memory_gb"] is None or 0 < found["peak_memory_gb"] < 1
    assert not starting._answers(started[0])


def test_a_page_that_ends_or_hangs_is_said():
    code = "import sys; sys.exit('no such preset')"
    with pytest.raises(RunFailed, match="ended with 1, saying: no such preset"):
        starting.cold_start(lambda port, out: [sys.executable, "-c", code])
    with pytest.raises(RunFailed, match="did not answer within"):
        starting.cold_start(lambda port, out: [sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)


def test_the_page_is_started_with_the_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").touch()
    assert str(tmp_path / "own.toml") in starting.app_command("own.toml")(7999, "folder")
    command = starting.app_command("quick")(7999, "folder")
    assert Path(command[1]).name == "app.py" and Path(command[1]).is_file()
    assert command[2:] == ["--preset", "quick", "--port", "7999", "--out", "folder"]
