"""What trainings draw: scenes of the storybook, folders of videos, and the conditions made of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mpl.training.data import StorybookData, open_data
from mpl.training.degrade import bend, soften
from mpl.training.options import DataOptions, load_task


def test_storybook_batches_depend_on_the_seed_alone() -> None:
    data = StorybookData(DataOptions(batch=2, frames=2, height=8, width=16))
    one, two, other = data.draw(5), data.draw(5), data.draw(6)
    assert torch.equal(one.clip, two.clip) and one.captions == two.captions
    assert not torch.equal(one.clip, other.clip)


def test_generators_never_see_held_out_scenes() -> None:
    from mpl.storybook.scene import is_heldout

    scenes = StorybookData(DataOptions()).scenes(random.Random(0), 300)
    assert not any(is_heldout(s.labels) for s in scenes)


def test_a_run_that_goes_on_from_weights_draws_what_they_have_not_seen(tmp_path: Path) -> None:
    from training_toys import toy_loop

    start = tmp_path / "first"
    start.mkdir()
    (start / "history.json").write_text(json.dumps([{"steps": 9, "samples": 1, "minutes": 2.0, "loss": 0.5}]))
    fresh, later = toy_loop(tmp_path / "a"), toy_loop(tmp_path / "b", init_from=start)
    assert fresh.seed() != later.seed()
    first = later.seed()
    later.progress.step = 1
    assert later.seed() == first + 1


def test_focus_draws_what_it_names_as_often_as_it_says() -> None:
    options = DataOptions(focus={"grows": 0.25, "bird": 0.25})
    scenes = StorybookData(options).scenes(random.Random(0), 2000)
    growing = sum(scene.motion == "grows" for scene in scenes) / len(scenes)
    birds = sum(scene.subject == "bird" for scene in scenes) / len(scenes)
    assert growing == pytest.approx(0.25 + 0.75 / 9, abs=0.03)  # the others are drawn evenly: 9 motions, 12 subjects
    assert birds == pytest.approx(0.25 + 0.75 / 12, abs=0.03)
    assert len({scene.setting for scene in scenes}) == 9


def test_labels_are_learned_in_focus_too(trained: Path) -> None:
    from mpl.storybook.scene import ATTRIBUTES
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "text")
    data = replace(options.data, batch=64, caption="dense", focus={"grows": 1.0})
    batch = make_task(replace(options, data=data), trained / "assets", None).draw(0, 1.0)
    assert set(batch.labels[:, list(ATTRIBUTES).index("motion")].tolist()) == {ATTRIBUTES["motion"].index("grows")}


def test_superres_condition_is_the_stage_s_own_cut_to_the_crop(trained: Path) -> None:
    from mpl.stages.superres import upscale
    from mpl.storybook.render import render
    from mpl.training.command import make_task

    task = make_task(load_task(str(trained / "tiny.toml"), "superres"), trained / "assets", None)
    batch = task.draw(1, 1.0)
    whole = upscale(render(batch.scenes, batch.times, 8, 16), 32, 64)
    top, left, tall, wide = (round(a * b) for a, b in zip(batch.windows[0], (32, 64, 32, 64), strict=True))
    expected = whole[0, :, :, top : top + tall, left : left + wide]
    assert torch.allclose(task.enlarged(batch, torch.Generator())[0], expected, atol=1e-6)


def test_each_frame_is_blurred_by_its_own_width() -> None:
    clip = torch.zeros(2, 3, 2, 9, 9)
    clip[..., 4, 4] = 1.0
    soft = soften(clip, torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
    assert torch.allclose(soft[0, :, 0], clip[0, :, 0], atol=1e-6)
    assert torch.equal(soft[0, :, 1], soft[1, :, 1])
    assert torch.allclose(soft.sum((3, 4)), torch.ones(2, 3, 2), atol=1e-5)
    ratio = (soft[1, 0, 0, 4, 5] / soft[1, 0, 0, 4, 4]).item()
    assert ratio == pytest.approx(np.exp(-0.5), abs=1e-5)  # of a Gaussian of width 1, a pixel from its middle
    assert torch.allclose(soften(torch.ones(1, 3, 1, 4, 6), torch.ones(1, 1)), torch.ones(1), atol=1e-6)  # to the edges


def test_bending_moves_shapes_by_about_its_width_and_gently_from_frame_to_frame() -> None:
    rows = torch.linspace(-0.5, 0.5, 64).view(1, 1, 1, 1, 64)
    clip = rows.expand(24, 1, 9, 40, 64)  # a ramp: what it shows is where it was taken from
    widths = torch.tensor([0.0, 0.5, 1.0]).repeat_interleave(8)
    bent = bend(clip, widths, torch.Generator().manual_seed(0))
    assert torch.allclose(bent[:8], clip[:8], atol=1e-5)
    moved = (bent - clip)[..., 5:-5] * 63  # pixels
    half, whole = moved[8:16].std().item(), moved[16:].std().item()
    assert half == pytest.approx(0.5 * whole, rel=0.1)
    assert 0.4 < whole < 1.0  # 1 at the points, less between them
    assert moved.diff(dim=2).abs().max() < 0.5 * moved.abs().max()
    assert (moved[16:, :, 0] - moved[16:, :, 8]).std() > whole  # two keyframes on, another way


def test_what_is_neither_bent_nor_blurred_is_given_as_it_is(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "superres")
    bending = replace(options.loss, bend_share=1.0, bend_width=0.0, blur_share=1e-9)
    plain, bent = (make_task(replace(options, loss=loss), trained / "assets", None) for loss in (options.loss, bending))
    batch = plain.draw(1, 1.0)
    with torch.autocast("cpu", torch.bfloat16):  # as in training; a grid in bfloat16 would move pictures
        given = bent.enlarged(batch, torch.Generator().manual_seed(0))
    assert given.dtype == torch.float32
    assert torch.allclose(given, plain.enlarged(batch, torch.Generator()), atol=1e-4)


def test_a_flat_picture_stays_as_it_is_when_bent() -> None:
    flat = torch.full((1, 3, 1, 8, 16), 0.25)
    assert torch.allclose(bend(flat, torch.ones(1), torch.Generator().manual_seed(1)), flat, atol=1e-6)


@pytest.mark.parametrize("change", ["blur_share", "bend_share"])
def test_a_share_of_superres_conditions_is_changed(trained: Path, change: str) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "superres")
    plain, half, all_ = (
        make_task(replace(options, loss=replace(options.loss, **{change: share})), trained / "assets", None)
        for share in (0.0, 0.5, 1.0)
    )
    batch = StorybookData(replace(options.data, batch=8)).draw(1)
    sharp, *others = (task.enlarged(batch, torch.Generator().manual_seed(0)) for task in (plain, half, all_))
    changed = [(other != sharp).flatten(1).any(1) for other in others]
    assert changed[0].any() and not changed[0].all() and changed[1].all()


def test_crops_on_the_subject_show_it() -> None:
    options = DataOptions(batch=24, frames=2, spacing=4, height=160, width=256, crop=(64, 64))
    anywhere = StorybookData(options).draw(3).mask.mean()
    on_subject = StorybookData(replace(options, on_subject=1.0)).draw(3)
    shown = on_subject.mask.flatten(1).mean(1)
    assert shown.mean() > 2 * anywhere and (shown > 0.1).all()
    for top, left, tall, wide in on_subject.windows:
        assert 0 <= top <= 1 - tall and 0 <= left <= 1 - wide
        assert (top * 160 / 8).is_integer() and (left * 256 / 8).is_integer()


def test_a_superres_still_is_never_given_its_own_answer(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "superres")
    options = replace(options, loss=replace(options.loss, first_frame_share=1.0, noise_level_max=1))
    task = make_task(options, trained / "assets", None)
    clip = task.draw(1, 1.0)
    still = replace(clip, clip=clip.clip[:, :, :1], times=tuple(t[:1] for t in clip.times))
    for batch, given in ((clip, True), (still, False)):
        condition = task.condition(batch, torch.Generator())
        assert torch.equal(condition.channels[:, :, 0], batch.clip[:, :, 0]) == given
        assert condition.given[:, 0].all() == given and not condition.given[:, 1:].any()


def test_a_folder_of_videos_trains_too(trained: Path, tmp_path: Path) -> None:
    from mpl.video import write_video

    frames = np.random.default_rng(0).integers(0, 255, (29, 40, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, 8)
    (tmp_path / "scenes.jsonl").write_text(2 * (json.dumps({"file": "a.mp4", "caption": "noise"}) + "\n"))
    options = load_task(str(trained / "tiny.toml"), "keyframes").data
    batch = open_data(replace(options, folder=str(tmp_path))).draw(0)
    assert batch.clip.shape == (2, 3, 8, 8, 16) and batch.captions == ["noise", "noise"]
    with pytest.raises(ValueError, match="no scenes.jsonl"):
        open_data(replace(options, folder=str(tmp_path / "none")))


def video_folder(folder: Path, count: int, frames: int = 4) -> Path:
    """Videos 0.mp4, 1.mp4, … of 32x64 noise, captioned by their numbers."""
    from mpl.video import write_video

    lines = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (frames, 32, 64, 3), dtype=np.uint8)
        write_video(folder / f"{i}.mp4", pixels, 8)
        lines.append(json.dumps({"file": f"{i}.mp4", "caption": f"video {i}"}) + "\n")
    (folder / "scenes.jsonl").write_text("".join(lines))
    return folder


def test_a_folder_holds_out_its_last_entries(tmp_path: Path) -> None:
    options = DataOptions(batch=30, frames=2, height=8, width=16, folder=str(video_folder(tmp_path, 3)))
    assert set(open_data(options).draw(0).captions) == {"video 0", "video 1"}
    assert set(open_data(options, "heldout").draw(0).captions) == {"video 2"}
    assert open_data(options, "heldout").captions(12) == ["video 2"]


def test_tar_shards_train_too_and_the_card_says_so(trained: Path, tmp_path: Path) -> None:
    from training_toys import arguments

    from mpl.__main__ import main
    from mpl.training.command import run

    (tmp_path / "videos").mkdir()
    shards = tmp_path / "shards"
    assert main(["pack", str(video_folder(tmp_path / "videos", 5)), "--shards", "2", "--out", str(shards)]) == 0
    (tmp_path / "shards.toml").write_text(
        f'extends = "{trained / "tiny.toml"}"\n[translation.loss]\ndegraded_share = 0.0\n'
        f'[translation.data]\nshards = "{shards}"\nreuse = 1\n'
    )
    options = {"what": "translation", "preset": str(tmp_path / "shards.toml"), "out": tmp_path / "out", "max_steps": 1}
    run(arguments(assets=trained / "assets", work=tmp_path / "work", **options))
    card = (tmp_path / "out/README.md").read_text()
    assert "tar shards `shards` as the first process had them: 4 to learn from, 1 held out." in card
    assert "license: other" in card


def test_a_layout_drafts_as_before_where_no_silhouettes_come(trained: Path, tmp_path: Path) -> None:
    """All that is trained gets a gradient, from scenes as from videos."""
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "keyframes")
    scenes = replace(options.data, stills=0.0)
    videos = replace(scenes, folder=str(video_folder(tmp_path, 2, frames=29)))
    frozen = []
    for data in (scenes, videos):
        task = make_task(replace(options, data=data), trained / "assets", None)
        loss, _ = task.loss(task.model, task.draw(0, 1.0), torch.Generator().manual_seed(0))
        loss.backward()
        assert all((p.grad is not None) == p.requires_grad for p in task.model.parameters())
        frozen.append({name.split(".")[0] for name, p in task.model.named_parameters() if not p.requires_grad})
    assert frozen == [set(), {"layout_draft"}]


def test_keyframes_learn_from_stills_of_a_folder(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "keyframes")
    data = replace(options.data, stills=1.0, folder=str(video_folder(tmp_path, 2, frames=29)))
    task = make_task(replace(options, data=data), trained / "assets", None)
    batch, told = task.draw(0, 1.0), []
    hook = task.model.register_forward_pre_hook(lambda model, args, named: told.append(named), with_kwargs=True)
    loss, _ = task.loss(task.model, batch, torch.Generator().manual_seed(0))
    hook.remove()
    assert loss.isfinite() and batch.clip.shape == (8, 3, 1, 8, 16) and not told[0]["temporal"]
    assert told[0]["places"].flatten().tolist() == pytest.approx([time / 28 for (time,) in batch.times])


def test_superres_enlarges_a_folder_s_pictures_before_it_cuts_them(trained: Path, tmp_path: Path) -> None:
    from torch.nn import functional as F

    from mpl.stages.superres import upscale
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "superres")
    folder = str(video_folder(tmp_path, 2))
    task = make_task(replace(options, data=replace(options.data, folder=folder)), trained / "assets", None)
    batch = task.draw(3, 1.0)
    small = F.interpolate(batch.whole[0].transpose(0, 1), size=(8, 16), mode="area").transpose(0, 1)[None]
    top, left, tall, wide = (round(a * b) for a, b in zip(batch.windows[0], (32, 64, 32, 64), strict=True))
    expected = upscale(small, 32, 64)[0, :, :, top : top + tall, left : left + wide]
    assert torch.allclose(task.enlarged(batch, torch.Generator())[0], expected, atol=1e-6)
    assert torch.equal(batch.clip[0], batch.whole[0, :, :, top : top + tall, left : left + wide])


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("no json", "line 2: no JSON"),
        ('{"file": "0.mp4"}', "line 2: must be an object"),
        ('["0.mp4"]', "line 2: must be an object"),
        ('{"file": "none.mp4", "caption": "x"}', "line 2: no file none.mp4"),
        ('{"file": "0.mp4", "caption": ""}', "line 2: caption is empty"),
        ("", "1 videos; 2 or more are needed"),
    ],
)
def test_bad_lines_of_a_folder_s_index_are_named(tmp_path: Path, line: str, names: str) -> None:
    (tmp_path / "0.mp4").touch()
    (tmp_path / "scenes.jsonl").write_text('{"file": "0.mp4", "caption": "x"}\n' + line + "\n")
    with pytest.raises(ValueError, match=names) as raised:
        open_data(DataOptions(folder=str(tmp_path)))
    assert "scenes.jsonl" in str(raised.value)


def test_translation_renders_only_what_it_draws_anew(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "translation")
    task = make_task(replace(options, loss=replace(options.loss, degraded_share=0.0)), trained / "assets", None)
    drawn, encoded = [], []
    draw, encode = task.data.draw, task.encode
    monkeypatch.setattr(task.data, "draw", lambda seed, progress, count: drawn.append(seed) or draw(seed, 1.0, count))
    monkeypatch.setattr(task, "encode", lambda clip: encoded.append(len(clip)) or encode(clip))
    first = [task.draw(seed, 1.0) for seed in range(100, 164)]
    assert len(set(drawn)) == len(drawn) == len(encoded) <= 64  # two steps share a draw; those before are at most 32
    drawn.clear(), encoded.clear()
    batches = [task.draw(seed, 1.0) for seed in range(164, 176)]
    assert set(range(82, 88)) <= set(drawn) <= set(range(50, 88)) and len(set(drawn)) == len(drawn)
    assert encoded == [1] * len(drawn)  # degraded copies are not asked for
    assert all(len(b.captions) == len(b.sharp) == 2 and torch.equal(b.sharp, b.degraded) for b in first + batches)
    assert {b.sharp.shape for b in batches} == {(2, 4, 2, 8, 16)}


def test_translation_s_degraded_clips_are_stage_3_s_own(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw is a function of its number; crops of both latents are of one place."""
    from mpl.training import degrade
    from mpl.training.command import make_task

    monkeypatch.setattr(degrade, "BLURRED_SHARE", 0.0)
    task = make_task(load_task(str(trained / "tiny.toml"), "translation"), trained / "assets", None)
    asked = []
    enlarger = task.degrade.enlarger
    monkeypatch.setattr(task.degrade, "enlarger", lambda *args: asked.append(args[0].shape) or enlarger(*args))
    first = task.draw(5, 1.0)
    assert set(asked) == {(1, 3, 2, 8, 16)}
    assert not torch.allclose(first.sharp, first.degraded)
    task.pairs.known.clear()
    again = task.draw(5, 1.0)
    assert torch.equal(again.degraded, first.degraded) and torch.equal(again.sharp, first.sharp)
    monkeypatch.setattr(task.degrade, "enlarger", lambda small, captions, height, width, seed: shown.pop())
    shown, task.pairs.known = [task.data.draw(i, 1.0, 1).clip for i in (9, 9)], {}
    monkeypatch.setattr(task.data, "draw", lambda seed, progress, count: truth)
    truth = task.heldout.draw(0, count=1)
    shown[:] = [truth.clip] * 2
    same = task.draw(5, 1.0)
    assert torch.equal(same.sharp, same.degraded)


