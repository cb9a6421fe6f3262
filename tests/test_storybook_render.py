"""Renders: shape and range, determinism, agreement across sizes, crops and batches, and legible labels."""

import dataclasses
import itertools
import random

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mpl.storybook.canvas import COATS
from mpl.storybook.render import render, render_with_mask, subject_mask
from mpl.storybook.scene import ATTRIBUTES, Scene, sample_scene

KEYFRAMES = range(0, 29, 4)


def _scenes(count: int, seed: int = 0, **fixed: str) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, "all", **fixed) for _ in range(count)]


def _one_per_setting_and_subject() -> list[Scene]:
    rng = random.Random(1)
    settings, subjects = ATTRIBUTES["setting"], ATTRIBUTES["subject"]
    return [sample_scene(rng, "all", setting=settings[i % 9], subject=subjects[i % 12]) for i in range(36)]


def _centroid(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean column and row of masks (f h w), in fractions of the frame."""
    weight = mask.sum(dim=(1, 2))
    height, width = mask.shape[1:]
    across = (mask.sum(dim=1) * (torch.arange(width) + 0.5)).sum(dim=1) / weight / width
    down = (mask.sum(dim=2) * (torch.arange(height) + 0.5)).sum(dim=1) / weight / height
    return across, down


def test_shape_range_and_determinism():
    scenes = _scenes(3)
    video, mask = render_with_mask(scenes, [0, 3.5, 28], 40, 64)
    assert video.shape == (3, 3, 3, 40, 64)
    assert mask.shape == (3, 1, 3, 40, 64)
    assert video.dtype == mask.dtype == torch.float32
    assert video.is_contiguous() and not video.is_inference()
    assert video.min() >= -1.0 and video.max() <= 1.0
    assert mask.min() >= 0.0 and mask.max() <= 1.0
    assert torch.equal(video, render(scenes, [0, 3.5, 28], 40, 64))
    assert torch.equal(mask, subject_mask(scenes, [0, 3.5, 28], 40, 64))
    assert torch.isfinite(video).all()


def test_a_number_of_frames_counts_from_zero():
    scene = _scenes(1)[0]
    assert torch.equal(render(scene, 3, 40, 64), render([scene], [0, 1, 2], 40, 64))


def test_a_scene_does_not_depend_on_the_batch():
    scenes = _one_per_setting_and_subject()
    crops = [(0.0, 0.0, 1.0, 1.0) if i % 2 else (0.25, 0.25, 0.3, 0.3) for i in range(len(scenes))]
    together = render(scenes, [5, 20], 40, 64, crops)
    alone = torch.cat([render(scene, [5, 20], 40, 64, crop) for scene, crop in zip(scenes, crops, strict=True)])
    assert (together - alone).abs().max() < 1e-4


def test_scenes_may_have_times_of_their_own():
    scenes = _scenes(3)
    times = [[0.0, 7.5], [28.0, 3.0], [11.0, 12.0]]
    together = render_with_mask(scenes, times, 40, 64)
    for index, (scene, own) in enumerate(zip(scenes, times, strict=True)):
        for whole, alone in zip(together, render_with_mask(scene, own, 40, 64), strict=True):
            torch.testing.assert_close(whole[index : index + 1], alone)


def test_a_crop_is_a_part_of_the_whole():
    scenes = _one_per_setting_and_subject()
    whole, whole_mask = render_with_mask(scenes, [6], 160, 256)
    part, part_mask = render_with_mask(scenes, [6], 64, 64, (48 / 160, 96 / 256, 64 / 160, 64 / 256))
    assert (whole[..., 48:112, 96:160] - part).abs().max() < 2e-3
    assert (whole_mask[..., 48:112, 96:160] - part_mask).abs().max() < 2e-3


def test_low_resolution_is_the_average_of_high_resolution():
    scenes = _one_per_setting_and_subject()
    low = render(scenes, [6], 40, 64)[:, :, 0]
    high = avg_pool2d(render(scenes, [6], 160, 256)[:, :, 0], 4)
    difference = (low - high).abs()
    assert difference.mean() < 0.02
    assert difference.mean(dim=(1, 2, 3)).max() < 0.05
    assert difference.quantile(0.99) < 0.25
    assert (low - high).mean().abs() < 0.005


def test_high_resolution_agrees_with_higher_still():
    scenes = _one_per_setting_and_subject()[::3]
    middle = render(scenes, [6], 160, 288)[:, :, 0]
    high = avg_pool2d(render(scenes, [6], 320, 576)[:, :, 0], 2)
    assert (middle - high).abs().mean() < 0.01


def test_masks_agree_across_sizes_and_have_the_scene_s_size():
    scenes = [dataclasses.replace(scene, motion="spins", x=0.0, y=0.0) for scene in _one_per_setting_and_subject()]
    low, high = subject_mask(scenes, [0], 40, 64), subject_mask(scenes, [0], 160, 256)
    assert (low[:, 0] - avg_pool2d(high[:, 0], 4)).abs().mean() < 0.01
    for scene, mask in zip(scenes, high[:, 0, 0], strict=True):
        rows = (mask > 0.5).any(dim=1).nonzero()
        tall = float(rows.max() - rows.min() + 1) / 160
        assert 0.75 * scene.size < tall < 1.15 * scene.size, scene.subject
        # A quarter of the subject's box at least: no subject is a mere line.
        assert mask.mean() * 1.8 > 0.25 * scene.size**2


def test_silhouettes_differ_at_64x40():
    """Of two subjects in the same place at the same size, a seventh of their joint area or more is one's alone."""
    masks = {}
    for subject in ATTRIBUTES["subject"]:
        scene = Scene(subject, "red", "plain", "moves right", "meadow", "still", size=0.55, travel=0.0)
        masks[subject] = subject_mask(scene, [0.0], 40, 64)
    for a, b in itertools.combinations(masks, 2):
        overlap = torch.minimum(masks[a], masks[b]).sum() / torch.maximum(masks[a], masks[b]).sum()
        assert overlap < 6 / 7, (a, b, overlap)


@pytest.mark.parametrize("camera", ATTRIBUTES["camera"])
def test_motions_show_in_the_masks(camera):
    rng = random.Random(3)
    for subject in ("car", "fish", "flower"):
        fixed = {"subject": subject, "camera": camera}
        scenes = [sample_scene(rng, "all", motion=motion, **fixed) for motion in ATTRIBUTES["motion"]]
        masks = dict(zip(ATTRIBUTES["motion"], subject_mask(scenes, KEYFRAMES, 40, 64)[:, 0], strict=True))
        across = {motion: _centroid(mask)[0] for motion, mask in masks.items()}
        down = {motion: _centroid(mask)[1] for motion, mask in masks.items()}
        area = {motion: mask.sum(dim=(1, 2)) for motion, mask in masks.items()}
        assert (across["moves right"].diff() > 0.03).all()
        assert (across["moves left"].diff() < -0.03).all()
        assert (down["rises"].diff() < -0.02).all()
        assert (down["falls"].diff() > 0.02).all()
        assert (down["bounces"].diff().sign().diff() != 0).sum() >= 2
        assert (area["grows"].diff() > 0).all() and area["grows"][-1] > 3.0 * area["grows"][0]
        assert (area["shrinks"].diff() < 0).all() and area["shrinks"][-1] < area["shrinks"][0] / 3.0
        for motion in ("spins", "sways"):
            steady = area[motion] / area[motion].mean()
            assert (steady - 1.0).abs().max() < 0.1


def test_what_spins_looks_different_at_every_keyframe():
    rng = random.Random(4)
    for subject in ATTRIBUTES["subject"]:
        scene = sample_scene(rng, "all", subject=subject, motion="spins", colour="white")
        video, mask = render_with_mask(scene, KEYFRAMES, 40, 64)
        inside = mask[0].max(dim=1).values[0] > 0.5
        for a, b in itertools.combinations(range(8), 2):
            assert (video[0, :, a] - video[0, :, b])[:, inside].abs().mean() > 0.03, (subject, a, b)


def test_patterns_hide_at_64x40_and_show_at_256x160():
    rng = random.Random(5)
    for subject in ("heart", "car", "balloon"):
        plain = sample_scene(rng, "all", subject=subject, pattern="plain", motion="rises", camera="still")
        others = [dataclasses.replace(plain, pattern=pattern) for pattern in ATTRIBUTES["pattern"]]
        low, high = (render(others, [14], *size) for size in ((40, 64), (160, 256)))
        inside = subject_mask(plain, [14], 160, 256)[0] > 0.9
        for a, b in itertools.combinations(range(4), 2):
            assert torch.equal(low[a], low[b])
            assert (high[a] - high[b])[:, inside[0]].abs().mean() > 0.05
        means = torch.stack([picture[:, inside[0]].mean(dim=1) for picture in high])
        assert (means - means[0]).abs().max() < 0.12


def test_colours_show_and_keep_apart_on_every_setting():
    rng = random.Random(6)
    names = ATTRIBUTES["colour"]
    for setting in ATTRIBUTES["setting"]:
        scene = sample_scene(rng, "all", setting=setting, subject="ghost", motion="sways", pattern="plain")
        scenes = [dataclasses.replace(scene, colour=colour) for colour in names]
        video, mask = render_with_mask(scenes, [0], 40, 64)
        inside = mask[0, 0, 0] > 0.99
        shown = torch.stack([(picture[:, 0][:, inside].median(dim=1).values + 1) / 2 for picture in video])
        truth = torch.tensor([COATS[colour] for colour in names])
        nearest = torch.cdist(shown, truth).argmin(dim=1)
        assert nearest.tolist() == list(range(len(names)))
        around = video[:, :, 0][..., mask[0, 0, 0] < 0.01].mean(dim=2) / 2 + 0.5
        assert (torch.linalg.vector_norm(shown - around, dim=1) > 0.2).all()


def test_settings_differ_at_a_glance():
    rng = random.Random(7)
    mean = []
    for setting in ATTRIBUTES["setting"]:
        scenes = [sample_scene(rng, "all", setting=setting, camera="still") for _ in range(6)]
        mean.append(torch.nn.functional.adaptive_avg_pool2d(render(scenes, [14], 40, 64)[:, :, 0], (5, 8)).mean(dim=0))
    for a, b in itertools.combinations(mean, 2):
        assert (a - b).abs().mean() > 0.12


def test_the_camera_moves_the_setting():
    rng = random.Random(8)
    for setting in ATTRIBUTES["setting"]:
        still = sample_scene(rng, "all", setting=setting, camera="still", motion="spins")
        change = {}
        for camera in ATTRIBUTES["camera"]:
            video, mask = render_with_mask(dataclasses.replace(still, camera=camera), [0, 28], 40, 64)
            outside = mask[0, 0].max(dim=0).values < 0.01
            change[camera] = (video[0, :, 1] - video[0, :, 0])[:, outside].abs().mean()
        assert change["pan"] > 1.5 * change["still"], setting
        assert change["zoom"] > 1.2 * change["still"], setting


def test_time_flows_smoothly():
    scenes = _one_per_setting_and_subject()[:18]
    video, mask = render_with_mask(scenes, [10, 10.5, 11], 40, 64)
    outside = (mask.amax(dim=2, keepdim=True) < 0.01).float()
    step = ((video[:, :, 1] - video[:, :, 0]) * outside[:, :, 0]).abs().mean(dim=(1, 2, 3))
    assert (step < 0.03).all()
    assert (video[:, :, 1] - video[:, :, 0]).abs().sum() > 0


def test_detail_lives_in_high_resolution():
    for setting in ATTRIBUTES["setting"]:
        scene = sample_scene(random.Random(9), "all", setting=setting, motion="shrinks")
        high = render(scene, [28], 320, 576)[0, :, 0]
        coarse = torch.nn.functional.interpolate(avg_pool2d(high[None], 8), scale_factor=8, mode="bilinear")[0]
        assert (high - coarse).abs().mean() > 0.008, setting


def test_bad_input_is_named():
    scene = _scenes(1)[0]
    with pytest.raises(ValueError, match="0 scenes and 2 frames"):
        render([], 2, 40, 64)
    with pytest.raises(ValueError, match="1 scenes and 0 frames"):
        render(scene, [], 40, 64)
    with pytest.raises(ValueError, match=r"frames are of lengths \[2, 1\] for 2 scenes"):
        render([scene, scene], [[0.0, 1.0], [2.0]], 40, 64)
    with pytest.raises(ValueError, match="height x width is 0x64"):
        render(scene, 1, 0, 64)
    with pytest.raises(ValueError, match="crop is"):
        render(scene, 1, 40, 64, (0.5, 0.5, 0.6, 0.2))
    with pytest.raises(ValueError, match="crop has 2 entries for 1 scenes"):
        render(scene, 1, 40, 64, [(0.0, 0.0, 1.0, 1.0)] * 2)
