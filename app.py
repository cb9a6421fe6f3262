"""The page: `python app.py`, then open the address that it prints. torch loads once the page is open."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mpl.config import load_preset
from mpl.engine import Engine
from mpl.recipe import check_folder
from mpl.store import StageCache
from mpl.terminal import hush


def main() -> int:
    """Serves until it is interrupted; returns 2 for bad input."""
    parser = argparse.ArgumentParser(description="Opens the page of MPL-Video.")
    parser.add_argument("--preset", default="storybook", metavar="NAME|FILE.toml", help="default: storybook")
    parser.add_argument("--host", metavar="NAME", help="default: GRADIO_SERVER_NAME, else 127.0.0.1")
    parser.add_argument("--port", type=int, help="default: GRADIO_SERVER_PORT, else the first free one from 7860")
    parser.add_argument("--share", action="store_true", help="open a public link for 72 hours, through gradio.live")
    parser.add_argument("--out", default="outputs", metavar="DIR", help="folder of videos and kept stages")
    args = parser.parse_args()
    try:
        preset = load_preset(args.preset)
        out = check_folder(args.out, "--out")
        if args.port is not None and not 1 <= args.port <= 65535:
            raise ValueError(f"--port = {args.port}: must be a whole number from 1 to 65535")
    except ValueError as error:
        print(f"app.py: error: {error}", file=sys.stderr)
        return 2

    from mpl.ui.desk import Desk
    from mpl.ui.page import build, launch  # Gradio takes seconds to import: bad input is said before

    hush()
    desk = Desk(Engine(StageCache(Path(out) / "stages")), preset, out)
    launch(build(desk, preset), desk, server_name=args.host, server_port=args.port, share=args.share)
    return 0


if __name__ == "__main__":
    sys.exit(main())
