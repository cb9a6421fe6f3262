"""What the tests of the page share with its browser tests."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np

from mpl.studies import Pair, Study, write_pair, write_study

PROMPT = "a red car at the sea"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_study(folder: Path, arms: tuple[str, str] = ("old", "new")) -> None:
    """A study of two pairs of small grey videos."""
    pairs = []
    for i in range(2):
        first, second = (np.full((3, 8, 16, 3), 40 * (2 * i + arm), np.uint8) for arm in range(2))
        videos = write_pair(folder, (first, 8.0), (second, 8.0))
        pairs.append(Pair(str(i), f"prompt <i>{i}</i>", 5, ("Food", "Animals")[i], videos))
    write_study(folder, Study(folder.name, "Words & deeds", "", arms, tuple(pairs)))
