"""A report as Markdown with its pictures in files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from .document import SOURCES, Cell, Chart, Picture, Report, Section, Table
from .plots import draw

PICTURES = "pictures"  # the folder's name
_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~$])")  # what Markdown would take for its own


def markdown(report: Report) -> tuple[str, dict[str, bytes]]:
    """The text, and the content of each picture by the name of its file in the folder of pictures."""
    pictures: dict[str, bytes] = {}
    blocks = [f"# {_text(report.title)}", *map(_text, report.paragraphs)]
    for depth, section in report.everything():
        blocks += _section(section, depth + 2, pictures)
    return "\n\n".join(blocks) + "\n", pictures


def _text(text: str) -> str:
    """Text on one line that stands for itself."""
    return html.escape(_SPECIAL.sub(r"\\\1", " ".join(text.split())), quote=False)


def _section(section: Section, level: int, pictures: dict[str, bytes]) -> Iterator[str]:
    anchor = f'<a id="{section.key}"></a>\n\n' if section.key == SOURCES else ""
    yield f"{anchor}{'#' * level} {_text(section.title)}"
    yield from map(_text, section.paragraphs)
    for item in section.items:
        match item:
            case Table():
                yield f"**{_text(item.title)}**" + (f" {_text(item.about)}" if item.about else "")
                yield _table(item)
            case Chart():
                pictures[f"{item.key}.svg"] = draw(item).encode()
                yield _picture(f"{item.key}.svg", item.title, item.text)
            case Picture():
                pictures[f"{item.key}.jpg"] = item.jpeg
                yield _picture(f"{item.key}.jpg", item.title, item.text)


def _picture(name: str, title: str, text: str) -> str:
    return f"**{_text(title)}**\n\n![{_text(text)}]({PICTURES}/{name})"


def _table(table: Table) -> str:
    rows = [[_text(column) for column in table.columns], ["---"] * len(table.columns)]
    rows += [[_cell(cell) for cell in row.cells] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if cell.strong and text:
        text = f"**{text}**"
    if cell.source:
        text += f" [{_text(cell.source)}](#{SOURCES})"
    return f"{text} ({_text(cell.note)})" if cell.note else text
