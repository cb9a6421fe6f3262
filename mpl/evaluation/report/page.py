"""A report as one HTML file that needs nothing else: style, charts and pictures are inside, and there is no script."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from pathlib import Path

from .document import Cell, Chart, Picture, Report, Row, Section, Table
from .plots import Ink, draw

# Colours that stand for the style sheet's variables until the chart is drawn: matplotlib knows no variables.
_STANDING = {"#010203": "card", "#010204": "ink", "#010205": "muted", "#010206": "line", "#010207": "accent"}


def page(report: Report) -> str:
    """The whole file."""
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{x.key}">{_text(x.title)}</a></li>' for x in report.sections)
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">',
            f"<title>{_text(report.title)}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{_text(report.title)}</h1>",
            *_paragraphs(report.paragraphs),
            f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
            "</header>",
            "<main>",
            *(line for depth, section in report.everything() for line in _section(section, depth + 2)),
            "</main>",
            "</body>",
            "</html>\n",
        )
    )


def _text(text: str) -> str:
    """Text as HTML."""
    return html.escape(text)


def _paragraphs(texts: tuple[str, ...]) -> Iterator[str]:
    return (f"<p>{_text(text)}</p>" for text in texts)


def _section(section: Section, level: int) -> Iterator[str]:
    yield f'<h{level} id="{section.key}">{_text(section.title)}</h{level}>'
    yield from _paragraphs(section.paragraphs)
    for item in section.items:
        match item:
            case Table():
                yield _table(item)
            case Chart():
                yield _figure("chart", item.title, "", item.text, _chart(item))
            case Picture():
                data = base64.b64encode(item.jpeg).decode()
                image = f'<img src="data:image/jpeg;base64,{data}" alt="{_text(item.text)}">'
                yield _figure("picture", item.title, item.text, item.title, image)


def _figure(kind: str, title: str, about: str, label: str, content: str) -> str:
    """Content that is wider than the window scrolls, also by keyboard, in a frame of its own."""
    more = f"<p>{_text(about)}</p>" if about else ""
    frame = f'<div class="scroll" role="group" tabindex="0" aria-label="{_text(label)}">{content}</div>'
    return f'<figure class="{kind}">\n<figcaption>{_text(title)}{more}</figcaption>\n{frame}\n</figure>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    rows = "\n".join(map(_row, table.rows))
    content = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    return _figure("table", table.title, table.about, table.title, content)


def _row(row: Row) -> str:
    first, *others = row.cells
    key = f' id="source-{row.key}"' if row.key else ""
    own = ' class="own"' if row.own else ""
    cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
    return f'<tr{key}{own}><th scope="row">{_cell(first)}</th>{cells}</tr>'


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if cell.strong:
        text = f"<strong>{text}</strong>"
    if cell.code:
        text = f"<code>{text.replace('/', '/<wbr>')}</code>"
    if cell.source:
        key = _text(cell.source)
        text += f'<sup><a href="#source-{key}" aria-label="source {key}">{key}</a></sup>'
    return text + (f"<small>{_text(cell.note)}</small>" if cell.note else "")


def _chart(chart: Chart) -> str:
    standing = {name: colour for colour, name in _STANDING.items()}
    paper = standing.pop("card")
    svg = draw(chart, Ink(paper=paper, **standing, filled=False))
    for colour, name in _STANDING.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_text(chart.text)}" ', 1)
