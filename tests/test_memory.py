"""Peaks of memory of a process: parts apart, the run's over all of them."""

from __future__ import annotations

import sys

import pytest
import torch

from mpl.memory import PeakMemory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets a process's peak")
MEGABYTES = 300


def take() -> None:
    torch.ones(MEGABYTES * 250_000)  # 4 bytes each, touched and given back


@linux
def test_a_part_does_not_see_the_one_before() -> None:
    memory = PeakMemory(torch.device("cpu"))
    low = memory.of_part()
    memory.part()
    take()
    high = memory.of_part()
    memory.part()
    assert high > low + 0.9 * MEGABYTES / 1000
    assert memory.of_part() < high - 0.5 * MEGABYTES / 1000
    assert memory.of_run() == high


@linux
def test_a_run_does_not_see_the_one_before() -> None:
    first = PeakMemory(torch.device("cpu"))
    take()
    high = first.of_run()
    assert PeakMemory(torch.device("cpu")).of_run() < high - 0.5 * MEGABYTES / 1000
