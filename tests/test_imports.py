"""The rooms: who may import whom, proved on the source and, for what must stay light, in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mpl"

# From the top of the building down; a room imports only from rooms above it, or from itself.
ROOMS = [
    "limits",
    "intervals",
    "votes",
    "options",
    "config",
    "prompts",
    "completion",
    "events",
    "ahead",
    "store",
    "video",
    "studies",
    "shards",
    "clips",
    "pictures",
    "memory",
    "devices",
    "windows",
    "noise",
    "sampling",
    "models",
    "checkpoints",
    "loading",
    "parts",
    "weights",
    "safety",
    "stages",
    "previews",
    "history",
    "recipe",
    "run",
    "cascade",
    "terminal",
    "command",
    "command_study",
    "storybook",
    "training",
    "evaluation",
    "measure",
    "engine",
    "zerogpu",
    "ui",
    "__main__",
]
LIGHT = [
    "mpl",
    "mpl.ui",
    "mpl.events",
    "mpl.store",
    "mpl.options",
    "mpl.config",
    "mpl.limits",
    "mpl.votes",
    "mpl.video",
    "mpl.studies",
    "mpl.shards",
    "mpl.history",
    "mpl.terminal",
    "mpl.command",
    "mpl.command_study",
]


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it, save for type checkers alone."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def own_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, other than its own."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("mpl.") and name.count(".")}
    return (names & {room_of(p) for p in source_files()}) - {room_of(path), "__init__"}


def test_every_room_has_its_place():
    rooms = {room_of(path) for path in source_files()} - {"__init__"}
    assert rooms <= set(ROOMS), f"say where these belong: {sorted(rooms - set(ROOMS))}"


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_upwards_only(path):
    room = room_of(path)
    if room == "__init__":
        assert not own_rooms(path)
        return
    below = {other for other in own_rooms(path) if ROOMS.index(other) > ROOMS.index(room)}
    assert not below, f"{path.relative_to(ROOT)} imports {sorted(below)}, which are below {room}"


def test_what_generates_never_sees_the_world():
    """Transitively: no chain of imports leads from the cascade to the storybook."""
    reached, todo = set(), {"cascade", "weights", "stages", "models", "terminal", "command"}
    while todo:
        room = todo.pop()
        reached.add(room)
        for path in source_files():
            if room_of(path) == room:
                todo |= own_rooms(path) - reached
    assert not reached & {"storybook", "training", "evaluation", "ui"}


def test_gradio_stays_in_the_ui():
    files = source_files() + sorted(ROOT.glob("*.py"))
    users = {p for p in files if any(name.split(".")[0] == "gradio" for name in imports(p))}
    allowed = {p for p in files if p == ROOT / "app.py" or room_of_or_none(p) == "ui"}
    assert users <= allowed


def room_of_or_none(path: Path) -> str | None:
    return room_of(path) if PACKAGE in path.parents else None


def test_torchvision_is_never_imported():
    files = source_files() + sorted((ROOT / "tests").glob("*.py")) + sorted(ROOT.glob("*.py"))
    assert not [p for p in files if any(name.split(".")[0] == "torchvision" for name in imports(p))]


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh process holds after running the code."""
    report = "\nimport sys\nprint(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_light_rooms_load_no_torch_in_a_fresh_process():
    loaded = loaded_by("\n".join(f"import {name}" for name in LIGHT))
    assert not loaded & {"torch", "diffusers", "transformers", "moviepy", "PIL"}


def test_the_page_is_built_without_torch(tmp_path):
    """So that `python app.py` answers before it is loaded."""
    code = (
        "from mpl.config import load_preset\nfrom mpl.engine import Engine\nfrom mpl.ui.desk import Desk\n"
        "from mpl.ui.page import build\n"
        f"preset = load_preset('storybook')\nbuild(Desk(Engine(), preset, {str(tmp_path)!r}), preset)"
    )
    assert not loaded_by(code) & {"torch", "diffusers", "transformers", "moviepy"}


def test_importing_the_package_loads_nothing_at_all():
    rooms = "import mpl, sys\nassert not [name for name in sys.modules if name.startswith('mpl.')]"
    assert not loaded_by(rooms) & {"torch", "numpy", "gradio"}


def test_help_and_bad_input_load_no_torch():
    code = (
        "from mpl.__main__ import main\n"
        "assert main(['--help']) == 0 and main(['generate', '--help']) == 0\n"
        "assert main(['generate', '']) == 2 and main(['generate', 'x', '--seed', 'y']) == 2\n"
        "assert main(['generate', 'x', '--set', 'keyframes.steps=0']) == 2"
    )
    assert not loaded_by(code) & {"torch", "diffusers", "transformers", "gradio"}


def test_the_cascade_loads_neither_world_nor_page_in_a_fresh_process():
    code = "import mpl.cascade, sys\nassert not any(n.startswith('mpl.storybook') for n in sys.modules)"
    assert "gradio" not in loaded_by(code)


def test_what_a_page_asks_for_at_once_loads_the_libraries_once() -> None:
    """A first visitor's page opens, explains its sliders and reads the prompt in threads of their own."""
    code = """
import threading
from mpl.config import load_preset
from mpl.engine import Engine

engine, preset, faults = Engine(), load_preset("storybook"), []

def ask(question):
    try:
        question()
    except Exception as fault:
        faults.append(fault)

questions = [lambda: engine.unknown_words("a star", preset), lambda: engine.translation_start(preset)]
questions += [lambda: engine.noise_level(preset), lambda: engine.missing(preset)]
threads = [threading.Thread(target=ask, args=(question,)) for question in questions * 3]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not faults, faults
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
