"""Tar shards of videos with captions: packed, shared out to processes, drawn from, refused where they are broken."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset

from mpl.__main__ import main
from mpl.terminal import RunFailed
from mpl.training.data import ShardData, open_data
from mpl.training.options import DataOptions, load_task
from mpl.video import write_video

SMALL = {"batch": 6, "frames": 2, "height": 8, "width": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos 0.mp4 … 6.mp4 of noise, captioned by their numbers."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(7):
        frames = np.random.default_rng(i).integers(0, 255, (4, 16, 32, 3), dtype=np.uint8)
        write_video(folder / f"{i}.mp4", frames, 8)
    lines = [json.dumps({"file": f"{i}.mp4", "caption": f"video {i}", "labels": {}}) for i in range(7)]
    (folder / "scenes.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in three shards."""
    out = tmp_path_factory.mktemp("packed")
    assert main(["pack", str(folder), "--shards", "3", "--out", str(out)]) == 0
    return out


def shards_of(path: Path | str, **changes: object) -> DataOptions:
    return DataOptions(**{**SMALL, "shards": str(path), **changes})


def write_tar(path: Path, parts: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def as_process(patch: pytest.MonkeyPatch, rank: int, of: int) -> None:
    patch.setenv("RANK", str(rank))
    patch.setenv("WORLD_SIZE", str(of))


def test_the_library_reads_what_was_packed(folder: Path, packed: Path) -> None:
    shards = sorted(map(str, packed.iterdir()))
    assert [Path(shard).name for shard in shards] == ["00000.tar", "00001.tar", "00002.tar"]
    found = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["txt"].decode() for sample in found] == [f"video {i}" for i in (0, 3, 6, 1, 4, 2, 5)]
    for sample in found:
        number = sample["txt"].decode().split()[1]
        assert sample["__key__"] == f"{int(number):06d}" and sample["mp4"] == (folder / f"{number}.mp4").read_bytes()


def test_packing_again_gives_the_same_bytes(folder: Path, packed: Path, tmp_path: Path) -> None:
    assert main(["pack", str(folder), "--shards", "3", "--out", str(tmp_path)]) == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in packed.iterdir()}


def test_packing_that_breaks_off_leaves_no_part_of_a_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    class Writer(webdataset.TarWriter):
        def write(self, sample: dict[str, object]) -> int:
            opened.append(1)
            if len(opened) == 5:  # in the second shard
                raise KeyboardInterrupt
            return super().write(sample)

    monkeypatch.setattr(webdataset, "TarWriter", Writer)
    main(["pack", str(folder), "--shards", "3", "--out", str(tmp_path)])
    assert len(opened) == 5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("shards", ["0", "4"])
def test_shards_of_fewer_than_two_videos_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], shards: str
) -> None:
    assert main(["pack", str(folder), "--shards", shards, "--out", str(tmp_path / "out")]) == 2
    assert f"--shards {shards}: accepted for 7 videos: 1 to 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shards_are_not_added_to_others(folder: Path, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(packed.iterdir())
    assert main(["pack", str(folder), "--shards", "2", "--out", str(packed)]) == 2
    assert "holds tar files" in capsys.readouterr().err and sorted(packed.iterdir()) == before


def test_only_mp4_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "a.gif", np.zeros((1, 16, 16, 3), np.uint8), 8)
    (tmp_path / "scenes.jsonl").write_text(2 * '{"file": "a.gif", "caption": "x"}\n')
    assert main(["pack", str(tmp_path), "--shards", "1", "--out", str(tmp_path / "out")]) == 2
    assert "a.gif: a gif; shards hold mp4" in capsys.readouterr().err


def test_batches_depend_on_the_seed_alone(packed: Path) -> None:
    one, two = open_data(shards_of(packed)), open_data(shards_of(packed / "{00000..00002}.tar"))
    batches = [one.draw(seed) for seed in range(3)]
    assert batches[0].clip.shape == (6, 3, 2, 8, 16)
    for seed in (2, 0, 1):  # in whatever order: nothing has a position
        again = two.draw(seed)
        assert torch.equal(again.clip, batches[seed].clip) and again.captions == batches[seed].captions
    assert not torch.equal(batches[0].clip, batches[1].clip)


