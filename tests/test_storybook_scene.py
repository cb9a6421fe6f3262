"""Scenes: labels, balance, the held-out split, the curriculum, and paths that stay in the frame."""

import collections
import dataclasses
import random
import subprocess
import sys

import pytest

from mpl.storybook.motions import camera, pose
from mpl.storybook.scene import ATTRIBUTES, FRAME_ASPECT, Scene, is_heldout, sample_scene, scene_for_index


def test_scene_and_captions_load_no_torch():
    code = "import sys, mpl.storybook.captions, mpl.storybook.motions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_world_is_as_rich_as_promised():
    sizes = {name: len(values) for name, values in ATTRIBUTES.items()}
    assert sizes["subject"] >= 12
    assert sizes["colour"] >= 8
    assert sizes["motion"] >= 8
    assert sizes["setting"] >= 8
    assert ATTRIBUTES["pattern"] == ("plain", "striped", "spotted", "checked")
    assert ATTRIBUTES["camera"] == ("still", "pan", "zoom")


def test_a_scene_is_immutable_and_knows_its_labels():
    scene = sample_scene(random.Random(0), "all", subject="fish", colour="pink")
    assert scene.labels["subject"] == "fish"
    assert scene.labels["colour"] == "pink"
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.subject = "car"


def test_sampling_is_deterministic():
    assert [sample_scene(random.Random(5)) for _ in range(3)] == [sample_scene(random.Random(5)) for _ in range(3)]
    assert scene_for_index(7, "heldout") == scene_for_index(7, "heldout")
    assert scene_for_index(7, "heldout") != scene_for_index(8, "heldout")
    assert scene_for_index(7, "heldout") != scene_for_index(7, "train")


def test_the_split_is_fixed_and_disjoint():
    # Known members: a changed hash would silently leak the test set into training.
    known = {"subject": "heart", "colour": "yellow", "setting": "snowy hills", "motion": "rises", "pattern": "plain"}
    assert is_heldout(known)
    assert not is_heldout({**known, "colour": "red"})
    rng = random.Random(1)
    assert not any(is_heldout(sample_scene(rng, "train").labels) for _ in range(500))
    assert all(is_heldout(sample_scene(rng, "heldout").labels) for _ in range(100))
    share = sum(is_heldout(sample_scene(rng, "all").labels) for _ in range(4000)) / 4000
    assert 0.08 < share < 0.12


def test_labels_are_balanced():
    rng = random.Random(2)
    scenes = [sample_scene(rng) for _ in range(4000)]
    for name, values in ATTRIBUTES.items():
        counts = collections.Counter(getattr(scene, name) for scene in scenes)
        for value in values:
            assert abs(counts[value] / 4000 - 1 / len(values)) < 0.03, (name, value)


def test_subject_and_camera_paths_stay_in_the_frame():
    rng = random.Random(3)
    for level in (0.0, 0.5, 1.0):
        for _ in range(300):
            scene = sample_scene(rng, level=level)
            assert 0.45 <= scene.size <= 0.65
            for frame in range(0, 29, 4):
                at = pose(scene, frame)
                assert abs(at.x) + 1.15 * at.scale_x < FRAME_ASPECT / 2 + 0.01
                assert abs(at.y) + at.scale_y < 0.5 + 0.04


def test_level_zero_is_large_centred_and_uncluttered():
    rng = random.Random(4)
    for _ in range(100):
        scene = sample_scene(rng, level=0.0)
        assert (scene.x, scene.y, scene.clutter) == (0.0, 0.0, 0.0)
        assert 0.60 <= scene.size <= 0.65


@pytest.mark.parametrize(
    ("motion", "check"),
    [
        ("moves right", lambda a, b: b.x - a.x > 0.8),
        ("moves left", lambda a, b: a.x - b.x > 0.8),
        ("rises", lambda a, b: b.y - a.y > 0.3),
        ("falls", lambda a, b: a.y - b.y > 0.3),
        ("spins", lambda a, b: abs(b.angle - a.angle) > 5.0),
        ("grows", lambda a, b: b.scale_y > 1.9 * a.scale_y),
        ("shrinks", lambda a, b: a.scale_y > 1.9 * b.scale_y),
    ],
)
def test_motions_go_where_they_say(motion, check):
    rng = random.Random(6)
    for _ in range(20):
        scene = sample_scene(rng, motion=motion)
        assert check(pose(scene, 0), pose(scene, 28))


def test_bounces_and_sways_turn_back_twice_or_more():
    rng = random.Random(7)
    for motion, axis in (("bounces", "y"), ("sways", "x")):
        scene = sample_scene(rng, motion=motion)
        path = [getattr(pose(scene, frame), axis) for frame in range(0, 29, 4)]
        steps = [b - a for a, b in zip(path, path[1:], strict=False)]
        assert sum(a * b < 0 for a, b in zip(steps, steps[1:], strict=False)) >= 2


def test_camera_moves_only_where_the_label_says():
    rng = random.Random(8)
    for _ in range(30):
        scene = sample_scene(rng)
        first, last = camera(scene, 0), camera(scene, 28)
        assert (abs(last.shift - first.shift) > 0.4) == (scene.camera == "pan")
        assert (abs(last.zoom - first.zoom) > 0.3) == (scene.camera == "zoom")


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="subject is 'dog'; accepted: car, boat"):
        sample_scene(random.Random(0), subject="dog")
    with pytest.raises(ValueError, match="attribute is 'size'"):
        sample_scene(random.Random(0), size="big")
    with pytest.raises(ValueError, match="split is 'test'; accepted: train, heldout, all"):
        sample_scene(random.Random(0), "test")
    with pytest.raises(ValueError, match="level is 2; accepted: 0 to 1"):
        sample_scene(random.Random(0), level=2)
    with pytest.raises(ValueError, match="colour is 'mauve'"):
        Scene("car", "mauve", "plain", "rises", "desert", "still")
    pinned = {"subject": "heart", "colour": "yellow", "setting": "snowy hills", "motion": "rises", "pattern": "plain"}
    with pytest.raises(ValueError, match="leaves no scene in split 'train'"):
        sample_scene(random.Random(0), "train", **pinned)
