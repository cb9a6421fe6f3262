"""What the tests of the page share with its browser tests."""

from __future__ import annotations

import socket

PROMPT = "a red car at the sea"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
