"""Where a call's time goes, by kinds of operators."""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from mpl.measure import operators


def test_the_time_of_a_call_is_shared_out_among_its_kinds_of_operators():
    matrix, maps, kernel = torch.rand(800, 800), torch.rand(1, 16, 512, 512), torch.rand(16, 16, 3, 3)
    cpu = torch.device("cpu")
    runs = {
        "convolutions": lambda: F.conv2d(maps, kernel, padding=1),
        "products": lambda: matrix @ matrix,
        "norms": lambda: F.group_norm(maps, 4),
        "activations": lambda: F.gelu(maps),
        "additions": lambda: maps.mul(3).add(3),
        "copies": lambda: maps.clone(),
        operators.DISPATCH: lambda: time.sleep(0.02),
    }
    for kind, run in runs.items():
        with torch.no_grad():
            found = operators.shares_of_time(run, cpu)
        assert set(found) == {*operators.KINDS, operators.DISPATCH} and sum(found.values()) == pytest.approx(1)
        assert max(found, key=found.__getitem__) == kind, (kind, found)
