"""The tab where two videos are rated blind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from mpl.ui.ballot import BLIND, EMPTY, Ballot, Blind
from mpl.ui.create import AT_ONCE, QUIET, Parts
from mpl.ui.desk import STOPPING
from mpl.ui.generate import Changes
from mpl.ui.world import surprise
from mpl.votes import QUESTIONS

SHOWN = (*EMPTY, "ticket", "pair", "seen", "source")
VOTE, NEXT = "Vote, and see which was which", "Next pair"
# Where the focus goes once the button that has it can be used no more.
FOCUS = """() => {
  const before = document.activeElement, until = performance.now() + 2000;
  const usable = (part) => part.isConnected && part.checkVisibility() && !part.disabled;
  const look = () => {
    if (![before, document.body].includes(document.activeElement)) return; // somebody has moved it
    const next = before !== document.body && usable(before) ? null : [...document.querySelectorAll(%s)].find(usable);
    if (next) next.focus();
    else if (performance.now() < until) requestAnimationFrame(look);
  };
  look();
}"""
CHOICES = [("A", "left"), ("no difference", "tie"), ("B", "right")]


def build(page: gr.Blocks, tab: gr.Tab, ballot: Ballot, visitor: gr.BrowserState) -> None:
    """The tab's parts, connected."""
    parts: Parts = {"visitor": visitor, "ticket": gr.State(""), "pair": gr.State(None), "seen": gr.State(False)}
    with gr.Row(elem_id="rate-ask"):
        label = {"label": "What to rate", "elem_id": "rate-source"}
        parts["source"] = gr.Dropdown([], interactive=False, **label)  # until the tab is opened
        parts["about"] = gr.HTML(EMPTY["about"], elem_id="rate-about")
    with gr.Row(elem_id="rate-fresh", visible=False) as parts["fresh"]:
        parts["prompt"] = gr.Textbox(surprise(0), label="What the videos show", elem_id="rate-prompt", scale=4)
        parts["make"] = gr.Button("Make a pair", variant="primary", elem_id="rate-make")
        parts["stop"] = gr.Button("Stop", interactive=False, elem_id="rate-stop")
    for name in ("progress", "announcement", "notices", "shown", "player", "told"):
        parts[name] = gr.HTML(EMPTY[name], elem_id=f"rate-{name}")
    with gr.Row(elem_id="rate-questions"):
        for key, question in QUESTIONS.items():
            parts[key] = gr.Radio(CHOICES, label=question, interactive=False, elem_id=f"rate-{key}")
    with gr.Row(elem_id="rate-buttons"):
        parts["vote"] = gr.Button(VOTE, variant="primary", interactive=False, elem_id="rate-vote")
        parts["next"] = gr.Button(NEXT, visible=False, elem_id="rate-next")
    with gr.Accordion("Results so far", open=False, elem_id="rate-so-far"):
        parts["results"] = gr.HTML(EMPTY["results"], elem_id="rate-results")
    _connect(page, tab, ballot, parts)


