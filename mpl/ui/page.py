"""The page's parts and what connects them: a form over `mpl.ui.desk`, and the endpoint /generate."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from mpl.config import STAGES, Preset
from mpl.engine import Engine
from mpl.ui.desk import Desk
from mpl.ui.form import KNOBS, SLIDERS, SNR_SHOWN, example_prompts, knobs
from mpl.ui.generate import EMPTY, Changes
from mpl.ui.panels import TITLES, progress
from mpl.ui.showcase import read_showcase

HEADING = "A sentence becomes a video"
SENTENCE = (
    "Three diffusion models draw your sentence pixel by pixel, from tiny keyframes to 256×160; a fourth paints the "
    "finished 576×320 video in latent space."
)
# key → label, what it does (first the stage that runs again), lowest, highest, step
SLIDER_TEXTS: dict[str, tuple[str, str, float, float, float]] = {
    "translation.strength": (
        "SDEdit strength",
        "Runs stage 4 again. How much of the picture the expert may paint anew.",
        *(0.05, 1, 0.01),
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
FORM = ("prompt", "seed", "preset", "no_noise", *KNOBS)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
MODELS: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1}  # one run at a time, whoever asks

Parts = dict[str, Any]


def build(engine: Engine, preset: Preset) -> gr.Blocks:
    """The page over an engine, with `preset` chosen at first; not launched yet."""
    with gr.Blocks(title="MPL-Video", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        desk = Desk(engine, preset, Path(page.GRADIO_CACHE) / "runs")
        gr.HTML(f"<h1>{HEADING}</h1><p>{SENTENCE}</p>", elem_id="title")
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="ask"):
                parts = _question()
            with gr.Column(elem_id="result"):
                parts |= _result()
            with gr.Column(elem_id="knobs"):
                parts |= _knobs(desk, preset)
        _connect(page, desk, parts)
        _offer(desk)
    page.queue(max_size=32, api_open=False)
    return page


# ---- parts


def _question() -> Parts:
    prompts = example_prompts()
    parts: Parts = {}
    parts["prompt"] = gr.Textbox(prompts[0], label="What the video shows", max_lines=5, elem_id="prompt")
    with gr.Row(elem_id="buttons"):
        parts["go"] = gr.Button("Make the video", variant="primary", elem_id="go")
        parts["stop"] = gr.Button("Stop", interactive=False, elem_id="stop")
    with gr.Row(elem_id="seeds"):
        parts["seed"] = gr.Number(0, label="Seed", elem_id="seed")
        parts["new_seed"] = gr.Button("New seed", elem_id="new-seed")
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
        parts[key] = _slider(key, values)
    parts["translation_hint"] = gr.HTML("", elem_id="translation-hint")
    parts["superres.snr"] = _slider("superres.snr", values)
    parts["no_noise"] = gr.Checkbox(values["no_noise"], label="No noise at all (SNR ∞)", elem_id="no-noise")
    parts["superres_hint"] = gr.HTML("", elem_id="superres-hint")
    with gr.Accordion("More options", open=False, elem_id="options"):
        names = desk.presets.names
        parts["preset"] = gr.Dropdown(names, value=names[0], label="Preset", elem_id="preset")
        for stage in STAGES:
            with gr.Row():
                for key in (f"{stage}.steps", f"{stage}.guidance"):
                    label = f"{TITLES[stage]}: {key.rpartition('.')[2]}"
                    parts[key] = gr.Number(values[key], label=label, min_width=110, elem_id=key.replace(".", "-"))
    return parts


def _slider(key: str, values: dict[str, Any]) -> gr.Slider:
    """A slider that reaches as far as the preset's own value."""
    label, info, low, high, step = SLIDER_TEXTS[key]
    low, high = min(low, values[key]), max(high, values[key])
    return gr.Slider(low, high, values[key], step=step, label=label, info=info, elem_id=key.replace(".", "-"))


def _result() -> Parts:
    shipped = read_showcase()
    ready = progress(0.0, "Ready", f"below plays a shipped example: “{shipped.prompt}”, seed {shipped.seed}")
    first = EMPTY | {"progress": ready} | shipped.panels
    parts: Parts = {name: gr.HTML(first[name], elem_id=name) for name in ("progress", "announcement", "notices")}
    with gr.Row(elem_id="stages"):
        parts |= {stage: gr.HTML(first[stage], elem_id=f"stage-{stage}") for stage in STAGES}
    with gr.Row(elem_id="downloads"):
        parts["video"] = gr.DownloadButton("Download the video", visible=False, elem_id="video")
        parts["recipe"] = gr.DownloadButton("Download its recipe", visible=False, elem_id="recipe")
    parts["ticket"] = gr.State("")
    return parts


