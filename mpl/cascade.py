"""The cascade: text, then four stages in order. Yields events, keeps what was made, writes the video.

Clips are float32 on the CPU, `b c f h w` with b = 1, RGB about [-1, 1].
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpl.clips import check_frames, input_sizes
from mpl.config import Preset, stages_between
from mpl.events import Event, Failed, Finished, Stopped, Withheld
from mpl.limits import check_folder, check_prompt, check_seed
from mpl.loading import first_line
from mpl.recipe import Files
from mpl.run import Halt, Run
from mpl.safety import Flagged
from mpl.stages.common import solver
from mpl.stages.translation import translation_timesteps
from mpl.store import StageCache
from mpl.video import MAX_FRAMES
from mpl.weights import Weights
from mpl.windows import filled_length

log = logging.getLogger(__name__)

FORMATS = ("mp4", "webm", "gif")
MEMORY_WORDS = ("allocate memory", "out of memory", "ALLOC_FAILED")  # of the CPU, of CUDA and of its libraries


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a preset, its weights, the last stage that it runs (None: all), its files' name."""

    preset: Preset
    weights: Weights
    stop_after: str | None = None
    name: str = ""  # empty: words of the prompt


def generate(
    prompt: str,
    preset: Preset,
    weights: Weights,
    seed: int,
    *,
    store: StageCache | None = None,
    texts: StageCache | bool = True,
    out: str | Path | None = None,
    start_at: str | None = None,
    clip: Tensor | None = None,
    source: str | None = None,
    stop_after: str | None = None,
    formats: tuple[str, ...] = ("mp4",),
    name: str = "",
    embed: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Event, None, None]:
    """Runs the cascade, or some stages in a row of it.

    Everything is checked now, the work is done as one iterates. Closing the generator ends the run between two steps
    and gives the models back; so does `stop`, which still gets the file and recipe of what was finished.

    Args:
        prompt: 1 to 1000 characters.
        weights: of `preset.weights`.
        seed: 0…2⁶³−1.
        store: where stages' results are kept and looked up; None keeps nothing.
        texts: where prompts' embeddings are: a cache of their own, True for `store`, or False for none. A run that
            finds those of its prompt loads no text model.
        out: folder of the video and its recipe; None writes no file.
        start_at: the first stage to run, with `clip` (1 3 f h w) as its input; None starts from noise.
        source: name of what `clip` came from, for the recipe.
        stop_after: the last stage to run; its result is written at its own size and rate.
        formats: endings of the videos to write, of mp4, webm and gif.
        name: of the files, without ending; empty takes words of the prompt.
        embed: whether the video holds its recipe; the note that it is generated it always does.
        stop: asked after every step; True ends the run with `Stopped`.

    Raises:
        ValueError: an option out of its range, a clip that does not fit, weights that are missing or broken, a folder
            that cannot be written to; all before any work.
    """
    prompt, seed = check_prompt(prompt), check_seed(seed)
    stages = stages_between(start_at, stop_after)
    _check_clip(start_at, clip, preset, stages)
    if not formats or not set(formats) <= set(FORMATS):
        raise ValueError(f"formats = {formats}: must be one or more of {', '.join(FORMATS)}")
    weights.check(stages, safety=preset.safety)
    check_options(stages, preset, weights)
    known = store if texts is True else texts or None
    folder = None if out is None else check_folder(out)
    files = Files(folder, formats, name, embed)
    return _guarded(Run(prompt, preset, weights, seed, stages, store, known, files, clip, source or "", stop))


def _walk(run: Run) -> Generator[Event, None, None]:
    text = yield from run.encode()
    clip = yield from run.stage("keyframes", run.clip, text)  #   (1 3  8  40  64)  2 frames per second
    clip = yield from run.stage("interpolation", clip, text)  #   (1 3 29  40  64)  8 frames per second
    clip = yield from run.stage("superres", clip, text)  #        (1 3 29 160 256)
    clip = yield from run.stage("translation", clip, text)  #     (1 3 29 320 576)
    yield run.finish()


def compare(
    prompt: str, arms: Mapping[str, Arm], seed: int, *, store: StageCache | None = None, **options: Any
) -> Iterator[tuple[str, Event]]:
    """Runs several presets, one after another, on the same prompt and seed; yields (arm, event).

    Stages that arms have in common, down to weights and input, are computed once. Ends where an arm fails or stops.

    Args:
        arms: name → arm.
        store: shared by the arms; None keeps the stages for this comparison alone.
        options: those of `generate`, the same for all arms; an arm's own `stop_after` and `name` go before.

    Raises:
        ValueError: as `generate`, for any arm, before any work.
    """
    shared = store or StageCache(Path(tempfile.gettempdir()) / f"mpl-compare-{uuid.uuid4().hex}")
    runs = {
        name: generate(prompt, arm.preset, arm.weights, seed, store=shared, **_options_of(arm, options))
        for name, arm in arms.items()
    }
    return _in_turn(runs, arms, None if store else shared.folder)


