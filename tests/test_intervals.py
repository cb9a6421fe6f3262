"""Intervals: of shares that are paired, by the bootstrap and by the jackknife."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import comb

import numpy as np
import pytest
import torch

from mpl.evaluation.metrics import frechet_distance
from mpl.evaluation.resampling import bootstrap, jackknife, jackknife_of_ratio, median
from mpl.intervals import paired_points, student


def table(both: int, gone: int, won: int, neither: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + gone) + [False] * (won + neither)
    return first, [True] * both + [False] * gone + [True] * won + [False] * neither


def test_a_paired_difference_is_in_points_and_turns_with_its_sides() -> None:
    first, second = table(30, 2, 12, 6)
    found, turned = paired_points(first, second), paired_points(second, first)
    assert found["value"] == 20.0 and found["n"] == 50 and found["low"] > 0
    assert [turned[key] for key in ("value", "low", "high")] == [-found[key] for key in ("value", "high", "low")]
    assert paired_points([], [])["value"] is None


def test_few_things_that_do_not_differ_say_little() -> None:
    few, many = (paired_points(*table(n, 0, 0, 0)) for n in (14, 1400))
    assert few["value"] == many["value"] == 0
    assert few["high"] > 15 and few["low"] < -15 and many["high"] < 0.5


@pytest.mark.parametrize("chances", [(0.7, 0.1, 0.1, 0.1), (0.75, 0.05, 0.15, 0.05), (0.4, 0.05, 0.25, 0.3)])
def test_a_paired_interval_holds_the_truth_as_often_as_it_says(chances: tuple[float, ...]) -> None:
    """Exactly: all tables of 16 pairs, each with its multinomial chance."""
    n, truth, held = 16, 100 * (chances[2] - chances[1]), 0.0
    for a, b, c in product(range(n + 1), repeat=3):
        if (d := n - a - b - c) < 0:
            continue
        chance = comb(n, a) * comb(n - a, b) * comb(n - a - b, c)
        for count, share in zip((a, b, c, d), chances, strict=True):
            chance *= share**count
        if chance:
            found = paired_points(*table(a, b, c, d))
            held += chance * (found["low"] <= truth <= found["high"])
    assert 0.93 < held < 0.995


def test_of_a_mean_both_are_as_wide_as_the_normal_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    half = student(399) * float(np.std(values, ddof=1)) / 20

    def mean(places: list[int]) -> float:
        return sum(values[i] for i in places) / len(places)

    for found, width in ((bootstrap(400, mean, draws=2000), 0.15), (jackknife(400, mean), 0.001)):
        assert found["value"] == pytest.approx(sum(values) / 400, abs=1e-4) and found["n"] == 400
        assert found["high"] - found["value"] == pytest.approx(half, rel=width, abs=1e-4)
        assert found["value"] - found["low"] == pytest.approx(half, rel=width, abs=1e-4)
    for interval in (bootstrap, jackknife):
        assert interval(1, lambda kept: 3.0) == {"value": 3.0, "low": None, "high": None, "n": 1}
        assert interval(0, lambda kept: 3.0)["value"] is None
    assert jackknife(3, lambda kept: 3.0 if len(kept) > 2 else None)["low"] is None


def test_student_is_as_in_the_tables() -> None:
    assert student(1) == pytest.approx(12.7062, abs=1e-4)
    known = {2: 4.3027, 3: 3.1824, 5: 2.5706, 11: 2.2010, 23: 2.0687, 63: 1.9983, 255: 1.9693}
    assert {n: student(n) for n in known} == pytest.approx(known, rel=0.01)
    assert {n: student(n) for n in known if n > 4} == pytest.approx({n: t for n, t in known.items() if n > 4}, rel=2e-4)


def test_a_medians_interval_covers_it_as_often_as_it_says() -> None:
    assert median([3.0, 1.0, 2.0]) == {"value": 2.0, "low": None, "high": None, "n": 3}
    assert median(range(10)) == {"value": 4.5, "low": 1, "high": 8, "n": 10}  # ranks 2 and 9, as in the tables
    assert median([])["value"] is None
    drawn = torch.randn(400, 12, generator=torch.Generator().manual_seed(5)).exp()  # skewed, around a median of 1
    told = [median(row.tolist()) for row in drawn]
    assert sum(x["low"] <= 1 <= x["high"] for x in told) >= 0.95 * 400


def test_the_jackknife_of_a_difference_of_distances_covers_the_truth() -> None:
    """Of 40 pairs of models that are alike, fed with the same scenes, most intervals hold 0; of unlike ones few do."""
    random = torch.Generator().manual_seed(4)
    holds = {0.0: 0, 1.0: 0}
    for worse, _ in product(holds, range(40)):
        truth, *noise = torch.randn(3, 16, 6, generator=random)
        a, b = (truth * 0.8 + 0.3 * x + shift for x, shift in zip(noise, (0.0, worse), strict=True))

        def difference(
            kept: Sequence[int], a: torch.Tensor = a, b: torch.Tensor = b, of: torch.Tensor = truth
        ) -> float:
            places = list(kept)
            return frechet_distance(b[places], of[places]) - frechet_distance(a[places], of[places])

        told = jackknife(16, difference)
        holds[worse] += told["low"] <= 0 <= told["high"]
    assert holds[0.0] >= 36 and holds[1.0] <= 4


def test_the_jackknife_of_a_distance_holds_its_value_where_the_bootstrap_does_not() -> None:
    random = torch.Generator().manual_seed(2)
    made, truth = torch.randn(40, 12, generator=random) + 0.2, torch.randn(40, 12, generator=random)

    def distance(kept: list[int]) -> float:
        return frechet_distance(made[list(kept)], truth[list(kept)])

    found, drawn = jackknife(40, distance), bootstrap(40, distance, draws=60)
    assert found["low"] < found["value"] < found["high"]
    assert drawn["low"] > drawn["value"]  # captions that are there twice


def test_an_interval_of_a_ratio_stays_above_0_and_turns_with_it() -> None:
    made, plain = [9.0, 0.1, 0.2, 0.3, 0.2], [1.0, 2.0, 1.5, 1.2, 1.0]

    def ratio(a: list[float], b: list[float]) -> dict:
        return jackknife_of_ratio(5, lambda kept: sum(a[i] for i in kept) / sum(b[i] for i in kept))

    found, turned = ratio(made, plain), ratio(plain, made)
    assert found["value"] == pytest.approx(9.8 / 6.7, rel=1e-3) and 0 < found["low"] < found["value"] < found["high"]
    assert turned["low"] == pytest.approx(1 / found["high"], rel=1e-2, abs=5e-5)
    assert jackknife(5, lambda kept: sum(made[i] for i in kept) / sum(plain[i] for i in kept))["low"] < 0
    assert jackknife_of_ratio(3, lambda kept: 0.0)["value"] is None
