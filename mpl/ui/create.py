"""The tab where a prompt becomes a video: a form, four panels, and what connects them."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from mpl.config import STAGES, Preset
from mpl.ui.desk import STOPPING, Desk
from mpl.ui.form import FIELDS, KNOBS, LINKED, SLIDERS, SNR_SHOWN, example_prompts, knobs
from mpl.ui.generate import EMPTY, Changes
from mpl.ui.panels import TITLES, progress, word_chips
from mpl.ui.showcase import read_showcase
from mpl.ui.world import chips

# key → label, what it does (first the stage that runs again), lowest, highest, step
SLIDER_TEXTS: dict[str, tuple[str, str, float, float, float]] = {
    "translation.strength": (
        "SDEdit strength",
        "Runs stage 4 again. How much of the picture the expert may paint anew.",
        *(0.01, 1, 0.01),
    ),
    "translation.cap": (
        "Expert cap",
        "Runs stage 4 again. The highest timestep that the expert may start from.",
        *(50, 1000, 1),
    ),
    "superres.snr": (
        "Noise-augmentation SNR",
        "Runs stages 3 and 4 again. The lower, the more stage 3 makes up for itself.",
        *(*SNR_SHOWN, 0.1),
    ),
}
ENTRIES = [
    ("stage 2, as keyframes of 64×40", "interpolation"),
    ("stage 3, as 64×40", "superres"),
    ("stage 4, as 576×320", "translation"),
]
FORM = (*FIELDS, "source", "start_at", "metadata")
HINTS = ("superres_hint", "translation_hint", "estimate", "machine")  # what the form comes to
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
# Buttons inside of HTML say what they hold.
PRESSED = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-group], button[data-word]");
  if (button) trigger("click", {...button.dataset});
});"""
LINK = "Copy a link to this"
COPY = """async (query) => {
  if (!query) return "Something in the form is not accepted";
  const link = location.origin + location.pathname + query;
  try { await navigator.clipboard.writeText(link); } catch { // Safari after a while, and every browser over plain http
    window.prompt("The link, to be copied:", link);
    return "The link was shown";
  }
  return "The link is copied";
}"""
# Once a run is taken, a reload is to bring its form back, and not the link's that the page was opened by.
FORGET = """async () => {
  await new Promise((done) => setTimeout(done, 300)); // what was said is drawn
  if (document.querySelector("#notices .error")) return;
  const address = new URL(location);
  for (const key of %s) address.searchParams.delete(key);
  history.replaceState(history.state, "", address);
}"""
# Two windows that open at the same time are to have one secret. Each draws one where there is none yet, and a moment
# later both take that which was written last: what one writes the other does not see at once.
CLAIM = """(who) => {
  try {
    const drawn = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"));
    who ??= localStorage.getItem("mpl-video-secret") ?? drawn.join("");
    localStorage.setItem("mpl-video-secret", who);
  } catch {} // a browser that keeps nothing: the server gives one for as long as the page is open
  return who;
}"""
AGREE = """async (who) => {
  await new Promise((done) => setTimeout(done, 500));
  try { return localStorage.getItem("mpl-video-secret") ?? who; } catch { return who; }
}"""
LATER = f"() => new Promise((done) => setTimeout(() => done({LINK!r}), 3000))"

Parts = dict[str, Any]


def build(page: gr.Blocks, desk: Desk, preset: Preset, visitor: gr.BrowserState) -> Parts:
    """The tab's parts, connected."""
    with gr.Row(elem_id="studio"):
        with gr.Column(elem_id="ask"):
            parts = _question()
        with gr.Column(elem_id="result"):
            parts |= _result()
        with gr.Column(elem_id="knobs"):
            parts |= _knobs(desk, preset)
    parts |= {"ticket": gr.State(""), "visitor": visitor}
    _connect(page, desk, parts)
    return parts


# ---- parts


def _question() -> Parts:
    prompts = example_prompts()
    parts: Parts = {}
    parts["prompt"] = gr.Textbox(prompts[0], label="What the video shows", max_lines=5, elem_id="prompt")
    parts["look"] = gr.HTML("", js_on_load=PRESSED, elem_id="look")
    with gr.Row(elem_id="buttons"):
        # It can be pressed once the page is open and knows whose it is.
        parts["go"] = gr.Button("Make the video", variant="primary", interactive=False, elem_id="go")
        parts["stop"] = gr.Button("Stop", interactive=False, elem_id="stop")
    parts["estimate"] = gr.HTML("", elem_id="estimate")
    with gr.Row(elem_id="seeds"):
        parts["seed"] = gr.Textbox("0", label="Seed", elem_id="seed", max_lines=1)  # a number would end at 2^53
        parts["new_seed"] = gr.Button("New seed", elem_id="new-seed")
    parts["words"] = gr.HTML(word_chips(chips()), js_on_load=PRESSED, elem_id="words")
    parts["surprise"] = gr.Button("Surprise me", size="sm", elem_id="surprise")
    gr.Examples(
        [[text] for text in prompts],
        [parts["prompt"]],
        label="Or one of these",
        elem_id="examples",
        api_visibility="private",
    )
    return parts


