"""What the page shows for each event, how it counts time, what its form accepts, and who owns which files."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.config import STAGES, Preset, from_dict
from mpl.events import (
    Event,
    Failed,
    Finished,
    Notice,
    StageFinished,
    StageKept,
    StageStarted,
    StageStep,
    Stopped,
    TextEncoded,
)
from mpl.recipe import write_files
from mpl.ui import pictures
from mpl.ui.desk import Desk
from mpl.ui.form import KNOBS, Presets, example_prompts, knobs, read
from mpl.ui.generate import EMPTY, Watch
from mpl.ui.pace import Pace
from mpl.ui.panels import Panel
from mpl.ui.pictures import Shelf, strip
from mpl.ui.showcase import read_showcase, write_showcase
from mpl.ui.visitors import Visitors
from mpl.video import read_video

UI = Path(__file__).resolve().parent.parent / "mpl" / "ui"
FRAMES = np.arange(4 * 8 * 16 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 8, 16, 3)


class FakeEngine:
    """Plays stages without models: three steps each, previews, and files in `folder`."""

    def __init__(self, folder: Path, fail: Exception | None = None) -> None:
        self.folder, self.fail, self.closed, self.steps = folder, fail, False, 3

    def missing(self, preset: Preset) -> str | None:
        return None

    def run(self, prompt: str, preset: Preset, seed: int, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        if prompt == "nonsense":
            raise ValueError("weights.keyframes: not on this machine")
        return self._events(prompt, seed, stop)

    def _events(self, prompt: str, seed: int, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        recipe: dict[str, Any] = {"seed": seed, "stages": {}}
        try:
            yield TextEncoded(prompt, (), 0.1, False)
            for number, stage in enumerate(STAGES, 1):
                yield StageStarted(stage, number, 4)
                for i in range(1, self.steps + 1):
                    yield StageStep(stage, i, self.steps, 500, float(i), float(self.steps - i), i, FRAMES)
                    if self.fail and number == 2:
                        raise self.fail
                    if stop() and i < self.steps:
                        file = self._write(recipe) if recipe["stages"] else None
                        yield Stopped(stage, i, self.steps, file, recipe)
                        return
                recipe["stages"][stage] = {"seconds": float(self.steps)}
                yield StageFinished(stage, FRAMES, 8.0, float(self.steps), self.steps, 0.1, {})
            yield Finished(self._write(recipe), recipe)
        finally:
            self.closed = True

    def _write(self, recipe: dict[str, Any]) -> str:
        return str(write_files(self.folder / "out", "video", FRAMES, 8.0, recipe, ("mp4",)))


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path)


@pytest.fixture
def desk(engine: FakeEngine, tmp_path: Path) -> Desk:
    return Desk(engine, Preset(), tmp_path / "served")  # type: ignore[arg-type]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(Preset(), Shelf(tmp_path), Pace())


def form(**changes: Any) -> dict[str, Any]:
    """The form as a browser sends it."""
    values = {key: float(value) for key, value in knobs(Preset()).items() if key in KNOBS}
    return {"prompt": "a red car", "seed": 5, "preset": "storybook", "no_noise": False, **values, **changes}


def state(html: str) -> str:
    return html.split('data-state="')[1].split('"')[0]


# ---- a run


def test_panels_fill_in_order_and_files_come_last(desk: Desk) -> None:
    asked = desk.ask("ann", form())
    assert asked["busy"] and asked["ticket"] and state(asked["keyframes"]) == "waiting"
    seen: list[str] = []
    files: dict[str, Any] = {}
    for changes in desk.make("ann"):
        for stage in STAGES:
            if stage in changes and f"{stage} {state(changes[stage])}" not in seen:
                seen.append(f"{stage} {state(changes[stage])}")
        files |= {name: changes[name] for name in ("video", "recipe") if changes.get(name)}
        last = changes
    order = [f"{stage} {now}" for stage in STAGES for now in ("running", "done")]
    assert [entry for entry in seen if not entry.endswith("waiting")] == order
    assert len(read_video(files["video"])) == 4 and files["recipe"].suffix == ".json"
    assert last == {"busy": False}


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
    recipe = {"seed": 3, "stages": {"keyframes": {"seconds": 0.0}, "interpolation": {"seconds": 2.0}}}
    html = watch.show(StageKept("keyframes", FRAMES, 2.0, 61.0, 20, {}))["keyframes"]
    assert state(html) == "kept" and "took\u00a01\u00a0min\u00a001\u00a0s\u00a0earlier" in html
    html = watch.show(StageFinished("superres", FRAMES, 8.0, 2.0, 8, 1.0, {"snr": 5.5, "noise_level": 250}))["superres"]
    assert state(html) == "done" and "noise\u00a0level\u00a0250" in html
    done = watch.show(Finished(None, recipe))
    assert "seed 3 · 1 of 4 stages kept" in done["progress"] and 'aria-valuenow="100"' in done["progress"]


def test_stop_says_where_and_hands_out_what_is_finished(desk: Desk) -> None:
    desk.ask("ann", form())
    shown: dict[str, Any] = {}
    for changes in desk.make("ann"):
        shown |= changes
        if "interpolation" in changes and state(changes["interpolation"]) == "running":
            desk.stop("ann")
    assert state(shown["interpolation"]) == "stopped" and "<img" in shown["interpolation"]
    assert "Stopped in Interpolation after step 1 of 3" in shown["progress"] and "seed 5" in shown["progress"]
    assert state(shown["keyframes"]) == "done" and state(shown["superres"]) == "waiting"
    assert shown["video"].is_file() and shown["busy"] is False


def test_one_visitor_does_not_stop_another(desk: Desk) -> None:
    for visitor in ("ann", "bob"):
        desk.ask(visitor, form())
    desk.stop("ann")
    states = {visitor: [changes.get("progress", "") for changes in desk.make(visitor)] for visitor in ("bob", "ann")}
    assert any("Done in" in text for text in states["bob"])
    assert "Stopped before it began" in states["ann"][0]


def test_a_run_of_ones_own_is_waited_for(desk: Desk) -> None:
    desk.ask("ann", form())
    run = desk.make("ann")
    next(run)
    assert "still going on" in desk.ask("ann", form())["notices"]
    run.close()
    assert desk.ask("ann", form())["busy"]
    assert list(desk.make("nobody")) == []


def test_closing_the_page_ends_the_run_and_takes_files_down(desk: Desk, engine: FakeEngine) -> None:
    desk.ask("ann", form())
    run = desk.make("ann")
    shelf = None
    for changes in run:
        if "interpolation" in changes and state(changes["interpolation"]) == "running":
            shelf = next(desk.folder.iterdir())
            desk.leave("ann")
            break
    run.close()
    assert engine.closed and shelf is not None and not shelf.exists()


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
    shown: dict[str, Any] = {}
    for changes in desk.make("ann"):
        shown |= changes
    assert words in shown["notices"] and 'role="alert"' in shown["notices"] and "/root" not in shown["notices"]
    assert state(shown["interpolation"]) == "failed" and state(shown["keyframes"]) == "done"
    assert shown["busy"] is False and engine.closed


def test_missing_weights_and_failed_runs_are_one_message(desk: Desk, watch: Watch) -> None:
    desk.ask("ann", form(prompt="nonsense"))
    assert any("not on this machine" in changes.get("notices", "") for changes in desk.make("ann"))
    watch.show(Notice("a word"))
    said = watch.show(Failed("Out of memory on cpu.\nTry less."))["notices"]
    assert said.index("a word") < said.index("Out of memory on cpu.<br>Try less.")


def test_nothing_from_a_prompt_becomes_html(watch: Watch) -> None:
    said = watch.show(Notice("the word '<img src=x onerror=alert(1)>'"))["notices"]
    assert "<img" not in said and "&lt;img" in said
    assert "<b>" not in Panel("keyframes", "done", "<b>").html()


# ---- time


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


# ---- form


def test_form_becomes_a_preset() -> None:
    ask = read(" a  red car ", 7.0, Preset(), {"translation.cap": 800.0, "translation.strength": 1, "superres.snr": 2})
    assert (ask.prompt, ask.seed) == ("a red car", 7)
    assert (ask.preset.translation.cap, ask.preset.translation.strength, ask.preset.superres.snr) == (800, 1.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 10_000}, "10000 characters"),
        ({"seed": None}, "seed ="),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": -1}, "seed = -1"),
        ({"translation.strength": 1.5}, "translation.strength = 1.5: must be a number above 0 to 1"),
        ({"translation.cap": 0}, "translation.cap = 0"),
        ({"superres.snr": -2}, "superres.snr = -2"),
        ({"keyframes.steps": None}, "keyframes.steps"),
        ({"keyframes.steps": 2.5}, "must be a whole number from 1 to 1000"),
        ({"preset": "/etc/passwd"}, "must be one of"),
    ],
)
def test_bad_input_is_one_clear_message(desk: Desk, changes: dict[str, Any], words: str) -> None:
    answer = desk.ask("ann", form(**changes))
    assert set(answer) == {"notices"} and words in answer["notices"] and 'role="alert"' in answer["notices"]


def test_presets_are_offered_by_name_alone(tmp_path: Path) -> None:
    presets = Presets(from_dict({"name": "mine"}))
    assert presets.names[0] == "mine" and "quick" in presets.names
    assert presets.get("mine").name == "mine" and presets.get("quick").name == "quick"
    (tmp_path / "other.toml").write_text('name = "other"')
    with pytest.raises(ValueError, match="must be one of"):
        presets.get(str(tmp_path / "other.toml"))


def test_no_noise_is_the_end_of_the_slider() -> None:
    values = knobs(from_dict({"superres": {"snr": "inf"}}))
    assert values["no_noise"] and values["superres.snr"] == 30.0


def test_examples_are_in_the_models_words() -> None:
    from mpl.storybook.captions import VOCABULARY, tokens

    assert example_prompts()
    for prompt in example_prompts():
        assert set(tokens(prompt)) <= set(VOCABULARY), prompt


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


def test_shelf_writes_small_videos_enlarged_and_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    path = shelf.video(FRAMES, 8.0)
    assert read_video(path).shape == (4, 320, 576, 3)
    written = path.stat().st_ino
    assert shelf.video(FRAMES.copy(), 8.0) == path and path.stat().st_ino == written
    assert shelf.video(FRAMES, 2.0) != path
    shelf.clear()
    assert list(tmp_path.iterdir()) == []


def test_shelves_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "KEPT", 2)
    shelf = Shelf(tmp_path / "shelves")
    for number in range(4):
        (tmp_path / f"{number}.json").write_text("{}")
        os.utime(shelf.copy(tmp_path / f"{number}.json"), (number, number))
    shelf.prune()
    assert sorted(path.name for path in shelf.folder.iterdir()) == ["2.json", "3.json"]
    os.utime(shelf.folder, (0, 0))
    Shelf(tmp_path / "shelves")
    assert not shelf.folder.exists()  # nobody has come for a day


def test_visitors_who_leave_are_forgotten(tmp_path: Path) -> None:
    visitors = Visitors(tmp_path)
    ask = read("a car", 0, Preset(), {})
    visitors.ask("ann", ask)
    begun = visitors.begin("ann")
    assert begun is not None and begun[1] is ask and visitors.begin("ann") is None
    visitors.leave("ann")
    assert begun[0].stop.is_set()
    visitors.stop("ann")  # no longer there: nothing happens
    assert visitors.begin("ann") is None


# ---- rooms


def test_ui_imports_no_models() -> None:
    """Not by its own words, and not by way of others; only page and style know the toolkit."""
    forbidden = ("torch", "diffusers", "transformers", "mpl.weights", "mpl.models", "mpl.stages", "mpl.cascade")
    for path in UI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith(forbidden), f"{path.name} imports {name}"
                assert not name.startswith("gradio") or path.stem in ("page", "style"), f"{path.name} imports {name}"
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
