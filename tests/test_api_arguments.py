"""Endpoints hand on what they are given: every argument with a value of its own, so that none stands for another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from mpl.config import Preset, override
from mpl.ui import api
from mpl.ui.duel import Side
from mpl.ui.form import Presets

KNOBS = {"strength": 0.2, "cap": 800, "snr": 2.0}
KEYS = {"strength": "translation.strength", "cap": "translation.cap", "snr": "superres.snr"}


def ask(make: Any, *given: Any, **named: Any) -> Any:
    """What reaches the line when an endpoint is called."""
    asked: list[Any] = []

    async def call(*what: Any) -> Any:
        asked.append(what)
        raise ValueError("enough")

    endpoint = make(SimpleNamespace(presets=Presets(Preset()), call=call))
    with pytest.raises(gr.Error, match="enough"):
        asyncio.run(endpoint(*given, **named))
    return asked[0]


@pytest.mark.parametrize(
    ("name", "knobs", "part"),
    [
        ("generate", ("strength", "cap", "snr"), {}),
        ("keyframes", (), {"stop_after": "keyframes"}),
        ("interpolation", (), {"start_at": "interpolation", "stop_after": "interpolation"}),
        ("superres", ("snr",), {"start_at": "superres", "stop_after": "superres"}),
        ("translation", ("strength", "cap"), {"start_at": "translation", "stop_after": "translation"}),
    ],
)
def test_a_run_is_asked_for_as_it_was_called(
    name: str, knobs: tuple[str, ...], part: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_uploaded", lambda video: Path(video))
    video = {"video": "own.mp4"} if "start_at" in part else {}
    named = {**video, "prompt": "a car", "seed": 3, "preset": "quick", **{knob: KNOBS[knob] for knob in knobs}}
    (found,) = ask(lambda desk: next(e for e in (*api._runs(desk), *api._stages(desk)) if e.__name__ == name), **named)
    wanted = override(replace(Presets(Preset()).get("quick")), {KEYS[knob]: KNOBS[knob] for knob in knobs})
    assert (found.prompt, found.seed, found.preset) == ("a car", 3, wanted)
    assert (found.start_at, found.stop_after) == (part.get("start_at"), part.get("stop_after"))
    assert found.source == (Path("own.mp4") if video else None)


def test_sides_of_a_comparison_are_those_that_were_called() -> None:
    arms = ("quick", "paper_steps"), (0.2, 0.3), (800, 700), (2.0, 3.0), ("keyframes", "superres")
    found = ask(api._comparison, "a car", 3, *(value for pair in arms for value in pair))
    sides = tuple(
        Side(label, preset, dict(zip(KEYS.values(), knobs, strict=True)), stop)
        for label, preset, *knobs, stop in zip("AB", *arms, strict=True)
    )
    assert found == ("a car", 3, sides)
