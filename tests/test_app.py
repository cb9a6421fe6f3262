"""The endpoints for programs, and `app.py` itself, on tiny random models."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_toys import PROMPT, free_port

from mpl.config import STAGES, Preset, to_toml
from mpl.video import read_video, write_video
from mpl.votes import QUESTIONS, Vote, Votes

ROOT = Path(__file__).resolve().parent.parent


def test_endpoint_for_programs(address: str) -> None:
    """A clean call, bad input in plain words, and no way around the queue."""
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    file, recipe = client.predict(prompt=PROMPT, seed=3, strength=0.4, api_name="/generate")
    assert len(read_video(file)) == 29
    assert recipe["seed"] == 3 and recipe["preset"]["translation"]["strength"] == 0.4
    for wrong, words in (
        ({"prompt": " "}, "prompt is empty"),
        ({"prompt": PROMPT, "strength": 2}, "translation.strength = 2"),
        ({"prompt": PROMPT, "preset": str(ROOT / "presets" / "quick.toml")}, "must be one of"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(**wrong, api_name="/generate")

    file, recipe = client.predict(prompt=PROMPT, api_name="/keyframes")
    assert len(read_video(file)) == 8 and list(recipe["stages"]) == ["keyframes"]
    for stage in STAGES[1:]:
        file, recipe = client.predict(video=handle_file(file), prompt=PROMPT, api_name=f"/{stage}")
        assert len(read_video(file)) == 29 and list(recipe["stages"]) == [stage]
    left, right, figures = client.predict(prompt=PROMPT, stop_after_a="superres", api_name="/compare")
    assert read_video(left).shape[2] < read_video(right).shape[2]
    assert [row["last stage"] for row in figures] == ["superres", "translation"]
    body = json.dumps({"data": [PROMPT, 3, "", None, None, None]}).encode()
    request = urllib.request.Request(f"{address}gradio_api/run/generate", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(request)


def test_votes_and_files_are_where_the_page_links_to(served_page: tuple[str, Path]) -> None:
    address, out = served_page
    vote = Vote("words", 0, PROMPT, "Food", "old", "new", dict.fromkeys(QUESTIONS, "left"), "ann")
    Votes(out / "votes.sqlite").add(vote)
    with urllib.request.urlopen(f"{address}votes.csv?study=words") as answer:
        [row] = csv.DictReader(io.StringIO(answer.read().decode()))
    assert (row["left"], row["quality"], row["voter"]) == ("old", "left", "")
    with urllib.request.urlopen(f"{address}votes.json?study=words") as answer:
        assert json.load(answer)[0]["prompt"] == PROMPT
    for lost in ("votes.txt?study=words", f"files/{'0' * 32}/..%2fvotes.sqlite", "files/a/b"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + lost)


def test_a_stage_takes_no_file_that_was_not_uploaded(served_page: tuple[str, Path], tmp_path: Path) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client, uploads = Client(served_page[0], verbose=False), served_page[1].parent / "gradio"
    other = write_video(tmp_path / "other.mp4", np.zeros((5, 24, 48, 3), np.uint8), 8.0)
    (uploads / "link.mp4").symlink_to(other)
    for path in (str(other), str(uploads / "link.mp4"), f"{uploads}/../out", str(uploads), "/dev/null", "a\0b", 3):
        for stage in STAGES[1:]:
            with pytest.raises(AppError, match="video: must be a file that was uploaded to this server"):
                client.predict(video={"path": path}, prompt=PROMPT, api_name=f"/{stage}")


def test_the_readme_s_example_runs(address: str, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(from gradio_client.*?)```", text, re.S)
    write_video(tmp_path / "clip.mp4", np.zeros((5, 24, 48, 3), np.uint8), 8.0)
    example = example.replace("http://127.0.0.1:7860", address).replace("clip.mp4", str(tmp_path / "clip.mp4"))
    found: dict[str, Any] = {}
    exec(example, found)
    assert len(read_video(found["video"])) == 5 and list(found["recipe"]["stages"]) == ["translation"]
    assert len(found["figures"]) == 2 and read_video(found["left"]).shape[2] < read_video(found["right"]).shape[2]


def test_app_serves_the_preset_it_is_given(preset: Preset, tmp_path: Path) -> None:
    """Its port comes from the environment; with --mcp language models find the endpoints, and can call them."""
    (tmp_path / "mine.toml").write_text(to_toml(preset))
    port = free_port()
    command = [sys.executable, str(ROOT / "app.py"), "--mcp"]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    environment |= {"MPL_PRESET": "mine.toml", "MPL_OUT": "made"}
    environment |= {"GRADIO_TEMP_DIR": str(tmp_path / "gradio"), "TMPDIR": str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        config = wait_for(f"http://127.0.0.1:{port}/config", server)
        assert "tiny" in json.dumps(config["components"])
        video = write_video(tmp_path / "clip.mp4", np.zeros((5, 24, 48, 3), np.uint8), 8.0)
        tools, said, made = asyncio.run(ask_as_a_language_model(f"http://127.0.0.1:{port}/gradio_api/mcp/", video))
        assert {name.rpartition("_")[2] for name in tools} >= {"generate", *STAGES, "compare"}
        assert "prompt is empty" in said and "a video given by a program" in made
    finally:
        server.terminate()
        server.wait(60)


async def ask_as_a_language_model(address: str, video: Path) -> tuple[list[str], str, str]:
    """The names of the tools, what the one that makes keyframes says to an empty prompt, and superres to a video."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(address) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]

        async def call(tool: str, **values: str) -> str:
            answer = await session.call_tool(next(name for name in tools if name.endswith(tool)), values)
            return " ".join(part.text for part in answer.content if part.type == "text")

        given = f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode()}"
        return tools, await call("keyframes", prompt=" "), await call("superres", video=given, prompt=PROMPT)


def test_app_refuses_bad_options_in_one_line(tmp_path: Path) -> None:
    bad = [("--preset", "none", "must be one of"), ("--out", "/dev/null/x", "cannot write there")]
    bad += [("--profile", "none", "must be one of local, zerogpu")]
    bad += [("--max-steps", "0", '--max-steps "0": must be a whole number from 1 to 1000')]
    bad += [("--preset", "quick", "--max-steps", "3", "keyframes.steps = 4: no stage may take more than 3 steps here")]
    for *options, words in [*bad, ("--port", "99999", "--port = 99999: must be a whole number from 1 to 65535")]:
        done = subprocess.run(
            [sys.executable, str(ROOT / "app.py"), *options], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 2
        assert words in done.stderr and done.stderr.count("\n") == 1


def test_a_variable_says_where_embeddings_are_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "--clear-text-cache"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"MPL_TEXT_CACHE": "off"},
    )
    assert done.returncode == 2 and "--text-cache = off names none to clear" in done.stderr


def wait_for(url: str, server: subprocess.Popen[bytes]) -> Any:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url}: no answer")
