"""Subjects turned the wrong way: what keyframes see of them, and what they are to say."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from mpl.storybook.captions import caption
from mpl.storybook.motions import pose
from mpl.storybook.render import render, render_with_mask
from mpl.storybook.scene import sample_scene
from mpl.training.data import Batch
from mpl.training.turn import HIGHEST, LOWEST, with_turned

TIMES = (0.0, 8.0, 16.0)


@pytest.fixture
def batch() -> Batch:
    rng = random.Random(3)
    scenes = [sample_scene(rng, "train", subject="rocket", motion=motion) for motion in ("spins", "falls") * 6]
    clip, mask = render_with_mask(scenes, [TIMES] * len(scenes), 40, 64)
    captions = [caption(scene, rng, style="full").text for scene in scenes]
    return Batch(clip, captions, mask, scenes=tuple(scenes), times=(TIMES,) * len(scenes))


def test_a_turned_scene_is_the_same_but_for_its_subject_s_angle():
    scene = sample_scene(random.Random(0), "train", motion="spins")
    plain, turned = (pose(scene, 7.0), pose(replace(scene, turn=1.0), 7.0))
    assert turned.angle == pytest.approx(plain.angle + 1.0)
    assert replace(turned, angle=plain.angle) == plain
    whole = render(replace(scene, turn=2 * math.pi), [TIMES], 40, 64)
    torch.testing.assert_close(whole, render(scene, [TIMES], 40, 64), atol=1e-4, rtol=0)


def test_only_the_chosen_share_is_wrong_and_only_where_its_subject_is(batch):
    given = with_turned(batch, 5, 0.5)
    assert given.clip is batch.clip and given.drawn_at == (LOWEST, HIGHEST)
    wrong = (given.drawn - batch.clip).abs().amax((1, 2, 3, 4))
    assert 2 <= (wrong > 0.5).sum() <= 10 and ((wrong == 0) | (wrong > 0.1)).all()
    reach = torch.nn.functional.max_pool3d(batch.mask, (1, 31, 31), 1, (0, 15, 15))  # as far as a turn may take it
    assert ((given.drawn - batch.clip) * (reach == 0)).abs().max() < 1e-5
    assert given.drawn.abs().max() < 1 + 1e-5
    frames = (given.drawn - batch.clip)[wrong > 0.5].abs().amax((1, 3, 4))
    assert frames.std(1).max() > 0.1  # each frame is wrong in its own way


def test_a_seed_turns_alike_and_another_otherwise(batch):
    first, again, other = (with_turned(batch, seed, 1.0).drawn for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert with_turned(batch, 5, 0.0) is batch
