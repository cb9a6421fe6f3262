"""Options of the test run, and what several files share: random weights in the published layout, made once."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mpl.config import Preset, override

if TYPE_CHECKING:
    from mpl.weights import Weights

# What a developer's machine has, published weights or variables of a launcher, decides nothing here.
os.environ |= {"HF_HUB_CACHE": str(Path(__file__).parent / "absent"), "HF_HUB_OFFLINE": "1"}
_OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MPL_", "GRADIO_", "ACCELERATE_", "FSDP_")
for _name in [name for name in os.environ if name.startswith(_OTHERS)]:
    del os.environ[_name]

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: two processes of two threads are slower than one
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow` also runs what is marked slow."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked slow unless asked for it."""
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model of the cascade, tiny and random; not to be changed."""
    from tiny import make_tiny_weights

    folder = tmp_path_factory.mktemp("tiny")
    make_tiny_weights(folder, first_frame=True)
    return folder


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "weights"))


@pytest.fixture
def tiny(tiny_folder: Path) -> Preset:
    """A preset of it, without the image model for the first frame."""
    from tiny import tiny_preset

    preset = tiny_preset(tiny_folder)
    return dataclasses.replace(preset, weights=dataclasses.replace(preset.weights, superres_first_frame=None))


@pytest.fixture(scope="session")
def tiny_weights(tiny_folder: Path) -> Weights:
    """The models of `tiny`, shared by the whole session."""
    from tiny import tiny_preset

    from mpl.weights import Weights

    return Weights(dataclasses.replace(tiny_preset(tiny_folder).weights, superres_first_frame=None))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny world whose components were trained for two steps each; not to be changed."""
    from training_toys import train_tiny_world

    folder = tmp_path_factory.mktemp("trained")
    train_tiny_world(folder)
    return folder


@pytest.fixture(scope="module")
def preset(tiny_folder: Path) -> Preset:
    """Tiny models, 8 keyframes and 29 frames as in the real presets."""
    from tiny import tiny_preset

    changes = {"keyframes.frames": 8, "interpolation.between": 3, "weights.superres_first_frame": None}
    return override(tiny_preset(tiny_folder), changes)


@pytest.fixture(scope="module")
def served_page(preset: Preset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with the page, in this process, and the folder of all that it writes."""
    from page_toys import free_port, make_study

    from mpl.engine import Engine
    from mpl.store import StageCache
    from mpl.ui.desk import Desk
    from mpl.ui.page import build, launch

    folder = tmp_path_factory.mktemp("page")
    make_study(folder / "out" / "studies" / "words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "gradio"))
        patch.setattr(tempfile, "tempdir", str(folder))
        desk = Desk(Engine(StageCache(folder / "stages")), preset, folder / "out")
        page = build(desk, preset)
        _, url, _ = launch(page, desk, prevent_thread_lock=True, quiet=True, server_port=free_port())
        yield url, folder / "out"
        page.close()


@pytest.fixture
def address(served_page: tuple[str, Path]) -> str:
    """Where the page is."""
    return served_page[0]
