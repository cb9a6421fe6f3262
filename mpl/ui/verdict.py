"""The figures of a comparison: a table for people, rows for spreadsheets and programs. Whatever is shown is escaped."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mpl.config import STAGES, differences, from_dict
from mpl.history import address
from mpl.ui.panels import TITLES
from mpl.votes import as_cells


@dataclass(frozen=True)
class Made:
    """One arm that is done: letter, label, video, recipe, and how near its frames are to the prompt (CLIPSIM)."""

    letter: str
    label: str
    file: Path
    recipe: dict[str, Any]
    similarity: float | None

    @property
    def last(self) -> dict[str, Any]:
        """The figures of the last stage that was run."""
        return list(self.recipe["stages"].values())[-1]

    @property
    def peak_memory_gb(self) -> float:
        """The highest of the stages' peaks, of those that were kept as when they were made."""
        return max(said["peak_memory_gb"] for said in self.recipe["stages"].values())


def rows(made: Sequence[Made]) -> list[dict[str, Any]]:
    """One flat dict an arm, all with the same keys: what differs, and what was measured."""
    changed = changes(made)
    found = []
    for arm in made:
        recipe, stages = arm.recipe, arm.recipe["stages"]
        row: dict[str, Any] = {"arm": arm.letter, "label": arm.label}
        row |= {key: recipe[key] for key in ("prompt", "seed")} | {"preset": recipe["preset"]["name"]}
        row |= {key: values[arm.letter] for key, values in changed.items()}
        for stage in STAGES:
            said = stages.get(stage, {})
            row[f"{stage}.kept"] = said.get("kept", "")
            row[f"{stage}.seconds"] = said.get("seconds_when_made", said.get("seconds", ""))
            row[f"{stage}.evaluations"] = said.get("evaluations_when_made", said.get("evaluations", ""))
            row[f"{stage}.peak_memory_gb"] = said.get("peak_memory_gb", "")
        row |= {key: arm.last[key] for key in ("frames", "width", "height", "fps")}
        row |= {"clipsim": "" if arm.similarity is None else round(arm.similarity, 4)}
        row |= {"peak_memory_gb": arm.peak_memory_gb, "device": recipe["device"], "dtype": recipe["dtype"]}
        found.append(row | {"made_by": recipe["made_by"]} | dict(recipe["versions"]))
    return found


def changes(made: Sequence[Made]) -> dict[str, dict[str, str]]:
    """Every option in which the arms' presets differ → letter → value; the last stage too."""
    first = from_dict(made[0].recipe["preset"])
    found: dict[str, dict[str, str]] = {}
    for arm in made[1:]:
        for key, (value, other) in differences(first, from_dict(arm.recipe["preset"])).items():
            values = found.setdefault(key, {earlier.letter: str(value) for earlier in made})
            values[arm.letter] = str(other)
    ends = {arm.letter: list(arm.recipe["stages"])[-1] for arm in made}
    if len(set(ends.values())) > 1:
        found["last stage"] = ends
    return found


def figures(made: Sequence[Made]) -> str:
    """The table under the player, with links to it as CSV and JSON."""
    head = "".join(f'<th scope="col"><b>{arm.letter}</b> {escape(arm.label)}</th>' for arm in made)
    body = "".join(_group(title, lines) for title, lines in _lines(made) if lines)
    return (
        f'<div class="figures" tabindex="0" role="region" aria-label="Figures of the comparison">'
        f"<table><thead><tr><td></td>{head}</tr></thead>{body}</table></div>"
        f'<p class="downloads">{_links(made)}</p>'
    )


def _lines(made: Sequence[Made]) -> Iterable[tuple[str, list[tuple[str, list[str]]]]]:
    """Groups of lines: title, then each line's name and a cell for each arm."""
    letters = [arm.letter for arm in made]
    yield "What differs", [(key, [values[x] for x in letters]) for key, values in changes(made).items()]
    yield "Time", [(TITLES[stage], [_time(arm, stage) for arm in made]) for stage in STAGES if _ran(made, stage)]
    sizes = [f"{arm.last['frames']} frames of {arm.last['width']}×{arm.last['height']}" for arm in made]
    peaks = [f"{arm.peak_memory_gb:.2f} GB" for arm in made]
    likeness = ["–" if arm.similarity is None else f"{arm.similarity:.3f}" for arm in made]
    machine = [f"{arm.recipe['device']}, {arm.recipe['dtype']}" for arm in made]
    versions = [", ".join(f"{name} {v}" for name, v in arm.recipe["versions"].items()) for arm in made]
    result = [("Video", sizes), ("CLIPSIM, by the shipped CLIP", likeness), ("Peak memory", peaks)]
    yield "Result", result
    yield "Machine", [("Device", machine), ("Versions", versions)]


def _ran(made: Sequence[Made], stage: str) -> bool:
    return any(stage in arm.recipe["stages"] for arm in made)


def _time(arm: Made, stage: str) -> str:
    said = arm.recipe["stages"].get(stage)
    if said is None:
        return "not run"
    if said["kept"]:
        return f"kept; took {said['seconds_when_made']:.1f} s, {said['evaluations_when_made']} evaluations"
    return f"{said['seconds']:.1f} s, {said['evaluations']} evaluations"


def _group(title: str, lines: list[tuple[str, list[str]]]) -> str:
    found = []
    for name, cells in lines:
        if len(set(cells)) == 1 and len(cells) > 1:  # said once
            inner = f'<td colspan="{len(cells)}">{escape(cells[0])}</td>'
        else:
            inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        found.append(f'<tr><th scope="row">{escape(name)}</th>{inner}</tr>')
    width = len(lines[0][1]) + 1
    return f'<tbody><tr><th scope="rowgroup" colspan="{width}">{title}</th></tr>{"".join(found)}</tbody>'


def _links(made: Sequence[Made]) -> str:
    table = rows(made)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(map(as_cells, table))
    return saves("mpl-video-comparison", "Figures", text.getvalue(), json.dumps(table, indent=1))


def saves(stem: str, what: str, as_csv: str, as_json: str) -> str:
    """Links that save a table, which they hold themselves."""
    kinds = (("csv", "text/csv", as_csv), ("json", "application/json", as_json))
    return "".join(
        f'<a download="{stem}.{ending}" href="data:{kind};base64,'
        f'{base64.b64encode(content.encode()).decode()}">{what} as {ending.upper()}</a>'
        for ending, kind, content in kinds
    )


def sheet(made: Sequence[Made]) -> str:
    """All arms at once, small."""
    cells = "".join(
        '<figure class="stage" data-state="done">'
        f'<figcaption><span class="title">{escape(arm.label)}</span></figcaption>'
        f'<div class="screen"><video src="{escape(address(arm.file), quote=True)}" '
        f'aria-label="{escape(arm.label, quote=True)}" loop muted controls playsinline></video></div></figure>'
        for arm in made
    )
    return f'<div class="sheet">{cells}</div>'