def _knobs(desk: Desk, preset: Preset) -> Parts:
    values = knobs(preset)
    parts: Parts = {}
    gr.HTML("<h2>Change one knob</h2>", elem_classes="heading")
    for key in SLIDERS[:2]:
        parts[key] = slider(key, values, key.replace(".", "-"))
    parts["translation_hint"] = gr.HTML("", elem_id="translation-hint")
    parts["superres.snr"] = slider("superres.snr", values, "superres-snr")
    parts["no_noise"] = gr.Checkbox(values["no_noise"], label="No noise at all (SNR ∞)", elem_id="no-noise")
    parts["superres_hint"] = gr.HTML("", elem_id="superres-hint")
    with gr.Accordion("Begin with a video of yours", open=False, elem_id="entry") as parts["entry"]:
        kinds = [".mp4", ".webm", ".gif", ".avi"]
        parts["source"] = gr.File(label="A short video, up to 20 MB", file_types=kinds, height=110, elem_id="source")
        parts["start_at"] = gr.Radio(
            ENTRIES,
            value="translation",
            label="It goes into",
            info="Other sizes are stretched to fit, faster ones thinned to 8 frames a second; the prompt says what it "
            "shows.",
            elem_id="start-at",
        )
    with gr.Accordion("More options", open=False, elem_id="options"):
        names = desk.presets.names
        parts["preset"] = gr.Dropdown(names, value=names[0], label="Preset", elem_id="preset")
        for stage in STAGES:
            with gr.Row():
                for key in (f"{stage}.steps", f"{stage}.guidance"):
                    label = f"{TITLES[stage]}: {key.rpartition('.')[2]}"
                    parts[key] = gr.Number(values[key], label=label, min_width=110, elem_id=key.replace(".", "-"))
        parts["metadata"] = gr.Checkbox(
            True,
            label="The video holds its recipe",
            info="So that it can be dropped here and made again. That it is AI-generated it always says.",
            elem_id="metadata",
        )
    parts["restore"] = gr.File(
        label="Drop a video made here: its knobs come back",
        file_types=[".mp4", ".webm", ".gif"],
        height=146,
        elem_id="restore",
    )
    with gr.Accordion("What runs here", open=False, elem_id="machine"):
        parts["machine"] = gr.HTML("")
    parts["link"] = gr.Button(LINK, elem_id="link", size="sm")
    parts["query"] = gr.Textbox(visible=False)
    return parts


def slider(key: str, values: dict[str, Any], elem_id: str) -> gr.Slider:
    """A slider that stands at the preset's own value."""
    label, info, *_, step = SLIDER_TEXTS[key]
    reach = _reach(key, values[key])
    # Without the button that resets it: that would set the value which it began with, whatever preset was chosen since.
    return gr.Slider(value=values[key], **reach, step=step, label=label, info=info, elem_id=elem_id, buttons=[])


def turned(key: str, value: Any) -> Any:
    """The new value of a part, as the toolkit wants it; a slider's ends move where the value lies beyond them.

    Presets, links and recipes may hold all that `mpl.limits` accepts, and the toolkit refuses any form with a slider
    beyond its end.
    """
    return gr.update(value=value, **_reach(key, value)) if key in SLIDERS else value


def _reach(key: str, value: float) -> dict[str, float]:
    _, _, low, high, _ = SLIDER_TEXTS[key]
    return {"minimum": min(low, value), "maximum": max(high, value)}


def _result() -> Parts:
    shipped = read_showcase()
    ready = progress(0.0, "Ready", f"below plays a shipped example: “{shipped.prompt}”, seed {shipped.seed}")
    first = EMPTY | {"progress": ready} | shipped.panels
    parts: Parts = {name: gr.HTML(first[name], elem_id=name) for name in ("progress", "announcement", "notices")}
    with gr.Row(elem_id="stages"):
        parts |= {stage: gr.HTML(first[stage], elem_id=f"stage-{stage}") for stage in STAGES}
    parts["downloads"] = gr.HTML("", elem_id="downloads")
    return parts


# ---- what connects them


def _connect(page: gr.Blocks, desk: Desk, parts: Parts) -> None:
    _connect_run(page, desk, parts)
    _connect_words(desk, parts)
    _connect_form(desk, parts)


def _form(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(FORM, values, strict=True))


def _explainer(desk: Desk, parts: Parts) -> tuple[Any, list[Any], list[Any]]:
    """What says what the form comes to, with the parts that it reads and those that it changes."""

    def explain(*values: Any) -> dict[Any, Any]:
        return updates(parts, desk.explain(_form(values)))

    return explain, [parts[name] for name in FORM], [parts[name] for name in HINTS]


