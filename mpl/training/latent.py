"""Stage 4's latent expert, trained on the low-noise timesteps."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor, nn

from mpl.loading import channels_last
from mpl.models.latent import quicken
from mpl.models.temporal import TemporalTransformer
from mpl.models.tiles import encode_frames
from mpl.noise import add_noise
from mpl.sampling import fold, unfold

from .degrade import Degrader, PairBatch, Reused, cut_alike
from .denoisers import DiffusionTask
from .language import FrozenText
from .objectives import LOWEST_DEGRADED, draw_timesteps, mean_of, noise_like, weighted_error
from .options import DataOptions
from .task import find_part
from .widen import widen_expert


class TranslationTask(DiffusionTask):
    """Eq. 5 in latents on timesteps below the cap (section 3.6).

    With `loss.degraded_share`, that share of the clips above timestep 60 is noised from a degraded picture while the
    target stays the sharp one: what the stage meets is a superresolution result, not a render. With `data.small` it is
    just that, made by the superres model from clips of that size; without, and for a part of them, a blurred copy.
    """

    model: UNet3DConditionModel

    def drawn(self, options: DataOptions) -> DataOptions:
        """Crops are cut from the latents of whole clips."""
        return replace(options, crop=None)

    def build(self, init_from: Path | None) -> nn.Module:
        vae = AutoencoderKL.from_pretrained(self.sibling("translation/vae", "vae"), torch_dtype=torch.float32)
        self.vae = channels_last(vae.requires_grad_(False).eval())
        self.degrade = Degrader(self)
        self.pairs = Reused(self.encoded_pairs, self.options.data)
        return super().build(init_from)

    def build_model(self, init_from: Path | None) -> UNet3DConditionModel:
        start = self.options.start
        if init_from or start:
            folder = find_part(init_from, "unet") if init_from else self.sibling(f"{start}/unet", start)
            model = UNet3DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
            self.check_start(model.config, folder, ("in_channels", "out_channels"))  # those may be widened
        else:
            model = self.construct(UNet3DConditionModel, **self.options.model)
        latent, known = self.vae.config.latent_channels, model.config.in_channels
        if init_from and known < latent:
            model = widen_expert(model, latent)
        elif known != latent:
            raise ValueError(f"translation.model.in_channels = {known}: must be {latent}, as the autoencoder's latents")
        model = quicken(model)
        if not (init_from or start):  # diffusers' fresh attention over frames is not the identity
            for module in model.modules():
                if isinstance(module, TemporalTransformer):
                    module.make_identity()
        return model

    def save(self, folder: Path) -> None:
        """The expert, and in a folder of its own what it cannot be used without."""
        super().save(folder)
        for part in ("vae", "text_encoder", "tokenizer"):
            source = self.sibling(f"translation/{part}", "clip")
            if source.resolve() != (folder / part).resolve():
                shutil.copytree(source, folder / part, dirs_exist_ok=True)

    def build_text(self) -> FrozenText:
        from transformers import CLIPTextModel

        self.sibling("translation/tokenizer", "clip")
        folder = self.sibling("translation/text_encoder", "clip").parent
        return FrozenText(folder, CLIPTextModel, self.options.data.tokens)

    def frozen(self) -> tuple[nn.Module, ...]:
        return (self.text, self.vae)

    @torch.no_grad()
    def encode(self, clip: Tensor) -> Tensor:
        """(b 3 f h w) to scaled latents (b c f h/8 w/8), frame by frame."""
        frames = fold(clip).contiguous(memory_format=torch.channels_last)
        latent = encode_frames(self.vae, frames, self.options.data.tiling).mode()
        return unfold(latent * self.vae.config.scaling_factor, clip.shape[2])

    @torch.no_grad()
    def decode_first(self, latents: Tensor) -> Tensor:
        """First frames of scaled latents (b c f h w), (b 3 8h 8w) in [-1, 1]."""
        return self.vae.decode(latents[:, :, 0] / self.vae.config.scaling_factor).sample.clamp(-1, 1)

    def draw(self, seed: int, progress: float) -> PairBatch:
        """Crops of the latents of whole clips."""
        self.encode_seconds = 0.0
        rng = random.Random(f"{seed}/reuse")
        sharp, degraded, captions = zip(*self.pairs.draw(seed, progress, rng), strict=True)
        pairs = cut_alike(torch.stack([torch.stack(sharp), torch.stack(degraded)], dim=1), self.window, rng)
        return PairBatch(pairs[:, 0], pairs[:, 1], list(captions))

    @property
    def window(self) -> tuple[int, int] | None:
        """Height and width of a crop in latents."""
        crop, factor = self.options.data.crop, 2 ** (len(self.vae.config.block_out_channels) - 1)
        return crop and (crop[0] // factor, crop[1] // factor)

    def encoded_pairs(self, draw: int, progress: float, count: int) -> list[tuple[Tensor, Tensor, str]]:
        """What one draw brings: sharp latents, degraded ones, captions."""
        batch = self.data.draw(draw, progress, count).to(self.device)
        started = time.monotonic()
        sharp = degraded = self.encode(batch.clip)
        if self.options.loss.degraded_share:
            degraded = self.encode(self.degrade(batch, draw))
        self.encode_seconds += time.monotonic() - started
        return list(zip(sharp, degraded, batch.captions, strict=True))

    def loss(self, model: nn.Module, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        latent = batch.sharp
        noise = noise_like(latent, generator)
        t = draw_timesteps(len(latent), self.schedule, self.options.loss, generator)
        degraded = (torch.rand(len(latent), generator=generator) < self.options.loss.degraded_share) & (
            t >= LOWEST_DEGRADED
        )
        shown = torch.where(degraded.view(-1, 1, 1, 1, 1).to(latent.device), batch.degraded, latent)
        noisy = self.schedule.add_noise(shown, noise, t)
        target = self.schedule.target_from(noisy, latent, t)
        prediction = model(noisy, t.to(latent.device), self.states(batch.captions, generator)).sample
        errors = weighted_error(prediction, target, torch.ones((), device=latent.device))
        return errors.mean(), {"loss_sharp": mean_of(errors, ~degraded), "loss_degraded": mean_of(errors, degraded)}

    def sample(self, path: Path) -> None:
        """Degraded clip, its translation from timestep 150, and the truth: first frames."""
        from .preview import draw_sheet

        batch = self.heldout.draw(10**9, count=4).to(self.device)
        start = self.encode(self.degrade(batch, 0))
        scheduler, grid = self.grid(40)
        grid = grid[grid <= 150]
        noise = noise_like(start, torch.Generator().manual_seed(0))
        states = self.text(batch.captions)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.model(x, t.to(x.device), states).sample

        x = self.walk(predict, add_noise(start, noise, scheduler, grid[0]), scheduler, grid)
        rows = [self.decode_first(latents) for latents in (start, x, self.encode(batch.clip))]
        sheet = torch.stack([*rows, batch.clip[:, :, 0]], dim=1).flatten(0, 1)[:, :, None]
        names = ["degraded", "translated", "decoded render", "render"]
        draw_sheet(sheet, names * len(batch.clip), path, width=288)
