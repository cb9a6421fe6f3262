"""The line in front of this machine: heavy work is done by one thread, in the order in which it was asked for.

Whoever asked may look at what has changed, leave, and come back: a job belongs to a visitor, not to a connection.
Knows no toolkit, no models and no page.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

Changes = dict[str, Any]
Work = Callable[["Job"], Iterator[Changes]]

LIMIT = 64  # jobs that may wait
GRACE = 60.0  # seconds that a job goes on with nobody looking: a reload takes a few
REMEMBERED = 100  # visitors whose last job can still be looked at

log = logging.getLogger(__name__)


class Job:
    """One piece of work and what it has said so far."""

    def __init__(
        self,
        work: Work,
        seconds: Callable[[], float | None] = lambda: None,
        kind: str = "",
        form: Changes | None = None,
        unbegun: Changes | None = None,
    ) -> None:
        """Takes the work and the seconds that it is expected to take as things stand (None where nothing tells).

        `kind` is the part of the page that shows what the job says, `form` the values that it was asked for with, and
        `unbegun` what it says if it ends before it begins.
        """
        self.work, self.seconds, self.kind = work, seconds, kind
        self.form, self.unbegun, self.grace = form or {}, unbegun or {}, GRACE
        self.begun, self.over = threading.Event(), threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._said: dict[str, tuple[int, Any]] = {}  # name → version, value
        self._version = 0
        self._looked = self.start = time.monotonic()

    def say(self, changes: Changes) -> None:
        """Notes what has changed; a later value of the same name takes the place of the earlier."""
        with self._lock:
            self._version += 1
            self._said |= {name: (self._version, value) for name, value in changes.items()}

    def since(self, version: int) -> tuple[int, Changes]:
        """What has changed since a version (0: ever), and the version of now. Looking keeps the job alive."""
        with self._lock:
            self._looked = time.monotonic()
            return self._version, {name: value for name, (at, value) in self._said.items() if at > version}

    def stop(self) -> None:
        """Asks the job to end."""
        self._stop.set()

    def stopping(self) -> bool:
        """Whether the job should end: somebody asked for it, or nobody has looked for a while."""
        return self._stop.is_set() or time.monotonic() - self._looked > self.grace

    def left(self) -> float | None:
        """The seconds that it will still take, as far as that is known."""
        seconds = self.seconds()
        gone = time.monotonic() - self.start if self.begun.is_set() else 0.0
        return None if seconds is None else max(0.0, seconds - gone)

    def look(self) -> None:
        """Keeps the job alive."""
        self._looked = time.monotonic()


class Unfinished(ValueError):
    """The visitor's last job is not over."""

    def __init__(self, job: Job) -> None:
        super().__init__("Your last run is still going on: stop it, or wait until it ends.")
        self.job = job


class Line:
    """The jobs of all visitors, each of whom has one at most. Safe to share between threads."""

    def __init__(self, limit: int = LIMIT, grace: float = GRACE) -> None:
        """Starts nothing: the thread begins with the first job."""
        self.limit, self.grace = limit, grace
        self._waiting: deque[tuple[Job, contextvars.Context]] = deque()
        self._running: Job | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, visitor: str, job: Job) -> None:
        """Lets a job wait for its turn.

        Raises:
            Unfinished: the visitor's last job is not over.
            ValueError: too many wait.
        """
        job.grace = self.grace
        with self._changed:
            last = self._jobs.get(visitor)
            if last and not last.over.is_set():
                raise Unfinished(last)
            self._let_go()
            if len(self._waiting) >= self.limit:
                raise ValueError(f"{self.limit} people are waiting already; try again in a few minutes.")
            self._jobs[visitor] = job
            self._jobs.move_to_end(visitor)
            for name in [name for name, old in self._jobs.items() if old.over.is_set()][:-REMEMBERED]:
                del self._jobs[name]
            self._waiting.append((job, contextvars.copy_context()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="mpl-line", daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self, visitor: str) -> None:
        """Nothing can be looked at any more of the visitor's last job, if it is over."""
        with self._changed:
            if (job := self._jobs.get(visitor)) and job.over.is_set():
                del self._jobs[visitor]

    def job(self, visitor: str) -> Job | None:
        """The visitor's job: the one that waits or runs, else the last one."""
        with self._changed:
            return self._jobs.get(visitor)

    def stop(self, visitor: str) -> None:
        """Asks the visitor's job to end; one that waits is over at once."""
        with self._changed:
            if job := self._jobs.get(visitor):
                job.stop()
                self._let_go()

    def ahead(self, job: Job) -> tuple[int, float | None]:
        """How many jobs come before this one, and the seconds that they will take as far as that is known."""
        with self._changed:
            self._let_go()
            before = [self._running] if self._running else []
            for other, _ in self._waiting:
                if other is job:
                    break
                before.append(other)
        known = [other.left() for other in before]
        return len(before), None if None in known else float(sum(value or 0.0 for value in known))

    def _let_go(self) -> None:
        """Ends what waits and shall not begin any more, so that it takes nobody's place."""
        for job, context in list(self._waiting):
            if job.stopping():
                self._waiting.remove((job, context))
                job.say(job.unbegun)
                job.over.set()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._let_go()
                while not self._waiting:
                    self._changed.wait()
                job, context = self._waiting.popleft()
                self._running = job
            context.run(self._do, job)

    def _do(self, job: Job) -> None:
        job.start = time.monotonic()
        job.begun.set()
        try:
            with contextlib.closing(job.work(job)) as changes:  # type: ignore[type-var]  # a generator
                for change in changes:
                    job.say(change)
        except Exception:  # the work says what it can to people; this thread must live
            log.exception("a job broke off")
        finally:
            job.over.set()
