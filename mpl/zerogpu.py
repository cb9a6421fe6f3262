"""An engine for a Space on Hugging Face's ZeroGPU, where a GPU is lent to one function at a time.

There models are loaded at the start and moved by the platform; a run goes to a forked process, so what passes between
the two is pickled, and a Stop is a file that both see. `spaces` must be imported before torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpl.config import Preset, override
from mpl.engine import Ask, Engine

if TYPE_CHECKING:
    from mpl.events import Event
    from mpl.recipe import Files
    from mpl.store import StageCache

REFUSED = "No GPU, or not for long enough: {} Try again later, fewer steps, or a video that ends at an earlier stage."
SECONDS = 120  # asked for per run: what anonymous visitors have a day (Hugging Face's documentation, August 2026)


log = logging.getLogger(__name__)


def import_spaces() -> ModuleType:
    """Hugging Face's package, which is there on its machines.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import spaces
    except ImportError:
        raise ValueError("profile zerogpu: needs the package spaces, which a ZeroGPU Space has") from None
    return spaces


def eager(preset: Preset) -> Preset:
    """The preset with its models on the GPU from the start, as the platform wants them."""
    return override(preset, {"weights.offload": "none", "weights.device": "cuda"})


class ZeroGpuEngine(Engine):
    """The engine whose runs, and nothing else, are done where the GPU is."""

    works_ahead = False  # the platform hands events on from its own process

    def __init__(
        self,
        cache: StageCache | None,
        preset: Preset,
        spaces: ModuleType,
        seconds: int = SECONDS,
        texts: StageCache | bool = True,
    ) -> None:
        """Loads the preset's models now.

        Raises:
            ValueError: they are not on this machine; the message says what to download.
        """
        from mpl.parts import PARTS

        super().__init__(cache, texts)
        self._process = os.getpid()
        weights = self._of(preset)
        weights.check(safety=preset.safety)
        for name in PARTS:
            if weights.has(name):
                with weights.borrow(name):  # it stays where it is then
                    pass
                if name in ("text", "clip"):  # made while a thread of the page reads it, a process would wait forever
                    weights.tokenizer(name)
        self._lent = spaces.GPU(duration=lambda method, asked, *_: seconds * _runs(method, asked))(self._there)

    def run(self, ask: Ask, files: Files, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        return self._relay("run", ask, files, stop)

    def compare(self, arms: Mapping[str, Ask], files: Files, stop: Callable[[], bool]) -> Iterator[tuple[str, Event]]:
        return self._relay("compare", arms, files, stop)

    def _relay(self, method: str, asked: Any, files: Files, stop: Callable[[], bool]) -> Generator[Any, None, None]:
        """Events from the process with the GPU, and what it raised; what the platform raises becomes a ValueError."""
        with tempfile.TemporaryDirectory(prefix="mpl-run-") as folder:
            flag = Path(folder) / "stop"
            with contextlib.closing(self._lent(method, asked, files, flag)) as events:
                while True:
                    try:
                        event = next(events)
                    except StopIteration:
                        return
                    except Exception as error:  # a class of the platform's own
                        log.warning("no GPU", exc_info=True)
                        raise ValueError(REFUSED.format(getattr(error, "message", error))) from error
                    if isinstance(event, Exception):
                        raise event
                    yield event
                    if stop():
                        flag.touch()

    def _there(self, method: str, asked: Any, files: Files, flag: Path) -> Generator[Any, None, None]:
        """A run in the process with the GPU. Errors are results: the platform would tell no more than their class."""
        if os.getpid() != self._process:
            self.renew_locks()
        try:
            yield from getattr(super(), method)(asked, files, flag.exists)
        except (ValueError, OSError) as error:
            yield error


def _runs(method: str, asked: Any) -> int:
    """How many runs a call comes to."""
    return len(asked) if method == "compare" else 1
