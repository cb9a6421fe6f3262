"""A generator that works on while others look at what it has yielded. Standard library only."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
from collections.abc import Generator
from typing import Any, TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")

ROOM = 2  # items that wait to be looked at: a file takes no longer to write than a step or two
_PATIENCE = 0.1  # seconds between looks at whether anybody still wants them


def ahead(items: Generator[Item, None, None], room: int = ROOM) -> Generator[Item, None, None]:
    """The same items in the same order, made in a thread of their own, up to `room` of them before they are asked for.

    Whoever writes files or draws pictures of one does not make the next one wait. What the generator raises is raised
    here. Closing this one closes it, once it has made the item that it is at.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(room)
    unwanted = threading.Event()

    def put(kind: str, value: Any = None) -> bool:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                made.put((kind, value), timeout=_PATIENCE)
                return True
        return False

    def work() -> None:
        try:
            with contextlib.closing(items):
                if all(put("item", item) for item in items):
                    put("end")
        except BaseException as error:
            if not put("error", error):
                log.warning("a generator that nobody looks at any more broke off", exc_info=error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="mpl-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        unwanted.set()
        thread.join()
