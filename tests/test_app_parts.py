"""What the page shows for each event, and who owns which files."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_toys import ASK, FRAMES, FakeEngine, desk, engine, follow, form, state, watch  # noqa: F401  # fixtures

from mpl.config import STAGES, Preset, override
from mpl.engine import Ask, Engine
from mpl.events import (
    Failed,
    Finished,
    Notice,
    StageFinished,
    StageKept,
    StageStarted,
    StageStep,
)
from mpl.recipe import Files
from mpl.ui.cards import act
from mpl.ui.desk import SOON, STOPPING, Desk
from mpl.ui.duel import Duel
from mpl.ui.form import example_prompts
from mpl.ui.generate import EMPTY, Watch
from mpl.ui.pace import Pace
from mpl.ui.panels import Panel
from mpl.ui.pictures import strip
from mpl.ui.showcase import read_showcase, write_showcase
from mpl.video import read_recipe, read_video

TOOLKIT = ("api", "compare", "create", "page", "rate", "runs", "style")  # the files that know Gradio
UI = Path(__file__).resolve().parent.parent / "mpl" / "ui"


# ---- a run


def test_panels_fill_in_order_and_files_come_last(watch: Watch, engine: FakeEngine, tmp_path: Path) -> None:
    seen: list[str] = []
    for changes in watch.changes(engine.run(ASK, Files(tmp_path, name="a"), lambda: False)):
        for stage in STAGES:
            if stage in changes and f"{stage} {state(changes[stage])}" not in seen:
                seen.append(f"{stage} {state(changes[stage])}")
    assert seen == [f"{stage} {now}" for stage in STAGES for now in ("running", "done")]
    assert 'href="files/' in changes["downloads"] and "/a.mp4" in changes["downloads"]
    assert "/a.mp4" in changes["translation"]


def test_a_run_can_be_asked_for_left_and_found_again(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    asked = desk.ask("ann", form(metadata=False))
    assert asked["busy"] and asked["ticket"] and state(asked["keyframes"]) == "waiting"
    assert engine.reached.wait(30)
    opened = desk.arrive("ann", {})
    assert opened["ticket"] and (opened["prompt"], opened["seed"]) == ("a red car", 5)
    assert opened["metadata"] is False  # who wanted no recipe in the video is not to be surprised
    linked = desk.arrive("ann", {"prompt": "a blue boat", "seed": "8"})
    assert linked["ticket"] and (linked["prompt"], linked["seed"]) == ("a blue boat", 8)
    assert asyncio.run(anext(desk.follow("ann")))["busy"] is True
    engine.free.set()
    shown = follow(desk, "ann")
    assert {state(shown[stage]) for stage in STAGES} == {"done"} and shown["busy"] is False
    [record] = desk.history.runs("ann")
    assert len(read_video(record.video)) == 4 and record.recipe["seed"] == 5
    assert record.id in shown["downloads"] and read_recipe(record.video) is None
    assert "ticket" not in desk.arrive("bob", {})
    assert asyncio.run(anext(desk.follow("bob"))) == {"busy": False}
    assert desk.history.runs("bob") == [] and desk.history.run("bob", record.id) is None


def test_a_deleted_run_is_not_shown_any_more(desk: Desk) -> None:
    for seed in ("5", "6"):
        desk.ask("ann", form(seed=seed))
        follow(desk, "ann")
    last, first = desk.history.runs("ann")
    assert set(act(desk, "ann", {"act": "delete", "run": first.id})) == {"runs"}
    assert last.id in follow(desk, "ann")["downloads"]
    emptied = act(desk, "ann", {"act": "delete", "run": last.id})
    assert emptied | EMPTY == emptied and "ticket" not in desk.arrive("ann", {})
    assert follow(desk, "ann") == {"busy": False}


def test_a_page_that_is_not_open_yet_is_asked_to_wait(desk: Desk) -> None:
    said = desk.ask(None, form())
    assert SOON in said["notices"] and "busy" not in said and desk.line.job(None) is None


def test_a_history_that_cannot_be_pruned_is_said_on_the_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(desk.history, "prune", refuse)
    desk.ask("ann", form())
    shown = follow(desk, "ann")
    assert "No space left on device" in shown["notices"] and shown["busy"] is False


def test_a_preset_that_the_machine_cannot_hold_opens_the_page_all_the_same(tmp_path: Path) -> None:
    preset = override(Preset(), {"weights.device": "cuda:7"})
    desk = Desk(Engine(), preset, tmp_path)
    opened, said = desk.arrive(None, {}), desk.settle(form(preset=preset.name))
    assert opened["visitor"] and opened["busy"] is False and opened["notices"] == ""
    assert "cuda:7" in said["notices"] and said["machine"] == ""


def test_the_recipe_can_stay_out_of_the_video(desk: Desk) -> None:
    desk.ask("ann", form(metadata=False))
    follow(desk, "ann")
    assert read_recipe(desk.history.runs("ann")[0].video) is None


def test_no_message_leaves_out_the_buttons_and_the_last_says_all_again(desk: Desk, engine: FakeEngine) -> None:
    """What a message lacks, a slow browser never shows: the toolkit changes messages in place."""
    engine.held = True
    desk.ask("ann", form())
    assert engine.reached.wait(30)

    async def collect() -> list[dict[str, Any]]:
        said = []
        async for changes in desk.follow("ann"):
            said.append(changes)
            if len(said) == 1:
                desk.stop("ann")
            if said[-1]["busy"] == STOPPING:
                engine.free.set()
        return said

    said = asyncio.run(collect())
    busy = [changes["busy"] for changes in said]
    assert busy[0] is True and set(busy[1:-1]) == {STOPPING} and busy[-1] is False
    assert set(said[-1]) == {*EMPTY, "busy"} - {"notices"}  # nothing was noticed


def test_those_who_wait_are_told_their_place(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    for visitor in ("ann", "bob", "cem"):
        desk.ask(visitor, form())
    assert engine.reached.wait(30)

    async def first() -> dict[str, Any]:
        return await anext(desk.follow("cem"))

    assert "Waiting: 2 before you" in asyncio.run(first())["progress"]
    for stage in STAGES:
        desk.pace.measured(Preset(), stage, 10.0)
    assert "about 1 min 20 s until yours begins" in asyncio.run(first())["progress"]
    desk.stop("bob")
    running = desk.line.job("ann")
    assert running is not None
    running.start -= 100.0  # longer than it should take: nobody knows how much longer
    shown = asyncio.run(first())["progress"]
    assert "Waiting: 1 before you" in shown and "until yours begins" not in shown
    engine.free.set()
    assert "Done in" in follow(desk, "cem")["progress"]


def test_who_stops_while_waiting_is_free_at_once_and_keeps_nobody_waiting(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    for visitor in ("ann", "bob", "cem"):
        desk.ask(visitor, form())
    assert engine.reached.wait(30)
    desk.stop("bob")
    shown = follow(desk, "bob")
    assert "Stopped before it began." in shown["progress"] and shown["busy"] is False

    async def first() -> dict[str, Any]:
        return await anext(desk.follow("cem"))

    assert "Waiting: 1 before you" in asyncio.run(first())["progress"]
    desk.line.limit = 1
    assert "1 people" in desk.ask("bob", form())["notices"]
    desk.stop("cem")
    assert desk.ask("bob", form())["busy"]
    engine.free.set()
    assert "Done in" in follow(desk, "bob")["progress"] and desk.history.runs("cem") == []


def test_the_line_has_an_end(desk: Desk, engine: FakeEngine) -> None:
    engine.held, desk.line.limit = True, 2
    desk.ask("ann", form())
    assert engine.reached.wait(30)
    assert desk.ask("bob", form())["busy"] and desk.ask("cem", form())["busy"]
    assert "2 people are waiting" in desk.ask("dan", form())["notices"]
    engine.free.set()


def test_programs_wait_in_the_same_line(desk: Desk, engine: FakeEngine) -> None:
    done = asyncio.run(desk.call(ASK))
    assert done.file and len(read_video(done.file)) == 4
    with pytest.raises(ValueError, match="not on this machine"):
        asyncio.run(desk.call(Ask("nonsense", Preset(), 0)))
    engine.fail = RuntimeError("a secret place: /root")
    with pytest.raises(RuntimeError, match="in the program itself"):
        asyncio.run(desk.call(ASK))


def test_steps_show_progress_time_and_previews(watch: Watch) -> None:
    watch.show(StageStarted("keyframes", 1, 4))
    changes = watch.show(StageStep("keyframes", 5, 10, 500, 4.0, 4.0, 5, FRAMES))
    assert "step 5 of 10" in changes["progress"] and "about 1 min 16 s left" in changes["progress"]
    assert 'class="strip pixels"' in changes["keyframes"] and 'aria-valuenow="5"' in changes["progress"]
    assert set(watch.show(StageStep("keyframes", 6, 10, 400, 5.0, 3.0, 6))) == {"progress"}
    watch.show(StageStarted("translation", 4, 4))
    sketch = watch.show(StageStep("translation", 1, 2, 400, 1.0, None, 1, FRAMES))["translation"]
    assert 'class="strip"' in sketch


def test_kept_stages_say_so_and_cost_nothing(watch: Watch, tmp_path: Path) -> None:
    recipe = {"prompt": "x", "seed": 3, "stages": {"keyframes": {"seconds": 0.0}, "interpolation": {"seconds": 2.0}}}
    html = watch.show(StageKept("keyframes", FRAMES, 2.0, 61.0, 20, 0.5, {}))["keyframes"]
    assert state(html) == "kept" and "took\u00a01\u00a0min\u00a001\u00a0s\u00a0earlier" in html
    html = watch.show(StageFinished("superres", FRAMES, 8.0, 2.0, 8, 1.0, {"snr": 5.5, "noise_level": 250}))["superres"]
    assert state(html) == "done" and "noise\u00a0level\u00a0250" in html
    done = watch.show(Finished(None, recipe))
    assert "seed 3 · 1 of 4 stages kept" in done["progress"] and 'aria-valuenow="100"' in done["progress"]


def test_stop_says_where_and_hands_out_what_is_finished(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    desk.ask("ann", form())
    assert engine.reached.wait(30)
    desk.stop("ann")
    engine.free.set()
    shown = follow(desk, "ann")
    assert state(shown["interpolation"]) == "stopped" and "<img" in shown["interpolation"]
    assert "Stopped in Interpolation after step 1 of 3" in shown["progress"] and "seed 5" in shown["progress"]
    assert state(shown["keyframes"]) == "done" and state(shown["superres"]) == "waiting"
    assert ".mp4" in shown["downloads"] and shown["busy"] is False


def test_one_visitor_does_not_stop_another(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    for visitor in ("eve", "ann", "bob"):
        desk.ask(visitor, form())
    desk.stop("ann")
    engine.free.set()
    assert "Done in" in follow(desk, "bob")["progress"]
    assert "Stopped before it began" in follow(desk, "ann")["progress"]
    desk.stop("nobody")
    assert follow(desk, "nobody") == {"busy": False}


def test_a_run_of_ones_own_is_waited_for(desk: Desk, engine: FakeEngine) -> None:
    engine.held = True
    desk.ask("ann", form())
    again = desk.ask("ann", form())
    assert "still going on" in again["notices"]
    assert again["ticket"] and again["busy"] is True  # asked in another window, which shows it from now on
    elsewhere = Duel(desk).ask("ann", "a red car", 5, {}, key="expert")
    assert elsewhere["notices"].count("It is on the tab Create.") == 1 and "ticket" not in elsewhere
    engine.free.set()
    follow(desk, "ann")
    assert desk.ask("ann", form())["busy"]


def test_a_run_that_nobody_looks_at_ends(desk: Desk, engine: FakeEngine) -> None:
    engine.held, desk.line.grace = True, 0.05
    desk.ask("ann", form())
    assert engine.reached.wait(30)
    job = desk.line.job("ann")
    assert job is not None
    while not job.stopping():
        pass
    engine.free.set()
    assert job.over.wait(30) and engine.closed
    assert "Stopped in Interpolation" in follow(desk, "ann")["progress"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "Is the disk full?"),
        (RuntimeError("a secret place: /root"), "in the program itself (RuntimeError)"),
    ],
)
def test_failures_leave_the_page_usable(desk: Desk, engine: FakeEngine, error: Exception, words: str) -> None:
    engine.fail = error
    desk.ask("ann", form())
    shown = follow(desk, "ann")
    assert words in shown["notices"] and 'role="alert"' in shown["notices"] and "/root" not in shown["notices"]
    assert state(shown["interpolation"]) == "failed" and state(shown["keyframes"]) == "done"
    assert shown["busy"] is False and engine.closed


def test_missing_weights_and_failed_runs_are_one_message(desk: Desk, watch: Watch) -> None:
    desk.ask("ann", form(prompt="nonsense"))
    assert "not on this machine" in follow(desk, "ann")["notices"]
    watch.show(Notice("a word"))
    said = watch.show(Failed("Out of memory on cpu.\nTry less."))["notices"]
    assert said.index("a word") < said.index("Out of memory on cpu.<br>Try less.")


def test_nothing_from_a_prompt_becomes_html(watch: Watch) -> None:
    said = watch.show(Notice("the word '<img src=x onerror=alert(1)>'"))["notices"]
    assert "<img" not in said and "&lt;img" in said
    assert "<b>" not in Panel("keyframes", "done", "<b>").html()


def test_stages_before_a_given_video_are_not_run(tmp_path: Path) -> None:
    ask = Ask("a car", Preset(), 0, "superres", tmp_path / "some.mp4")
    watch = Watch(ask, lambda frames, fps: tmp_path, Pace())
    begun = watch.begin()
    assert [state(begun[stage]) for stage in STAGES] == ["given", "given", "waiting", "waiting"]
    watch.show(StageStarted("superres", 1, 2))
    half = watch.show(StageStep("superres", 5, 10, 500, 4.0, 4.0, 5))["progress"]
    assert 'aria-valuenow="25"' in half  # of stages 3 and 4, which cost the same


# ---- pictures and files


def test_strip_holds_frames_side_by_side() -> None:
    import base64
    import io

    from PIL import Image

    made = strip(FRAMES, 2.0)
    picture = Image.open(io.BytesIO(base64.b64decode(made.source.partition(",")[2])))
    assert np.array_equal(np.asarray(picture), np.concatenate(list(FRAMES), axis=1))  # nothing is lost
    assert (made.count, made.seconds, made.pixelated) == (4, 2.0, True)
    large = strip(np.zeros((29, 320, 576, 3), np.uint8), 8.0)
    assert large.count == 15 and large.source.startswith("data:image/jpeg") and not large.pixelated


def test_what_programs_made_is_pruned_as_well(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned: list[None] = []
    monkeypatch.setattr(desk.history, "prune", lambda: pruned.append(None))
    asyncio.run(desk.call(ASK))
    assert pruned


def test_ui_imports_no_models() -> None:
    """Not by its own words, and not by way of others; only some files know the toolkit."""
    forbidden = ("torch", "diffusers", "transformers", "mpl.weights", "mpl.models", "mpl.stages", "mpl.cascade")
    for path in UI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(forbidden), f"{path.name} imports {name}"
                assert not name.startswith("gradio") or path.stem in TOOLKIT, f"{path.name} imports {name}"
    code = "import sys, mpl.ui.desk; print(sorted({'torch', 'gradio'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=UI.parent.parent
    )
    assert done.stdout.strip() == "[]"


def test_the_empty_page_shows_every_part() -> None:
    assert {state(EMPTY[stage]) for stage in STAGES} == {"waiting"}
    assert 'role="progressbar"' in EMPTY["progress"] and "aria-live" in EMPTY["announcement"]


# ---- the shipped run


def test_a_shipped_run_comes_back_as_it_was_made(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), np.uint8)
    made = [StageFinished(stage, frames, 8, 1.0, 3, 0.1, {}) for stage in STAGES]
    write_showcase(tmp_path / "new", "a <red> car", 7, made)
    shown = read_showcase(tmp_path / "new")
    assert (shown.prompt, shown.seed) == ("a <red> car", 7)
    for stage in STAGES:
        picture = strip(frames, 8)
        assert state(shown.panels[stage]) == "shipped" and picture.source in shown.panels[stage]
        assert f"--count:{picture.count};--seconds:{picture.seconds:.2f}s" in shown.panels[stage]


def test_the_run_in_the_repository_is_small_and_in_the_models_words() -> None:
    shown = read_showcase()
    assert set(shown.panels) == set(STAGES)
    assert sum(len(panel) for panel in shown.panels.values()) < 600_000
    assert shown.prompt in example_prompts()
