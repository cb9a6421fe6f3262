"""`python -m mpl pack`: a folder's videos and captions into tar shards, for trainings of many processes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mpl.limits import check_folder
from mpl.shards import Shard, name_at
from mpl.video import video_kind

from .tars import CAPTION, VIDEO, webdataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="mp4 files and scenes.jsonl, as data.folder")
    parser.add_argument("--shards", type=int, required=True, metavar="N", help="how many, of two videos or more each")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for 00000.tar, 00001.tar, …")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the folder's videos and captions to shards, every N-th to the same; the same bytes every time.

    Raises:
        ValueError: an index, video, number or folder that cannot be, before any work.
    """
    from .data import read_index

    entries = read_index(args.folder, "pack")
    most = len(entries) // 2
    if not 1 <= args.shards <= most:
        raise ValueError(f"--shards {args.shards}: accepted for {len(entries)} videos: 1 to {most}")
    for file, _ in entries:
        if (kind := video_kind(args.folder / file)) != VIDEO:
            raise ValueError(f"{args.folder / file}: a {kind}; shards hold {VIDEO}")
    writer = webdataset().TarWriter
    out = check_folder(args.out, "--out")
    if any(out.glob("*.tar")):
        raise ValueError(f"--out {out}: holds tar files, which would be taken for shards of the same; choose another")
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=out) as unfinished:  # some shards look like a whole set
        written = [Path(unfinished, f"{number:05d}.tar") for number in range(args.shards)]
        for number, path in enumerate(written, start=1):
            with path.open("wb") as file, writer(file, mtime=0) as shard:
                for place, (video, caption) in Shard(number, args.shards).of_list(entries):
                    content = (args.folder / video).read_bytes()
                    shard.write({"__key__": name_at(place), VIDEO: content, CAPTION: caption})
            print(out / path.name, flush=True)
        for path in written:
            path.replace(out / path.name)
    return {"folder": str(out), "shards": args.shards, "videos": len(entries)}
