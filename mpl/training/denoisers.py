"""The pixel denoisers: image, keyframes, interpolation, superres. One loss; each adds its own condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.models import VideoUNet
from mpl.noise import alphas_cumprod, scheduler_from_config
from mpl.sampling import fold, unfold
from mpl.stages.superres import upscale

from .data import Batch
from .language import FrozenText
from .objectives import (
    Schedule,
    draw_timesteps,
    interpolation_condition,
    level_weights,
    subject_weights,
    weighted_error,
)
from .task import Task, save_bf16


def schedule_of(scheduler: Any) -> Schedule:
    return Schedule(alphas_cumprod(scheduler).float(), scheduler.config.prediction_type)


class DenoiserTask(Task):
    """Eq. 5 on clips: noise, predict, compare. Frames are (b 3 f h w) in [-1, 1]."""

    model: VideoUNet

    def build(self, init_from: Path | None) -> VideoUNet:
        self.scheduler = scheduler_from_config(self.options.scheduler)
        self.schedule = schedule_of(self.scheduler)
        self.text = self.build_text()
        return self.build_model(init_from).to(memory_format=torch.channels_last)

    def build_model(self, init_from: Path | None) -> VideoUNet:
        if init_from:
            return VideoUNet.from_pretrained(init_from / "unet", torch_dtype=torch.float32)
        if self.options.start:
            source = self.assets / self.options.start / "unet"
            return VideoUNet.from_pretrained_2d(source, **self.options.model)
        return VideoUNet(**self.options.model)

    def build_text(self) -> FrozenText:
        from transformers import T5EncoderModel

        return FrozenText(self.assets / "text", T5EncoderModel)

    def states(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Text states with p_drop of the captions emptied, for classifier-free guidance."""
        dropped = torch.rand(len(batch.captions), generator=generator) < self.options.loss.p_drop
        return self.text(["" if drop else c for c, drop in zip(batch.captions, dropped.tolist(), strict=True)])

    def condition(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Extra input channels (b c f h w), class labels (b,), and loss weights; None where there are none."""
        return None, None, None

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        clip = batch.clip
        noise = torch.randn(clip.shape, generator=generator)
        t = draw_timesteps(len(clip), self.schedule, self.options.loss, generator)
        noisy = self.schedule.add_noise(clip, noise, t)
        extra, labels, weights = self.condition(batch, generator)
        if extra is not None:
            noisy = torch.cat([noisy, extra], dim=1)
        prediction = model(noisy, t, self.states(batch, generator), class_labels=labels).sample
        target = self.schedule.target(clip, noise, t)
        importance = subject_weights(batch.mask, self.options.loss.subject_weight, clip)
        if weights is not None:
            importance = importance * weights
        errors = weighted_error(prediction[:, :3], target, importance)
        errors = errors * level_weights(t, self.schedule, self.options.loss.max_weight)
        high = self.schedule.log_snr[t] < 0
        figures = {"loss_noisy": errors[high].mean().item(), "loss_clean": errors[~high].mean().item()}
        return errors.mean(), {k: v for k, v in figures.items() if v == v}

    def save(self, folder: Path) -> None:
        save_bf16(self.model, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Fixed held-out captions with guidance 4 and 20 steps, one row of frames each."""
        import random

        from mpl.storybook.captions import caption

        from .data import StorybookData
        from .preview import draw_sheet

        rng = random.Random(0)
        scenes = StorybookData(self.options.data, split="heldout").scenes(rng, 12)
        captions = [caption(scene, rng, style="dense").text for scene in scenes]
        clips = [
            self.generate([c], torch.Generator().manual_seed(i), steps=20, guidance=4.0) for i, c in enumerate(captions)
        ]
        draw_sheet(torch.cat(clips), captions, path)

    @torch.no_grad()
    def generate(self, captions: list[str], generator: torch.Generator, steps: int, guidance: float) -> Tensor:
        """Plain sampling for pictures of a training in progress: (b 3 f h w) in [-1, 1]."""
        o = self.options.data
        x = torch.randn(len(captions), 3, o.frames, o.height, o.width, generator=generator)
        states = torch.cat([self.text([""] * len(captions)), self.text(captions)])
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            empty, told = self.model(torch.cat([x, x]), t, states).sample[:, :3].chunk(2)
            x = scheduler.step(empty + guidance * (told - empty), t, x).prev_sample
        return x.clamp(-1, 1)


class InterpolationTask(DenoiserTask):
    """Eq. 6: both ends of a short span are given, noised a little; the frames between are predicted."""

    def condition(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        o = self.options.loss
        level = torch.randint(0, max(1, o.noise_level_max), (len(batch.clip),), generator=generator)
        noise = torch.randn(batch.clip.shape, generator=generator)
        given, mask = interpolation_condition(batch.clip, o.fill, level, self.schedule, noise)
        weights = torch.where(mask > 0, o.given_weight, 1.0)
        return torch.cat([given, mask], dim=1), None, weights / weights.mean()

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Condition, result and truth of one held-out batch, a row of frames each."""
        from .data import StorybookData
        from .preview import draw_sheet

        batch = StorybookData(self.options.data, split="heldout").draw(10**9)
        generator = torch.Generator().manual_seed(0)
        extra, labels, _ = self.condition(batch, generator)
        states = self.text(batch.captions)
        x = torch.randn(batch.clip.shape, generator=generator)
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(8)
        for t in scheduler.timesteps:
            out = self.model(torch.cat([x, extra], dim=1), t, states, class_labels=labels).sample[:, :3]
            x = scheduler.step(out, t, x).prev_sample
        rows = torch.stack([extra[:, :3], x.clamp(-1, 1), batch.clip], dim=1).flatten(0, 1)
        draw_sheet(rows[:24], [c for c in batch.captions for _ in range(3)][:24], path)


class SuperresTask(InterpolationTask):
    """Section 3.5: low resolution, bilinearly enlarged and noised at a random level that the model is told."""

    def build(self, init_from: Path | None) -> VideoUNet:
        noising = self.options.image_noising_scheduler or self.options.scheduler
        self.noising_scheduler = scheduler_from_config(noising)
        self.noising = schedule_of(self.noising_scheduler)
        return super().build(init_from)

    def condition(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None, Tensor | None]:
        o = self.options
        low = self.enlarged(batch)
        level = torch.randint(0, max(1, o.loss.noise_level_max), (len(low),), generator=generator)
        noised = self.noising.add_noise(low, torch.randn(low.shape, generator=generator), level)
        first = torch.rand(len(low), generator=generator) < o.loss.first_frame_share
        noised[:, :, 0] = torch.where(first.view(-1, 1, 1, 1), batch.clip[:, :, 0], noised[:, :, 0])
        return noised, level, None

    def enlarged(self, batch: Batch) -> Tensor:
        """The condition as the stage makes it, cut to the crop: (b 3 f h w).

        The whole small picture is enlarged with corners aligned, so it is a little stretched against the target;
        where a crop lies decides by how much, and the crop must show it.
        """
        o = self.options.data
        if batch.window is None or not batch.scenes:
            small = F.interpolate(fold(batch.clip), scale_factor=0.25, mode="area")
            return upscale(unfold(small, batch.clip.shape[2]), *batch.clip.shape[-2:])
        from mpl.storybook.render import render

        small = render(batch.scenes, batch.times, o.height // 4, o.width // 4)
        large = upscale(small, o.height, o.width)
        crops = []
        for clip, (top, left, tall, wide) in zip(large, batch.window, strict=True):
            rows = slice(round(top * o.height), round((top + tall) * o.height))
            columns = slice(round(left * o.width), round((left + wide) * o.width))
            crops.append(clip[:, :, rows, columns])
        return torch.stack(crops)

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.noising_scheduler.save_pretrained(folder / "image_noising_scheduler")
