"""The storybook verb: files, index, determinism and clear refusals."""

import argparse
import json

import pytest

from mpl.storybook import command
from mpl.storybook.scene import ATTRIBUTES, is_heldout
from mpl.video import read_video


def _run(folder, *options: str):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(["--split", "heldout", "--n", "2", "--out", str(folder), *options]))


def test_writes_videos_and_their_index(tmp_path):
    said = _run(tmp_path, "--height", "40", "--width", "64", "--frames", "5")
    assert said["scenes"] == 2
    lines = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert read_video(tmp_path / line["file"]).shape == (5, 40, 64, 3)
        assert set(line["labels"]) == set(ATTRIBUTES)
        assert is_heldout(line["labels"])
        assert set(line["named"]) <= set(ATTRIBUTES)
        assert line["caption"] and isinstance(line["seed"], int)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.mp4", "00001.mp4", "scenes.jsonl"]


def test_the_same_arguments_give_the_same_index(tmp_path):
    small = ("--height", "40", "--width", "64", "--frames", "1")
    _run(tmp_path / "a", *small)
    _run(tmp_path / "b", *small)
    assert (tmp_path / "a/scenes.jsonl").read_text() == (tmp_path / "b/scenes.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--n", "0"), "--n is 0; accepted: 1 to"),
        (("--frames", "30"), "--frames is 30; accepted: 1 to 29"),
        (("--height", "41"), "--height is 41; accepted: an even number"),
        (("--width", "4"), "--width is 4; accepted: an even number"),
    ],
)
def test_bad_numbers_are_refused_before_any_work(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        _run(tmp_path / "new", *options)
    assert not (tmp_path / "new").exists()


def test_an_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out"):
        _run(tmp_path / "file")
