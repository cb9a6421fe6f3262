"""The pixel denoisers: image, keyframes, interpolation, superres. One loss; each adds its own condition."""

from __future__ import annotations

import abc
import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mpl.loading import channels_last
from mpl.models import VideoUNet
from mpl.models.prior import prior_alphas
from mpl.models.warp import warp_loss
from mpl.noise import NoiseSource, alphas_cumprod, scheduler_from_config
from mpl.sampling import Guided, denoise, last_of, start_schedule
from mpl.stages.interpolation import gap_condition
from mpl.stages.superres import upscale

from .autoencoder import FrozenAutoencoder
from .data import Batch, StorybookData, VideoData, cut, reduced
from .degrade import bend, soften
from .drafts import draft_errors, freeze_drafting, is_fresh, teach_outline
from .files import save_bf16
from .language import FrozenText
from .objectives import (
    Schedule,
    draw_timesteps,
    level_weights,
    mean_of,
    noise_like,
    subject_weights,
    weighted_error,
)
from .options import CLOCK
from .redraw import RedrawnScenes
from .task import Task, find_part
from .turn import with_turned
from .vocabulary import note_unknown


def schedule_of(scheduler: Any) -> Schedule:
    return Schedule(alphas_cumprod(scheduler).float(), scheduler.config.prediction_type)


class DiffusionTask(Task):
    """What denoisers in pixels and in latents share: a schedule, frozen text, and walks through the schedule."""

    def build(self, init_from: Path | None) -> nn.Module:
        self.scheduler = self.make_scheduler("scheduler")
        self.schedule = schedule_of(self.scheduler)
        self.text = self.build_text()
        if isinstance(self.data, VideoData):
            note_unknown(self.text.tokenizer, self.data, f"train {self.options.name}: --assets {self.assets}")
        return self.build_model(init_from)

    def make_scheduler(self, block: str) -> Any:
        """The scheduler of a preset's block. Raises ValueError for a key that its class lacks; diffusers would warn."""
        settings = getattr(self.options, block)
        scheduler = scheduler_from_config(settings)
        known = inspect.signature(type(scheduler)).parameters
        for key in settings:
            if not key.startswith("_") and key not in known:
                where = f"{self.options.name}.{block}.{key}"
                raise ValueError(
                    f"{where}: unknown to {type(scheduler).__name__}; accepted: {', '.join(sorted(known))}"
                )
        return scheduler

    @abc.abstractmethod
    def build_model(self, init_from: Path | None) -> nn.Module:
        """The denoiser, as `build`."""

    @abc.abstractmethod
    def build_text(self) -> FrozenText:
        """The encoder of captions that it is told."""

    def frozen(self) -> tuple[nn.Module, ...]:
        return (self.text,)

    def states(self, captions: list[str], generator: torch.Generator) -> Tensor:
        """Text states with p_drop of the captions emptied, for classifier-free guidance."""
        dropped = torch.rand(len(captions), generator=generator) < self.options.loss.p_drop
        return self.text(["" if drop else c for c, drop in zip(captions, dropped.tolist(), strict=True)])

    def grid(self, steps: int) -> tuple[Any, Tensor]:
        """A fresh scheduler set to so many steps, and its timesteps."""
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        return scheduler, start_schedule(scheduler, steps, "steps")

    def walk(self, predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, scheduler: Any, timesteps: Tensor) -> Tensor:
        """Plain sampling for pictures of a training in progress, x and result (b c f h w), as the stages sample."""
        return last_of(denoise(predict, x, scheduler, timesteps, NoiseSource(0)))

    def save(self, folder: Path) -> None:
        save_bf16(self.model, folder / "unet")
        self.scheduler.save_pretrained(folder / "scheduler")


class Condition(NamedTuple):
    """What a denoiser is given besides noise and text."""

    channels: Tensor | None = None  # (b c f h w), joined to the noisy ones
    labels: Tensor | None = None  # (b,), noise level of the condition
    weights: Tensor | float = 1.0  # of the errors, (b 1 f h w)
    given: Tensor | None = None  # (b, f): frames of the channels that are the result itself


