"""The tab where two runs are compared: ready-made ones at a click, or two sides of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from html import escape
from typing import Any

import gradio as gr

from mpl.config import STAGES, Preset
from mpl.ui.create import AT_ONCE, QUIET, Parts, slider, turned
from mpl.ui.desk import STOPPING
from mpl.ui.duel import COMPARISON, EMPTY, Duel, Offer
from mpl.ui.form import SLIDERS, example_prompts, knobs
from mpl.ui.generate import Changes
from mpl.ui.panels import TITLES

ARM = ("preset", "stop_after", *SLIDERS, "no_noise")
SHOWN = (*EMPTY, "ticket")
PRESSED = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-key]");
  if (button) trigger("click", {...button.dataset});
});"""


def build(page: gr.Blocks, duel: Duel, preset: Preset, visitor: gr.BrowserState) -> Parts:
    """The tab's parts, connected."""
    parts: Parts = {"ticket": gr.State(""), "visitor": visitor}
    with gr.Row(elem_id="duel-ask"):
        parts["prompt"] = gr.Textbox(example_prompts()[1], label="What the videos show", elem_id="duel-prompt", scale=4)
        parts["seed"] = gr.Textbox("0", label="Seed", elem_id="duel-seed", min_width=110, max_lines=1)
    parts["ready"] = gr.HTML(cards(duel.all_offers()), js_on_load=PRESSED, elem_id="duel-ready")
    with gr.Accordion("Or two sides of your own", open=False, elem_id="duel-sides"):
        with gr.Row():
            for letter in "ab":
                parts |= _side(duel, preset, letter)
        parts["go"] = gr.Button("Compare these two", variant="primary", elem_id="duel-go")
    with gr.Row(elem_id="duel-progress"):
        parts["progress"] = gr.HTML(EMPTY["progress"], elem_id="duel-bar")
        parts["stop"] = gr.Button("Stop", interactive=False, elem_id="duel-stop")
    for name in ("announcement", "notices", "player", "sheet", "figures"):
        parts[name] = gr.HTML(EMPTY[name], elem_id=f"duel-{name}")
    _connect(page, duel, parts)
    return parts


def cards(offers: Iterable[Offer]) -> str:
    """The ready-made comparisons as buttons, those that cannot be made with their reason."""
    found = "".join(
        f'<li><button type="button" data-key="{key}"{" disabled" if lacking else ""}>{escape(ready.title)}</button>'
        f"<p>{escape(ready.text)}</p>{_reason(lacking)}</li>"
        for key, ready, lacking in offers
    )
    return f'<ul class="offers">{found}</ul>'


def _reason(lacking: str | None) -> str:
    if not lacking:
        return ""
    lines = escape(lacking).replace("\n", "<br>")
    return f"<details><summary>Its weights are not on this machine</summary><p>{lines}</p></details>"


def _side(duel: Duel, preset: Preset, letter: str) -> Parts:
    """The fields of one side, named `a.…` or `b.…`."""
    values, parts = knobs(preset), Parts()
    names = duel.desk.presets.names
    with gr.Column(elem_classes="side"):
        gr.HTML(f"<h2>{letter.upper()}</h2>", elem_classes="heading")
        parts[f"{letter}.preset"] = gr.Dropdown(names, value=names[0], label="Preset", elem_id=f"{letter}-preset")
        stages = [(TITLES[stage], stage) for stage in STAGES]
        last = STAGES[-1 if letter == "b" else -2]
        parts[f"{letter}.stop_after"] = gr.Dropdown(stages, value=last, label="Last stage", elem_id=f"{letter}-stop")
        for key in SLIDERS:
            parts[f"{letter}.{key}"] = slider(key, values, f"{letter}-{key.replace('.', '-')}")
        parts[f"{letter}.no_noise"] = gr.Checkbox(
            values["no_noise"], label="No noise at all (SNR ∞)", elem_id=f"{letter}-no-noise"
        )
    return parts


def _connect(page: gr.Blocks, duel: Duel, parts: Parts) -> None:
    keys = [f"{letter}.{key}" for letter in "ab" for key in ARM]
    fields = [parts[key] for key in keys]
    visitor, asked = parts["visitor"], [parts["visitor"], parts["prompt"], parts["seed"]]
    shown = [parts[name] for name in (*SHOWN, "go", "stop")]

    def ask(who: str, prompt: str, seed: Any, *values: Any) -> dict[Any, Any]:
        return updates(parts, duel.ask(who, prompt, seed, dict(zip(keys, values, strict=True))))

    def ask_ready(who: str, prompt: str, seed: Any, event: gr.EventData) -> dict[Any, Any]:
        return updates(parts, duel.ask(who, prompt, seed, {}, key=str(event._data.get("key"))))

    async def follow(who: str) -> AsyncIterator[dict[Any, Any]]:
        async for changes in duel.desk.follow(who, COMPARISON):
            yield updates(parts, changes)

    def stop(who: str) -> None:  # what follows says so
        duel.desk.stop(who)

    def arrive(who: str | None) -> dict[Any, Any]:
        return updates(parts, duel.desk.found_again(who, COMPARISON)) or {parts["ticket"]: gr.skip()}

    def offer() -> str:
        return cards(duel.offers())

    def chooser(letter: str) -> Any:
        def choose(name: str) -> dict[Any, Any]:
            changes = duel.desk.choose(name)
            side = {f"{letter}.{key}": changes[key] for key in (*SLIDERS, "no_noise") if key in changes}
            return updates(parts, side | {"notices": changes["notices"]})

        return choose

    def lacking(name: str) -> dict[Any, Any]:
        return updates(parts, duel.desk.lacking(name))

    # Through the queue, though never waiting in it: only so does the toolkit see that the ticket has changed.
    parts["go"].click(ask, [*asked, *fields], shown, concurrency_limit=None, **QUIET)
    parts["ready"].click(ask_ready, asked, shown, concurrency_limit=None, **QUIET)
    parts["ticket"].change(follow, visitor, shown, concurrency_limit=None, **QUIET)
    parts["stop"].click(stop, visitor, None, **AT_ONCE)
    for letter in "ab":
        chosen = [parts[f"{letter}.{key}"] for key in (*SLIDERS, "no_noise")]
        field = parts[f"{letter}.preset"]
        outputs = [*chosen, parts["notices"]]
        told = field.input(chooser(letter), field, outputs, trigger_mode="always_last", **AT_ONCE)
        told.then(lacking, field, parts["notices"], **AT_ONCE)
    opened = [*(parts[name] for name in ("prompt", "seed", "ticket")), *fields]
    page.load(arrive, visitor, opened, concurrency_limit=None, **QUIET)
    page.load(offer, None, parts["ready"], concurrency_limit=None, **QUIET)  # which takes longer


def updates(parts: Parts, changes: Changes) -> dict[Any, Any]:
    """Changes by name as the toolkit wants them, buttons as they follow from the work's state."""
    changes = dict(changes)
    busy = changes.pop("busy", None)
    keys = {name: name.partition(".")[2] for name in changes if name in parts}  # without their side's letter
    found = {parts[name]: turned(key, changes[name]) for name, key in keys.items()}
    if busy is not None:
        found[parts["go"]] = gr.Button("Comparing …" if busy else "Compare these two", interactive=not busy)
        found[parts["stop"]] = gr.Button("Stopping …" if busy == STOPPING else "Stop", interactive=busy is True)
    return found
