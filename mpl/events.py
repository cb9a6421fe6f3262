"""What a run says while it goes: plain dataclasses, the same for command line, page, tests and evaluation.

A run is `TextEncoded`, then for every stage either `StageKept` or `StageStarted`, `StageStep` …,
`StageFinished`; it ends with exactly one of `Finished`, `Stopped` or `Failed` (`Withheld` is one). A `Notice` may
come before the first stage. Frames are uint8 `f h w c`; whoever receives an event may keep them, they are never
written to again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Frames = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Notice:
    """Something that the person should know and the run goes on: an unknown word, a prompt cut short."""

    message: str


@dataclass(frozen=True)
class TextEncoded:
    """Step 0 is done. `unknown_words` holds (word, nearest known word or None), in the prompt's order."""

    prompt: str
    unknown_words: tuple[tuple[str, str | None], ...]
    seconds: float
    kept: bool  # all embeddings come from the cache: no text model was loaded


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; `number` of `of` counts the stages of this run from 1.

    `preview` is what it starts from, where that is at hand: the noised latents of a clip that was encoded before.
    """

    stage: str
    number: int
    of: int
    preview: Frames | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StageStep:
    """One denoising step is done: `index` of `total`, counted over all windows of the stage.

    `seconds` is what the stage has taken so far, `seconds_left` an estimate for the rest of the stage (None
    before the second step). `evaluations` counts network evaluations per sample so far. `preview` is the
    current estimate of the result, at most twice a second; the latent stage's is as large as its latents. Where a
    safety checker is on there is none: an estimate would show what the checker has not seen, and half denoised it
    could not judge it.
    """

    stage: str
    index: int
    total: int
    timestep: int
    seconds: float
    seconds_left: float | None
    evaluations: int
    preview: Frames | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StageKept:
    """The stage did not run: its result came from the stage cache, and so did the seconds and memory it once took."""

    stage: str
    frames: Frames = field(repr=False)
    fps: float
    seconds: float
    evaluations: int
    peak_memory_gb: float
    info: dict[str, Any]


@dataclass(frozen=True)
class StageFinished:
    """The stage is done.

    `peak_memory_gb`, in 10⁹ bytes, is the stage's own peak: on a GPU, or of the process.

    `info` says what the stage worked out from its options: `noise_level` beside `snr`, the start `timestep`,
    ….
    """

    stage: str
    frames: Frames = field(repr=False)
    fps: float
    seconds: float
    evaluations: int
    peak_memory_gb: float
    info: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """The run is done. `file` is the video (None where no folder was given), its recipe lies beside it."""

    file: str | None
    recipe: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop in `stage` after `index` of `total` steps; what was finished before is kept.

    `file` and `recipe` describe the last finished stage (None where there is none); the recipe says what was
    run.
    """

    stage: str
    index: int
    total: int
    file: str | None
    recipe: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Failed:
    """The run broke off, for a reason that a person can read; nothing half-written is left."""

    message: str


@dataclass(frozen=True)
class Withheld(Failed):
    """The safety checker flagged the result of `stage`: none of its frames was in any event, no file is written."""

    stage: str


Event = Notice | TextEncoded | StageStarted | StageStep | StageKept | StageFinished | Finished | Stopped | Failed
