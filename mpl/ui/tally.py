"""How votes stand: counts and shares with their intervals, as a table; files to save. Whatever is shown is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from urllib.parse import quote

from mpl.votes import Result, Votes, to_csv, to_json

ADDRESS = "votes."  # relative to the page; an ending and ?study= follow
KINDS = {"csv": "text/csv", "json": "application/json"}
FRESH = "fresh/"  # before the key of a ready-made comparison: pairs are made when they are asked for
SHORT = {"quality": "Video quality", "alignment": "Text-video alignment", "motion": "Motion fidelity"}
EXPLAINED = (
    "Share: of all votes, a tie counted half for each. The bar is its 95 % interval (Wilson), the tick its middle; "
    "where it crosses the line at 50 %, the votes do not decide."
)


def tally(study: str, votes: Votes) -> str:
    """The results of a study, and links that save its votes.

    Raises as `Votes`.
    """
    if not votes.studies().get(study):
        return '<p class="none">No votes yet.</p>'
    found = votes.results(study)
    tables = "".join(
        _table(first, second, list(lines)) for (first, second), lines in groupby(found, lambda r: (r.first, r.second))
    )
    links = "".join(
        f'<a download="mpl-video-votes.{ending}" href="{ADDRESS}{ending}?study={quote(study, safe="")}">'
        f"Votes as {ending.upper()}</a>"
        for ending in KINDS
    )
    return f'<div class="tally">{tables}<p class="hint">{EXPLAINED}</p><p class="saves">{links}</p></div>'


def export(study: str, votes: Votes, ending: str) -> str:
    """A study's votes as a file for everybody: not who gave them and when, nor what somebody wrote for a pair made new.

    Raises as `Votes`.
    """
    hidden = {"voter", "when"} | ({"prompt", "item"} if study.startswith(FRESH) else set())
    rows = [{key: "" if key in hidden else value for key, value in row.items()} for row in votes.export(study)]
    return {"csv": to_csv, "json": to_json}[ending](rows)


def _table(first: str, second: str, lines: Sequence[Result]) -> str:
    """Two arms: all votes, then each category's."""
    count = sum((lines[0].first_wins, lines[0].second_wins, lines[0].ties))
    votes = "1 vote" if count == 1 else f"{count} votes"
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in (first, "no difference", second))
    heads = f'<th scope="col">{votes}</th>{heads}<th scope="col">Share of “{escape(first)}”</th>'
    bodies = "".join(_body(category, list(of)) for category, of in groupby(lines, lambda r: r.category))
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>{bodies}</table></div>'


def _body(category: str | None, lines: Iterable[Result]) -> str:
    title = f'<tr><th scope="rowgroup" colspan="5">{escape(category)}</th></tr>' if category else ""
    return f"<tbody>{title}{''.join(map(_row, lines))}</tbody>"


def _row(line: Result) -> str:
    low, high = line.share.interval
    cells = "".join(f"<td>{count}</td>" for count in (line.first_wins, line.ties, line.second_wins))
    bar = (
        f'<span class="bar" aria-hidden="true"><i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
        f'<b style="left:{100 * line.share.value:.1f}%"></b></span>'
    )
    words = f"{100 * line.share.value:.0f} % ({100 * low:.0f}–{100 * high:.0f})"
    return f'<tr><th scope="row">{SHORT[line.question]}</th>{cells}<td class="share">{bar}{words}</td></tr>'
