"""What a training leaves beside its weights: the model card with its runs, and the curves."""

from __future__ import annotations

import json
from pathlib import Path

from training_toys import toy_loop

from mpl.training.report import curve_keys, draw_curves, write_card


def test_a_card_names_its_run_and_a_longer_budget_changes_its_row(tmp_path: Path) -> None:
    start = tmp_path / "elsewhere/first"
    start.mkdir(parents=True)
    (start / "history.json").write_text(json.dumps([{"steps": 9, "samples": 1, "minutes": 2.0, "loss": 0.5}]))
    named = {"preset": "/some/where/mine.toml", "seed": 7, "init_from": start}
    toy_loop(tmp_path, **named).train()
    rows = json.loads((tmp_path / "out/history.json").read_text())
    assert [row["steps"] for row in rows] == [9, 4]
    toy_loop(tmp_path, max_steps=6, preset="/some/where/mine.toml", seed=7).train()
    rows = json.loads((tmp_path / "out/history.json").read_text())
    assert [row["steps"] for row in rows] == [9, 6]
    card = (tmp_path / "out/README.md").read_text()
    assert (
        "train toy --preset where/mine.toml --minutes 1e+06 --seed 7 --max-steps 6 --init-from elsewhere/first" in card
    )
    assert str(tmp_path) not in card and "mpl/storybook" in card and "| 2 | toy | 6 |" in card
    toy_loop(tmp_path / "named", preset="ablations/latent").train()
    card = (tmp_path / "named/out/README.md").read_text()
    assert "--preset ablations/latent " in card and "`presets/training/ablations/latent.toml`" in card


def test_a_pause_is_no_drawing_in_the_card(tmp_path: Path) -> None:
    loop = toy_loop(tmp_path)
    (tmp_path / "work").mkdir(exist_ok=True)
    rows = [{"loss": 1.0, "step": step, "draw_seconds": seconds} for step, seconds in ((1, 5.0), (2, 7200.0))]
    (tmp_path / "work/log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loop.progress.seconds = 130.0
    write_card(tmp_path, loop.task, loop.progress, loop.run)
    assert json.loads((tmp_path / "history.json").read_text())[-1]["drawing's share of the time"] == 0.5


def test_curves_know_the_losses_of_all_rows(tmp_path: Path) -> None:
    rows = [{"minutes": 0.1, "loss": 1.0, "loss_degraded": 2.0}, {"minutes": 0.2, "loss": 1.0, "loss_sharp": 0.5}]
    assert curve_keys(rows) == ["loss", "loss_degraded", "loss_sharp"]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").stat().st_size > 0
