"""Published protocols: their files, their lists of videos, and the files of the networks that they name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from evaluation_toys import changed, make_msrvtt

from mpl import video
from mpl.evaluation.items import load_items, real_videos
from mpl.evaluation.networks import load_networks, sha256
from mpl.evaluation.protocols import load_protocol, protocol_names

# ---- files


def test_the_three_protocols_and_what_the_paper_says_of_them() -> None:
    assert protocol_names() == ("msrvtt", "prompts120", "ucf101")
    ucf101, msrvtt, prompts120 = (load_protocol(name) for name in ("ucf101", "msrvtt", "prompts120"))
    assert list(ucf101.metrics) == ["inception_score", "fvd"]
    assert (ucf101.inception_score.videos, ucf101.fvd.videos) == (20 * 101, 2048)
    assert list(msrvtt.metrics) == ["fvd", "fid_vid", "clipsim"]
    assert (msrvtt.fvd.videos, msrvtt.fid_vid.videos, msrvtt.clipsim.videos) == (2048, 2048, 0)
    assert (msrvtt.videos.height, msrvtt.videos.width, msrvtt.prompts.count) == (256, 256, 59794)
    assert list(prompts120.metrics) == ["clipsim"] and prompts120.clipsim.by_group


def test_what_is_said_of_compression_is_what_videos_are_written_with() -> None:
    for name in protocol_names():
        said = load_protocol(name).videos.compression
        assert video._MP4[:4] == ["-crf", "16", "-pix_fmt", "yuv420p"] and "h264 files (crf 16, yuv420p)" in said


def test_a_copy_of_a_protocol_finds_the_sentences_or_has_its_own(tmp_path: Path) -> None:
    own = changed(tmp_path, "ucf101", ("videos = 2048", "videos = 3"), ("videos = 2020", "videos = 2"))
    assert [item.group for item in load_items(load_protocol(own), None)] == [
        "ApplyEyeMakeup", "ApplyLipstick", "Archery"
    ]  # fmt: skip
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "ucf101_prompts.toml").write_text('Biking = "a bicycle"')
    with pytest.raises(ValueError, match="ucf101_prompts.toml has 1 classes, must have 101"):
        load_items(load_protocol(own), None)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("splits = 10", "splits = 0", "inception_score.splits = 0: must be a whole number from 1"),
        ("splits = 10", "", "inception_score.splits: missing; a protocol states every choice"),
        ("splits = 10", "splits = 10\nsplit = 1", "inception_score.split: unknown key; accepted: batch, classes"),
        ('crop = "square"', 'crop = "round"', 'videos.crop = "round": must be one of none, square'),
        ("size = 224", "size = 299", "fvd.size = 299"),
        ("[fvd]", "[fwd]", "fwd: unknown; accepted: title, prompts"),
        ("[real]", "[[real]]", "real = .*: must be a block of keys"),
        ('choice = "random"', 'choice = "captioned"', 'needs prompts.source = "captions"'),
        ("videos = 2048", "videos = 0", "fvd.videos = 0"),
        ("height = 256", "height = 0", "must both be 0, or none"),
        (
            "height = 256                # chosen: as for MSR-VTT\nwidth = 256",
            "height = 0\nwidth = 0",
            "must not be 0 but for clipsim alone",
        ),
        (
            "frames = 16                 # chosen: as in TATS",
            "frames = 8 #",
            "fvd.frames = 8: must be a whole number from 9",
        ),
        ("frames = 16                 # what this", "frames = 20 #", "inception_score.frames = 20: must be .* 16"),
        ('title = "UCF-101, zero-shot"', "", "title: must be a text"),
        ("[prompts]", "[prompts", "cannot be read"),
    ],
)
def test_what_a_protocol_does_not_accept_is_named(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"protocol own.toml: .*" + problem.replace("[", r"\[")):
        load_protocol(changed(tmp_path, "ucf101", (old, new)))


def test_an_unknown_protocol_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match='protocol "ucf": must be one of msrvtt, prompts120, ucf101, or a TOML file'):
        load_protocol("ucf")


def test_a_protocol_of_ones_own_does_not_go_by_the_name_of_one_of_ours(tmp_path: Path) -> None:
    """Its results would lie in the other's place."""
    own = Path(changed(tmp_path, "ucf101", ("splits = 10", "splits = 5"))).rename(tmp_path / "ucf101.toml")
    with pytest.raises(ValueError, match="a file of another name is accepted; ucf101 is one of ours"):
        load_protocol(str(own))


# ---- lists of videos


def test_classes_take_turns_so_that_the_first_2020_are_20_of_each() -> None:
    items = load_items(load_protocol("ucf101"), None)
    assert len(items) == 2048 and items[0].group == "ApplyEyeMakeup" and items[100].group == "YoYo"
    assert set(Counter(item.group for item in items[:2020]).values()) == {20}
    assert len({item.prompt for item in items}) == 101
    assert all(len(item.prompt.split()) > 5 for item in items)  # sentences, not names


def test_captions_begin_with_one_of_each_random_video(tmp_path: Path) -> None:
    protocol = load_protocol(changed(tmp_path, "msrvtt", ("videos = 2048", "videos = 4")))
    folder, captions = make_msrvtt(tmp_path / "data", 6)
    items = load_items(protocol, captions)
    assert len(items) == 18 and len({(item.prompt, item.group) for item in items}) == 18
    assert len({item.group for item in items[:4]}) == 4
    assert all(item.group in item.prompt and item.group != "video1" for item in items)
    assert items == load_items(protocol, captions)
    assert [path.stem for path in real_videos(protocol, folder, items[:4])] == [item.group for item in items[:4]]
    (folder / f"{items[3].group}.mp4").unlink()
    with pytest.raises(ValueError, match=f"{items[3].group}.mp4 is not there, the video of a caption"):
        real_videos(protocol, folder, items[:4])


@pytest.mark.parametrize("text", ["[]", "{", '{"videos": [], "sentences": []}', '{"videos": [{}], "sentences": []}'])
def test_captions_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "captions.json").write_text(text)
    with pytest.raises(ValueError, match=r"--captions .*captions.json"):
        load_items(load_protocol("msrvtt"), tmp_path / "captions.json")


def test_prompts_are_the_set_s() -> None:
    items = load_items(load_protocol("prompts120"), None)
    assert Counter(item.group for item in items) == dict.fromkeys(
        ("camera", "scenery", "food", "animals", "people", "imaginative"), 20
    )


# ---- files of networks


def test_a_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    network = load_networks()["inception"]
    (tmp_path / "inception-2015-12-05.pt").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "inception-2015-12-05.pt") == digest
    with pytest.raises(ValueError, match=f"SHA-256 {digest}, must be f58cb9b6.*; from nvlabs"):
        network.check(network.find(tmp_path))
    unknown = load_networks()["c3d"]
    (tmp_path / "c3d_ucf101.pt").write_bytes(b"abc")
    assert unknown.check(unknown.find(tmp_path)) == {"c3d_ucf101.pt": digest}


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CLIP ViT-B/32.*model.safetensors or .*not in .*; from huggingface") as found:
        load_networks()["clip"].find(tmp_path)
    assert "\n" not in str(found.value)


def test_every_network_of_a_protocol_is_in_the_table() -> None:
    table = load_networks()
    for name in protocol_names():
        assert {options.network for options in load_protocol(name).metrics.values()} <= set(table)
    assert all(len(digest) == 64 for network in table.values() for digest in network.sha256.values())
