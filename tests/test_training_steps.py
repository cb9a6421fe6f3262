"""Single steps of the training loop: averages, the bound on gradients, the rate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_toys import ToyTask, toy_loop


def test_what_is_written_is_the_average(tmp_path: Path) -> None:
    loop = toy_loop(tmp_path, lr=0.1, ema=0.9)
    loop.train()
    stored = torch.load(tmp_path / "out/weights.pt")
    for last, value, average in zip(loop.trained, stored.values(), loop.ema.shadow_params, strict=True):
        torch.testing.assert_close(value, average)
        assert not torch.allclose(value, last)


def test_a_step_goes_as_far_as_the_schedule_and_the_bound_let_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = toy_loop(tmp_path, lr=0.01, max_steps=1000)
    rates = []
    for step in (0, 1000):  # the budget is spent: the rate has fallen to zero
        loop.progress.step = step
        loop.step()
        rates += [group["lr"] for optimizer in loop.optimizers for group in optimizer.param_groups]
    assert set(rates) == {0.01, 0.0}
    monkeypatch.setattr(ToyTask, "loss", lambda self, model, batch, generator: (1e6 * model(batch.x).sum(), {}))
    loop.step()
    norm = torch.stack([p.grad.norm() for p in loop.trained]).norm().item()
    assert norm == pytest.approx(loop.task.options.optimizer.clip, rel=1e-3)
