"""What `evaluate` writes down of itself: the command that asks for the same, and its results' folders."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from evaluation_toys import asked

from mpl.config import STAGES
from mpl.evaluation import command
from mpl.terminal import RunFailed


@pytest.mark.parametrize(
    "given",
    [
        ["storybook", "--count", "2", "--part", "keyframes", "--part", "video", "--set", "superres.steps=2", "fps=4"],
        ["ablations", "--only", "snr", "--only", "windows", "--split", "train", "--judges", "a folder"],
    ],
)
def test_the_command_that_is_written_down_asks_for_the_same(given: list[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    asked = parser.parse_args(given)
    kinds = command.OF_STORYBOOK if given[0] == "storybook" else command.OF_ABLATIONS
    written = shlex.split(command._command(asked, kinds))
    assert written[:4] == ["python", "-m", "mpl", "evaluate"] and parser.parse_args(written[4:]) == asked


def test_results_of_other_options_have_folders_of_their_own() -> None:
    def folder(*words: str) -> str:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return command._folder_name(parser.parse_args(["storybook", *words]))

    assert folder() == "storybook" and folder("--n", "8") == "storybook-count-8"
    assert folder("--part", "video", "--set", "superres.steps=4") == "storybook-set-superres.steps=4-part-video"
    assert folder("--preset", "presets/paper.toml") == "storybook-preset-presets-paper.toml"
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    asked = parser.parse_args(["own/set.toml", "--n", "8", "--preset", "paper", "--stop-after", "superres"])
    assert command._folder_name(asked, "set") == "set-preset-paper-stop-after-superres"  # for any count
    many = [f"{stage}.steps=10" for stage in STAGES] + ["superres.snr=8"]
    long = [folder("--part", "video", "--set", *many, f"translation.strength={x}") for x in (0.1, 0.3)]
    assert long[0] != long[1] and all(len(name) < 140 for name in long)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("ucf", "unknown protocol; accepted: storybook, ablations"),
        ("storybook --n 0", "--n 0"),
        ("storybook --only table4", "--only: not an option of evaluate storybook"),
        ("ablations --style spoken", "--style: not an option of evaluate ablations"),
        ("ablations --preset quick", "--preset: not an option of evaluate ablations"),
        ("ablations --only table9", "must be one of .*table4"),
    ],
)
def test_bad_options(words: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        command.run(asked(*words.split()))


@pytest.mark.parametrize("what", ["storybook", "ablations"])
def test_a_cache_that_cannot_be_written_to_is_refused_before_any_work(what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cache = /dev/null: cannot write there"):
        command.run(asked(what, "--cache", "/dev/null", "--out", str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_larger_stages_are_asked_of_a_quarter_of_the_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = SimpleNamespace(check=lambda parts: None, revisions=lambda parts: {}, split=None, style=None, shard=None)
    counts: dict[str, int] = {}
    monkeypatch.setattr(command, "_bench", lambda *args: bench)
    monkeypatch.setattr(command, "_measure", lambda part, bench, count, out: counts.update({part: count}) or {})
    command.run(asked("storybook", "--n", "8", "--out", str(tmp_path)))
    assert counts == dict.fromkeys(command.PARTS, 8) | dict.fromkeys(command.ENLARGING, 2)
    command.run(asked("storybook", "--n", "8", "--part", "superres", "--out", str(tmp_path)))
    assert counts["superres"] == 8


def test_a_result_stays_until_another_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = SimpleNamespace(check=lambda parts: None, revisions=lambda parts: {}, split=None, style=None, shard=None)
    monkeypatch.setattr(command, "_bench", lambda *args: bench)
    monkeypatch.setattr(command, "_measure", lambda part, *args: {"of": part})
    words = asked("storybook", "--n", "1", "--out", str(tmp_path))
    command.run(words)
    whole = (tmp_path / "result.json").read_text()
    assert set(json.loads(whole)) > set(command.PARTS) and len(list(tmp_path.iterdir())) == 1

    def breaks(part: str, *args: object) -> dict[str, str]:
        if part == "superres":
            raise RunFailed("out of disk")
        return {"of": f"other {part}"}

    monkeypatch.setattr(command, "_measure", breaks)
    with pytest.raises(RunFailed):
        command.run(words)
    assert (tmp_path / "result.json").read_text() == whole
    assert "superres" not in json.loads((tmp_path / "unfinished.json").read_text())
