"""What a page asks of this machine: runs, what its sliders come to, what is missing. torch loads on first use.

One engine serves everyone who has the page open. Presets with the same weights share the loaded models; a run with
other weights gives the former ones back first, so that memory holds one set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpl.config import Preset, WeightsOptions
from mpl.events import Event
from mpl.store import StageCache

if TYPE_CHECKING:
    from mpl.weights import Weights


@dataclass(frozen=True)
class Start:
    """Where translation starts: the highest timestep that it runs, and how many steps it takes from there."""

    timestep: int
    steps: int


class Engine:
    """The cascade and its models, made when first asked for. Safe to share between threads."""

    def __init__(self, out: str | Path, cache: StageCache | None = None) -> None:
        """Takes the folder of the videos and the stage cache; touches neither yet."""
        self.out = Path(out)
        self.cache = cache
        self._weights: dict[WeightsOptions, Weights] = {}
        self._lock = threading.Lock()

    def run(self, prompt: str, preset: Preset, seed: int, stop: Callable[[], bool]) -> Generator[Event, None, None]:
        """The events of one run; `stop` ends it within one step.

        Raises:
            ValueError: bad input or missing weights, before any work.
        """
        from mpl.cascade import generate

        with self._lock:
            others = [held for options, held in self._weights.items() if options != preset.weights]
        for held in others:
            held.release()
        return generate(prompt, preset, self._of(preset), seed, store=self.cache, out=self.out, stop=stop)

    def missing(self, preset: Preset) -> str | None:
        """What keeps this machine from running the preset, in words for people; None where nothing does."""
        try:
            self._of(preset).check()
        except ValueError as error:
            return str(error)
        return None

    def noise_level(self, preset: Preset) -> int:
        """The timestep of superres' image-noising schedule that the preset's SNR comes to; 0 adds no noise.

        Raises:
            ValueError: the checkpoint is not on this machine.
        """
        from mpl.stages.superres import superres_noise_level

        return superres_noise_level(self._of(preset).image_noising_scheduler("superres"), preset.superres.snr)

    def translation_start(self, preset: Preset) -> Start:
        """What the preset's strength and cap come to on its checkpoint's schedule.

        Raises:
            ValueError: they leave no step, or the checkpoint is not on this machine.
        """
        from mpl.stages.translation import translation_timesteps

        steps = translation_timesteps(self._of(preset).scheduler("translation"), preset.translation)
        return Start(steps[0], len(steps))

    def plan(self, preset: Preset) -> str:
        """One line for people: on what the models run, and why."""
        return self._of(preset).plan()

    def _of(self, preset: Preset) -> Weights:
        from mpl.weights import Weights

        with self._lock:
            if preset.weights not in self._weights:
                self._weights[preset.weights] = Weights(preset.weights)
            return self._weights[preset.weights]
