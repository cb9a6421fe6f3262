"""Conditions of superresolution that stages 1 and 2 have drawn, of scenes whose renders are the answer."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpl.storybook.render import render
from mpl.training.command import make_task
from mpl.training.degrade import Reused
from mpl.training.denoisers import SuperresTask
from mpl.training.options import DataOptions, load_task

EMBEDDED = Path(__file__).resolve().parent.parent / "assets/storybook"


@pytest.fixture
def task(trained: Path) -> SuperresTask:
    options = load_task(str(trained / "tiny.toml"), "superres")
    options = replace(options, loss=replace(options.loss, redrawn_share=1.0), data=replace(options.data, reuse=4))
    return make_task(options, trained / "assets", None)


def test_what_is_given_are_the_drawn_frames_of_the_moments_and_the_part_that_are_asked(task: SuperresTask) -> None:
    from mpl.stages.superres import upscale

    batch = task.draw(40, 0.5)
    clips = {scene: clip for samples in task.redrawn.pool.known.values() for scene, _, clip in samples}
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
    assert one.captions == other.captions and torch.equal(one.drawn, other.drawn) and torch.equal(one.clip, other.clip)
    assert not torch.equal(one.drawn, task.draw(41, 0.5).drawn)


def test_drawn_clips_are_used_again_by_the_next_steps(task: SuperresTask) -> None:
    used = [scene for seed in range(60, 68) for scene in task.draw(seed, 0.5).scenes]
    assert len(used) == 16 and len(set(used)) < 16


def test_a_share_of_the_batches_is_drawn(task: SuperresTask, trained: Path) -> None:
    half = replace(task.options, loss=replace(task.options.loss, redrawn_share=0.5))
    some = make_task(half, trained / "assets", None)
    assert {some.draw(seed, 0.5).drawn is None for seed in range(12)} == {True, False}


def test_keyframes_are_to_mend_what_they_drew_themselves_where_noise_hides_it(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    options = replace(options, loss=replace(options.loss, redrawn_share=1.0), data=replace(options.data, reuse=4))
    task = make_task(options, trained / "assets", None)
    batch = next(b for b in (task.draw(seed, 0.5) for seed in range(9)) if b.clip.shape[2] == 8)
    assert batch.drawn.shape == batch.clip.shape == (2, 3, 8, 8, 16)
    shown = task.shown(batch, torch.tensor([59, 60])), task.shown(batch, torch.tensor([599, 600]))
    assert torch.equal(shown[0][0], batch.clip[0]) and torch.equal(shown[0][1], batch.drawn[1])
    assert torch.equal(shown[1][0], batch.drawn[0]) and torch.equal(shown[1][1], batch.clip[1])
    still = next(b for b in (task.draw(seed, 0.5) for seed in range(9)) if b.clip.shape[2] == 1)
    assert all(t % 4 == 0 for (t,) in still.times)  # moments that keyframes have


def test_all_moments_of_what_was_drawn_are_shown(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    loss, data = replace(options.loss, redrawn_share=1.0), replace(options.data, reuse=64, stills=1.0)
    task = make_task(replace(options, loss=loss, data=data), trained / "assets", None)
    shown = [t for seed in range(30) for (t,) in task.draw(seed, 0.5).times]
    counts = [shown.count(4.0 * i) for i in range(8)]
    assert sum(counts) == len(shown) == 240 and min(counts) > 12


def test_frames_lie_apart_by_what_drawn_ones_do(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    loss, data = replace(options.loss, redrawn_share=1.0), replace(options.data, spacing=3)
    with pytest.raises(ValueError, match="keyframes.data.spacing = 3: must be a multiple of 4"):
        make_task(replace(options, loss=loss, data=data), trained / "assets", None)


@pytest.mark.parametrize(("share", "count"), [(0.1, 2), (0.5, 8), (1.0, 2)])
def test_a_drawing_serves_about_as_many_samples_as_asked(share: float, count: int) -> None:
    made: list[int] = []
    pool = Reused(lambda draw, progress, n: made.append(draw) or [draw], DataOptions(batch=2, reuse=40), share * count)
    rng, used = random.Random(0), 0
    for seed in range(10_000, 150_000):
        used += len(pool.draw(seed, 0.5, rng, count)) if rng.random() < share else 0
    assert 0.8 < used / len(made) / 40 < 1.2


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_target_says_the_render_whatever_was_noised(kind: str) -> None:
    from mpl.training.objectives import Schedule

    schedule = Schedule(torch.linspace(0.99, 0.01, 1000), kind)
    x, other, noise = torch.randn(3, 2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([100, 700])
    noisy = schedule.add_noise(other, noise, t)
    said = schedule.target_from(noisy, x, t)
    alpha, sigma = schedule.coefficients(t, x)
    clean = {
        "epsilon": (noisy - sigma * said) / alpha,
        "v_prediction": alpha * noisy - sigma * said,
        "sample": said,
    }[kind]
    assert torch.allclose(clean, x, atol=1e-4)
    own = schedule.target_from(schedule.add_noise(x, noise, t), x, t)
    assert torch.allclose(own, schedule.target(x, noise, t), atol=1e-4)


def test_the_embedded_models_draw_a_scene_anew_and_in_its_place() -> None:
    task = make_task(load_task("redrawn", "superres"), EMBEDDED, None)
    scene, caption, clip = task.redrawn.make(3, 1.0, 1)[0]
    other = task.data.scenes(random.Random(1), 1)[0]
    times = [tuple(float(t) for t in range(29))]
    own, others = ((clip - render([s], times, 40, 64)[0]).square().mean() for s in (scene, other))
    assert clip.shape == (3, 29, 40, 64) and clip.abs().max() <= 1 and caption
    assert 1e-3 < own < 0.2 * others  # drawn anew, and what the caption says where the render has it


def test_clips_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    preset = tmp_path / "wrong.toml"
    for block, change, message in (
        (
            "interpolation",
            "loss = { redrawn_share = 0.5 }",
            "loss.redrawn_share = 0.5: accepted with: keyframes",
        ),
        (
            "superres",
            'data = { folder = "videos" }',
            "loss.redrawn_share = 0.5: accepted in pixels, and with",
        ),
        ("keyframes", "data = { crop = [32, 32] }", "loss.redrawn_share: whole clips are drawn; leave data.crop out"),
        ("superres", "loss = { turned_share = 0.5 }", "loss.turned_share = 0.5: accepted with: keyframes"),
        (
            "keyframes",
            "loss = { turned_share = 0.5, redrawn_share = 0.0 }\ndata = { crop = [32, 32] }",
            "loss.turned_share: whole clips are drawn; leave data.crop out",
        ),
    ):
        preset.write_text(f'extends = "redrawn"\n[{block}]\n{change}\n')
        with pytest.raises(ValueError, match=f"{block}.{message}"):
            load_task(str(preset), block)