class DenoiserTask(DiffusionTask):
    """Eq. 5 on clips: noise, predict, compare. Frames are (b 3 f h w) in [-1, 1].

    Of a network with 6 output channels the last three, IF's learned variance, are left out of the loss. With an
    `autoencoder` frames are its scaled latents (b c f h/8 w/8) instead, for keyframes as in Table 4, "latent-based".
    """

    model: VideoUNet

    def build(self, init_from: Path | None) -> nn.Module:
        folder = self.options.autoencoder
        self.latents = FrozenAutoencoder(folder, f"{self.options.name}.autoencoder") if folder else None
        if self.options.loss.redrawn_share and isinstance(self.data, StorybookData):
            self.redrawn = RedrawnScenes(self, self.data)
        return super().build(init_from)

    @property
    def undecayed(self) -> tuple[str, ...]:  # type: ignore[override]
        """Decay alone would move the variance's weights, which get no gradient: with it gone they stay as they are."""
        return ("conv_out.weight",) if self.model.config.out_channels == 6 else ()

    def frozen(self) -> tuple[nn.Module, ...]:
        return super().frozen() if self.latents is None else (*super().frozen(), self.latents)

    def draw(self, seed: int, progress: float) -> Batch:
        if random.Random(f"{seed}/share").random() < self.options.loss.redrawn_share:
            batch = self.redrawn.draw(seed, progress).to(self.device)
            self.encode_seconds = self.redrawn.seconds
        else:
            batch, self.encode_seconds = super().draw(seed, progress), 0.0
        return batch if self.latents is None else self.latents.encode(batch)

    def build_model(self, init_from: Path | None) -> VideoUNet:
        source = find_part(init_from, "unet") if init_from else None
        if not init_from and self.options.start:
            source = self.sibling(f"{self.options.start}/unet", self.options.start)
        if source:  # parts that the preset names and these weights lack begin anew
            model = self.construct(VideoUNet.from_pretrained_2d, path=source, **self.options.model)
        else:
            model = self.construct(VideoUNet, **self.options.model)
        self.check_prior(model)
        if not self.teaches_drafts:
            freeze_drafting(model)
            if model.outline_draft is not None and is_fresh(model.outline_draft):
                where = f"{self.options.name}.model.outline_grid = {list(model.config.outline_grid)}"
                raise ValueError(f"{where}: a fresh one learns with loss.draft_weight, from scenes of the storybook")
        return channels_last(model)

    @property
    def teaches_drafts(self) -> bool:
        """Whether silhouettes come with what is learned from."""
        return bool(self.options.loss.draft_weight) and isinstance(self.data, StorybookData)

    def prepare(self) -> None:
        if self.teaches_drafts and self.model.outline_draft is not None:
            teach_outline(self.model.outline_draft, self.text, self.data)

    def check_prior(self, model: VideoUNet) -> None:
        """Raises ValueError where a model with a prior would be trained on another schedule, or to predict noise."""
        if model.config.prior_std is None:
            return
        where, schedule = f"{self.options.name}.scheduler", model.config.prior_schedule
        if self.schedule.prediction_type != "sample":
            raise ValueError(
                f"{where}.prediction_type = {self.schedule.prediction_type}: must be sample with prior_std"
            )
        if not torch.allclose(self.schedule.alphas_cumprod, prior_alphas(schedule).float(), atol=1e-4):
            raise ValueError(f"{where}: its noise levels are not those of prior_schedule = {schedule}")

    def build_text(self) -> FrozenText:
        from transformers import T5EncoderModel

        self.sibling("text/tokenizer", "text")
        folder = self.sibling("text/text_encoder", "text").parent
        return FrozenText(folder, T5EncoderModel, self.options.data.tokens)

    def condition(self, batch: Batch, generator: torch.Generator) -> Condition:
        return Condition()

    def shown(self, batch: Batch, t: Tensor) -> Tensor:
        """What is noised, at timesteps t (b,)."""
        return batch.clip

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        clip, o = batch.clip, self.options.loss
        noise = noise_like(clip, generator, o.mixed_noise)
        t = draw_timesteps(len(clip), self.schedule, o, generator)
        noisy = self.schedule.add_noise(self.shown(batch, t), noise, t)
        target = self.schedule.target(clip, noise, t)
        if batch.drawn is not None:
            target = self.schedule.target_from(noisy, clip, t)
        extra, labels, weights, given = self.condition(batch, generator)
        if extra is not None:
            noisy = torch.cat([noisy, extra], dim=1)
        states = self.states(batch.captions, generator)
        moves = clip.shape[2] > 1  # single frames train the image model inside alone, and at its cost
        places = torch.tensor(batch.times) / (CLOCK - 1) if batch.times else None
        told = {"class_labels": labels, "temporal": moves, "places": places, "given": given}
        out = model(noisy, t.to(clip.device), states, **told)
        importance = subject_weights(batch.mask, o.subject_weight, clip) * weights
        errors = weighted_error(out.sample[:, : clip.shape[1]], target, importance)
        errors = errors * level_weights(t, self.schedule, o.max_weight).to(errors.device)
        noisy_half = self.schedule.log_snr[t] < 0
        figures = {"loss_noisy": mean_of(errors, noisy_half), "loss_clean": mean_of(errors, ~noisy_half)}
        total = errors.mean()
        if o.draft_weight and batch.mask is not None:
            for name, wrong in draft_errors(out, batch.mask):
                total, figures[f"loss_{name}"] = total + o.draft_weight * wrong, wrong.detach()
        if o.warp_weight and out.moved is not None:
            moved = warp_loss(out.moved, clip).mean()
            total, figures["loss_moved"] = total + o.warp_weight * moved, moved.detach()
        return total, figures

    def sample(self, path: Path) -> None:
        """Fixed held-out captions with guidance 4 and 20 steps, one row of frames each."""
        from .preview import draw_sheet

        captions = self.heldout.captions(12)
        clips = [self.generate(caption, seed) for seed, caption in enumerate(captions)]
        draw_sheet(torch.cat(clips), captions, path)

    def generate(self, caption: str, seed: int, steps: int = 20, guidance: float = 4.0) -> Tensor:
        """(1 3 f h w) in [-1, 1]."""
        o = self.options.data
        channels, unit = (3, 1) if self.latents is None else (self.latents.channels, self.latents.unit)
        shape = torch.empty(1, channels, o.frames, o.height // unit, o.width // unit, device=self.device)
        noise = noise_like(shape, torch.Generator().manual_seed(seed), self.options.loss.mixed_noise)
        predict = Guided(self.model, self.text([caption]), self.text([""]), guidance, torch.float32)
        made = self.walk(predict, noise, *self.grid(steps))
        return (made if self.latents is None else self.latents.decode(made)).clamp(-1, 1)

    def save(self, folder: Path) -> None:
        super().save(folder)
        if self.latents is not None:
            self.latents.save(folder / "vae")


class KeyframesTask(DenoiserTask):
    """What is drawn wrong is to come out as the render.

    With `loss.redrawn_share`, what it drew of one itself, and with `loss.turned_share` renders turned the wrong way.
    """

    def draw(self, seed: int, progress: float) -> Batch:
        batch, share = super().draw(seed, progress), self.options.loss.turned_share
        return with_turned(batch, seed, share) if share and batch.drawn is None else batch

    def shown(self, batch: Batch, t: Tensor) -> Tensor:
        """Wrong drawings, where noise is no more than drawing began with, and enough for something to be moved."""
        if batch.drawn is None:
            return batch.clip
        low, high = batch.drawn_at
        wrong = ((t >= low) & (t < high)).view(-1, 1, 1, 1, 1).to(batch.clip.device)
        return torch.where(wrong, batch.drawn.to(batch.clip), batch.clip)


class ConditionedTask(DenoiserTask):
    """A denoiser that is given pictures as well; its samples show them."""

    def sample(self, path: Path) -> None:
        """Condition, result and truth of one held-out batch, a row of frames each."""
        from .preview import draw_sheet

        batch = self.heldout.draw(10**9).to(self.device)
        generator = torch.Generator().manual_seed(0)
        extra, labels, _, given = self.condition(batch, generator)
        states = self.text(batch.captions)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.model(torch.cat([x, extra], dim=1), t, states, class_labels=labels, given=given).sample

        x = self.walk(predict, noise_like(batch.clip, generator), *self.grid(8))
        rows = torch.stack([extra[:, :3], x.clamp(-1, 1), batch.clip], dim=1).flatten(0, 1)
        draw_sheet(rows[:24], [c for c in batch.captions for _ in range(3)][:24], path)


class InterpolationTask(ConditionedTask):
    """Eq. 6: both ends of a short span are given, noised a little; the frames between are predicted."""

    def condition(self, batch: Batch, generator: torch.Generator) -> Condition:
        o = self.options.loss
        ends = batch.clip[:, :, [0, -1]]
        level = torch.randint(0, max(1, o.noise_level_max), (len(ends),), generator=generator)
        noised = self.schedule.add_noise(ends, noise_like(ends, generator), level)
        clean = (level == 0).view(-1, 1, 1, 1, 1).to(ends.device)  # level 0 is no noise, as in the stage
        ends = torch.where(clean, ends, noised)
        channels = gap_condition(ends[:, :, 0], ends[:, :, 1], batch.clip.shape[2] - 2, o.fill)
        weights = torch.where(channels[:, 3:] > 0, o.given_weight, 1.0)
        return Condition(channels, None, weights / weights.mean())


class SuperresTask(ConditionedTask):
    """Section 3.5: low resolution, bilinearly enlarged and noised at a random level that the model is told."""

    def build(self, init_from: Path | None) -> nn.Module:
        own = self.options.image_noising_scheduler
        self.noising_scheduler = self.make_scheduler("image_noising_scheduler" if own else "scheduler")
        self.noising = schedule_of(self.noising_scheduler)
        return super().build(init_from)

    def condition(self, batch: Batch, generator: torch.Generator) -> Condition:
        o = self.options.loss
        low = self.enlarged(batch, generator)
        level = torch.randint(0, max(1, o.noise_level_max), (len(low),), generator=generator)
        noised = self.noising.add_noise(low, noise_like(low, generator), level)
        share = o.first_frame_share if low.shape[2] > 1 else 0.0  # nothing follows a single frame
        first = torch.rand(len(low), generator=generator) < share
        given = torch.zeros(low.shape[0], low.shape[2], dtype=torch.bool)
        given[:, 0] = first
        given = given.to(low.device)
        noised = torch.where(given[:, None, :, None, None], batch.clip, noised)
        return Condition(noised, level.to(low.device), given=given)

    def enlarged(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The condition as the stage makes it, cut to the crop: (b 3 f h w).

        The whole small picture is enlarged with corners aligned, so it is a little stretched against the target;
        where a crop lies decides by how much, and the crop must show it.
        """
        o, loss = self.options.data, self.options.loss
        if batch.drawn is not None:
            return cut(upscale(batch.drawn, o.height, o.width), batch.windows).to(batch.clip.device)
        small = reduced(batch, *(o.small or (o.height // 4, o.width // 4)))
        if loss.bend_share or loss.blur_share:
            small = self.spoiled(small, generator)
        return cut(upscale(small, o.height, o.width), batch.windows).to(batch.clip.device)

    def spoiled(self, small: Tensor, generator: torch.Generator) -> Tensor:
        """Some of the clips bent, some blurred, as keyframes and frames between them come; the others as they are."""
        loss = self.options.loss
        with torch.autocast(small.device.type, enabled=False):  # grids in bfloat16 would move what is not bent
            if loss.bend_share:
                bent = torch.rand(len(small), generator=generator) < loss.bend_share
                small = bend(small, bent * torch.rand(len(small), generator=generator) * loss.bend_width, generator)
            if loss.blur_share:
                blurred = torch.rand(len(small), 1, generator=generator) < loss.blur_share
                small = soften(small, blurred * torch.rand(small.shape[:3:2], generator=generator))
        return small

    def save(self, folder: Path) -> None:
        super().save(folder)
        self.noising_scheduler.save_pretrained(folder / "image_noising_scheduler")
