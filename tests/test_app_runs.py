"""The history: what its cards show, what their buttons come to, for their owner alone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.config import STAGES, Preset, override, to_dict
from mpl.engine import Engine
from mpl.history import History
from mpl.recipe import Files, write_files
from mpl.ui.cards import NOTHING, act, cards
from mpl.ui.desk import Desk
from mpl.video import read_video

FRAMES = np.zeros((4, 40, 64, 3), np.uint8)
STAGE = {"seconds": 2.0, "evaluations": 4, "frames": 4, "width": 64, "height": 40, "fps": 8.0}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Engine(), Preset(), tmp_path)


def make(desk: Desk, visitor: str, stages: tuple[str, ...] = ("keyframes",), seconds: float = 2.0, **said: Any) -> str:
    """A finished run of a visitor; its id."""
    recipe = {"prompt": "a red car", "seed": 5, "created": "2026-11-25T10:00:00+00:00", "source": None}
    preset = override(Preset(), {"translation.strength": 0.44})
    recipe |= {"stages": dict.fromkeys(stages, STAGE | {"seconds": seconds}), "preset": to_dict(preset), **said}
    run = desk.history.new_run()
    write_files(Files(desk.history.folder(visitor)), run, FRAMES, 8.0, recipe)
    return run


def test_nobody_and_a_newcomer_see_what_will_be_here(desk: Desk) -> None:
    assert cards(desk, None) == NOTHING == cards(desk, "ann")


def test_a_card_says_what_was_made(desk: Desk) -> None:
    run = make(desk, "ann", ("keyframes", "interpolation"))
    html = cards(desk, "ann")
    assert "a red car" in html and "seed 5 · storybook · 4 frames of 64×40, 0.5 s" in html
    assert "keyframes to interpolation · took 4 s" in html
    assert f"{run}.mp4" in html and f"{run}.webm" in html and f'data-run="{run}"' in html
    assert "25 November 2026" in html and 'class="pixels"' in html
    assert all(f'{run}.{kind}" download' in html for kind in ("mp4", "gif", "webm", "json"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"stages": STAGES}, "all four stages · took 8 s"),
        ({"stages": ("translation",), "source": {"name": "x"}}, "expert translation of a given video · took 2 s"),
        ({"stopped": {"stage": "interpolation"}}, "keyframes, then stopped · took 2 s"),
        ({"seconds": 0.0}, "keyframes · kept from earlier runs"),
    ],
)
def test_a_card_says_what_was_run(desk: Desk, said: dict[str, Any], words: str) -> None:
    make(desk, "ann", **said)
    assert words in cards(desk, "ann")


def test_cards_are_in_order_and_survive_a_restart(desk: Desk) -> None:
    runs = [make(desk, "ann") for _ in range(3)]
    for age, run in enumerate(runs):
        os.utime(desk.history.folder("ann") / f"{run}.json", (1e9 - age, 1e9 - age))
    again = cards(Desk(Engine(), Preset(), desk.folder), "ann")
    assert [again.index(run) for run in runs] == sorted(again.index(run) for run in runs)


@pytest.mark.parametrize("broken", ["[]", "{}", '{"stages": {}}', '{"stages": {"x": 3}, "prompt": 1}', "{cut"])
def test_a_broken_recipe_hides_no_other_run(desk: Desk, broken: str) -> None:
    run, other = make(desk, "ann"), make(desk, "ann")
    (desk.history.folder("ann") / f"{other}.json").write_text(broken)
    html = cards(desk, "ann")
    assert run in html and other not in html


def test_a_prompt_becomes_no_html(desk: Desk) -> None:
    make(desk, "ann", prompt='<img src=x onerror="x">')
    assert "<img" not in cards(desk, "ann")


def test_delete_deletes_for_the_owner_alone(desk: Desk) -> None:
    run = make(desk, "ann")
    for who in ("ben", "", None):
        for name in ("delete", "restore", "use"):
            assert act(desk, who, {"act": name, "run": run}) == {"runs": NOTHING}
    assert run in cards(desk, "ann")
    assert act(desk, "ann", {"act": "delete", "run": run}) == {"runs": NOTHING}
    assert not any(desk.history.folder("ann").iterdir())


def test_what_is_deleted_while_it_is_written_anew_is_gone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl import history

    run, write = make(desk, "ann"), history.write_video

    def deleting(*arguments: Any) -> Path:
        desk.history.delete("ann", run)
        return write(*arguments)

    monkeypatch.setattr(history, "write_video", deleting)
    folder = desk.history.folder("ann")
    assert desk.history.find(folder.name, f"{run}.gif") is None
    assert not list(folder.iterdir())
    (folder / f"{run}.webm").write_bytes(b"left by an earlier version")
    assert desk.history.find(folder.name, f"{run}.webm") is None


def test_restore_sets_the_form(desk: Desk) -> None:
    found = act(desk, "ann", {"act": "restore", "run": make(desk, "ann")})
    assert (found["prompt"], found["seed"], found["translation.strength"], found["tab"]) == (
        "a red car",
        5,
        0.44,
        "create",
    )
    assert found["source"] is None  # a video that was to be begun with is not of this run


def test_what_cannot_be_restored_leaves_the_form_alone(desk: Desk) -> None:
    found = act(desk, "ann", {"act": "restore", "run": make(desk, "ann", prompt="")})
    assert set(found) == {"notices", "tab"} and 'role="alert"' in found["notices"]


@pytest.mark.parametrize(
    ("stages", "into"),
    [
        (("keyframes",), "interpolation"),
        (("keyframes", "interpolation"), "superres"),
        (("superres",), "translation"),
        (("translation",), "translation"),
    ],
)
def test_a_run_goes_into_the_stage_after_its_last(desk: Desk, stages: tuple[str, ...], into: str) -> None:
    run = make(desk, "ann", stages)
    found = act(desk, "ann", {"act": "use", "run": run})
    assert (found["start_at"], Path(found["source"]).name, found["tab"]) == (into, f"{run}.mp4", "create")


@pytest.mark.parametrize("button", [{}, {"act": "restore", "run": "../../etc"}, {"act": "use", "run": None}])
def test_what_is_no_run_changes_nothing(desk: Desk, button: dict[str, Any]) -> None:
    assert act(desk, "ann", button) == {"runs": NOTHING}


def test_history_shows_small_videos_enlarged_and_once(tmp_path: Path) -> None:
    history = History(tmp_path)
    path = history.show("ann", FRAMES, 8.0)
    assert read_video(path).shape == (4, 320, 576, 3)
    written = path.stat().st_ino
    assert history.show("ann", FRAMES.copy(), 8.0) == path and path.stat().st_ino == written
    assert history.show("ann", FRAMES, 2.0) != path
    assert history.show("bob", FRAMES, 8.0).parent != path.parent
    assert history.find(path.parent.name, path.name) == path


def test_pruning_keeps_the_newest_runs_and_what_is_being_written(tmp_path: Path) -> None:
    history = History(tmp_path, max_runs=2)
    folder = history.folder("ann")
    folder.mkdir(parents=True)
    names = [f"{i:032x}" for i in range(3)]
    fresh, killed = (folder / f".{name}.abc.part.mp4" for name in ("a", "b"))
    panel, old_panel = (folder / f"{letter * 16}.mp4" for letter in "ab")
    files = [folder / f"{name}.{ending}" for name in names for ending in ("mp4", "json")]
    for path in (*files, fresh, killed, panel, old_panel):
        path.write_bytes(b"1234567890")
    for age, name in zip((3, 2, 1), names, strict=True):
        os.utime(folder / f"{name}.json", (time.time() - age,) * 2)
    os.utime(killed, (time.time() - 2 * 3600,) * 2)
    os.utime(old_panel, (time.time() - 2 * 86_400,) * 2)
    history.prune()
    assert {path.name for path in folder.iterdir()} == {
        fresh.name, panel.name, *(path.name for path in files[2:])
    }  # fmt: skip
    bounded = History(tmp_path, max_runs=2, max_bytes=25)
    bounded.prune()
    assert sum(path.stat().st_size for path in folder.iterdir() if path != fresh) <= 25


def test_pruning_leaves_a_folder_that_another_replica_has_just_made(tmp_path: Path) -> None:
    history = History(tmp_path)
    fresh, old = history.folder("ann"), history.folder("ben")
    for folder in (fresh, old):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 3600,) * 2)
    history.prune()
    assert list(tmp_path.iterdir()) == [fresh]


def test_pruning_passes_by_what_is_no_visitor_s(tmp_path: Path) -> None:
    history = History(tmp_path, max_runs=0)
    (tmp_path / ".DS_Store").write_bytes(b"a file browser's")
    folder = history.folder("ann")
    folder.mkdir()
    (folder / f"{1:032x}.json").write_text("{}")
    history.prune()
    assert not list(folder.iterdir()) and (tmp_path / ".DS_Store").is_file()


def test_pruning_goes_on_where_a_folder_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another replica prunes it."""
    history = History(tmp_path)
    for visitor in ("ann", "ben"):
        history.show(visitor, FRAMES, 8.0)
    glob = Path.glob

    def vanish(folder: Path, pattern: str) -> Any:
        found = list(glob(folder, pattern))
        shutil.rmtree(folder)
        return found

    monkeypatch.setattr(Path, "glob", vanish)
    history.prune()
    assert not list(tmp_path.iterdir())
