"""Peaks of memory of a process: parts apart, the run's over all of them; and what the allocator keeps between."""

from __future__ import annotations

import platform
import sys

import psutil
import pytest
import torch

from mpl import memory as room
from mpl.memory import PeakMemory, give_back_memory, keep_freed_memory, main_memory_left

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux resets a process's peak")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
MEGABYTES = 300


def resident() -> float:
    """Of this process, in megabytes."""
    return psutil.Process().memory_info().rss / 1e6


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
    assert memory.of_run() == pytest.approx(high, rel=0.01)  # going over to another part takes some itself


@linux
def test_a_run_does_not_see_the_one_before() -> None:
    first = PeakMemory(torch.device("cpu"))
    take()
    high = first.of_run()
    assert PeakMemory(torch.device("cpu")).of_run() < high - 0.5 * MEGABYTES / 1000


@glibc
def test_what_a_run_has_freed_goes_back_at_its_end() -> None:
    memory = PeakMemory(torch.device("cpu"))
    before = resident()
    take()
    assert resident() > before + 0.9 * MEGABYTES
    memory.end()
    assert resident() < before + 0.1 * MEGABYTES


@glibc
def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    keep_freed_memory()
    give_back_memory()
    before = resident()
    take()
    assert resident() > before + 0.9 * MEGABYTES
    give_back_memory()
    assert resident() < before + 0.1 * MEGABYTES


def test_what_is_left_is_the_containers_where_that_has_a_bound(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(room, "_CONTAINER", tmp_path)
    assert main_memory_left() == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    for name, text in (("max", "5000000\n"), ("current", "3000000\n"), ("stat", "anon 1\ninactive_file 250000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert main_memory_left() == 2_250_000
    (tmp_path / "memory.max").write_text("max\n")
    assert main_memory_left() > 10**8
