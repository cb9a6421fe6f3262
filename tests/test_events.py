"""Events as their consumers use them: previews at the right moments, and the terminal's view of a run."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch

from mpl import events as event_room
from mpl import previews
from mpl.events import Failed, Finished, Notice, StageFinished, StageKept, StageStarted, StageStep
from mpl.previews import Previews, latents_to_frames
from mpl.terminal import RunFailed, Terminal, clock, figures
from mpl.video import to_frames

FRAMES = np.zeros((2, 8, 16, 3), np.uint8)
RECIPE = {"stages": {"keyframes": {"seconds": 1.5, "evaluations": 4}}, "peak_memory_gb": 0.5}


class Clock:
    """A clock on which a preview takes `cost` seconds."""

    def __init__(self, cost):
        self.now, self.cost, self.made = 0.0, cost, 0

    def perf_counter(self):
        return self.now

    def estimate(self):
        self.now += self.cost
        self.made += 1
        return torch.zeros(1, 3, 1, 2, 2)


def watch(monkeypatch, cost, step, steps):
    clock = Clock(cost)
    monkeypatch.setattr(previews, "time", clock)
    taker = Previews(latent_rgb=None)
    taken = [taker.take(clock.estimate, i * step) is not None for i in range(1, steps + 1)]
    return taker, taken, clock


def test_previews_come_at_most_twice_a_second(monkeypatch):
    _, taken, clock = watch(monkeypatch, cost=0.0001, step=0.1, steps=100)
    assert taken[0] and clock.made == 20  # 10 seconds


@pytest.mark.parametrize("cost", [0.05, 0.4, 3.0])
def test_previews_cost_at_most_a_twentieth_beyond_the_first(monkeypatch, cost):
    taker, taken, clock = watch(monkeypatch, cost=cost, step=0.5, steps=400)
    assert taken[0]
    assert taker.spent == pytest.approx(clock.made * cost)
    assert taker.spent <= max(0.05 * 200, cost)
    assert taker.spent >= 0.8 * min(0.05 * 200, 400 * cost)  # and use what they may


def test_latents_are_shown_by_a_linear_map():
    latents = torch.randn(1, 4, 2, 3, 5, generator=torch.Generator().manual_seed(0)) / 4
    factors, bias = np.eye(4, 3, dtype=np.float32), np.array([0, 0.25, 0], np.float32)
    shifted = latents[:, :3] + torch.tensor([0, 0.25, 0]).reshape(1, 3, 1, 1, 1)
    assert np.array_equal(latents_to_frames(latents, factors, bias), to_frames(shifted))
    taken = Previews(lambda: (factors, bias)).take(lambda: latents, 1.0)
    assert np.array_equal(taken, to_frames(shifted))


def test_events_are_frozen_and_do_not_print_their_pixels():
    for name in event_room.Event.__args__:
        assert dataclasses.is_dataclass(name) and name.__dataclass_params__.frozen
    event = StageKept("keyframes", FRAMES, 2.0, 1.0, 4, 0.5, {})
    assert "frames=" not in repr(event)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.stage = "superres"


class Screen(io.StringIO):
    def isatty(self):
        return True


def story():
    yield Notice("something")
    yield StageStarted("keyframes", 1, 4)
    yield StageStep("keyframes", 1, 2, 999, 1.0, None, 2)
    yield StageStep("keyframes", 2, 2, 500, 66.0, 65.4, 4)
    yield StageFinished("keyframes", FRAMES, 2.0, 66.0, 4, 0.5, {"noise_level": 250})
    yield StageKept("superres", FRAMES, 8.0, 1.0, 4, 0.5, {})


def test_the_terminal_shows_bars_on_a_screen_and_lines_elsewhere():
    end = Finished("v.mp4", RECIPE)
    for stream in (Screen(), io.StringIO()):
        assert Terminal(stream).watch([*story(), end]) is end
        text = stream.getvalue()
        for words in ("note: something", "2 frames of 16×8 in 66.0 s, noise level 250", "kept"):
            assert words in text
        assert ("\r" in text) == ("█" in text) == ("1:05 left" in text) == stream.isatty()


def test_a_failed_run_is_an_error_of_the_command():
    with pytest.raises(RunFailed, match="Out of memory"):
        Terminal(io.StringIO()).watch([*story(), Failed("Out of memory")])
    with pytest.raises(RunFailed):
        Terminal(io.StringIO()).watch(story())


def test_figures_are_those_of_the_recipe():
    said = figures(Finished("v.mp4", RECIPE))
    assert said["seconds"] == {"keyframes": 1.5} and said["evaluations"] == {"keyframes": 4}
    assert (said["file"], said["recipe"], said["peak_memory_gb"]) == ("v.mp4", RECIPE, 0.5)
    assert (clock(5), clock(65.4), clock(3599.6)) == ("0:05", "1:05", "60:00")
