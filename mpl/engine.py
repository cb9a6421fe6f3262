"""What a page asks of this machine: runs, what its sliders come to, what is missing. torch loads on first use.

One engine serves everyone who has the page open. Presets with the same weights share the loaded models; a run with
other weights gives the former ones back first, so that memory holds one set.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpl.ahead import ahead
from mpl.completion import substitutes
from mpl.config import Preset
from mpl.events import Event
from mpl.options import WeightsOptions
from mpl.recipe import Files
from mpl.store import StageCache

if TYPE_CHECKING:
    from mpl.evaluation.clipsim import ClipScorer
    from mpl.events import Frames
    from mpl.weights import Weights

CLIP = Path(__file__).resolve().parents[1] / "assets" / "storybook" / "clip"


@dataclass(frozen=True)
class Ask:
    """A run that is asked for, its values checked but for weights and files."""

    prompt: str
    preset: Preset
    seed: int
    start_at: str | None = None  # the stage that the video in `source` is the input of
    source: Path | None = None
    source_name: str = ""  # for the recipe
    stop_after: str | None = None


@dataclass(frozen=True)
class Start:
    """Where translation starts: the highest timestep that it runs, and how many steps it takes from there."""

    timestep: int
    steps: int


@dataclass(frozen=True)
class Machine:
    """Where models run and why; those in memory with their bytes, of all presets; sources of weights with licences."""

    plan: str
    loaded: dict[str, int]
    licences: dict[str, str]


class Engine:
    """The cascade and its models, made when first asked for. Safe to share between threads."""

    works_ahead = True  # the page's pictures and videos of a step are made while the next one is computed

    def __init__(self, cache: StageCache | None = None, texts: StageCache | bool = True) -> None:
        """Takes the caches, as `cascade.generate` does, and does not touch them yet."""
        self.cache, self.texts = cache, texts
        self._weights: dict[WeightsOptions, Weights] = {}
        self._scorer: ClipScorer | None = None
        self._lock = threading.Lock()

    def renew_locks(self) -> None:
        """As `Weights.renew_locks`, of every preset's."""
        self._lock = threading.Lock()
        for weights in self._weights.values():
            weights.renew_locks()

    def run(self, ask: Ask, files: Files, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        """The events of one run; `stop` ends it within one step.

        Raises:
            ValueError: bad input or missing weights, before any work.
        """
        weights = self._of(ask.preset)
        from mpl.cascade import generate
        from mpl.clips import read_clip

        options: dict[str, Any] = {"start_at": ask.start_at, "stop_after": ask.stop_after}
        if ask.source is not None:
            options["clip"] = read_clip(ask.source, str(ask.start_at), ask.preset, resize=True)
            options["source"] = ask.source_name
        options |= {"store": self.cache, "texts": self.texts}
        options |= {"out": files.folder, "name": files.name, "embed": files.embed, "stop": stop}
        self._release_others(ask.preset)
        events = generate(ask.prompt, ask.preset, weights, ask.seed, **options)
        return ahead(events) if self.works_ahead else events

    def compare(self, arms: Mapping[str, Ask], files: Files, stop: Callable[[], bool]) -> Iterator[tuple[str, Event]]:
        """The events of several runs of the same prompt and seed, one after another, each with its arm's name.

        The arms' files are named as the arms. What the arms have in common is computed once. Only one arm's models are
        in memory at a time.

        Raises:
            ValueError: as `run`, for any arm, before any work.
        """
        first = next(iter(arms.values()))
        self._of(first.preset)
        from mpl.cascade import Arm, compare

        sides = {name: Arm(ask.preset, self._of(ask.preset), ask.stop_after, name) for name, ask in arms.items()}
        self._release_others(first.preset)
        options = {"store": self.cache, "texts": self.texts, "out": files.folder, "embed": files.embed, "stop": stop}
        # Not ahead: a side is scored by torch when it is done, and loading the next one's models changes its defaults.
        return compare(first.prompt, sides, first.seed, **options)

    def _release_others(self, preset: Preset) -> None:
        with self._lock:
            others = [held for options, held in self._weights.items() if options != preset.weights]
        for held in others:
            held.release()

    def missing(self, preset: Preset) -> str | None:
        """What keeps this machine from running the preset, in words for people; None where nothing does."""
        try:
            self._of(preset).check(safety=preset.safety)
        except ValueError as error:
            return str(error)
        return None

    def unknown_words(self, prompt: str, preset: Preset, unfinished: bool = False) -> list[tuple[str, str | None]]:
        """Words that the preset's text model does not know, each with the nearest one that it does, or its substitute.

        Of a prompt that is `unfinished` the last word is left out while it may become a known one.
        """
        weights = self._of(preset)
        from mpl.stages.text import unknown_words

        try:
            unknown = unknown_words(prompt, weights.tokenizer("text"), unfinished)
        except ValueError:  # the tokenizer is not on this machine
            return []
        instead = substitutes(preset.text)
        return [(word, instead.get(word, near)) for word, near in unknown]

    def similarity(self, prompt: str, frames: Frames) -> float | None:
        """CLIPSIM of frames and prompt by the shipped CLIP, which knows the storybook's world; None without it."""
        from mpl.evaluation.clipsim import ClipScorer

        try:
            self._scorer = self._scorer or ClipScorer(CLIP)
        except ValueError:
            return None
        return self._scorer.score(prompt, frames)

    def noise_level(self, preset: Preset) -> int:
        """The timestep of superres' image-noising schedule that the preset's SNR comes to; 0 adds no noise.

        Raises:
            ValueError: the checkpoint is not on this machine.
        """
        weights = self._of(preset)
        from mpl.stages.superres import superres_noise_level

        return superres_noise_level(weights.image_noising_scheduler("superres"), preset.superres.snr)

    def translation_start(self, preset: Preset) -> Start:
        """What the preset's strength and cap come to on its checkpoint's schedule.

        Raises:
            ValueError: they leave no step, or the checkpoint is not on this machine.
        """
        weights = self._of(preset)
        from mpl.stages.translation import translation_timesteps

        steps = translation_timesteps(weights.scheduler("translation"), preset.translation)
        return Start(steps[0], len(steps))

    def device(self, preset: Preset) -> str:
        """What the preset's models run on, as people call it."""
        return "CPU" if self._of(preset).device.type == "cpu" else "GPU"

    def machine(self, preset: Preset) -> Machine:
        """Where the preset's models run, what is in memory, and under which licences."""
        weights = self._of(preset)
        with self._lock:
            held = list(self._weights.values())
        loaded = sum((Counter(one.loaded()) for one in held), Counter[str]())
        return Machine(weights.plan(), dict(loaded), weights.licences())

    def _of(self, preset: Preset) -> Weights:
        """The preset's models. Asked for before anything else of torch is: only here may the libraries load.

        Two threads that load them at the same time find halves of them: opening the page and reading a prompt do.
        """
        with self._lock:
            from transformers import AutoTokenizer  # noqa: F401

            import mpl.models  # noqa: F401
            from mpl.weights import Weights

            if preset.weights not in self._weights:
                self._weights[preset.weights] = Weights(preset.weights)
            return self._weights[preset.weights]
