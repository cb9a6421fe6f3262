"""Video files: exactly what was given comes back, and what is broken is said to be."""

from __future__ import annotations

import struct
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from mpl import video
from mpl.clips import read_clip, resize_clip
from mpl.config import Preset
from mpl.video import probe, read_recipe, read_video, to_clip, to_frames, write_video

RECIPE = {"prompt": 'a "b" \\ ; = # 🚗 é\nx', "snr": "inf", "list": [1, None, True]}


def moving(count, height, width):
    """Smooth frames in which every one differs from its neighbours."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    shift = np.linspace(0, 3, count)[:, None, None]
    channels = [np.sin(4 * x + shift), np.cos(3 * y + shift), np.sin(2 * (x + y) - shift)]
    return ((np.stack(channels, -1) + 1) * 127.5).astype(np.uint8)


def test_clips_and_frames():
    frames = moving(3, 8, 12)
    clip = to_clip(frames)
    assert clip.shape == (1, 3, 3, 8, 12) and clip.dtype == torch.float32
    assert clip.min() >= -1 and clip.max() <= 1
    assert np.array_equal(to_frames(clip), frames)
    loud = torch.tensor([-7.0, -1, 0, 1, 7]).reshape(1, 1, 1, 1, 5).expand(1, 3, 1, 1, 5)
    assert to_frames(loud)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    with pytest.raises(ValueError, match="1 3 f h w"):
        to_frames(torch.zeros(2, 3, 1, 4, 4))


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize(("count", "height", "width", "fps"), [(29, 40, 64, 8), (8, 40, 64, 2), (3, 96, 128, 7.5)])
def test_exact_frames_size_and_rate(tmp_path, suffix, count, height, width, fps):
    frames = moving(count, height, width)
    path = write_video(tmp_path / f"v{suffix}", frames, fps, RECIPE)
    info = probe(path)
    assert (info.height, info.width, info.fps) == (height, width, fps)
    again = read_video(path)
    assert again.shape == frames.shape
    assert np.abs(again.astype(int) - frames).mean() < 3
    assert read_recipe(path) == RECIPE
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["12:30.mp4", "run:1/v.webm"])
def test_a_relative_name_is_a_file_s_whatever_is_in_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    frames = moving(3, 40, 64)
    assert write_video(name, frames, 8, RECIPE).is_file()
    assert (probe(name).width, read_video(name).shape, read_recipe(name)) == (64, frames.shape, RECIPE)


def test_mp4_plays_everywhere(tmp_path):
    path = write_video(tmp_path / "v.mp4", moving(4, 40, 64), 8)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index in front
    import imageio_ffmpeg

    source = imageio_ffmpeg.read_frames(str(path))
    about = next(source)
    source.close()
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert read_recipe(path) is None and video.NOTE.encode() in data


def test_webm_is_profile_0(tmp_path):
    import imageio_ffmpeg

    source = imageio_ffmpeg.read_frames(str(write_video(tmp_path / "v.webm", moving(3, 40, 64), 8)))
    about = next(source)
    source.close()
    assert about["codec"] == "vp9" and about["pix_fmt"].startswith("yuv420p")


def test_gif_keeps_its_length_and_recipe(tmp_path):
    path = write_video(tmp_path / "v.gif", moving(29, 40, 64), 8, RECIPE)
    with Image.open(path) as image:
        durations = []
        for i in range(image.n_frames):
            image.seek(i)
            durations.append(image.info["duration"])
    assert sum(durations) == pytest.approx(29 / 8 * 1000, abs=10)
    assert read_recipe(path) == RECIPE
    assert read_video(path).shape[1:] == (40, 64, 3)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="even"):
        write_video(tmp_path / "v.mp4", moving(2, 41, 64), 8)
    with pytest.raises(ValueError, match=".mp4, .webm or .gif"):
        write_video(tmp_path / "v.mov", moving(2, 40, 64), 8)
    with pytest.raises(ValueError, match="f h w 3"):
        write_video(tmp_path / "v.mp4", moving(2, 40, 64)[:0], 8)
    assert not list(tmp_path.iterdir())


def test_a_failing_encoder_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(video._CODECS, ".mp4", ("no_such_codec", []))
    (tmp_path / "v.mp4").write_text("an older file")
    with pytest.raises(OSError):
        write_video(tmp_path / "v.mp4", moving(2, 40, 64), 8)
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_text() == "an older file"


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_video_is_broken(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (12, 40, 64, 3), np.uint8)
    data = write_video(tmp_path / f"v{suffix}", noise, 8).read_bytes()
    (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="cut: broken video"):
        read_video(tmp_path / "cut")


def test_what_is_no_video_is_not_given_to_a_decoder(tmp_path):
    playlist = tmp_path / "innocent.mp4"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    for read in (probe, read_video, read_recipe):
        with pytest.raises(ValueError, match="innocent.mp4: cannot be read as a video: its content must be mp4, "):
            read(playlist)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_video(tmp_path / "none.mp4")


@pytest.mark.parametrize("head", [b"GIF89a", b"GIF89a\xff\xff\xff\xff\x00\x00\x00"], ids=["cut off", "enormous"])
def test_a_gif_that_cannot_be_opened_has_no_recipe_to_read(tmp_path, head):
    (tmp_path / "v.gif").write_bytes(head + bytes(20))
    with pytest.raises(ValueError, match="v.gif: broken video"):
        read_recipe(tmp_path / "v.gif")


def test_too_long_or_too_large(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4", moving(6, 40, 64), 8)
    with pytest.raises(ValueError, match="more than 5 frames"):
        read_video(path, max_frames=5)
    monkeypatch.setattr(video, "MAX_BYTES", 3 * 40 * 64 * 3)
    with pytest.raises(ValueError, match="more than 3 frames"):
        read_video(path)
    monkeypatch.setattr(video, "MAX_SIDE", 50)
    with pytest.raises(ValueError, match="64×40: at most 50 pixels"):
        probe(path)


def test_enlarged_pixels_keep_hard_edges():
    frames = moving(2, 4, 6)
    large = video.resize_frames(frames, 32, 48, enlarge_pixels=True)
    assert np.array_equal(large, frames.repeat(8, 1).repeat(8, 2))
    assert video.resize_frames(frames, 8, 6).shape == (2, 8, 6, 3)


# ---- clips to start from


def test_a_video_becomes_the_input_of_a_stage(tmp_path):
    small = write_video(tmp_path / "small.mp4", moving(5, 40, 64), 8)
    for stage in ("interpolation", "superres"):
        assert read_clip(small, stage, Preset()).shape == (1, 3, 5, 40, 64)
    with pytest.raises(ValueError, match="small.mp4 is 64×40: translation takes 256×160 or 576×320; .*--resize"):
        read_clip(small, "translation", Preset())
    assert read_clip(small, "translation", Preset(), resize=True).shape == (1, 3, 5, 320, 576)
    for size in ((160, 256), (320, 576)):
        other = write_video(tmp_path / "other.webm", moving(2, *size), 8)
        assert read_clip(other, "translation", Preset()).shape == (1, 3, 2, *size)
    with pytest.raises(ValueError, match="'keyframes': must be one of interpolation, superres, translation"):
        read_clip(small, "keyframes", Preset())


def test_of_a_faster_video_as_many_frames_as_pass_in_its_time(tmp_path):
    frames = moving(45, 40, 64)
    fast = write_video(tmp_path / "fast.mp4", frames, 30)
    thinned = read_clip(fast, "superres", Preset())
    assert thinned.shape[2] == 12  # a second and a half, 8 frames each
    whole = read_clip(fast, "interpolation", Preset())
    assert whole.shape[2] == 45  # keyframes are given one by one
    nearest = [min(range(45), key=lambda i: (whole[:, :, i] - thinned[:, :, j]).abs().mean()) for j in range(12)]
    assert all(abs(place - 3.75 * j) <= 2 for j, place in enumerate(nearest))


def test_a_video_that_is_stored_turned_is_read_as_it_is_shown(tmp_path):
    frames = np.zeros((3, 64, 96, 3), np.uint8)
    frames[:, :32] = 255  # white above
    write_video(tmp_path / "a.mp4", frames, 8)
    turn = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", "90", "-i", tmp_path / "a.mp4"]
    subprocess.run([*turn, "-c", "copy", tmp_path / "turned.mp4"], check=True)
    info = probe(tmp_path / "turned.mp4")
    shown = read_video(tmp_path / "turned.mp4")
    assert (info.height, info.width) == (96, 64) and shown.shape == (3, 96, 64, 3)
    assert shown[:, :, :24].mean() > 200 and shown[:, :, 40:].mean() < 50  # white on the left


def test_a_video_that_was_cut_without_coding_it_anew_is_whole(tmp_path):
    """Where it begins, it refers to frames that are gone; ffmpeg remarks on that and shows the others."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    options = ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=15:bframes=3:scenecut=0", "-pix_fmt", "yuv420p"]
    write_video(tmp_path / "a.mp4", moving(90, 64, 96), 30)
    subprocess.run([*ffmpeg, "-i", tmp_path / "a.mp4", *options, tmp_path / "open.mp4"], check=True)
    subprocess.run([*ffmpeg, "-ss", "1", "-i", tmp_path / "open.mp4", "-c", "copy", tmp_path / "cut.mp4"], check=True)
    said = subprocess.run(
        [*ffmpeg, "-i", tmp_path / "cut.mp4", "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    assert "mmco" in said.stderr  # else there is nothing to see here
    assert len(read_video(tmp_path / "cut.mp4")) > 50


def test_frame_counts_are_explained(tmp_path):
    one = write_video(tmp_path / "one.mp4", moving(1, 40, 64), 8)
    assert read_clip(one, "superres", Preset()).shape[2] == 1
    with pytest.raises(ValueError, match="one.mp4 has 1 frame: interpolation fills the gaps"):
        read_clip(one, "interpolation", Preset())


def test_arrays_become_clips_unchanged(tmp_path):
    from safetensors.numpy import save_file

    clip = torch.randn(1, 3, 2, 40, 64, generator=torch.Generator().manual_seed(0)).clamp(-1.5, 1.5)
    np.save(tmp_path / "a.npy", clip.numpy())
    np.save(tmp_path / "b.npy", clip[0].numpy().astype(np.float64))
    save_file({"other": np.zeros(3, np.float32), "clip": clip.numpy()}, tmp_path / "c.safetensors")
    for name in ("a.npy", "b.npy", "c.safetensors"):
        again = read_clip(tmp_path / name, "superres", Preset())
        assert torch.equal(again, clip) and again.dtype == torch.float32
    np.save(tmp_path / "d.npy", moving(2, 40, 64))
    assert torch.equal(read_clip(tmp_path / "d.npy", "superres", Preset()), to_clip(moving(2, 40, 64)))
    assert read_clip(tmp_path / "a.npy", "translation", Preset(), resize=True).shape == (1, 3, 2, 320, 576)


def test_arrays_are_judged_before_they_are_stretched(tmp_path, monkeypatch):
    monkeypatch.setattr("mpl.clips.resize_clip", lambda *_: pytest.fail("stretched"))
    np.save(tmp_path / "many.npy", np.zeros((200_000, 1, 1, 3), np.uint8))
    with pytest.raises(ValueError, match="many.npy has 200000 frames: translation takes 1 to 240"):
        read_clip(tmp_path / "many.npy", "translation", Preset(), resize=True)
    for name, side in (("flat.npy", (0, 64)), ("thin.npy", (40, 0))):
        np.save(tmp_path / name, np.zeros((1, 3, 2, *side), np.float32))
        with pytest.raises(ValueError, match=f"{name} is {side[1]}×{side[0]}: it holds no pixels"):
            read_clip(tmp_path / name, "superres", Preset(), resize=True)


def test_arrays_that_are_no_clips(tmp_path):
    def refused(name, words):
        with pytest.raises(ValueError, match=words):
            read_clip(tmp_path / name, "superres", Preset())

    np.save(tmp_path / "shape.npy", np.zeros((4, 40, 64), np.float32))
    refused("shape.npy", r"float32 \(1, 4, 40, 64\)|float32 \(4, 40, 64\)")
    np.save(tmp_path / "bytes.npy", np.full((1, 3, 2, 40, 64), 255.0))
    refused("bytes.npy", "values reach 255")
    np.save(tmp_path / "nan.npy", np.full((1, 3, 2, 40, 64), np.nan))
    refused("nan.npy", "values reach nan")
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object))
    refused("pickle.npy", "broken file")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:200])
    refused("cut.npy", "broken file")
    (tmp_path / "cut.safetensors").write_bytes(struct.pack("<Q", 9) + b'{"clip":')
    refused("cut.safetensors", "broken file")
    for name in ("text.txt", "text.mp4"):
        (tmp_path / name).write_text("hello, I am no clip")
        refused(name, f"{name}: cannot be read as a video: its content must be mp4, webm, gif or avi, or a clip")


def test_resizing_a_clip_keeps_flat_colours():
    clip = torch.full((1, 3, 2, 40, 64), 0.25)
    assert torch.allclose(resize_clip(clip, 16, 24), torch.full((1, 3, 2, 16, 24), 0.25))
