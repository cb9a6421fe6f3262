"""One run of the cascade: what each stage depends on, its events, the caches, recipe and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import mpl
from mpl import devices, safety
from mpl.completion import complete, substitute
from mpl.config import Preset, to_dict
from mpl.events import (
    Event,
    Finished,
    Notice,
    StageFinished,
    StageKept,
    StageStarted,
    StageStep,
    Stopped,
    TextEncoded,
)
from mpl.memory import PeakMemory
from mpl.noise import Noise, stage_generator
from mpl.previews import Previews, latents_to_frames
from mpl.recipe import Files, base_recipe, file_stem, write_files
from mpl.sampling import Step
from mpl.stages.common import solver
from mpl.stages.interpolation import interpolation
from mpl.stages.keyframes import keyframes
from mpl.stages.superres import superres, superres_noise_level, upsampling_options
from mpl.stages.text import TextStates, encode
from mpl.stages.translation import encode_clip, noise_latents, translation, translation_timesteps
from mpl.store import StageCache, digest
from mpl.video import to_frames
from mpl.weights import Weights

if TYPE_CHECKING:
    from mpl.events import Frames

Steps = Generator[Step, None, Tensor]


class Halt(Exception):
    """The run was asked to stop in `stage`, after `index` of `total` steps."""

    def __init__(self, stage: str, index: int, total: int) -> None:
        super().__init__(f"stopped in {stage} after {index} of {total} steps")
        self.stage, self.index, self.total = stage, index, total


@dataclass
class Run:
    """The checked options of one run (`cascade.generate` says what they mean), and what it has made."""

    prompt: str
    preset: Preset
    weights: Weights
    seed: int
    stages: tuple[str, ...]
    store: StageCache | None
    texts: StageCache | None
    files: Files
    clip: Tensor | None
    source: str
    stop: Callable[[], bool]
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)  # per finished stage, for the recipe
    unknown: tuple[tuple[str, str | None], ...] = ()
    read: str = field(init=False)  # the prompt as the models read it: see `mpl.completion`
    _frames: np.ndarray | None = field(default=None, init=False)  # of the last finished stage
    _fps: float = field(default=0.0, init=False)
    _begun: float = field(default=0.0, init=False)
    _looked_at: dict[str, list[int]] = field(default_factory=dict, init=False)  # frames per stage, by the checker
    _memory: PeakMemory = field(init=False)
    _first_preview: float | None = field(default=None, init=False)  # seconds from the beginning to the first picture
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1), init=False)
    _written: list[Future[bool]] = field(default_factory=list, init=False)  # stages to be kept

    def __post_init__(self) -> None:
        self.read = self.prompt

    @property
    def checks(self) -> bool:
        """Whether the safety checker looks at every stage's result, before anything shows or keeps it."""
        return self.preset.safety and self.weights.has("safety")

    # ---- step 0

    def encode(self) -> Generator[Event, None, TextStates]:
        """Encodes the prompt, or finds its states in the cache; says what will not be understood."""
        begin = self._begun = time.perf_counter()
        self._memory = PeakMemory(self.weights.device)
        models = {self.weights.needs(stage)[0] for stage in self.stages}  # text, clip or both
        options = {"translation": "clip" in models, "pixels": "text" in models, "cache": self.texts}
        added = ""
        self.read, replaced = substitute(self.prompt, self.preset.text)
        if self.stages[0] == "keyframes":  # what begins with a clip shows it already
            self.read, added = complete(self.read, self.preset.text, self.seed)
        states = encode(self.read, self.preset.text, self.weights, **options)
        self.unknown = states.unknown
        yield TextEncoded(self.prompt, self.unknown, time.perf_counter() - begin, states.kept)
        for word, other in replaced:
            yield Notice(f"These models do not know the word {word!r}; they read {other!r} in its place.")
        if added:
            yield Notice(f"What the prompt leaves open the seed has chosen: {added}.")
        for word, near in self.unknown:
            instead = f"; the nearest that they know is {near!r}" if near else ""
            yield Notice(f"These models do not know the word {word!r}{instead}.")
        if unread := states.truncated or states.truncated_clip:
            yield Notice(f"The prompt is too long for this preset: {unread!r} is not read.")
        if self.checks:
            yield Notice("The safety checker is on: a stage is seen once it is checked, without previews before.")
        elif self.weights.has("safety"):
            yield Notice("The safety checker is switched off (safety = false).")
        return states

    # ---- stages

    def stage(self, name: str, clip: Tensor | None, text: TextStates) -> Generator[Event, None, Tensor | None]:
        """Runs a stage, or finds its result in the cache; a stage that is not of this run hands `clip` on."""
        if name not in self.stages:
            return clip
        if self.stop():
            raise Halt(name, 0, 0)
        key = self._key(name, clip)
        entry = self.store.get(key) if self.store else None
        if entry:
            made, clip = entry.info, torch.from_numpy(entry.arrays["clip"])
            figures = {"kept": True, "seconds": 0.0, "evaluations": 0, "seconds_when_made": made["seconds"]}
            figures |= {"evaluations_when_made": made["evaluations"], "peak_memory_gb": made["peak_memory_gb"]}
        else:
            translates = name == "translation" and not self.weights.has("upsampling")
            start = self._start(clip) if translates else None
            yield StageStarted(name, self.stages.index(name) + 1, len(self.stages), start)
            self.weights.read_ahead(self.stages[self.stages.index(name) + 1 :][:1])
            if translates and self.preset.translation.eta > 0:
                yield from self._eta_notice()
            clip, made = yield from self._run(name, clip, text)
            figures = {"kept": False} | {k: v for k, v in made.items() if k != "info"}
        frames, fps = to_frames(clip), self._rate(name)
        if self.checks:  # before anything shows or keeps them; kept ones may come from a run without a checker
            self._looked_at[name] = safety.check(name, frames, self.weights)
        if self.store and not entry:  # while the next stage works
            self._written.append(self._writer.submit(self.store.put, key, {"clip": clip.numpy()}, made))
        about = {"frames": len(frames), "width": frames.shape[2], "height": frames.shape[1], "fps": fps}
        self.figures[name] = {**figures, **made["info"], **about}
        self._frames, self._fps = frames, fps
        if entry:
            yield StageKept(name, frames, fps, **made)
        else:
            yield StageFinished(name, frames, fps, **made)
        return clip

    def _run(
        self, name: str, clip: Tensor | None, text: TextStates
    ) -> Generator[Event, None, tuple[Tensor, dict[str, Any]]]:
        """A stage from its first step to its clip, with the figures that belong to it."""
        self._memory.part()
        vae = "keyframes_vae" if name == "keyframes" else "vae"
        previews = Previews(lambda: self.weights.latent_rgb(vae))
        info = self._info(name)
        steps = self._steps(name, clip, text, stage_generator(self.seed, name))
        busy, first, evaluations = 0.0, 0.0, 0
        try:
            while True:
                begin = time.perf_counter()
                try:
                    step = next(steps)
                    devices.wait(self.weights.device)  # or the preview would be taken for what the step costs
                except StopIteration as end:
                    busy += time.perf_counter() - begin
                    raw = end.value
                    break
                busy += time.perf_counter() - begin
                first, evaluations = first or busy, step.evaluations
                preview = None if self.checks else previews.take(step.estimate, busy)  # see `StageStep`
                if preview is not None and self._first_preview is None:
                    self._first_preview = round(time.perf_counter() - self._begun, 3)
                left = (busy - first) / (step.index - 1) * (step.total - step.index) if step.index > 1 else None
                seconds = busy + previews.spent
                yield StageStep(name, step.index, step.total, step.timestep, seconds, left, evaluations, preview)
                if self.stop() and step.index < step.total:
                    raise Halt(name, step.index, step.total)
        finally:
            steps.close()
        if not torch.isfinite(raw).all():
            number = str(self.weights.dtype(name)).removeprefix("torch.")
            raise ValueError(f"{name} made values that are no numbers, in {number}; try weights.dtype = float32")
        made = {"seconds": round(busy + previews.spent, 3), "evaluations": evaluations}
        made |= {"peak_memory_gb": round(self._memory.of_part(), 3), "info": info}
        return raw.clamp(-1, 1) if self.preset.clamp else raw, made

    def _steps(self, name: str, clip: Tensor | None, text: TextStates, noise: Noise) -> Steps:
        p, w = self.preset, self.weights
        if name == "keyframes":
            return keyframes(text, p.keyframes, w, noise)
        if name == "interpolation":
            return interpolation(clip, text, p.interpolation, w, noise)
        if name == "superres":
            return superres(clip, text, p.superres, w, noise)
        if w.has("upsampling"):
            return superres(clip, text, upsampling_options(p), w, noise, name="upsampling")
        return self._translation(clip, text, noise)

    def _translation(self, clip: Tensor, text: TextStates, noise: Noise) -> Steps:
        """Translation from cached latents where the same clip was encoded before."""
        options = self.preset.translation
        if self.store is None:
            return (yield from translation(clip, text, options, self.weights, noise))
        latents = self._latents(clip)
        if latents is None:
            latents = encode_clip(clip, options, self.weights, noise)
            self.store.put(self._latents_key(clip), {"latents": latents.numpy()}, {})
        return (yield from translation(clip, text, options, self.weights, noise, latents))

    def _latents(self, clip: Tensor) -> Tensor | None:
        """The clip's latents, where they are kept."""
        entry = self.store.get(self._latents_key(clip)) if self.store else None
        return torch.from_numpy(entry.arrays["latents"]) if entry else None

    def _latents_key(self, clip: Tensor) -> str:
        options = self.preset.translation
        sampled = self.seed if options.posterior == "sample" else None
        how = [
            options.height,
            options.width,
            options.resize,
            options.posterior,
            options.tiling,
            options.tile_overlap,
            sampled,
        ]
        return digest("latents", self._made_by(("vae",)), how, clip.numpy())

    def _start(self, clip: Tensor) -> Frames | None:
        """What translation starts from, as small as its latents; None where they are not kept, or must not be seen."""
        latents = None if self.checks else self._latents(clip)
        if latents is None:
            return None
        noise = stage_generator(self.seed, "translation")
        noised = noise_latents(latents, self.preset.translation, self.weights, noise)
        return latents_to_frames(noised, *self.weights.latent_rgb())

    def _eta_notice(self) -> Generator[Event, None, None]:
        """Says so where translation.eta does nothing."""
        kind = type(solver("translation", self.preset.translation, self.weights)).__name__
        if kind != "DDIMScheduler":
            yield Notice(f"translation.eta = {self.preset.translation.eta}: {kind} has no eta.")

    def _info(self, name: str) -> dict[str, Any]:
        """What a stage works out from its options, for people: see `StageFinished.info`."""
        p, w = self.preset, self.weights
        upsamples = name == "translation" and w.has("upsampling")
        if name == "superres" or upsamples:
            snr = p.upsampling.snr if upsamples else p.superres.snr
            level = superres_noise_level(w.image_noising_scheduler("upsampling" if upsamples else name), snr)
            return {"snr": "inf" if np.isinf(snr) else snr, "noise_level": level}
        if name == "translation":
            steps = translation_timesteps(w.scheduler(name), p.translation)
            return {"timestep": steps[0], "strength": p.translation.strength, "cap": p.translation.cap}
        return {}

    # ---- what results depend on

    def _key(self, name: str, clip: Tensor | None) -> str:
        """The cache key of a stage's result: its options, input, text, seed and weights."""
        text, models = self.preset.text, self.weights.needs(name)
        negative = text.translation_negative_prompt if models[0] == "clip" else text.negative_prompt
        own = asdict(upsampling_options(self.preset) if "upsampling" in models else getattr(self.preset, name))
        content = None if clip is None else clip.numpy()
        depends = [self._made_by(models), self.read, self.seed, self.preset.clamp, text.tokens, negative, own]
        return digest(name, *depends, content)

    def _made_by(self, models: tuple[str, ...]) -> list[Any]:
        """What everything depends on: program, models' files, number format, kind of device."""
        w = self.weights
        files = {model: w.revision(model) for model in models if w.has(model)}
        how = [str(w.dtype(models[0])), w.device.type, w.quantization(models[0])]  # T5's states are others quantized
        return [mpl.__version__, files, *how]

    # ---- the end

    def close(self) -> None:
        """Waits until what is to be kept is written, and raises what went wrong there but for a disk that refuses.

        What the run has freed goes back to the system.
        """
        self._writer.shutdown()
        self._memory.end()
        for entry in self._written:
            entry.result()

    def finish(self) -> Finished:
        """Writes the last stage's video and the recipe."""
        recipe = self._recipe()
        return Finished(self._write(recipe), recipe)

    def stopped(self, halt: Halt) -> Stopped:
        """Writes what was finished before the stop, and says where the run stood."""
        recipe = self._recipe()
        recipe["stopped"] = {"stage": halt.stage, "index": halt.index, "total": halt.total}
        return Stopped(halt.stage, halt.index, halt.total, self._write(recipe), recipe)

    def _write(self, recipe: dict[str, Any]) -> str | None:
        files = self.files
        if files.folder is None or self._frames is None:
            return None
        identity = [recipe["preset"], list(self.figures), recipe["source"]]
        stem = files.name or file_stem(self.prompt, self.seed, identity)
        return str(write_files(files, stem, self._frames, self._fps, recipe))

    def _recipe(self) -> dict[str, Any]:
        recipe = base_recipe(self.weights.device, self.weights.dtype(self.stages[-1]))
        source = None if self.clip is None else source_of(self.clip, self.source)
        return recipe | {
            "prompt": self.prompt,
            "prompt_read": self.read,
            "seed": self.seed,
            "unknown_words": [list(pair) for pair in self.unknown],
            "source": source,
            "stages": self.figures,
            "revisions": self.weights.revisions(self.stages),
            "safety_checker": self._safety(),
            "first_preview_seconds": self._first_preview,
            "peak_memory_gb": round(self._memory.of_run(), 3),
            "preset": to_dict(self.preset),
        }

    def _safety(self) -> dict[str, Any]:
        """Whether the safety checker ran, which one, and the frames that it looked at; or why it did not run."""
        if not self.checks:
            named = self.weights.has("safety")
            return {"ran": False, "why": "safety = false" if named else "the preset names none (weights.safety)"}
        source, revision = self.weights.options.safety, self.weights.revision("safety")
        return {"ran": bool(self._looked_at), "weights": source, "revision": revision, "frames": self._looked_at}

    def _rate(self, name: str) -> float:
        fps = self.preset.fps
        return fps / (self.preset.interpolation.between + 1) if name == "keyframes" else float(fps)


def source_of(clip: Tensor, name: str | None) -> dict[str, Any]:
    """What a recipe says of the clip that a run began with."""
    return {"name": name, "frames": clip.shape[2], "sha256": digest(clip.numpy())}
