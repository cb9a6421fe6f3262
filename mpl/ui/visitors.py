"""Who has the page open: each visitor has at most one run, a flag that stops it, and a shelf of files."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from mpl.ui.form import Ask
from mpl.ui.pictures import Shelf


@dataclass
class Visitor:
    """One open page."""

    shelf: Shelf
    waiting: Ask | None = None  # asked for, not begun
    stop: threading.Event = field(default_factory=threading.Event)
    running: bool = False


class Visitors:
    """Open pages by the name that the toolkit gives a session. Safe to share between threads."""

    def __init__(self, folder: str | Path) -> None:
        """Takes the folder of the visitors' shelves."""
        self.folder = Path(folder)
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def ask(self, name: str, ask: Ask) -> None:
        """Notes what a visitor wants; it takes the place of what has not begun.

        Raises:
            ValueError: a run of this visitor is going on.
        """
        with self._lock:
            if name not in self._visitors:
                self._visitors[name] = Visitor(Shelf(self.folder))
            visitor = self._visitors[name]
            if visitor.running:
                raise ValueError("Your last run is still going on: stop it, or wait until it ends.")
            visitor.waiting, visitor.stop = ask, threading.Event()

    def begin(self, name: str) -> tuple[Visitor, Ask] | None:
        """The visitor and what they wait for, which now runs; None where it is gone."""
        with self._lock:
            visitor = self._visitors.get(name)
            if visitor is None or visitor.waiting is None or visitor.running:
                return None
            ask, visitor.waiting, visitor.running = visitor.waiting, None, True
        visitor.shelf.prune()
        return visitor, ask

    def end(self, name: str, visitor: Visitor) -> None:
        """The run is over; the files of one who has left meanwhile go."""
        with self._lock:
            visitor.running = False
            gone = self._visitors.get(name) is not visitor
        if gone:
            visitor.shelf.clear()

    def stop(self, name: str) -> None:
        """Asks the visitor's run to stop, if there is one."""
        with self._lock:
            visitor = self._visitors.get(name)
        if visitor:
            visitor.stop.set()

    def leave(self, name: str) -> None:
        """The page was closed: its run stops, its files go."""
        with self._lock:
            visitor = self._visitors.pop(name, None)
        if visitor:
            visitor.stop.set()
            if not visitor.running:
                visitor.shelf.clear()
