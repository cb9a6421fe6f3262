"""The page: its tabs, what all of them share, and the files that it hands out. Each tab is one file beside this one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from mpl.config import Preset
from mpl.ui import api, compare, create, rate, runs
from mpl.ui.ballot import Ballot
from mpl.ui.desk import Desk
from mpl.ui.duel import Duel
from mpl.ui.style import css, script, theme
from mpl.ui.tally import KINDS, export

log = logging.getLogger(__name__)

HEADING = "A sentence becomes a video"
SENTENCE = (
    "Three diffusion models draw your sentence pixel by pixel, from tiny keyframes to 256×160; a fourth paints the "
    "finished 576×320 video in latent space."
)
MOTION = '<button type="button" id="motion">Pause all videos</button>'
STORAGE = "mpl-video-visitor"  # where a browser keeps its visitor's secret


def build(desk: Desk, preset: Preset) -> gr.Blocks:
    """The page over a desk, with `preset` chosen at first; not launched yet."""
    with gr.Blocks(title="MPL-Video", analytics_enabled=False, delete_cache=(3600, 86_400)) as page:
        # The key only scrambles what lies in the visitor's own browser; both are fixed, or a restart would lose it.
        visitor = gr.BrowserState(None, storage_key=STORAGE, secret=STORAGE)
        gr.HTML(f"<div><h1>{HEADING}</h1><p>{SENTENCE}</p></div>{MOTION}", elem_id="title")
        duel = Duel(desk)
        with gr.Tabs(selected="create", elem_id="tabs") as tabs:
            with gr.Tab("Create", id="create"):
                parts = create.build(page, desk, preset, visitor)
            # Its children are there from the start: what goes on in it may say so before it is opened.
            with gr.Tab("Compare", id="compare", render_children=True):
                compare.build(page, duel, preset, visitor)
            with gr.Tab("Rate", id="rate", render_children=True) as rating:
                rate.build(page, rating, Ballot(duel), visitor)
            with gr.Tab("History", id="history") as tab:
                runs.build(desk, tabs, tab, parts)
        api.offer(desk, duel)
    page.queue(max_size=256, default_concurrency_limit=None, api_open=False)
    return page


def launch(page: gr.Blocks, desk: Desk, **options: Any) -> tuple[Any, str, str | None]:
    """Serves the page with its look and files; `options` are those of Gradio's `launch`."""
    return page.launch(
        theme=theme(),
        css=css(),
        js=script(),
        footer_links=["api"],
        run_history=False,  # the browser would keep every run's files, and a vote would not be blind
        ssr_mode=False,
        max_file_size="20mb",
        # What programs are answered with, and what goes back into the form. Names there are random or hashes, and
        # no folder is listed: nobody finds what they were not given.
        allowed_paths=[str(desk.history.root.absolute())],
        app_kwargs={
            "routes": [Route("/files/{folder}/{name}", _files(desk)), Route("/votes.{ending}", _votes(desk))],
        },
        **options,
    )


def _votes(desk: Desk) -> Any:
    """What answers to the links of `mpl.ui.tally`."""

    async def send(request: Request) -> Response:
        ending, study = request.path_params["ending"], request.query_params.get("study", "")
        if ending not in KINDS:
            return PlainTextResponse("Votes come as csv or json.", 404)
        try:
            return Response(await run_in_threadpool(export, study, desk.votes, ending), media_type=KINDS[ending])
        except (ValueError, OSError):
            log.exception("votes of %r", study)
            return PlainTextResponse("The votes cannot be read; the server's log says more.", 500)

    return send


def _files(desk: Desk) -> Any:
    """What answers to `mpl.history.address`."""

    async def send(request: Request) -> Response:
        folder, name = request.path_params["folder"], request.path_params["name"]
        path: Path | None = await run_in_threadpool(desk.history.find, folder, name)
        if path is None:
            return PlainTextResponse("This file is gone.", 404)
        return FileResponse(path, headers={"Cache-Control": "private, max-age=86400", "Referrer-Policy": "no-referrer"})

    return send