def _options_of(arm: Arm, options: dict[str, Any]) -> dict[str, Any]:
    own = {"stop_after": arm.stop_after, "name": arm.name}
    return options | {key: value for key, value in own.items() if value}


def result(events: Iterable[Event]) -> Finished | Stopped:
    """Runs to the end and returns the last event, for callers that need not watch.

    Raises:
        RuntimeError: the run failed; the message says why.
    """
    last: Event | None = None
    for last in events:
        if isinstance(last, Failed):
            raise RuntimeError(last.message)
    assert isinstance(last, Finished | Stopped)
    return last


def _in_turn(
    runs: Mapping[str, Generator[Event, None, None]], arms: Mapping[str, Arm], temporary: Path | None
) -> Iterator[tuple[str, Event]]:
    """The runs one after another, with one arm's models in memory at a time, unless arms have the same."""
    try:
        for name, events in runs.items():
            for other in arms.values():
                if other.weights is not arms[name].weights:
                    other.weights.release()
            for event in events:
                yield name, event
                if isinstance(event, Failed | Stopped):
                    return
    finally:
        for events in runs.values():
            events.close()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_clip(start_at: str | None, clip: Tensor | None, preset: Preset, stages: tuple[str, ...]) -> None:
    """Raises ValueError unless `clip` is what the stage takes, or both are missing."""
    if start_at is None and clip is None:
        return
    if start_at is None:
        raise ValueError("start_at is missing: it names the stage that the clip is the input of")
    sizes = input_sizes(start_at, preset)
    if clip is None:
        raise ValueError(f"start_at = {start_at!r}: needs a clip to start from")
    if clip.ndim != 5 or clip.shape[:2] != (1, 3) or tuple(clip.shape[3:]) not in sizes:
        wanted = " or ".join(f"1 3 f {h} {w}" for h, w in sizes)
        raise ValueError(f"clip of shape {tuple(clip.shape)}: {start_at} takes {wanted}")
    check_frames(clip.shape[2], start_at, "clip")
    if start_at == "interpolation" and len(stages) > 1:  # alone it is cheap
        _check_filled(clip.shape[2], preset.interpolation.between, stages[1])


def _check_filled(count: int, between: int, stage: str) -> None:
    """Raises ValueError where interpolation makes more frames of a clip than the stage after it takes."""
    filled = filled_length(count, between)
    if filled > MAX_FRAMES:
        most = (MAX_FRAMES - 1) // (between + 1) + 1
        raise ValueError(
            f"clip has {count} frames, of which interpolation makes {filled}: {stage} takes 1 to {MAX_FRAMES}; "
            f"the clip may have up to {most} frames, or the run may stop after interpolation"
        )


def check_options(stages: Sequence[str], preset: Preset, weights: Weights) -> None:
    """Raises ValueError for options that the stages' networks and schedulers cannot meet; their files are there."""
    _check_sizes(stages, preset, weights)
    for stage in stages:  # solvers that cannot do what is asked of them
        block = "upsampling" if stage == "translation" and weights.has("upsampling") else stage
        solver(block, getattr(preset, block), weights)
    if any("translation" in weights.needs(stage) for stage in stages):  # a start that leaves no step
        translation_timesteps(weights.scheduler("translation"), preset.translation)


def _check_sizes(stages: Iterable[str], preset: Preset, weights: Weights) -> None:
    """Raises ValueError for a picture size that a stage's network cannot halve so often."""
    for stage in stages:
        block = "keyframes" if stage == "interpolation" else stage
        unit = weights.picture_unit(stage)
        for side in ("height", "width"):
            value = getattr(getattr(preset, block), side)
            if value % unit:
                raise ValueError(f"{block}.{side} = {value}: {stage} takes multiples of {unit}")


def _guarded(run: Run) -> Generator[Event, None, None]:
    """The walk, with what can go wrong on the way turned into an event that a person can read."""
    try:
        yield from _walk(run)
    except Halt as halt:
        yield run.stopped(halt)
    except Flagged as flagged:
        yield Withheld(str(flagged), flagged.stage)
    except ValueError as error:  # what the checks could not see, such as a file that changed since
        log.debug("run failed", exc_info=True)
        yield Failed(str(error))
    except OSError as error:
        log.debug("run failed", exc_info=True)
        yield Failed(f"A file could not be read or written: {error}")
    except (MemoryError, torch.OutOfMemoryError):
        yield Failed(_out_of_memory(run))
    except torch.AcceleratorError as error:
        log.debug("run failed", exc_info=True)
        yield Failed(f"The GPU refused: {first_line(error)}")
    except RuntimeError as error:
        if not any(words in str(error) for words in MEMORY_WORDS):  # anything else is a mistake here
            raise
        yield Failed(_out_of_memory(run))
    finally:
        run.close()


def _out_of_memory(run: Run) -> str:
    return (
        f"Out of memory on {run.weights.device}. Try split_guidance = true for the stage, smaller "
        "interpolation.gaps_per_batch and translation.decode_frames, weights.offload = stage, or for the text encoder "
        "weights.quantization = nf4; "
        f"`python -m mpl memory --preset {run.preset.name} --vram GB` finds what fits into a GPU."
    )
