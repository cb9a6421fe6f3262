"""Videos of any length and frame rate, in folders and in shards: which frames are drawn of them, and as what."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from torch import Tensor

from mpl.__main__ import main
from mpl.terminal import RunFailed
from mpl.training import footage
from mpl.training.data import StorybookData, open_data
from mpl.training.options import DataOptions
from mpl.video import write_video

KEYFRAMES = DataOptions(batch=2, frames=8, spacing=4, height=8, width=16)
LEVEL = 15  # of grey, from one digit to the next: compression moves it by less than half of that


def write_numbers(path: Path, numbers: Sequence[int], fps: float) -> Path:
    """Each frame shows its number in two digits of base 16, as greys, side by side."""
    frames = np.zeros((len(numbers), 16, 32, 3), np.uint8)
    for frame, number in zip(frames, numbers, strict=True):
        frame[:, :16], frame[:, 16:] = number // 16 * LEVEL, number % 16 * LEVEL
    return write_video(path, frames, fps)


def read_numbers(clip: Tensor) -> list[int]:
    """Of a clip `3 f h w`."""
    greys = (clip.mean((0, 2)) + 1) * 127.5 / LEVEL  # (f, w)
    quarter = clip.shape[3] // 4
    digits = torch.stack([greys[:, :quarter].mean(1), greys[:, -quarter:].mean(1)], dim=1).round().int()
    return [16 * high + low for high, low in digits.tolist()]


def folder_of(folder: Path, *files: str) -> str:
    """The index of these files, and of the first once more, which is held out."""
    lines = [json.dumps({"file": file, "caption": file}) for file in (*files, files[0])]
    (folder / "scenes.jsonl").write_text("\n".join(lines))
    return str(folder)


@pytest.mark.parametrize("ending", ["mp4", "webm"])
@pytest.mark.parametrize(("fps", "spacing"), [(30, 4), (25, 4), (29.97, 1), (8, 4), (12, 1), (3, 4), (3, 1)])
def test_frames_are_drawn_by_time_whatever_a_video_s_rate(
    tmp_path: Path, ending: str, fps: float, spacing: int
) -> None:
    write_numbers(tmp_path / f"a.{ending}", range(int(6 * fps)), fps)
    options = replace(KEYFRAMES, batch=4, spacing=spacing, folder=folder_of(tmp_path, f"a.{ending}"))
    for clip in open_data(options).draw(0).clip:
        numbers = read_numbers(clip)
        beside = [number / fps - i * spacing / 8 for i, number in enumerate(numbers)]
        assert max(beside) - min(beside) < 1 / fps + 0.002  # one clock, and at each of its moments the frame shown then
        if fps == 3 and spacing == 1:
            assert len(set(numbers)) < len(numbers)


def test_a_clip_of_the_clock_s_own_length_and_rate_is_taken_whole(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a.mp4", range(29), 8)
    batch = open_data(replace(KEYFRAMES, folder=folder_of(tmp_path, "a.mp4"))).draw(0)
    assert [read_numbers(clip) for clip in batch.clip] == 2 * [list(range(0, 29, 4))]
    assert batch.times == 2 * (tuple(range(0, 29, 4)),)


def test_a_file_is_looked_through_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from mpl.training import footage

    calls = []
    run = subprocess.run
    monkeypatch.setattr(footage.subprocess, "run", lambda *a, **k: calls.append("framecrc" in a[0]) or run(*a, **k))
    write_numbers(tmp_path / "a.mp4", range(8), 8)
    assert [len(footage.open_footage(tmp_path / "a.mp4").starts) for _ in range(3)] == [8, 8, 8] and sum(calls) == 1
    write_numbers(tmp_path / "a.mp4", range(12), 8)
    assert len(footage.open_footage(tmp_path / "a.mp4").starts) == 12 and sum(calls) == 2


def test_pictures_that_a_file_holds_longer_count_as_long(tmp_path: Path) -> None:
    """GIFs store equal neighbours once."""
    write_numbers(tmp_path / "a.gif", [i // 10 for i in range(29)], 8)
    batch = open_data(replace(KEYFRAMES, folder=folder_of(tmp_path, "a.gif"))).draw(0)
    assert [read_numbers(clip) for clip in batch.clip] == 2 * [[0, 0, 0, 1, 1, 2, 2, 2]]


@pytest.mark.parametrize("shards", [False, True])
def test_of_long_videos_any_part_is_drawn_and_no_more_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: bool
) -> None:
    write_numbers(tmp_path / "a.mp4", [i % 256 for i in range(400)], 8)
    options, decoded = replace(KEYFRAMES, batch=12, folder=folder_of(tmp_path, "a.mp4")), []
    if shards:
        assert main(["pack", str(tmp_path), "--shards", "1", "--out", str(tmp_path / "shards")]) == 0
        options = replace(options, folder=None, shards=str(tmp_path / "shards"))
    decoder = footage.Footage._decoder
    monkeypatch.setattr(
        footage.Footage, "_decoder", lambda self, wanted: decoded.append(wanted) or decoder(self, wanted)
    )
    clips = [read_numbers(clip) for clip in open_data(options).draw(0).clip]
    assert all([(n - numbers[0]) % 256 for n in numbers] == list(range(0, 29, 4)) for numbers in clips)
    assert len({numbers[0] for numbers in clips}) > 6
    assert any(numbers[0] > numbers[-1] for numbers in clips)  # around frame 256
    assert [[n - wanted[0] for n in wanted] for wanted in decoded] == 12 * [list(range(0, 29, 4))]


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    frames = np.zeros((4, 32, 16, 3), np.uint8)
    frames[:, :16] = 200
    write_video(tmp_path / "a.mp4", frames, 8)
    turn = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", tmp_path / "a.mp4"]
    subprocess.run([*turn, "-c", "copy", tmp_path / "b.mp4"], check=True, stdin=subprocess.DEVNULL)
    (frame,) = footage.open_footage(tmp_path / "b.mp4").frames([2])
    assert frame.shape == (1, 16, 32, 3)
    assert np.allclose(frame, np.rot90(frames[:1], axes=(1, 2)), atol=12)


def test_a_folder_passes_over_what_cannot_be_used_and_names_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_numbers(tmp_path / "good.mp4", range(29), 8)
    write_numbers(tmp_path / "short.mp4", range(100), 30)
    whole = write_numbers(tmp_path / "whole.mp4", range(200), 8).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: 2 * len(whole) // 3])
    (tmp_path / "text.mp4").write_text("no video")
    folder = folder_of(tmp_path, "good.mp4", "short.mp4", "cut.mp4", "text.mp4")
    options = replace(KEYFRAMES, batch=8, folder=folder)
    first, again = (open_data(options).draw(1) for _ in range(2))
    assert first.captions == 8 * ["good.mp4"] and torch.equal(first.clip, again.clip)
    data = open_data(options)
    capsys.readouterr()
    for seed in range(3):
        data.draw(seed)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[2].startswith("data.folder: 3 videos passed over so far; now ")
    for name, why in (
        ("short.mp4", "3.33 seconds long; this training needs more than 3.5"),
        ("cut.mp4", "broken video: it is damaged or ends in the middle"),
        ("text.mp4", "text.mp4: cannot be read as a video"),
    ):
        assert sum(f"now {name}: {why}" in line for line in said) == 1


def test_a_folder_of_nothing_that_can_be_used_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(RunFailed, match="data.folder: 100 videos in a row cannot be used, a.mp4 the last of them"):
        open_data(replace(KEYFRAMES, folder=folder_of(tmp_path, "a.mp4"))).draw(0)


def test_a_frame_that_does_not_come_is_no_frame(tmp_path: Path) -> None:
    path = write_numbers(tmp_path / "a.mp4", range(4), 8)
    longer = replace(footage.open_footage(path), starts=[i / 8 for i in range(9)])
    with pytest.raises(ValueError, match="broken video"):
        list(longer.frames([2, 3, 8]))


@pytest.mark.parametrize("shards", [False, True])
def test_stills_of_videos_know_their_time(tmp_path: Path, shards: bool) -> None:
    write_numbers(tmp_path / "a.mp4", range(29), 8)
    options = replace(KEYFRAMES, batch=6, stills=1.0, folder=folder_of(tmp_path, "a.mp4"))
    if shards:
        assert main(["pack", str(tmp_path), "--shards", "1", "--out", str(tmp_path / "shards")]) == 0
        options = replace(options, folder=None, shards=str(tmp_path / "shards"))
    batch, again = (open_data(options).draw(5) for _ in range(2))
    assert batch.clip.shape == (24, 3, 1, 8, 16) and len(batch.captions) == 24
    assert [read_numbers(clip) for clip in batch.clip] == [list(times) for times in batch.times]
    assert len(set(batch.times)) > 8
    assert torch.equal(batch.clip, again.clip) and batch.times == again.times
    assert open_data(options).draw(5, count=2).clip.shape[0] == 8


def test_stills_have_the_storybook_s_share(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a.mp4", range(29), 8)
    options = replace(KEYFRAMES, stills=0.4)
    videos = open_data(replace(options, folder=folder_of(tmp_path, "a.mp4")))
    shapes = [videos.draw(seed).clip.shape for seed in range(12)]
    assert shapes == [StorybookData(options).draw(seed).clip.shape for seed in range(12)]
    assert len(set(shapes)) == 2


def test_a_still_s_time_is_the_share_of_its_clip_that_went_before(tmp_path: Path) -> None:
    """Clips are told as whole ones, whatever their length: 0 with their first frame, 28 with their last."""
    write_numbers(tmp_path / "a.mp4", range(8), 8)
    folder = folder_of(tmp_path, "a.mp4")
    for frames in (8, 1):
        options = replace(KEYFRAMES, batch=16, frames=frames, spacing=1, stills=1.0, folder=folder)
        batch = open_data(options).draw(0)
        times = [time for (time,) in batch.times]
        if frames == 8:
            assert times == [4.0 * read_numbers(clip)[0] for clip in batch.clip] and {0.0, 28.0} <= set(times)
        else:
            assert set(times) == {0.0} and len({read_numbers(clip)[0] for clip in batch.clip}) > 3


def test_a_moment_before_the_first_frame_shows_it() -> None:
    known = footage.Footage(Path("a.mp4"), "mp4", [0.5, 1.0, 1.5], 2.0)
    assert [known.shown_at(moment) for moment in (0.4, 0.5, 0.99, 1.0, 1.9, 2.0)] == [0, 0, 0, 1, 2, 2]
    assert all(0.5 <= known.first_moment(1.0, random.Random(seed)) <= 1.0 for seed in range(20))
    with pytest.raises(ValueError, match="1.5 seconds long; this training needs more than 1.5"):
        known.first_moment(1.5, random.Random(0))
