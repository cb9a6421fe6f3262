"""The page: `python app.py`, then open the address that it prints. torch loads once the page is open."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import socket
import sys
from pathlib import Path

from mpl.command import add_text_cache_arguments
from mpl.config import Preset, load_preset
from mpl.engine import Engine
from mpl.limits import check_folder, shown
from mpl.store import StageCache, text_cache
from mpl.terminal import hush
from mpl.ui.desk import Desk

PROFILES = {"local": "storybook", "zerogpu": "show1"}  # each with its preset


def main() -> int:
    """Serves until it is interrupted; returns 2 for bad input."""
    args = parser().parse_args()
    try:
        if args.profile not in PROFILES:
            raise ValueError(f"--profile {args.profile!r}: must be one of {', '.join(PROFILES)}")
        preset = load_preset(args.preset or PROFILES[args.profile])
        out = check_folder(args.out, "--out")
        if args.port is not None:
            check_port(args.port, args.host)
        if args.mcp and importlib.util.find_spec("mcp") is None:
            raise ValueError("--mcp: needs one more package: pip install 'gradio[mcp]'")
        texts = text_cache(args.text_cache, out, args.clear_text_cache)
        engine, preset = open_engine(args.profile, preset, StageCache(Path(out) / "stages"), texts)
        desk = Desk(engine, preset, out, most_steps(args.max_steps))
    except ValueError as error:
        print(f"app.py: error: {error}", file=sys.stderr)
        return 2

    from mpl.ui.page import build, launch  # Gradio takes seconds to import: bad input is said before

    hush()
    options = {"server_name": args.host, "server_port": args.port, "share": args.share, "mcp_server": args.mcp}
    launch(build(desk, preset), desk, **options)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options; a Space, which starts programs without any, sets them by its variables."""
    found = argparse.ArgumentParser(description="Opens the page of MPL-Video.")
    found.add_argument(
        "--preset",
        default=os.environ.get("MPL_PRESET"),
        metavar="NAME|FILE.toml",
        help="default: MPL_PRESET, else storybook, or show1 with --profile zerogpu",
    )
    found.add_argument("--host", metavar="NAME", help="default: GRADIO_SERVER_NAME, else 127.0.0.1")
    found.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, else the first free one from 7860")
    found.add_argument("--share", action="store_true", help="open a public link for 72 hours, through gradio.live")
    asked = os.environ.get("GRADIO_MCP_SERVER", "").lower() == "true"
    found.add_argument(
        "--mcp",
        action="store_true",
        default=asked,
        help="the endpoints for language models too; or GRADIO_MCP_SERVER=true",
    )
    found.add_argument(
        "--out",
        default=os.environ.get("MPL_OUT", "outputs"),
        metavar="DIR",
        help="folder of videos, votes and kept stages; default: MPL_OUT, else outputs",
    )
    found.add_argument(
        "--max-steps",
        default=os.environ.get("MPL_MAX_STEPS"),
        metavar="N",
        help="no stage may take more steps, so that others wait less; default: MPL_MAX_STEPS, else 1000",
    )
    add_text_cache_arguments(found, os.environ.get("MPL_TEXT_CACHE"))
    found.add_argument(
        "--profile",
        default=os.environ.get("MPL_PROFILE", "local"),
        metavar="NAME",
        help="local: models load when they are needed; zerogpu: at the start, for such a Space; default: MPL_PROFILE",
    )
    return found


def most_steps(text: str | None) -> int | None:
    """The value of --max-steps. Raises ValueError for what is no number of steps."""
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise ValueError(f"--max-steps {shown(text)}: must be a whole number from 1 to 1000")
    return int(text)


def check_port(port: int, host: str | None) -> None:
    """Raises ValueError for a port that the page cannot have; Gradio would say so with a traceback, and later."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port = {port}: must be a whole number from 1 to 65535")
    local = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"  # which Gradio asks for the port too, whatever the host
    for name in dict.fromkeys((local, (host or local).strip("[]"))):
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        try:
            socket.create_server((name, port), family=family).close()
        except OSError as error:
            why = {errno.EADDRINUSE: "in use", errno.EACCES: "not permitted"}.get(error.errno or 0)
            if why:  # anything else is the host's
                raise ValueError(f"--port = {port}: {why}; choose another, or none for the first free one") from None


def open_engine(profile: str, preset: Preset, cache: StageCache, texts: StageCache | bool) -> tuple[Engine, Preset]:
    """The engine of a profile, and the preset as it runs there."""
    if profile == "local":
        return Engine(cache, texts), preset
    from mpl.zerogpu import SECONDS, ZeroGpuEngine, eager, import_spaces

    spaces, seconds = import_spaces(), os.environ.get("MPL_GPU_SECONDS") or str(SECONDS)
    if not seconds.isdecimal() or not 1 <= int(seconds) <= 3600:
        raise ValueError(f"MPL_GPU_SECONDS = {shown(seconds)}: must be a whole number from 1 to 3600")
    preset = eager(preset)
    return ZeroGpuEngine(cache, preset, spaces, int(seconds), texts=texts), preset


if __name__ == "__main__":
    sys.exit(main())
