"""Stage 4's networks: the autoencoder, and the latent expert trained on its low-noise timesteps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.noise import scheduler_from_config

from .data import Batch, StorybookData
from .denoisers import DenoiserTask, schedule_of
from .language import FrozenText
from .objectives import draw_timesteps, weighted_error
from .task import Task, save_bf16


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels along height and width."""
    return x.diff(dim=-2), x.diff(dim=-1)


class VaeTask(Task):
    """Autoencoder of single frames: L1 on pixels and gradients, a little KL, equivariance (EQ-VAE, 2502.09509)."""

    model: AutoencoderKL

    def build(self, init_from: Path | None) -> AutoencoderKL:
        if init_from:
            return AutoencoderKL.from_pretrained(init_from / "vae", torch_dtype=torch.float32)
        return AutoencoderKL(**self.options.model)

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        vae = getattr(model, "module", model)
        picture = batch.clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(picture).latent_dist
        latent = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        # Half-size latents and mirrored ones must decode to half-size and mirrored pictures: smoother latents.
        kind = torch.randint(0, 8, (), generator=generator).item()
        if kind == 0:
            latent, picture = latent.flip(-1), picture.flip(-1)
        elif kind == 1:
            latent, picture = F.avg_pool2d(latent, 2), F.avg_pool2d(picture, 2)
        decoded = vae.decode(latent).sample
        pixels = (decoded - picture).abs().mean()
        gradient = sum((a - b).abs().mean() for a, b in zip(edges(decoded), edges(picture), strict=True))
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return pixels + 0.5 * gradient + 1e-6 * kl, {"loss_pixels": pixels.item()}

    @torch.no_grad()
    def calibrate(self) -> dict[str, Any]:
        """Sets scaling_factor to 1/std of held-out latents; returns the least-squares map from latents to RGB."""
        batch = StorybookData(self.options.data, split="heldout").draw(10**9)
        picture = batch.clip.transpose(1, 2).flatten(0, 1)
        latent = self.model.encode(picture).latent_dist.mean
        self.model.register_to_config(scaling_factor=round(1 / latent.std().item(), 5))
        scaled = (latent * self.model.config.scaling_factor).permute(0, 2, 3, 1).flatten(0, 2)
        small = F.interpolate(picture, size=latent.shape[-2:], mode="area").permute(0, 2, 3, 1).flatten(0, 2)
        factors = torch.linalg.lstsq(torch.cat([scaled, torch.ones(len(scaled), 1)], dim=1), small).solution
        rows = [[round(v, 5) for v in row] for row in factors.tolist()]
        return {"latent_rgb_factors": rows[:4], "latent_rgb_bias": rows[4]}

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        batch = StorybookData(self.options.data, split="heldout").draw(10**9 + 1)
        picture = batch.clip.transpose(1, 2).flatten(0, 1)
        decoded = self.model.decode(self.model.encode(picture).latent_dist.mode()).sample.clamp(-1, 1)
        error = ((decoded - picture) / 2).square().mean()
        return {"PSNR on held-out renders, dB": round(-10 * torch.log10(error).item(), 2)}

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        from .preview import draw_sheet

        batch = StorybookData(self.options.data, split="heldout").draw(10**9)
        picture = batch.clip.transpose(1, 2).flatten(0, 1)[:8]
        decoded = self.model.decode(self.model.encode(picture).latent_dist.mode()).sample
        both = torch.stack([picture, decoded], dim=1).flatten(0, 1)[:, :, None]
        draw_sheet(both, ["render", "decoded"] * len(picture), path, width=256)

    def home(self, folder: Path) -> Path:
        """Beside the expert that speaks its latents."""
        return folder.parent / "translation" / "vae"

    def save(self, folder: Path) -> None:
        home = self.home(folder)
        factors = self.calibrate()
        save_bf16(self.model, home)
        (home / "latent_rgb.json").write_text(json.dumps(factors) + "\n")


