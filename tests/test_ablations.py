"""The ablations: comparisons as files, differences with intervals, arms without weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpl.config import Preset
from mpl.evaluation import ablations, storybook
from mpl.evaluation.ablations import Arm, Comparison, comparison_names, difference, load_comparison
from mpl.evaluation.sheets import draw
from mpl.evaluation.whole import Sample, summary
from mpl.models.judge import Judge
from mpl.storybook.scene import ATTRIBUTES
from mpl.weights import Weights


def sample(right: bool, energy: float, features: torch.Tensor) -> Sample:
    pictures = (np.zeros((1, 2, 2, 3), np.uint8),) * 2
    sets = {"fvd": (features, features), "fid": (features, features)}
    return Sample(
        caption="a car",
        pictures=pictures,
        right={"colour": right},
        in_first_words=frozenset(),
        kept={},
        figures={"energy": energy},
        features=sets,
        seconds={"keyframes": 1.0},
        peak_memory_gb=0.1,
        judged_right={},
        round_trip_right={},
        steady={},
        steady_truth={},
    )


def test_differences_are_paired_by_caption() -> None:
    a = [sample(right, 1.0 + i, torch.randn(3, 2)) for i, right in enumerate((True, False, False, True))]
    b = [replace(x, right={"colour": True}, figures={"energy": x.figures["energy"] + 0.5}) for x in a]
    found = difference((a, b))
    assert found["colour (points)"]["value"] == 50.0
    assert found["energy"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 4}
    assert found["fid"]["value"] == 0 and found["fid"]["n"] == 4
    pooled = difference((a, b), (a, a), (b, a))  # of a caption, the mean over the pairs
    assert pooled["colour (points)"]["value"] == 0.0 and pooled["energy"]["value"] == pytest.approx(0.0)
    assert difference((a, b), (a, a))["energy"] == {"value": 0.25, "low": 0.25, "high": 0.25, "n": 4}


def test_the_ceiling_of_latent_keyframes_is_told_where_there_are_any() -> None:
    of = [sample(True, 1.0, torch.randn(3, 2)) for _ in range(4)]
    assert "round_trip" not in summary(of)
    latent = [replace(x, round_trip_right={"colour": i > 0}) for i, x in enumerate(of)]
    assert summary(latent)["round_trip"]["colour"]["share"] == 0.75


def test_a_difference_of_medians_is_that_of_the_medians_told() -> None:
    of = [
        [replace(sample(True, 1.0, torch.randn(3, 2)), figures={"flicker": x}) for x in values]
        for values in ((0.0, 0.0, 3.0) * 3, (1.0, 0.0, 0.0) * 3)
    ]
    found = difference((of[0], of[1]))["flicker"]
    assert found["value"] == 0 and found["low"] < 0 < found["high"] and found["n"] == 9


def test_large_pictures_stand_below_each_other_in_their_own_size(tmp_path: Path) -> None:
    """Wide ones do not fit beside each other without being made smaller; small ones are made larger."""
    large, small = (3 * 576, 28 + 3 * (320 + 28)), (3 * 640, 28 + 400 + 28)
    for wide, tall, arms, size in ((576, 320, 8, large), (64, 40, 2, small)):
        picture = np.zeros((1, tall, wide, 3), np.uint8)
        shown = replace(sample(True, 1.0, torch.randn(3, 2)), pictures=(picture, picture))
        draw({str(i): [shown] for i in range(arms)}, tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.size == size


def test_every_comparison_can_be_read_and_its_presets_exist() -> None:
    assert set(comparison_names()) == {"figure6", "initialisation", "snr", "table4", "windows"}
    assert "sampling/keyframes" in comparison_names(every=True)
    for name in comparison_names(every=True):
        comparison = load_comparison(name)
        assert len({arm.resolved() for arm in comparison.arms}) == len(comparison.arms), name
    with pytest.raises(ValueError, match='comparison "table9": must be one of .*table4'):
        load_comparison("table9")


def test_what_a_comparison_sets_for_all_an_arm_can_set_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(
        'title = "x"\nabout = "y"\nstage = "keyframes"\nset = { "keyframes.steps" = 9, "keyframes.guidance" = 3.0 }\n'
        'arms = [{ name = "a" }, { name = "b", set = { "keyframes.steps" = 5 } }]'
    )
    monkeypatch.setattr(ablations, "_folder", lambda: tmp_path)
    a, b = (arm.resolved().keyframes for arm in load_comparison("mine").arms)
    assert (a.steps, a.guidance) == (9, 3.0) and (b.steps, b.guidance) == (5, 3.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('title = "x"', "cannot be read"),
        ('title = "x"\nabout = "y"\nstage = "superres"\narms = [{ name = "a" }]', "two arms or more"),
        ('title = "x"\nabout = "y"\nstage = "end"\narms = [{ name = "a" }, { name = "b" }]', 'stage = "end"'),
        (
            'title = "x"\nabout = "y"\nstage = "superres"\n'
            'pairs = [["a", "c"]]\narms = [{ name = "a" }, { name = "b" }]',
            r"pairs = \['a', 'c'\]: must be two of a, b",
        ),
    ],
)
def test_a_broken_comparison_is_refused(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    monkeypatch.setattr(ablations, "_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=problem):
        load_comparison("mine")


def test_arms_run_on_the_same_captions_and_what_cannot_run_says_why(
    tiny: Preset, tiny_weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {k: len(v) for k, v in ATTRIBUTES.items()}
    Judge(values, height=8, width=16, frames=3, channels=(8, 8), features=16).save_pretrained(tmp_path / "judge")
    still = {k: n for k, n in values.items() if k not in ("motion", "camera")}
    Judge(still, moving=(), height=32, width=64, frames=1, channels=(8, 8), features=16).save_pretrained(
        tmp_path / "judge_detail"
    )
    changes = {"superres.window": 2, "superres.stride": 1}
    arms = tuple(
        Arm(name, "tiny", {**changes, **more})
        for name, more in (
            ("chained", {}),
            ("independent", {"superres.chained": False}),
            ("absent", {"weights.superres": str(tmp_path / "none")}),
        )
    )
    monkeypatch.setattr(ablations, "load_preset", lambda name: tiny)
    asked = Comparison("mine", "t", "a", "superres", arms, (("chained", "independent"), ("chained", "absent")))
    found = ablations.measure(asked, storybook.Bench(tiny, tiny_weights, tmp_path), 2, tmp_path / "out")
    assert "superres" in found["arms"]["absent"]["why"]
    assert list(found["differences"]) == ["independent less chained"]
    assert found["differences"]["independent less chained"]["seams"]["n"] == 2
    assert set(found["arms"]["chained"]["seconds"]) == {"keyframes", "interpolation", "superres", "all"}
    with Image.open(tmp_path / "out" / found["sheet"]) as sheet:
        assert sheet.width % (3 * 32) == 0  # two arms that ran, and the render
    lines = list(ablations.difference_lines(found))
    assert lines[0].startswith("mine: absent: not run: ") and any("seams" in line for line in lines)
    json.dumps(found, allow_nan=False)
