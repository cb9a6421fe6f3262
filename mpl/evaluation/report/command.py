"""`python -m mpl report`: every result that is there as one HTML file, and as Markdown."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpl.limits import check_folder, check_path
from mpl.terminal import RunFailed
from mpl.video import replacing

from .reading import read_results

RESULTS = "runs/evaluation"  # where `evaluate` writes
OUT = "runs/report"
HTML, MARKDOWN = "report.html", "report.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    about = f"folder of results, with the folders within; may be given several times; default: {RESULTS}"
    parser.add_argument("--results", action="append", metavar="DIR", help=about)
    parser.add_argument("--out", default=OUT, metavar="DIR", help=f"of {HTML} and {MARKDOWN}; default: {OUT}")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes `report.html`, `report.md` and the latter's pictures; all of them, or none.

    Raises:
        ValueError: no results, a result that is broken or foreign, or a folder that cannot be written to.
        RunFailed: the files could not be written.
    """
    folders = [Path(check_path(folder, "--results")) for folder in args.results or [RESULTS]]
    results = read_results(folders)

    from .build import build
    from .markdown import PICTURES, markdown
    from .page import page

    report = build(results)
    text, pictures = markdown(report)
    files = {HTML: page(report).encode("utf-8"), MARKDOWN: text.encode("utf-8")}
    files |= {f"{PICTURES}/{name}": content for name, content in pictures.items()}
    out = check_folder(args.out, "--out")
    try:
        _write(out, files)
    except OSError as error:
        raise RunFailed(f"{out} could not be written to: {error.strerror or error}") from error
    paths = {"html": str(out / HTML), "markdown": str(out / MARKDOWN)}
    if not args.json:
        print("\n".join(paths.values()), flush=True)
    return paths | {"results": len(results)}


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Files take their names when all are written."""
    with contextlib.ExitStack() as stack:
        for name, content in files.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(replacing(path)).write_bytes(content)