def _connect(page: gr.Blocks, tab: gr.Tab, ballot: Ballot, parts: Parts) -> None:
    asked = [parts["visitor"], parts["source"]]
    buttons = ("fresh", "make", "stop", "vote", "next")
    shown = [parts[name] for name in (*SHOWN, *QUESTIONS, *buttons)]

    def open_source(who: str | None, source: str | None) -> dict[Any, Any]:
        return updates(parts, ballot.open(who, source))

    def enter(who: str | None, source: str | None, pair: Blind | None, seen: bool) -> dict[Any, Any]:
        """Once the tab has been opened and the visitor is known: after a reload either may come first.

        Studies may have come since the page was built; on the way back to the tab, what was there stays.
        """
        if not (seen and who):
            return {parts["seen"]: gr.skip()}
        unrated = pair.study if pair else ballot.unrated(who)  # after a reload `follow` shows it, sooner or later
        sources = ballot.sources()  # which may take seconds, in which a vote is given
        keys = [key for _, key in sources]
        known = source if source in keys else unrated or next(iter(keys), None)
        moved = {} if known == source else {"value": known}  # the same value, arriving late, would undo a choice
        found = {parts["source"]: gr.Dropdown(sources, interactive=True, **moved)}
        return found if unrated or ballot.busy(who) else open_source(who, known) | found

    def make(who: str, source: str | None, prompt: str) -> dict[Any, Any]:
        return updates(parts, ballot.make(who, source, prompt))

    async def follow(who: str, pair: Blind | None) -> AsyncIterator[dict[Any, Any]]:
        async for changes in ballot.follow(who, pair):
            # Answers stay: at its end all is said again.
            found = updates(parts, changes, answers_stay=True)
            if source := changes.get("source"):  # after a reload the tab may not have been opened, and knows no choices
                sources = await asyncio.to_thread(ballot.sources)
                found[parts["source"]] = gr.Dropdown(sources, value=source, interactive=True)
            yield found

    def stop(who: str) -> None:  # what follows says so
        ballot.desk.stop(who)

    def vote(who: str, pair: Blind | None, *answers: str | None) -> dict[Any, Any]:
        return updates(parts, ballot.vote(who, pair, dict(zip(QUESTIONS, answers, strict=True))))

    def arrive(who: str | None) -> Any:
        return ballot.desk.found_again(who, BLIND).get("ticket") or gr.skip()

    entering = [*asked, parts["pair"], parts["seen"]]
    tab.select(lambda: True, None, parts["seen"], **AT_ONCE).then(enter, entering, shown, **AT_ONCE)
    parts["visitor"].change(enter, entering, shown, **AT_ONCE)
    parts["source"].select(open_source, asked, shown, trigger_mode="always_last", **AT_ONCE)
    following = parts["next"].click(open_source, asked, shown, **AT_ONCE)
    answers = [parts["visitor"], parts["pair"], *(parts[key] for key in QUESTIONS)]
    voted = parts["vote"].click(vote, answers, shown, **AT_ONCE)
    # A keyboard goes on where it was: the button that was pressed is gone.
    voted.then(None, js=FOCUS % json.dumps("#rate-next, #rate-make"), **AT_ONCE)
    following.then(None, js=FOCUS % json.dumps("#rate-player .play"), **AT_ONCE)
    # Through the queue, as on the other tabs: only so does the toolkit see that the ticket has changed.
    parts["make"].click(make, [*asked, parts["prompt"]], shown, concurrency_limit=None, **QUIET)
    parts["ticket"].change(follow, [parts["visitor"], parts["pair"]], shown, concurrency_limit=None, **QUIET)
    parts["stop"].click(stop, parts["visitor"], None, **AT_ONCE)
    page.load(arrive, parts["visitor"], parts["ticket"], concurrency_limit=None, **QUIET)


def updates(parts: Parts, changes: Changes, answers_stay: bool = False) -> dict[Any, Any]:
    """Changes by name as the toolkit wants them; questions and buttons as they follow from the state."""
    changes = dict(changes)
    busy, state, fresh = (changes.pop(name, None) for name in ("busy", "state", "fresh"))
    found = {parts[name]: value for name, value in changes.items() if name in parts}
    if fresh is not None:
        found[parts["fresh"]] = gr.Row(visible=fresh)
    if busy is not None:
        found[parts["make"]] = gr.Button("Making …" if busy else "Make a pair", interactive=not busy)
        found[parts["stop"]] = gr.Button("Stopping …" if busy == STOPPING else "Stop", interactive=busy is True)
    if state is not None:
        for key in QUESTIONS:
            kept: dict[str, Any] = {} if answers_stay or state in ("given", "made") else {"value": None}
            found[parts[key]] = gr.Radio(interactive=state == "open", **kept)
        found[parts["vote"]] = gr.Button(VOTE, interactive=state == "open")
        found[parts["next"]] = gr.Button(NEXT, visible=state == "given")
    return found
