"""Conditions of superresolution that stages 1 and 2 have drawn, of scenes whose renders are the answer."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpl.storybook.render import render
from mpl.training.command import make_task
from mpl.training.denoisers import SuperresTask
from mpl.training.options import load_task

EMBEDDED = Path(__file__).resolve().parent.parent / "assets/storybook"


@pytest.fixture
def task(trained: Path) -> SuperresTask:
    options = load_task(str(trained / "tiny.toml"), "superres")
    options = replace(options, loss=replace(options.loss, redrawn_share=1.0), data=replace(options.data, reuse=4))
    return make_task(options, trained / "assets", None)


def test_what_is_given_are_the_drawn_frames_of_the_moments_and_the_part_that_are_asked(task: SuperresTask) -> None:
    from mpl.stages.superres import upscale

    batch = task.draw(40, 0.5)
    clips = {scene: clip for samples in task.redrawn.known.values() for scene, _, clip in samples}
    assert batch.clip.shape == (2, 3, 3, 16, 16)
    for i, scene in enumerate(batch.scenes):
        small = clips[scene][None, :, [int(t) for t in batch.times[i]]]
        top, left, tall, wide = (round(a * b) for a, b in zip(batch.windows[i], (32, 64, 32, 64), strict=True))
        expected = upscale(small, 32, 64)[0, :, :, top : top + tall, left : left + wide]
        assert torch.equal(task.enlarged(batch, torch.Generator())[i], expected)
        whole = render([scene], [batch.times[i]], 32, 64)[0]
        assert torch.allclose(batch.clip[i], whole[:, :, top : top + tall, left : left + wide], atol=0.02)


def test_a_batch_depends_on_its_seed_alone(task: SuperresTask, trained: Path) -> None:
    task.draw(39, 0.5)
    one, other = task.draw(40, 0.5), make_task(task.options, trained / "assets", None).draw(40, 0.5)
    assert one.captions == other.captions and torch.equal(one.small, other.small) and torch.equal(one.clip, other.clip)
    assert not torch.equal(one.small, task.draw(41, 0.5).small)


def test_drawn_clips_are_used_again_by_the_next_steps(task: SuperresTask) -> None:
    used = [scene for seed in range(60, 68) for scene in task.draw(seed, 0.5).scenes]
    assert len(used) == 16 and len(set(used)) < 16


def test_a_share_of_the_batches_is_drawn(task: SuperresTask, trained: Path) -> None:
    half = replace(task.options, loss=replace(task.options.loss, redrawn_share=0.5))
    some = make_task(half, trained / "assets", None)
    assert {some.draw(seed, 0.5).small is None for seed in range(12)} == {True, False}


def test_the_embedded_models_draw_a_scene_anew_and_in_its_place() -> None:
    task = make_task(load_task("redrawn", "superres"), EMBEDDED, None)
    scene, caption, clip = task.redrawn_scenes(3, 1.0, 1)[0]
    other = task.data.scenes(random.Random(1), 1)[0]
    times = [tuple(float(t) for t in range(29))]
    own, others = ((clip - render([s], times, 40, 64)[0]).square().mean() for s in (scene, other))
    assert clip.shape == (3, 29, 40, 64) and clip.abs().max() <= 1 and caption
    assert 1e-3 < own < 0.2 * others  # drawn anew, and what the caption says where the render has it


def test_models_without_a_condition_and_videos_that_are_no_scenes_are_refused(tmp_path: Path) -> None:
    preset = tmp_path / "wrong.toml"
    for block, change in (("keyframes", "loss"), ("superres", 'data = { folder = "videos" }\nloss')):
        preset.write_text(f'extends = "storybook"\n[{block}]\n{change} = {{ redrawn_share = 0.5 }}\n')
        with pytest.raises(ValueError, match=f"{block}.loss.redrawn_share = 0.5: accepted with superres alone"):
            load_task(str(preset), block)