class TranslationTask(DenoiserTask):
    """Eq. 5 in latents on timesteps below the cap (section 3.6).

    With `loss.degraded_share`, that share of the clips above timestep 200 is noised from a blurred picture while the
    target stays the sharp one: what the stage meets is a superresolution result, not a render.
    """

    model: UNet3DConditionModel

    def build(self, init_from: Path | None) -> UNet3DConditionModel:
        folder = self.assets / "translation"
        self.scheduler = scheduler_from_config(self.options.scheduler)
        self.schedule = schedule_of(self.scheduler)
        self.text = self.build_text()
        self.vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).requires_grad_(False).eval()
        self.vae.to(memory_format=torch.channels_last)
        self.pool: list[tuple[Tensor, Tensor, str]] = []
        if init_from:
            return UNet3DConditionModel.from_pretrained(init_from / "unet", torch_dtype=torch.float32)
        return identity_temporal(UNet3DConditionModel(**self.options.model))

    def build_text(self) -> FrozenText:
        from transformers import CLIPTextModel

        return FrozenText(self.assets / "translation", CLIPTextModel)

    @torch.no_grad()
    def encode(self, clip: Tensor) -> Tensor:
        """(b 3 f h w) to scaled latents (b 4 f h/8 w/8), frame by frame."""
        frames = clip.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        latent = self.vae.encode(frames).latent_dist.mode() * self.vae.config.scaling_factor
        return latent.unflatten(0, (len(clip), -1)).transpose(1, 2)

    def draw(self, seed: int, progress: float) -> Batch:
        """Latents of sharp clips; those of blurred copies travel as the mask. Each is used about `reuse` times."""
        o = self.options.data
        rng = random.Random(seed)
        fresh = max(1, o.batch // max(1, o.reuse)) if len(self.pool) >= 4 * o.batch else o.batch
        batch = self.data.draw(seed, progress)
        latent = self.encode(batch.clip[:fresh])
        blurred = self.encode(blur(batch.clip[:fresh], rng))
        self.pool += list(zip(latent, blurred, batch.captions[:fresh], strict=True))
        self.pool = self.pool[-16 * o.batch :]
        chosen = self.pool[-fresh:] + rng.choices(self.pool, k=o.batch - fresh)
        return Batch(torch.stack([c[0] for c in chosen]), [c[2] for c in chosen], torch.stack([c[1] for c in chosen]))

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        latent, blurred = batch.clip, batch.mask
        noise = torch.randn(latent.shape, generator=generator)
        t = draw_timesteps(len(latent), self.schedule, self.options.loss, generator)
        degraded = (torch.rand(len(latent), generator=generator) < self.options.loss.degraded_share) & (t >= 200)
        shown = torch.where(degraded.view(-1, 1, 1, 1, 1), blurred, latent)
        noisy = self.schedule.add_noise(shown, noise, t)
        # The target is the one whose clean estimate, read off the noisy input, is the sharp latent.
        alpha, sigma = self.schedule.coefficients(t, latent)
        implied = (noisy - alpha * latent) / sigma.clamp(min=1e-3)
        target = self.schedule.target(latent, implied, t)
        prediction = model(noisy, t, self.states(batch, generator)).sample
        errors = weighted_error(prediction, target, torch.ones(()))
        figures = {
            "loss_sharp": errors[~degraded].mean().item(),
            "loss_degraded": errors[degraded].mean().item(),
        }
        return errors.mean(), {k: v for k, v in figures.items() if v == v}

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Blurred clip, its translation from timestep 500, and the truth: first frames."""
        from .preview import draw_sheet

        batch = StorybookData(self.options.data, split="heldout").draw(10**9)
        clip = batch.clip[:4]
        start = self.encode(blur(clip, random.Random(0)))
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(20)
        visited = [t for t in scheduler.timesteps if t <= 500]
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
        x = self.schedule.add_noise(start, noise, visited[0].expand(len(start)))
        states = self.text(batch.captions[:4])
        scheduler.set_begin_index(len(scheduler.timesteps) - len(visited))
        for t in visited:
            x = scheduler.step(self.model(x, t, states).sample, t, x).prev_sample
        rows = [
            self.vae.decode(z[:, :, 0] / self.vae.config.scaling_factor).sample.clamp(-1, 1)
            for z in (start, x, self.encode(clip))
        ]
        sheet = torch.stack([*rows, clip[:, :, 0]], dim=1).flatten(0, 1)[:, :, None]
        draw_sheet(sheet, ["blurred", "translated", "decoded render", "render"] * len(clip), path, width=288)


def blur(clip: Tensor, rng: random.Random) -> Tensor:
    """What a smaller stage might have made of it: reduced 2 to 3 times and enlarged again. (b 3 f h w)."""
    frames = clip.transpose(1, 2).flatten(0, 1)
    factor = rng.uniform(2.0, 3.0)
    size = (round(frames.shape[-2] / factor), round(frames.shape[-1] / factor))
    small = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    large = F.interpolate(small, size=frames.shape[-2:], mode="bilinear")
    return large.unflatten(0, (len(clip), -1)).transpose(1, 2)


def identity_temporal(model: UNet3DConditionModel) -> UNet3DConditionModel:
    """Zeroes what diffusers leaves alive in fresh temporal layers, so that they start as exact identity."""
    for name, module in model.named_modules():
        last = "temp_attentions" in name or "transformer_in" in name
        if last and name.endswith("proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model
