"""The cards of a visitor's finished runs, and what their buttons come to. Knows no toolkit."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from html import escape
from typing import Any

from mpl.config import STAGES
from mpl.history import PIXELS, Record, address
from mpl.ui.desk import Desk
from mpl.ui.generate import EMPTY, Changes
from mpl.ui.panels import TITLES, downloads, notices, seconds_text

log = logging.getLogger(__name__)

# The stage that a run's last stage leads to; a finished video can be painted anew.
NEXT = dict(zip(STAGES, (*STAGES[1:], STAGES[-1]), strict=True))
NOTHING = (
    '<p class="none">Your finished videos will be here: to play, download, restore or use again.<br>'
    "They stay when you close the page.</p>"
)


def cards(desk: Desk, visitor: str | None) -> str:
    """All finished runs of a visitor, the newest first."""
    found = []
    for record in desk.history.runs(visitor) if visitor else ():
        try:
            found.append(card(record))
        except (LookupError, TypeError, ValueError, AttributeError):  # edited, or of another version
            log.warning("%s: no recipe that can be shown", record.video.with_suffix(".json").name)
    return f'<div class="cards">{"".join(found)}</div>' if found else NOTHING


def card(record: Record) -> str:
    """One run: its video, what it is, and what can be done with it."""
    recipe = record.recipe
    last = list(recipe["stages"].values())[-1]
    prompt, source = escape(recipe["prompt"], quote=True), escape(address(record.video), quote=True)
    pixels = ' class="pixels"' if last["width"] <= PIXELS else ""
    facts = "".join(f'<p class="facts">{line}</p>' for line in (*map(escape, _facts(recipe)), _when(recipe["created"])))
    return (
        f'<article class="card"><video src="{source}" aria-label="Video: {prompt}" '
        f'controls loop muted playsinline preload="metadata"{pixels}></video>'
        f'<h2 title="{prompt}">{prompt}</h2>{facts}'
        f'{downloads(address(record.video), recipe["seed"])}<p class="acts">{_buttons(record)}</p></article>'
    )


def _buttons(record: Record) -> str:
    stage = _following(record)
    said = {
        "restore": ("Restore", "Sets the form as it was for this video"),
        "use": (f"Into stage {STAGES.index(stage) + 1}", f"Begins {TITLES[stage].lower()} with this video"),
        "delete": ("Delete", "Deletes the video and its recipe"),
    }
    return "".join(
        f'<button type="button" data-act="{name}" data-run="{record.id}" title="{title}">{label}</button>'
        for name, (label, title) in said.items()
    )


def _following(record: Record) -> str:
    """The stage that the run's video can go into."""
    return NEXT[list(record.recipe["stages"])[-1]]


def _facts(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """What the video is, and how it was made."""
    stages = recipe["stages"]
    last = list(stages.values())[-1]
    size = f"{last['frames']} frames of {last['width']}×{last['height']}, {last['frames'] / last['fps']:.1f} s"
    seconds = sum(said["seconds"] for said in stages.values())
    took = f"took {seconds_text(seconds)}" if seconds else "kept from earlier runs"
    about = f"seed {recipe['seed']} · {recipe['preset']['name']} · {size}"
    return about, f"{_ran(recipe)} · {took}"


def _ran(recipe: Mapping[str, Any]) -> str:
    """The stages that were run, in words."""
    names = [TITLES[stage].lower() for stage in recipe["stages"]]
    if len(names) == len(STAGES):
        return "all four stages"
    words = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    words += " of a given video" if recipe.get("source") else ""
    return words + (", then stopped" if recipe.get("stopped") else "")


def _when(created: str) -> str:
    """A time that the page tells by the visitor's own clock; as it is written, by that of Greenwich."""
    made = datetime.datetime.fromisoformat(created)
    return f'<time datetime="{made.isoformat()}">{made.day} {made:%B %Y, %H:%M} UTC</time>'


def act(desk: Desk, visitor: str | None, button: Mapping[str, Any]) -> Changes:
    """What a press on a card's button changes: the form, or the cards themselves as `runs`.

    `tab` in the result names the tab to go to. A run of somebody else's, or none, changes nothing.
    """
    record = desk.history.run(visitor, str(button.get("run"))) if visitor else None
    if visitor is None or record is None:
        return {"runs": cards(desk, visitor)}
    kind = button.get("act")
    if kind == "delete":
        shown = EMPTY if desk.delete(visitor, record.id) else {}  # the first tab would offer what is gone
        return {"runs": cards(desk, visitor)} | shown
    if kind == "restore":
        return desk.restore(record.recipe) | {"tab": "create"}
    if kind == "use":
        stage = _following(record)
        words = f"Your earlier video goes into {TITLES[stage].lower()}: see “Begin with a video of yours”."
        values = {"source": str(record.video), "start_at": stage, "prompt": record.recipe["prompt"]}
        return values | {"notices": notices([words]), "entry": True, "tab": "create"}
    return {}
