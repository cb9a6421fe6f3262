"""Where a call's time goes, by kinds of operators."""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from mpl.measure import operators


def test_the_time_of_a_call_is_shared_out_among_its_kinds_of_operators():
    matrix, cpu = torch.rand(800, 800), torch.device("cpu")
    runs = {
        "products": lambda: matrix @ matrix,
        "activations": lambda: F.gelu(matrix.repeat(4, 4)),
        "additions": lambda: matrix.repeat(4, 4).mul(3).add(3),
        operators.DISPATCH: lambda: time.sleep(0.02),
    }
    for kind, run in runs.items():
        found = operators.shares_of_time(run, cpu)
        assert set(found) == {*operators.KINDS, operators.DISPATCH} and sum(found.values()) == pytest.approx(1)
        assert max(found, key=found.__getitem__) == kind, (kind, found)
