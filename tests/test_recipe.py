"""The files of a run: all of them or none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mpl import video
from mpl.recipe import Files, write_files
from mpl.video import read_recipe

FRAMES = np.zeros((3, 16, 16, 3), np.uint8)


def test_every_file_has_its_recipe(tmp_path):
    first = write_files(Files(tmp_path, ("mp4", "gif")), "name", FRAMES, 8.0, {"seed": 7})
    assert first == tmp_path / "name.mp4"
    assert {path.name for path in tmp_path.iterdir()} == {"name.mp4", "name.gif", "name.json"}
    recipe = {"seed": 7, "files": ["name.mp4", "name.gif"]}
    assert read_recipe(first) == read_recipe(tmp_path / "name.gif") == recipe
    assert json.loads((tmp_path / "name.json").read_text()) == recipe


def test_a_format_that_fails_leaves_no_file_of_the_others(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(video, "_write_gif", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_files(Files(tmp_path, ("mp4", "gif")), "name", FRAMES, 8.0, {})
    assert list(tmp_path.iterdir()) == []
