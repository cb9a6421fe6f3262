"""What an evaluation asks: captions in other styles than the protocol's, and when their frames are."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpl.config import load_preset, override
from mpl.evaluation import storybook
from mpl.storybook.captions import tokens
from mpl.weights import Weights


def test_cases_are_asked_in_everyday_words_of_the_same_scenes() -> None:
    plain, spoken = [*storybook.cases(16)], [*storybook.cases(16, style="spoken")]
    assert [case.scene for case in spoken] == [case.scene for case in plain]
    assert [case.caption.named for case in spoken] == [case.caption.named for case in plain]
    assert sum(tokens(a.caption.text) != tokens(b.caption.text) for a, b in zip(plain, spoken, strict=True)) > 8
    assert [*storybook.cases(16, style="spoken")] == spoken
    short = [case.caption.named for case in storybook.cases(16, style="short")]
    assert max(map(len, short)) <= 4


@pytest.mark.parametrize(("between", "keyframes"), [(3, 8), (1, 8), (3, 15)])
def test_a_clip_takes_the_whole_of_its_scene_however_many_frames_it_has(between: int, keyframes: int) -> None:
    """Keyframes do not know how many frames come between them."""
    preset = override(load_preset("storybook"), {"interpolation.between": between, "keyframes.frames": keyframes})
    bench = storybook.Bench(preset, Weights(preset.weights), Path(), lambda done, of: None)
    step = 28 / (keyframes - 1)
    assert bench.times[:: bench.spacing] == pytest.approx([i * step for i in range(keyframes)])
    assert len(bench.times) == (keyframes - 1) * (between + 1) + 1
