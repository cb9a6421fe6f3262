"""What others' machines read of this repository: the front matter of a Space, and the Dockerfile."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 10_000_000  # bytes; a plain Git repository should hold no larger file


@pytest.fixture
def front() -> dict[str, object]:
    return yaml.safe_load((ROOT / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_a_space_finds_what_it_starts(front: dict[str, object]) -> None:
    assert front["sdk"] == "gradio" and (ROOT / str(front["app_file"])).is_file()
    assert len(str(front["short_description"])) <= 60
    assert {front["colorFrom"], front["colorTo"]} <= {
        "red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"
    }  # fmt: skip


def test_its_gradio_is_one_that_we_accept(front: dict[str, object]) -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    wanted = next(Requirement(line) for line in lines if line.startswith("gradio"))
    assert wanted.specifier.contains(str(front["sdk_version"]))


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    told = f"app.py: error: --port = {port}: in use; choose another, or none for the first free one\n"
    assert done.returncode == 2 and done.stderr == told


def test_no_file_is_too_large_for_a_repository() -> None:
    for folder in ("assets", "docs", "presets", "mpl"):
        for path in (ROOT / folder).rglob("*"):
            assert not path.is_file() or path.stat().st_size < LIMIT, path


def test_the_container_gets_all_that_the_program_reads() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (?:--\S+ )?(.+)$", text, re.M) for word in line.split()[:-1]}
    assert {"app.py", "mpl", "presets", "assets", "requirements.txt"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    torch = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("torch"))
    assert torch in text


def test_every_variable_in_the_papers_is_one_that_the_program_reads() -> None:
    program = (ROOT / "app.py").read_text()
    for name in ("Dockerfile", "docs/hosting.md"):
        for variable in re.findall(r"\bMPL_\w+", (ROOT / name).read_text()):
            assert f'"{variable}"' in program, f"{name}: {variable}"
