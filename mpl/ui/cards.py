"""The cards of a visitor's finished runs, and what their buttons come to. Knows no toolkit."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from html import escape
from typing import Any

from mpl.config import STAGES
from mpl.history import Record, address
from mpl.ui.desk import Desk
from mpl.ui.generate import Changes
from mpl.ui.panels import TITLES, downloads, notices, seconds_text

# The stage that a run's last stage leads to; a finished video can be painted anew.
NEXT = dict(zip(STAGES, (*STAGES[1:], STAGES[-1]), strict=True))
NOTHING = '<p class="none">Your finished videos will be here. They stay when you close the page.</p>'


def cards(desk: Desk, visitor: str | None) -> str:
    """All finished runs of a visitor, the newest first."""
    records = desk.history.runs(visitor) if visitor else []
    return f'<div class="cards">{"".join(map(card, records))}</div>' if records else NOTHING


def card(record: Record) -> str:
    """One run: its video, what it is, and what can be done with it."""
    recipe, stages = record.recipe, record.recipe["stages"]
    last = list(stages.values())[-1]
    prompt, source = escape(recipe["prompt"]), escape(address(record.video), quote=True)
    pixels = ' class="pixels"' if last["width"] <= 96 else ""
    buttons = "".join(
        f'<button type="button" data-act="{act}" data-run="{record.id}">{label}</button>'
        for act, label in (("restore", "Restore its knobs"), ("use", f"Into {_into(record)}"), ("delete", "Delete"))
    )
    return (
        f'<article class="card"><video src="{source}" aria-label="Video: {escape(recipe["prompt"], quote=True)}" '
        f'controls loop muted playsinline preload="metadata"{pixels}></video>'
        f'<h3>{prompt}</h3><p class="facts">{escape(_facts(recipe))}</p>'
        f'{downloads(address(record.video), recipe["seed"])}<p class="acts">{buttons}</p></article>'
    )


def _into(record: Record) -> str:
    return TITLES[NEXT[list(record.recipe["stages"])[-1]]].lower()


def _facts(recipe: Mapping[str, Any]) -> str:
    stages = recipe["stages"]
    name, last = list(stages.items())[-1]
    seconds = sum(said["seconds"] for said in stages.values())
    facts = [f"seed {recipe['seed']}", recipe["preset"]["name"], f"{last['frames']} frames"]
    facts.append(f"{last['width']}×{last['height']}")
    if name != STAGES[-1]:
        facts.append(f"up to {TITLES[name].lower()}")
    if recipe.get("stopped"):
        facts.append("stopped early")
    if recipe.get("source"):
        facts.append("from a video")
    facts.append(f"took {seconds_text(seconds)}" if seconds else "all stages kept")
    return " · ".join([*facts, _when(recipe["created"])])


def _when(created: str) -> str:
    made = datetime.datetime.fromisoformat(created)
    return f"{made.day} {made:%B %Y, %H:%M} UTC"


def act(desk: Desk, visitor: str, button: Mapping[str, Any]) -> Changes:
    """What a press on a card's button changes: the form, or the cards themselves as `runs`.

    `tab` in the result names the tab to go to. A run of somebody else's, or none, changes nothing.
    """
    record = desk.history.run(visitor, str(button.get("run")))
    if record is None:
        return {"runs": cards(desk, visitor)}
    kind = button.get("act")
    if kind == "delete":
        desk.history.delete(visitor, record.id)
        return {"runs": cards(desk, visitor)}
    if kind == "restore":
        return desk.restore(record.recipe) | {"tab": "create"}
    if kind == "use":
        stage = NEXT[list(record.recipe["stages"])[-1]]
        words = f"Your earlier video goes into {TITLES[stage].lower()}: see “Begin with a video of yours”."
        values = {"source": str(record.video), "start_at": stage, "prompt": record.recipe["prompt"]}
        return values | {"notices": notices([words]), "entry": True, "tab": "create"}
    return {}
