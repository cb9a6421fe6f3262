"""Stored studies: what is written is read again, mistakes are named, and the command makes pairs that can be rated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.__main__ import main
from mpl.config import Preset, to_toml
from mpl.studies import INDEX, Pair, Study, find_studies, load_study, write_pair, write_study
from mpl.video import probe, read_recipe, read_video

SMALL, LARGE = (np.full((3, h, w, 3), 90, np.uint8) for h, w in ((8, 16), (16, 32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of one pair."""
    videos = write_pair(tmp_path / "one", (SMALL, 8.0), (LARGE, 8.0))
    pair = Pair("7", "a red car", 5, "Scenery", videos)
    write_study(tmp_path / "one", Study("one", "One", "About it.", ("with", "without"), (pair,), ({"fps": 8}, {})))
    return tmp_path / "one"


def test_what_is_written_is_read_again(folder: Path) -> None:
    study = load_study(folder)
    write_study(folder, study)
    assert load_study(folder) == study
    assert study.arms == ("with", "without") and study.pairs[0].prompt == "a red car"
    assert find_studies([folder.parent, folder.parent / "none"]) == {"one": folder}


def test_both_videos_are_of_one_size_and_say_nothing(folder: Path) -> None:
    for video in load_study(folder).pairs[0].videos:
        assert (video.width, video.height, video.frames, video.fps) == (32, 16, 3, 8)
        assert read_video(video.file).shape == (3, 16, 32, 3) and probe(video.file).fps == 8
        assert read_recipe(video.file) is None
        assert len(video.file.stem) == 16 and int(video.file.stem, 16) >= 0


def test_a_study_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "elsewhere" / "two")
    assert load_study(Path(other)).pairs[0].videos[0].file.parent == other


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"arms": ["with", "with"]}, "must be two different names"),
        ({"arms": [1, 2]}, "arms = 1"),
        ({"arms": ["x" * 101, "b"]}, "1 to 100 characters"),
        ({"arms": ["a", " "]}, "1 to 100 characters"),
        ({"arms": ["a"]}, "must be two different names"),
        ({"pairs": None}, "not as a study is written"),
        ({"title": None}, "title = "),
        ({"pairs": [{"item": "7"}]}, "'videos'"),
        ({"file": "../one/x.mp4"}, "no video"),
        ({"file": "0123456789abcdef.mp4"}, "no video"),
        ({"frames": 0}, "frames = 0"),
        ({"fps": "8"}, "fps = "),
        ({"twice": True}, "there twice"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, changed: dict[str, Any], words: str) -> None:
    values = json.loads((folder / INDEX).read_text())
    video = values["pairs"][0]["videos"][0]
    if changed.pop("twice", None):
        values["pairs"] *= 2
    values |= {key: value for key, value in changed.items() if key in values}
    video |= {key: value for key, value in changed.items() if key in video}
    (folder / INDEX).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=words):
        load_study(folder)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_index_is_named(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    with pytest.raises(ValueError, match=r"study\.json of one"):
        load_study(folder)


@pytest.fixture
def command(preset: Preset, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.toml").write_text(to_toml(preset))
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red car"}\n{"prompt": "a blue boat", "seed": 4}\n')
    arms = [word for arm in "ab" for word in (f"--{arm}", str(tmp_path / "tiny.toml"))]
    return ["study", "new", "--prompts", str(tmp_path / "p.jsonl"), *arms, "--out", str(tmp_path / "studies")]


def test_the_command_makes_pairs_and_goes_on_where_it_was(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--stop-after-a", "keyframes", "--stop-after-b", "interpolation", "--label-a", "few", "--label-b", "many"]
    assert main([*command, *arms, "--count", "1"]) == 0
    study = load_study(tmp_path / "studies" / "new")
    few, many = study.pairs[0].videos
    assert (few.frames, many.frames, few.width, many.width) == (8, 29, 16, 16)
    assert study.arms == ("few", "many") and study.title == "few or many"
    assert [preset["stop_after"] for preset in study.presets] == ["keyframes", "interpolation"]

    capsys.readouterr()
    assert main([*command, *arms]) == 0
    said = capsys.readouterr().err
    assert "2 of 2" in said and "1 of 2" not in said  # the first is kept
    study = load_study(tmp_path / "studies" / "new")
    assert [(pair.prompt, pair.seed) for pair in study.pairs] == [("a red car", 0), ("a blue boat", 4)]
    assert main([*command, *arms[:-1], "others"]) == 2
    assert "holds a study of other arms" in capsys.readouterr().err


def test_a_prompt_that_is_there_twice_is_one_pair(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a red car"}\n' * 3)
    assert main([*command, "--stop-after-a", "keyframes", "--stop-after-b", "keyframes", "--label-b", "b"]) == 0
    assert len(load_study(tmp_path / "studies" / "new").pairs) == 1


def test_a_full_disk_is_one_sentence(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mpl.command_study.write_pair", full)
    assert main([*command, "--stop-after-a", "keyframes", "--stop-after-b", "keyframes", "--label-b", "b"]) == 1
    assert "could not be written to: No space left on device" in capsys.readouterr().err


def test_prompts_of_a_set_are_taken_evenly(command: list[str], tmp_path: Path) -> None:
    command[3] = "storybook"
    changes = ["--set-a", "keyframes.steps=1", "--set-b", "keyframes.steps=2", "--label-b", "b"]
    stops = ["--stop-after-a", "keyframes", "--stop-after-b", "keyframes"]
    assert main([*command, *changes, *stops, "--count", "6"]) == 0
    pairs = load_study(tmp_path / "studies" / "new").pairs
    assert len({pair.category for pair in pairs}) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "both arms are called tiny"),
        (["--label-b", "b", "--count", "0"], "--count = 0"),
        (["--label-b", "x" * 101], "1 to 100 characters"),
        (["--label-b", "b", "--about", "x" * 1001], "--about: must be"),
        (["--label-b", "b", "--stop-after-a", "none"], "--stop-after-a 'none'"),
        (["--label-b", "b", "--set-a", "keyframes.steps=0"], "keyframes.steps = 0"),
    ],
)
def test_bad_options_are_named(
    command: list[str], options: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*command, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "studies").exists()


def test_a_name_that_is_no_folder_is_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command[1] = "../x"
    assert main([*command, "--label-b", "b"]) == 2
    assert "NAME" in capsys.readouterr().err
