"""Comparisons on the page: ready-made ones and one's own, on tiny random models; their figures."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from mpl.config import Preset, load_preset
from mpl.engine import Engine
from mpl.events import Stopped
from mpl.store import StageCache
from mpl.ui.desk import SOON, Desk
from mpl.ui.duel import COMPARISON, READY, STRENGTHS, Duel, Side, Watch
from mpl.ui.form import Presets, knobs
from mpl.ui.verdict import changes, figures, rows
from mpl.video import read_recipe

PROMPT = "a red car at the sea"


@pytest.fixture
def duel(preset: Preset, tmp_path: Path) -> Duel:
    return Duel(Desk(Engine(StageCache(tmp_path / "stages")), preset, tmp_path / "out"))


def form(preset: Preset, **changed: Any) -> dict[str, Any]:
    """The fields of both sides as a browser sends them; `a__key` names a field of the first."""
    side = {**knobs(preset), "preset": preset.name, "stop_after": "keyframes"}
    values = {f"{letter}.{key}": value for letter in "ab" for key, value in side.items()}
    return values | {key.replace("__", ".", 1): value for key, value in changed.items()}


def follow(duel: Duel, visitor: str) -> dict[str, Any]:
    async def collect() -> dict[str, Any]:
        shown: dict[str, Any] = {}
        async for found in duel.desk.follow(visitor, COMPARISON):
            shown |= found
        return shown

    return asyncio.run(collect())


def call(duel: Duel, *sides: Side) -> list[Any]:
    return asyncio.run(duel.call(PROMPT, 3, sides))


def test_a_ready_comparison_shows_both_and_shares_what_is_common(duel: Duel) -> None:
    assert duel.ask("ann", PROMPT, 3.0, {}, key="expert")["busy"]
    shown = follow(duel, "ann")
    assert shown["player"].count("<video") == 2 and shown["busy"] is False
    assert "With the expert" in shown["player"] and "Done" in shown["progress"]
    table = json.loads(data(shown["figures"], "json"))
    assert table[0]["width"] < table[1]["width"]
    assert [table[0]["superres.kept"], table[1]["superres.kept"]] == [False, True]
    assert table[0]["superres.seconds"] == table[1]["superres.seconds"] > 0
    assert table[1]["translation.kept"] is False and table[0]["translation.seconds"] == ""


def test_both_videos_are_in_the_history(duel: Duel) -> None:
    duel.ask("ann", PROMPT, 3, {}, key="expert")
    follow(duel, "ann")
    assert len(duel.desk.history.runs("ann")) == 2
    assert all(read_recipe(record.video)["seed"] == 3 for record in duel.desk.history.runs("ann"))


def test_many_strengths_make_a_sheet(duel: Duel) -> None:
    duel.ask("ann", PROMPT, 3, {}, key="strengths")
    shown = follow(duel, "ann")
    assert shown["sheet"].count("<video") == len(STRENGTHS)
    assert [row["translation.strength"] for row in json.loads(data(shown["figures"], "json"))] == [
        str(s) for s in STRENGTHS
    ]


def test_ones_own_sides_are_named_by_what_differs(duel: Duel, preset: Preset) -> None:
    a, b = duel.sides(form(preset, **{"b__superres.snr": 2.0, "b__stop_after": "superres", "a__no_noise": True}))
    assert a == Side(
        f"{preset.name} · SNR inf · up to keyframes",
        preset.name,
        {**{key: knobs(preset)[key] for key in ("translation.strength", "translation.cap")}, "superres.snr": math.inf},
        "keyframes",
    )
    assert b.label == f"{preset.name} · SNR 2 · up to super-resolution"


def test_an_arm_of_an_ablation_can_be_a_side(
    duel: Duel, preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr("mpl.ui.form.locate", lambda source: tmp_path)
    duel.desk.presets = Presets(preset)
    own = {f"b__{key}": value for key, value in knobs(load_preset("ablations/expert")).items()}
    _, side = duel.sides(form(preset, **own, b__preset="ablations/expert", b__stop_after="translation"))
    assert (side.label, side.preset) == ("ablations/expert", "ablations/expert")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "the same"),
        ({"b__stop_after": "nowhere"}, "must be one of keyframes"),
        ({"b__preset": "nothing"}, "preset"),
        ({"b__translation.strength": 7}, "translation.strength"),
    ],
)
def test_a_bad_form_is_one_clear_message(duel: Duel, preset: Preset, changed: dict[str, Any], words: str) -> None:
    said = duel.ask("ann", PROMPT, 3, form(preset, **changed))
    assert set(said) == {"notices"} and words in said["notices"]


def test_a_stage_that_is_none_is_one_clear_message(duel: Duel) -> None:
    with pytest.raises(ValueError, match="stop_after = 'foo': must be one of keyframes"):
        duel.asks(PROMPT, 3, (Side("A", stop_after="foo"), Side("B")))
    assert SOON in duel.ask(None, PROMPT, 3, {}, key="expert")["notices"]


def test_a_bad_prompt_seed_or_key_is_one_clear_message(duel: Duel) -> None:
    assert "prompt" in duel.ask("ann", "  ", 3, {}, key="expert")["notices"]
    assert "seed" in duel.ask("ann", PROMPT, -1, {}, key="expert")["notices"]
    assert "comparison" in duel.ask("ann", PROMPT, 3, {}, key="nothing")["notices"]


def test_stop_ends_all_arms_and_shows_what_was_finished(duel: Duel) -> None:
    duel.desk.line.grace = 60.0
    duel.ask("ann", PROMPT, 3, {}, key="strengths")

    async def stop_after_two() -> dict[str, Any]:
        shown: dict[str, Any] = {}
        async for found in duel.desk.follow("ann", COMPARISON):
            shown |= found
            if found.get("sheet"):  # many videos are not played while others are made
                assert "Stopped" in found["progress"]
            if shown.get("figures", "").count('scope="col"') == 2:
                duel.desk.stop("ann")
        return shown

    shown = asyncio.run(stop_after_two())
    assert "Stopped" in shown["progress"] and shown["busy"] is False
    assert 2 <= shown["sheet"].count("<video") < len(STRENGTHS)


def test_a_comparison_that_stops_early_promises_nothing(duel: Duel) -> None:
    watch = Watch(duel.desk, ["A", "B"], asks := duel.asks(PROMPT, 3, READY["expert"].sides))
    stopped = Stopped("keyframes", 0, 0, None, {})
    assert "below" not in watch.show(next(iter(asks)), stopped)["progress"]


def test_a_comparison_of_ones_own_is_found_again_with_its_sides(duel: Duel, preset: Preset) -> None:
    sides = form(preset, **{"a__stop_after": "keyframes", "b__stop_after": "interpolation"})
    assert duel.ask("ann", PROMPT, "7", sides)["busy"]
    follow(duel, "ann")
    found = duel.desk.found_again("ann", COMPARISON)
    assert found.pop("ticket") and found == {"prompt": PROMPT, "seed": "7", **sides}


def test_a_comparison_is_found_again_by_its_own_tab_alone(duel: Duel) -> None:
    duel.ask("ann", PROMPT, 3, {}, key="expert")
    follow(duel, "ann")
    found = duel.desk.found_again("ann", COMPARISON)
    assert found.pop("ticket") and found == {"prompt": PROMPT, "seed": 3}
    assert duel.desk.found_again("ben", COMPARISON) == {} == duel.desk.found_again(None, COMPARISON)
    assert "ticket" not in duel.desk.arrive("ann", {})


def test_what_cannot_be_made_is_offered_with_its_reason(duel: Duel, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = {key: lacking for key, _, lacking in duel.offers()}
    assert list(offers) == list(READY)
    assert offers["expert"] is None and "showlab/show-1" in offers["published"]
    said = duel.ask("ann", PROMPT, 3, {}, key="published")
    assert said["busy"] and "showlab/show-1" in follow(duel, "ann")["notices"]


def test_programs_get_both_files_and_figures(duel: Duel) -> None:
    made = call(duel, Side("A", stop_after="keyframes"), Side("B", stop_after="interpolation"))
    assert [arm.file.is_file() for arm in made] == [True, True]
    table = rows(made)
    assert [row["last stage"] for row in table] == ["keyframes", "interpolation"]
    assert all(-1 <= row["clipsim"] <= 1 for row in table)


def test_what_differs_and_nothing_else_is_listed(duel: Duel) -> None:
    first = Side("A", stop_after="keyframes")
    made = call(duel, first, Side("B", changes={"keyframes.guidance": 3.5}, stop_after="keyframes"))
    assert list(changes(made)) == ["keyframes.guidance"]
    assert changes(made)["keyframes.guidance"]["B"] == "3.5"


def test_figures_come_as_csv_and_nothing_becomes_html_or_a_formula(duel: Duel) -> None:
    sides = (
        Side("=1+1", stop_after="keyframes"),
        Side("<b>", changes={"keyframes.guidance": 3.5}, stop_after="keyframes"),
    )
    html = figures(call(duel, *sides))
    assert "<b>&lt;b&gt;" not in html and "&lt;b&gt;" in html
    table = list(csv.DictReader(io.StringIO(data(html, "csv"))))
    assert [row["label"] for row in table] == ["'=1+1", "<b>"]
    assert all(float(row["keyframes.seconds"]) > 0 for row in table)


def data(html: str, ending: str) -> str:
    """The content of a link to a file inside of the page."""
    found = re.search(rf'[a-z]\.{ending}" href="data:[^;]+;base64,([^"]+)"', html)
    assert found
    return base64.b64decode(found[1]).decode()
