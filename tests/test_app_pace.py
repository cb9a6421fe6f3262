"""How the page counts time: what was measured, what is left of a run, and what a full line comes to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from app_toys import FakeEngine, desk, engine, form  # noqa: F401  # fixtures

from mpl.config import STAGES, Preset, override
from mpl.ui.desk import Desk
from mpl.ui.duel import Duel
from mpl.ui.pace import Pace


def test_what_was_measured_survives_a_restart(tmp_path: Path) -> None:
    pace, preset = Pace(tmp_path / "pace.json"), Preset()
    assert pace.expected(preset) is None
    for stage in STAGES:
        pace.measured(preset, stage, 2.5)
    again = Pace(tmp_path / "pace.json")
    assert again.expected(preset) == 10.0
    assert again.expected(override(preset, {"superres.steps": 99})) is None
    assert again.expected(override(preset, {"keyframes.frames": 16})) is None
    assert again.expected(override(preset, {"upsampling.steps": 99})) == 10.0  # of a stage that the preset has not
    assert again.expected(preset, STAGES[2:]) == 5.0
    again.measured(preset, "translation", 80.0, frames=240)  # of somebody's own clip
    assert again.expected(preset) == 10.0 and again.run(preset, own_clip=True).known["translation"] is None
    (tmp_path / "pace.json").write_text("{broken")
    assert Pace(tmp_path / "pace.json").expected(preset) is None


def test_progress_is_weighted_by_measured_seconds() -> None:
    pace, preset = Pace(), Preset()
    for stage, seconds in zip(STAGES, (1.0, 1.0, 2.0, 4.0), strict=True):
        pace.measured(preset, stage, seconds)
    clock = pace.run(preset)
    clock.end("keyframes", 5.0, measured=False)  # kept: costs nothing now
    assert clock.fraction() == 0.0
    clock.begin("interpolation")
    clock.end("interpolation", 1.0, measured=True)
    clock.begin("superres")
    clock.step(0.5, 1.0, 1.0)
    assert clock.fraction() == pytest.approx(2 / 7) and clock.seconds_left() == pytest.approx(5.0)


def test_time_left_is_unknown_until_something_is_measured() -> None:
    clock = Pace().run(Preset())
    clock.begin("keyframes")
    clock.step(0.1, 1.0, None)
    assert clock.seconds_left() is None and clock.fraction() == pytest.approx(0.01)
    clock.step(0.5, 2.0, 2.0)  # 4 s for a tenth of the cost
    assert clock.seconds_left() == pytest.approx(2 + 36)


def test_a_full_line_counts_its_seconds_from_what_it_knows(
    desk: Desk, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody who waits asks for all jobs before their own, several times a second, and is told what is true now."""
    engine.held, now = True, [1000.0]
    monkeypatch.setattr("mpl.ui.line.time", SimpleNamespace(monotonic=lambda: now[0]))
    desk.line.grace = 1e9
    desk.ask("ann", form())
    Duel(desk).ask("bob", "a red car", 5, {}, key="expert")
    desk.ask("cem", form())
    assert engine.reached.wait(30)
    last = desk.line.job("cem")
    assert last is not None and desk.line.ahead(last) == (2, None)
    for stage in STAGES:
        desk.pace.measured(Preset(), stage, 10.0)
    with monkeypatch.context() as patch:
        patch.setattr("mpl.ui.pace.digest", lambda *_: pytest.fail("options are digested once"))
        for passed, left in ((0.0, 110.0), (30.0, 80.0), (60.0, 70.0)):  # 11 stages; late ones are not counted at all
            now[0] += passed
            assert desk.line.ahead(last) == (2, left)
    desk.stop("bob")
    engine.free.set()
    assert last.over.wait(30)
