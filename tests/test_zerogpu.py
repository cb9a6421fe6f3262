"""The ZeroGPU engine, with a stand-in for Hugging Face's package: what passes between its processes is pickled."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mpl.config import Preset
from mpl.engine import Ask
from mpl.events import Finished, StageStep, Stopped
from mpl.recipe import Files
from mpl.store import StageCache
from mpl.video import read_video
from mpl.zerogpu import ZeroGpuEngine, eager, import_spaces


@pytest.fixture
def spaces() -> ModuleType:
    """`spaces.GPU` as it is on such a Space, but for the other process."""
    module = ModuleType("spaces")
    module.asked, module.refuses = [], False  # type: ignore[attr-defined]

    def gpu(duration: Callable[..., int]) -> Callable[[Any], Any]:
        def lent(task: Any) -> Any:
            def call(*args: Any) -> Iterator[Any]:
                module.asked.append(duration(*args))  # type: ignore[attr-defined]
                if module.refuses:  # type: ignore[attr-defined]
                    raise RuntimeError("You have exceeded your quota.")
                for result in task(*pickle.loads(pickle.dumps(args))):
                    yield pickle.loads(pickle.dumps(result))

            return call

        return lent

    module.GPU = gpu  # type: ignore[attr-defined]
    return module


@pytest.fixture
def engine(preset: Preset, spaces: ModuleType, tmp_path: Path) -> ZeroGpuEngine:
    return ZeroGpuEngine(StageCache(tmp_path / "stages"), preset, spaces, seconds=77)


def test_models_are_loaded_at_the_start(engine: ZeroGpuEngine, preset: Preset) -> None:
    assert {"text", "clip", "keyframes", "interpolation", "superres", "translation", "vae"} <= set(
        engine.machine(preset).loaded
    )


def test_a_run_comes_back_event_by_event(engine: ZeroGpuEngine, preset: Preset, tmp_path: Path) -> None:
    events = list(engine.run(Ask("a red car", preset, 3), Files(tmp_path, name="made"), lambda: False))
    assert isinstance(events[-1], Finished) and len(read_video(events[-1].file)) == 29
    assert any(isinstance(event, StageStep) for event in events)


def test_stop_reaches_the_other_process(engine: ZeroGpuEngine, preset: Preset, tmp_path: Path) -> None:
    steps: list[Any] = []
    events = engine.run(Ask("a red car", preset, 4), Files(tmp_path), lambda: bool(steps))
    for event in events:
        steps += [event] if isinstance(event, StageStep) else []
    assert isinstance(event, Stopped) and len(steps) <= 2  # within one step


def test_a_comparison_comes_back_too(engine: ZeroGpuEngine, preset: Preset, tmp_path: Path, spaces: ModuleType) -> None:
    arms = {name: Ask("a red car", preset, 5, stop_after=stop) for name, stop in (("a", "keyframes"), ("b", None))}
    ends = [name for name, event in engine.compare(arms, Files(tmp_path), lambda: False) if isinstance(event, Finished)]
    assert ends == ["a", "b"] and spaces.asked == [2 * 77]  # type: ignore[attr-defined]


def test_no_gpu_is_one_sentence(engine: ZeroGpuEngine, preset: Preset, tmp_path: Path, spaces: ModuleType) -> None:
    spaces.refuses = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"No GPU.* exceeded your quota\. Try again later"):
        list(engine.run(Ask("a red car", preset, 3), Files(tmp_path), lambda: False))
    assert spaces.asked == [77]  # type: ignore[attr-defined]


def test_bad_input_is_said_as_everywhere(engine: ZeroGpuEngine, preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        list(engine.run(Ask(" ", preset, 3), Files(tmp_path), lambda: False))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what the platform does
def test_what_is_locked_as_the_process_begins_is_free_there(
    engine: ZeroGpuEngine, preset: Preset, tmp_path: Path
) -> None:
    weights = engine._of(preset)

    def there() -> None:
        (said,) = engine._there("run", Ask("", preset, 3), Files(tmp_path), tmp_path / "stop")
        assert "prompt" in str(said)
        weights.release()

    def hold() -> None:
        with engine._lock, weights._lock, weights._reading:
            held.set()
            free.wait()

    held, free = threading.Event(), threading.Event()
    holder = threading.Thread(target=hold, daemon=True)
    process = multiprocessing.get_context("fork").Process(target=there)
    holder.start()
    held.wait()
    process.start()
    free.set()
    process.join(60)
    process.kill()
    assert process.exitcode == 0


def test_missing_weights_are_said_before_the_page_opens(preset: Preset, spaces: ModuleType, tmp_path: Path) -> None:
    lacking = replace(preset, weights=replace(preset.weights, keyframes=str(tmp_path / "none")))
    with pytest.raises(ValueError, match=r"weights\.keyframes"):
        ZeroGpuEngine(None, lacking, spaces)


def test_the_platform_wants_models_on_the_gpu(preset: Preset) -> None:
    weights = eager(preset).weights
    assert (weights.offload, weights.device) == ("none", "cuda")


def test_without_the_package_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(ValueError, match="needs the package spaces"):
        import_spaces()


@pytest.mark.parametrize("seconds", ["0", "two", "1e3", "4000"])
def test_seconds_that_nobody_lends_are_refused(
    preset: Preset, spaces: ModuleType, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    from app import open_engine

    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv("MPL_GPU_SECONDS", seconds)
    with pytest.raises(ValueError, match="MPL_GPU_SECONDS = .*must be a whole number from 1 to 3600"):
        open_engine("zerogpu", preset, None, False)