def test_time_spent_on_encoding_is_told_apart_from_drawing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import latent
    from mpl.training.command import make_task

    task = make_task(load_task(str(trained / "tiny.toml"), "translation"), trained / "assets", None)
    draw, encode, clock = task.data.draw, task.encode, SimpleNamespace(seconds=0.0)

    def taking(seconds: float, result: object) -> object:
        clock.seconds += seconds
        return result

    monkeypatch.setattr(latent, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    monkeypatch.setattr(task.data, "draw", lambda *args: taking(100.0, draw(*args)))
    monkeypatch.setattr(task, "encode", lambda clip: taking(1.0, encode(clip)))
    task.draw(0, 1.0)  # two draws' clips, sharp and degraded
    assert task.encode_seconds == 4.0
    task.draw(0, 1.0)
    assert task.encode_seconds == 0


def test_captions_are_cleaned_and_cut_as_the_text_stage_does(trained: Path) -> None:
    from transformers import CLIPTextModel, T5EncoderModel

    from mpl.config import load_preset, override
    from mpl.options import TextOptions
    from mpl.stages.text import encode
    from mpl.training.language import FrozenText
    from mpl.weights import Weights

    assets = trained / "assets"
    folders = {"weights.text": str(assets / "text"), "weights.translation": str(assets / "translation")}
    weights = Weights(override(load_preset("storybook"), folders).weights)
    prompt = "  A red  Car moves\nright "
    states = encode(prompt, TextOptions(tokens=12), weights)
    t5 = FrozenText(assets / "text", T5EncoderModel, 12)
    clip = FrozenText(assets / "translation", CLIPTextModel, 12)
    assert torch.allclose(t5([prompt]), states.t5, atol=1e-5)
    assert torch.allclose(clip([prompt]), states.clip, atol=1e-5)
    assert FrozenText(assets / "text", T5EncoderModel, 77)([prompt]).shape[1] == 32  # the tokenizer's own limit
