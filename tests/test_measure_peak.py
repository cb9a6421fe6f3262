"""A machine's peak: the best of a stage's shapes, and how often an operation is timed.

No test looks at how long anything took.
"""

from __future__ import annotations

import time

import pytest
import torch

from mpl.measure import peak
from mpl.measure.peak import Peaks, Shape, Speed


def test_a_stages_peak_is_the_best_of_its_own_shapes():
    shapes = [Shape("superres", 8, 16, 4, 4), Shape("superres", 8, 32, 2, 2), Shape("keyframes", 8, 32, 2, 2)]
    speeds = tuple(Speed(shape, "convolution", "float32", 10.0 + i) for i, shape in enumerate(shapes))
    found = Peaks(speeds, 5.0)
    assert found.best("superres", "convolution", torch.float32) == 11.0
    assert found.best("superres", "matmul", torch.float32) is None


@pytest.mark.parametrize("enough, calls", [(60.0, 2 + peak.TIMINGS), (0.0, 3)])
def test_calls_that_take_long_are_timed_twice(enough, calls, monkeypatch):
    monkeypatch.setattr(peak, "SPELL", 1e-4)
    monkeypatch.setattr(peak, "ENOUGH", enough)
    made = []

    def call() -> None:
        made.append(time.sleep(0.001))

    assert peak.best_seconds(call, torch.device("cpu")) > 0
    assert len(made) == calls  # the first, untimed, among them