# ---- what connects them


def _connect(page: gr.Blocks, desk: Desk, parts: Parts) -> None:
    """Every event of the page. `shown` are the parts that a run changes, `fields` the form's."""
    fields = [parts[name] for name in FORM]
    shown = [part for name, part in parts.items() if name not in FORM and name != "new_seed"]

    def form(values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(FORM, values, strict=True))

    def ask(request: gr.Request, *values: Any) -> dict[Any, Any]:
        return _updates(parts, desk.ask(str(request.session_hash), form(values)))

    def make(request: gr.Request) -> Iterator[dict[Any, Any]]:
        for changes in desk.make(str(request.session_hash)):
            yield _updates(parts, changes)

    def stop(request: gr.Request) -> gr.Button:
        desk.stop(str(request.session_hash))
        return gr.Button("Stopping …", interactive=False)

    def leave(request: gr.Request) -> None:
        desk.leave(str(request.session_hash))

    def choose(name: str) -> dict[Any, Any]:
        return _updates(parts, desk.choose(name))

    def explain(*values: Any) -> dict[Any, Any]:
        return _updates(parts, desk.explain(form(values)))

    def arrive(*values: Any) -> dict[Any, Any]:
        return _updates(parts, desk.arrive(form(values)))

    # Through the queue, though never waiting in it: only so does the toolkit see that the ticket has changed.
    gr.on([parts["go"].click, parts["prompt"].submit], ask, fields, shown, concurrency_limit=None, **QUIET)
    parts["ticket"].change(make, None, shown, **QUIET, **MODELS)
    parts["stop"].click(stop, None, parts["stop"], **AT_ONCE)
    parts["new_seed"].click(lambda: secrets.randbelow(2**31), None, parts["seed"], **AT_ONCE)
    hints = [parts["superres_hint"], parts["translation_hint"]]
    knob_parts = [parts[key] for key in KNOBS]
    chosen = parts["preset"].input(choose, parts["preset"], [*knob_parts, parts["no_noise"], *shown], **AT_ONCE)
    chosen.then(explain, fields, hints, **AT_ONCE)
    turned = [parts[key].change for key in (*SLIDERS, "no_noise", "translation.steps")]
    gr.on(turned, explain, fields, hints, trigger_mode="always_last", **AT_ONCE)
    page.load(arrive, fields, [*hints, parts["notices"]], **AT_ONCE)
    page.unload(leave)


def _updates(parts: Parts, changes: Changes) -> dict[Any, Any]:
    """Changes by name as the toolkit wants them: by part, with buttons as they follow from the run's state."""
    changes = dict(changes)
    busy = changes.pop("busy", None)
    updates = {parts[name]: value for name, value in changes.items()}
    for name in ("video", "recipe"):
        if name in changes:
            path = changes[name]
            updates[parts[name]] = gr.DownloadButton(value=path and str(path), visible=path is not None)
    if busy is not None:
        updates[parts["go"]] = gr.Button("Making it …" if busy else "Make the video", interactive=not busy)
        updates[parts["stop"]] = gr.Button("Stop", interactive=busy)
    return updates


def _offer(desk: Desk) -> None:
    """The endpoint for programs; it waits in the same queue as the page."""

    def generate(
        prompt: str,
        seed: int = 0,
        preset: str = "",
        strength: float | None = None,
        cap: int | None = None,
        snr: float | None = None,
    ) -> tuple[dict, dict]:
        """Makes a video of a prompt; returns the mp4 file and its recipe.

        Args:
            prompt: what the video shows, 1 to 1000 characters.
            seed: a whole number from 0 to 2^63 - 1; the same seed gives the same video.
            preset: a preset's name; empty takes the server's own.
            strength: SDEdit strength of expert translation, above 0 to 1.
            cap: the highest timestep that the expert may start from, 1 to 1000.
            snr: SNR of the noise augmentation before super-resolution, above 0.
        """
        sliders = {key: v for key, v in zip(SLIDERS, (strength, cap, snr), strict=True) if v is not None}
        try:
            done = desk.generate(prompt, seed, preset, sliders)
        except (ValueError, RuntimeError) as error:
            raise gr.Error(str(error)) from None
        name = Path(str(done.file)).name
        return gr.FileData(path=str(done.file), orig_name=name).model_dump(), done.recipe

    gr.api(generate, api_name="generate", **MODELS)