def test_a_drawn_clip_is_its_caption_s_video(folder: Path, packed: Path) -> None:
    from mpl.video import read_video, to_clip

    batch = open_data(shards_of(packed, frames=4, height=16, width=32)).draw(0)
    for clip, caption in zip(batch.clip, batch.captions, strict=True):
        expected = to_clip(read_video(folder / f"{caption.split()[1]}.mp4"))[0]
        assert torch.allclose(clip, expected, atol=1e-5)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_no_video_and_none_sees_what_is_held_out(
    packed: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        data = open_data(shards_of(packed))
        shards = list(webdataset.split_by_node(sorted(packed.iterdir())))
        assert {sample.shard for sample in data.entries} == set(shards)
        known += data.captions(10)
        assert open_data(shards_of(packed), "heldout").captions(10) == ["video 6"]
    assert sorted(known) == [f"video {i}" for i in range(6)]


def test_more_processes_than_shards_are_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_process(monkeypatch, 0, 4)
    with pytest.raises(ValueError, match="data.shards: 3 shards for 4 processes"):
        open_data(shards_of(packed))


def test_shards_that_the_library_wrote_are_read(folder: Path, tmp_path: Path) -> None:
    video = (folder / "0.mp4").read_bytes()
    with webdataset.ShardWriter(str(tmp_path / "clips-%03d.tar"), maxcount=2, verbose=0) as writer:
        for i in range(4):
            writer.write({"__key__": f"part/{i}", "json": {"seconds": 1}, "txt": f"  clip\n{i}", "mp4": video})
    data = open_data(shards_of(tmp_path / "clips-{000..001}.tar"))
    assert data.captions(9) == ["clip 0", "clip 2", "clip 3"] and data.draw(0).clip.shape == (6, 3, 2, 8, 16)


def test_incomplete_samples_are_left_out_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = (folder / "0.mp4").read_bytes()
    parts = {"a.mp4": video, "b.txt": b"no video", "c.mp4": video, "c.txt": b" ", "d.mp4": video, "d.txt": b"\xff"}
    whole = {"e.TXT": b"whole", "e.MP4": video, "f.mp4": video, "f.txt": b"held out"}
    write_tar(tmp_path / "x.tar", parts | whole | {"README": b"no sample"})
    assert open_data(shards_of(tmp_path)).captions(9) == ["whole"]
    assert "data.shards: 4 of 5 samples left out; the first: x.tar: a: no txt" in capsys.readouterr().err
    write_tar(tmp_path / "x.tar", parts)
    with pytest.raises(ValueError, match="no video to use for train in x.tar"):
        open_data(shards_of(tmp_path))


def test_unreadable_and_short_videos_are_passed_over_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = (folder / "0.mp4").read_bytes()
    write_video(tmp_path / "short.mp4", np.zeros((1, 16, 16, 3), np.uint8), 8)
    bad = {"a.mp4": video[:300], "b.mp4": b"nothing", "c.mp4": (tmp_path / "short.mp4").read_bytes()}
    good = {"d.mp4": video, "d.txt": b"good", "e.mp4": video, "e.txt": b"held out"}
    write_tar(tmp_path / "x.tar", bad | {name.replace("mp4", "txt"): b"bad" for name in bad} | good)
    first, again = (open_data(shards_of(tmp_path, batch=6)).draw(1) for _ in range(2))
    assert first.captions == 6 * ["good"] and torch.equal(first.clip, again.clip)
    said = capsys.readouterr().err
    assert "3 videos passed over so far; now x.tar: " in said and "4 videos" not in said
    assert "x.tar: c: 0.125 seconds long; this training needs more than 0.125" in said
    write_tar(tmp_path / "x.tar", {"a.mp4": b"nothing", "a.txt": b"bad", "b.mp4": video, "b.txt": b"held out"})
    with pytest.raises(RunFailed, match="100 videos in a row cannot be used, x.tar: a"):
        open_data(shards_of(tmp_path)).draw(0)


def broken_header(raw: bytes) -> bytes:
    """The second member's header damaged, in the middle of the file."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        place = tar.getmembers()[1].offset
    return raw[:place] + b"?" + raw[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: raw[:700], "unexpected end of data"),
        (broken_header, "unreadable from byte"),
        (gzip.compress, "header"),
        (lambda raw: b"", "empty file"),
    ],
    ids=["cut off", "header", "compressed", "empty"],
)
def test_broken_shards_are_refused(packed: Path, tmp_path: Path, damage: object, says: str) -> None:
    (tmp_path / "x.tar").write_bytes(damage((packed / "00000.tar").read_bytes()))
    with pytest.raises(ValueError, match=f"data.shards: .*x.tar: broken tar: .*{says}"):
        open_data(shards_of(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (".", "no tar files there"),
        ("none", "no file none; accepted: a folder with tar files, or a pattern"),
        ("{0..1}.tar", "no file 0.tar"),
        ("${UNSET}/x.tar", "missing environment variable"),
    ],
)
def test_shards_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"data.shards = .*" + says):
        ShardData(shards_of(pattern))


def test_a_missing_library_is_named(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.delitem(sys.modules, "webdataset.shardlists")
    with pytest.raises(ValueError, match="pip install -r requirements-training.txt"):
        open_data(shards_of(packed))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ('[text.data]\nshards = "x"', "text.data.shards = .*: text learns from the storybook's labels"),
        ('[image.data]\nshards = "x"\nfolder = "y"', "image.data.shards = .*: data.folder is given, too"),
    ],
)
def test_options_that_cannot_be_together_are_refused(tmp_path: Path, block: str, says: str) -> None:
    (tmp_path / "t.toml").write_text(block)
    with pytest.raises(ValueError, match=says):
        load_task(str(tmp_path / "t.toml"), block[1 : block.index(".")])