def _connect_run(page: gr.Blocks, desk: Desk, parts: Parts) -> None:
    """What begins, shows and ends a run; what the page shows when it opens."""
    visitor, fields = parts["visitor"], [parts[name] for name in FORM]
    shown = [parts[name] for name in (*EMPTY, "ticket", "go", "stop")]

    def ask(who: str, *values: Any) -> dict[Any, Any]:
        return updates(parts, desk.ask(who, _form(values)))

    async def follow(who: str) -> AsyncIterator[dict[Any, Any]]:
        async for changes in desk.follow(who):
            yield updates(parts, changes)

    def stop(who: str) -> None:  # what follows says so
        desk.stop(who)

    def arrive(request: gr.Request, who: str | None) -> dict[Any, Any]:
        return updates(parts, desk.arrive(who, dict(request.query_params)))

    # Through the queue, though never waiting in it: only so does the toolkit see that the ticket has changed.
    begun = [parts["go"].click, parts["prompt"].submit]
    asked = gr.on(begun, ask, [visitor, *fields], shown, concurrency_limit=None, **QUIET)
    asked.then(None, js=FORGET % json.dumps(LINKED), **AT_ONCE)
    followed = parts["ticket"].change(follow, visitor, shown, concurrency_limit=None, **QUIET)
    followed.then(*_explainer(desk, parts), **AT_ONCE)
    parts["followed"] = followed  # no part that is seen: the event that ends with a run
    parts["stop"].click(stop, visitor, None, **AT_ONCE)

    def settle(*values: Any) -> dict[Any, Any]:
        return updates(parts, desk.settle(_form(values)))

    opened = [visitor, *(parts[name] for name in (*FIELDS, "metadata")), *shown]
    arrived = page.load(arrive, visitor, opened, js=CLAIM, concurrency_limit=None, **QUIET)
    arrived.then(None, visitor, visitor, js=AGREE, **AT_ONCE)
    arrived.then(settle, fields, [*(parts[name] for name in HINTS), parts["notices"]], **AT_ONCE)


def _connect_words(desk: Desk, parts: Parts) -> None:
    """What helps with the prompt."""
    prompt, words = parts["prompt"], [parts[name] for name in ("look", "words", "surprise")]

    def look(text: str, name: str) -> dict[Any, Any]:
        return updates(parts, desk.look(text, name))

    def press(text: str, event: gr.EventData) -> str:
        return desk.press(text, event._data)

    gr.on([parts["words"].click, parts["look"].click], press, prompt, prompt, **AT_ONCE)
    parts["surprise"].click(desk.surprise, None, prompt, **AT_ONCE)
    read = [prompt, parts["preset"]]
    gr.on([part.change for part in read], look, read, words, trigger_mode="always_last", **AT_ONCE)


def _connect_form(desk: Desk, parts: Parts) -> None:
    """What sets the form, explains it, and makes a link of it."""
    settings, explaining = [parts[name] for name in FIELDS], _explainer(desk, parts)

    def choose(name: str) -> dict[Any, Any]:
        return updates(parts, desk.choose(name))

    def lacking(name: str) -> dict[Any, Any]:
        return updates(parts, desk.lacking(name))

    def restore(file: str) -> dict[Any, Any]:
        return updates(parts, desk.restore_file(file) | {"restore": None})

    def link(*values: Any) -> str:
        return desk.link(_form(values))

    parts["new_seed"].click(lambda: secrets.randbelow(2**31), None, parts["seed"], **AT_ONCE)
    outputs = [*settings, parts["notices"]]
    chosen = parts["preset"].input(choose, parts["preset"], outputs, trigger_mode="always_last", **AT_ONCE)
    chosen.then(lacking, parts["preset"], parts["notices"], **AT_ONCE)  # which waits while the libraries load
    turned = [parts[key].change for key in (*KNOBS, "no_noise", "preset", "source", "start_at")]
    gr.on(turned, *explaining, trigger_mode="always_last", **AT_ONCE)
    restored = [*settings, *(parts[name] for name in ("source", "notices", "restore"))]
    parts["restore"].upload(restore, parts["restore"], restored, **AT_ONCE)
    asked = parts["link"].click(link, explaining[1], parts["query"], **AT_ONCE)
    copied = asked.success(None, parts["query"], parts["link"], js=COPY, **AT_ONCE)
    copied.then(None, None, parts["link"], js=LATER, **AT_ONCE)


def updates(parts: Parts, changes: Changes) -> dict[Any, Any]:
    """Changes by name as the toolkit wants them: by part, with buttons as they follow from the run's state."""
    changes = dict(changes)
    busy, storybook = changes.pop("busy", None), changes.pop("storybook", None)
    found = {parts[name]: turned(name, value) for name, value in changes.items()}
    if busy is not None:
        found[parts["go"]] = gr.Button("Making it …" if busy else "Make the video", interactive=not busy)
        found[parts["stop"]] = gr.Button("Stopping …" if busy == STOPPING else "Stop", interactive=busy is True)
    if storybook is not None:
        found |= {parts[name]: gr.update(visible=storybook) for name in ("words", "surprise")}
    return found
