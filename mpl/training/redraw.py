"""Scenes as stages 1 and 2 draw them: wrong in their own ways, and in register with the renders that are right."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpl.config import load_preset
from mpl.noise import MixedNoise, NoiseSource, add_noise
from mpl.options import TextOptions, WeightsOptions
from mpl.sampling import denoise, last_of, start_schedule
from mpl.stages.common import guided, solver
from mpl.stages.interpolation import interpolation
from mpl.stages.text import encode
from mpl.weights import Weights

from .data import Batch, StorybookData, batch_size
from .degrade import FACTOR, Reused
from .objectives import LOWEST_DEGRADED
from .options import CLOCK

if TYPE_CHECKING:
    from mpl.storybook.scene import Scene

    from .task import Task

LOWEST, HIGHEST = 200, 600  # timesteps that drawing begins at: above, it is no longer where the render was


class Redrawer:
    """Stage 1 itself, and stage 2 where the task is that of stage 3, with weights that are there already.

    Stage 1 begins with a render under so much noise that outlines are lost and places are not, as SDEdit does (Meng et
    al. 2021, 2108.01073), and works as `presets/storybook.toml` says.
    """

    def __init__(self, task: Task) -> None:
        """Of clips as large as the task's own, or a quarter of that where those are stage 3's.

        Raises ValueError where the weights that it needs are not beside the task's own.
        """
        data, preset = task.options.data, load_preset("storybook")
        larger = task.options.name == "superres"
        factor = FACTOR if larger else 1
        height, width = data.small or (data.height // factor, data.width // factor)
        self.text = TextOptions(data.tokens)
        self.keyframes = replace(preset.keyframes, height=height, width=width)
        self.interpolation = preset.interpolation if larger else None
        self.times = tuple(float(i) for i in range(0, CLOCK, preset.interpolation.between + 1))  # of keyframes
        self.spacing = 1 if larger else preset.interpolation.between + 1  # of what is drawn, on the clock
        parts = {"keyframes": "unet", "text": "tokenizer"} | ({"interpolation": "unet"} if larger else {})
        folders = {name: str(task.sibling(f"{name}/{part}", name).parent.resolve()) for name, part in parts.items()}
        self.weights = Weights(WeightsOptions(**folders, offload="none"))
        for name in parts:
            with self.weights.borrow(name):  # now: loading draws random numbers, which a step's are not to follow
                pass

    def __call__(self, scene: Scene, caption: str, seed: int) -> Tensor:
        """The whole clip at `spacing`, `(3, f, h, w)`, float32 on the CPU, clamped."""
        from mpl.storybook.render import render

        o, noise = self.keyframes, NoiseSource(seed)
        text = encode(caption, self.text, self.weights, translation=False)
        clip = render([scene], [self.times], o.height, o.width)
        scheduler = solver("keyframes", o, self.weights)
        grid = start_schedule(scheduler, o.steps, "keyframes.steps")
        grid = grid[grid <= random.Random(f"{seed}/redraw").uniform(LOWEST, HIGHEST)]
        mixed = MixedNoise(noise, len(self.times), o.mixed_noise)
        x = add_noise(clip, mixed.randn(clip.shape), scheduler, int(grid[0])).to(self.weights.device)
        with self.weights.borrow("keyframes") as model:
            predict = guided("keyframes", model, (text.t5, text.t5_negative), o, self.weights)
            drawn = last_of(denoise(predict, x, scheduler, grid, mixed)).clamp(-1, 1).cpu()
        if self.interpolation:
            drawn = last_of(interpolation(drawn, text, self.interpolation, self.weights, noise)).clamp(-1, 1)
        return drawn[0]


class RedrawnScenes:
    """Batches of scenes with what is drawn of them; drawings are costly and used again (`data.reuse`)."""

    def __init__(self, task: Task, data: StorybookData) -> None:
        """Raises ValueError as `Redrawer`, and where frames do not lie apart by a multiple of what drawn ones do."""
        self.data, self.redraw, o = data, Redrawer(task), data.options
        self.stride, rest = divmod(o.spacing, self.redraw.spacing)
        if rest:
            where = f"{task.options.name}.data.spacing = {o.spacing}"
            raise ValueError(f"{where}: must be a multiple of {self.redraw.spacing} with loss.redrawn_share")
        stills = max(1, o.batch * o.frames // 2)
        usual = o.stills * stills + (1 - o.stills) * o.batch  # samples of a batch
        self.pool = Reused(self.make, o, task.options.loss.redrawn_share * usual)
        self.seconds = 0.0  # that the latest draw took to draw anew

    def draw(self, seed: int, progress: float) -> Batch:
        """A batch with `drawn` clips, of as many samples and frames as any other."""
        self.seconds, rng = 0.0, random.Random(f"{seed}/redrawn")
        count, frames = batch_size(self.data.options, rng, None)
        scenes, captions, clips = zip(*self.pool.draw(seed, progress, rng, count), strict=True)
        step, stride = self.redraw.spacing, self.stride
        firsts = [rng.randint(0, clip.shape[1] - 1 - (frames - 1) * stride) for clip in clips]
        places = [range(first, first + frames * stride, stride) for first in firsts]
        times = tuple(tuple(float(step * place) for place in taken) for taken in places)
        drawn = torch.stack([clip[:, list(taken)] for clip, taken in zip(clips, places, strict=True)])
        batch = self.data.shown(scenes, list(captions), times, rng)
        return replace(batch, drawn=drawn, drawn_at=(LOWEST_DEGRADED, HIGHEST))

    def make(self, draw: int, progress: float, count: int) -> list[tuple[Scene, str, Tensor]]:
        """What one draw brings: scenes, captions, and what is drawn of them (3 f h w)."""
        from mpl.storybook.captions import caption

        rng, started = random.Random(f"{draw}/scenes"), time.monotonic()
        found = []
        for scene in self.data.scenes(rng, count, progress):
            text = caption(scene, rng, style=self.data.options.caption).text
            found.append((scene, text, self.redraw(scene, text, rng.getrandbits(62))))
        self.seconds += time.monotonic() - started
        return found
