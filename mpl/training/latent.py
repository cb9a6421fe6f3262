"""Stage 4's networks: the autoencoder, and the latent expert trained on its low-noise timesteps."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.loading import channels_last
from mpl.models.latent import quicken
from mpl.models.temporal import TemporalTransformer
from mpl.noise import add_noise
from mpl.sampling import fold, unfold

from .data import Batch
from .denoisers import DiffusionTask
from .files import save_bf16
from .language import FrozenText
from .objectives import draw_timesteps, mean_of, noise_like, weighted_error
from .task import Task, find_part

_REMEMBERED = 8  # batches of new clips: how far back a step reaches for samples to use again


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels along height and width."""
    return x.diff(dim=-2), x.diff(dim=-1)


class Autoencoder(AutoencoderKL):
    """AutoencoderKL whose call is a training pass: distributed training shares gradients of calls alone."""

    def forward(self, picture: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """picture (n 3 h w), to what was decoded, the picture it should be, and the KL divergence per latent number.

        Mirrored latents and half-size ones must decode to mirrored and half-size pictures: smoother latents (EQ-VAE).
        """
        posterior = self.encode(picture).latent_dist
        latent = posterior.mean + posterior.std * noise_like(posterior.mean, generator)
        kind = torch.randint(0, 8, (), generator=generator).item()
        if kind == 0:
            latent, picture = latent.flip(-1), picture.flip(-1)
        elif kind == 1:
            latent, picture = F.avg_pool2d(latent, 2), F.avg_pool2d(picture, 2)
        return self.decode(latent).sample, picture, posterior.kl().mean() / posterior.mean[0].numel()


class VaeTask(Task):
    """Autoencoder of single frames: L1 on pixels and gradients, a little KL, equivariance (EQ-VAE, 2502.09509)."""

    model: Autoencoder

    def build(self, init_from: Path | None) -> Autoencoder:
        if init_from:
            return Autoencoder.from_pretrained(find_part(init_from, "vae"), torch_dtype=torch.float32)
        return self.construct(Autoencoder, **self.options.model)

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        frames = fold(batch.clip).contiguous(memory_format=torch.channels_last)
        decoded, picture, kl = model(frames, generator)
        pixels = (decoded - picture).abs().mean()
        gradient = sum((a - b).abs().mean() for a, b in zip(edges(decoded), edges(picture), strict=True))
        return pixels + 0.5 * gradient + 1e-6 * kl, {"loss_pixels": pixels.detach()}

    def heldout_frames(self, seed: int) -> Tensor:
        """(n 3 h w), on the device; n is 8, or a batch where that is more."""
        count = max(8, self.options.data.batch)
        return fold(self.heldout.draw(seed, count=count).clip).to(self.device)

    def reconstructed(self, frames: Tensor) -> Tensor:
        return self.model.decode(self.model.encode(frames).latent_dist.mode()).sample

    @torch.no_grad()
    def calibrate(self) -> dict[str, Any]:
        """Sets scaling_factor to 1/std of held-out latents; returns the least-squares map from latents to RGB."""
        picture = self.heldout_frames(10**9)
        latent = self.model.encode(picture).latent_dist.mean.float().cpu()
        self.model.register_to_config(scaling_factor=round(1 / latent.std().item(), 5))
        scaled = (latent * self.model.config.scaling_factor).permute(0, 2, 3, 1).flatten(0, 2)
        small = F.interpolate(picture.cpu(), size=latent.shape[-2:], mode="area").permute(0, 2, 3, 1).flatten(0, 2)
        factors = torch.linalg.lstsq(torch.cat([scaled, torch.ones(len(scaled), 1)], dim=1), small).solution
        rows = [[round(v, 5) for v in row] for row in factors.tolist()]
        return {"latent_rgb_factors": rows[:-1], "latent_rgb_bias": rows[-1]}

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        picture = self.heldout_frames(10**9 + 1)
        error = ((self.reconstructed(picture).clamp(-1, 1) - picture) / 2).square().mean()
        return {"PSNR on held-out frames, dB": round(-10 * torch.log10(error).item(), 2)}

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        from .preview import draw_sheet

        picture = self.heldout_frames(10**9)[:8]
        both = torch.stack([picture, self.reconstructed(picture)], dim=1).flatten(0, 1)[:, :, None]
        draw_sheet(both, ["frame", "decoded"] * len(picture), path, width=256)

    @property
    def stored(self) -> str:
        return AutoencoderKL.__name__

    def home(self, folder: Path) -> Path:
        """Beside the expert that speaks its latents: `translation/vae` for any folder of the same assets."""
        assets = folder.parent.parent if folder.parts[-2:] == ("translation", "vae") else folder.parent
        return assets / "translation" / "vae"

    def save(self, folder: Path) -> None:
        home = self.home(folder)
        factors = self.calibrate()
        config = {key: value for key, value in self.model.config.items() if not key.startswith("_")}
        stored = AutoencoderKL(**config)  # the plain class, under its own name
        stored.load_state_dict(self.model.state_dict())
        save_bf16(stored, home)
        (home / "latent_rgb.json").write_text(json.dumps(factors) + "\n")


@dataclass(frozen=True)
class LatentBatch:
    """Scaled latents (b c f h w) of sharp clips and of what is shown in place of some, blurred copies."""

    sharp: Tensor
    blurred: Tensor
    captions: list[str]


class TranslationTask(DiffusionTask):
    """Eq. 5 in latents on timesteps below the cap (section 3.6).

    With `loss.degraded_share`, that share of the clips above timestep 200 is noised from a blurred picture while the
    target stays the sharp one: what the stage meets is a superresolution result, not a render.
    """

    model: UNet3DConditionModel

    def build(self, init_from: Path | None) -> nn.Module:
        vae = AutoencoderKL.from_pretrained(self.sibling("translation/vae", "vae"), torch_dtype=torch.float32)
        self.vae = channels_last(vae.requires_grad_(False).eval())
        self.known: dict[int, list[tuple[Tensor, Tensor, str]]] = {}  # by seed
        return super().build(init_from)

    def build_model(self, init_from: Path | None) -> UNet3DConditionModel:
        start = self.options.start
        if init_from or start:
            folder = find_part(init_from, "unet") if init_from else self.sibling(f"{start}/unet", start)
            model = UNet3DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
            if not init_from:
                self.check_start(model, folder)
        else:
            model = self.construct(UNet3DConditionModel, **self.options.model)
        latent, known = self.vae.config.latent_channels, model.config.in_channels
        if known != latent:
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
            if not (folder / part).is_dir():
                shutil.copytree(self.sibling(f"translation/{part}", "clip"), folder / part)

    def check_start(self, model: UNet3DConditionModel, folder: Path) -> None:
        """Raises ValueError where the weights to start from are not those of the network that the preset describes."""
        for key, value in self.options.model.items():
            found = model.config.get(key)
            if (list(found) if isinstance(found, tuple) else found) != value:
                raise ValueError(f"translation.model.{key} = {value}: {folder} has {found}")

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
        latent = self.vae.encode(frames).latent_dist.mode() * self.vae.config.scaling_factor
        return unfold(latent, clip.shape[2])

    @torch.no_grad()
    def decode_first(self, latents: Tensor) -> Tensor:
        """First frames of scaled latents (b c f h w), (b 3 8h 8w) in [-1, 1]."""
        return self.vae.decode(latents[:, :, 0] / self.vae.config.scaling_factor).sample.clamp(-1, 1)

    def draw(self, seed: int, progress: float) -> LatentBatch:
        """Latents of clips and of blurred copies: each is used about `reuse` times, by steps near to each other.

        A batch depends on its seed alone: what is not remembered of earlier seeds, as after a start, is drawn for it.
        """
        o = self.options.data
        self.encode_seconds = 0.0
        rng = random.Random(f"{seed}/reuse")
        steps = _REMEMBERED * o.reuse
        chosen = list(self.samples(seed, progress))
        while len(chosen) < o.batch:
            chosen.append(rng.choice(self.samples(seed - rng.randint(1, steps), progress)))
        self.known = {known: samples for known, samples in self.known.items() if known > seed - steps}
        sharp, blurred, captions = zip(*chosen, strict=True)
        return LatentBatch(torch.stack(sharp), torch.stack(blurred), list(captions))

    def samples(self, seed: int, progress: float) -> list[tuple[Tensor, Tensor, str]]:
        """What one seed brings: sharp latents, blurred ones, captions."""
        if seed not in self.known:
            o = self.options.data
            batch = self.data.draw(seed, progress, max(1, o.batch // o.reuse)).to(self.device)
            started = time.monotonic()
            sharp = blurred = self.encode(batch.clip)
            if self.options.loss.degraded_share:
                blurred = self.encode(blur(batch.clip, random.Random(f"{seed}/blur")))
            self.encode_seconds += time.monotonic() - started
            self.known[seed] = list(zip(sharp, blurred, batch.captions, strict=True))
        return self.known[seed]

    def loss(
        self, model: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        latent = batch.sharp
        noise = noise_like(latent, generator)
        t = draw_timesteps(len(latent), self.schedule, self.options.loss, generator)
        degraded = (torch.rand(len(latent), generator=generator) < self.options.loss.degraded_share) & (t >= 200)
        shown = torch.where(degraded.view(-1, 1, 1, 1, 1).to(latent.device), batch.blurred, latent)
        noisy = self.schedule.add_noise(shown, noise, t)
        # The target is the one whose clean estimate, read off the noisy input, is the sharp latent.
        alpha, sigma = self.schedule.coefficients(t, latent)
        implied = (noisy - alpha * latent) / sigma.clamp(min=1e-3)
        target = self.schedule.target(latent, implied, t)
        prediction = model(noisy, t.to(latent.device), self.states(batch.captions, generator)).sample
        errors = weighted_error(prediction, target, torch.ones((), device=latent.device))
        return errors.mean(), {"loss_sharp": mean_of(errors, ~degraded), "loss_degraded": mean_of(errors, degraded)}

    def sample(self, path: Path) -> None:
        """Blurred clip, its translation from timestep 500, and the truth: first frames."""
        from .preview import draw_sheet

        batch = self.heldout.draw(10**9, count=4).to(self.device)
        start = self.encode(blur(batch.clip, random.Random(0)))
        scheduler, grid = self.grid(20)
        grid = grid[grid <= 500]
        noise = noise_like(start, torch.Generator().manual_seed(0))
        states = self.text(batch.captions)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.model(x, t.to(x.device), states).sample

        x = self.walk(predict, add_noise(start, noise, scheduler, grid[0]), scheduler, grid)
        rows = [self.decode_first(latents) for latents in (start, x, self.encode(batch.clip))]
        sheet = torch.stack([*rows, batch.clip[:, :, 0]], dim=1).flatten(0, 1)[:, :, None]
        names = ["blurred", "translated", "decoded render", "render"]
        draw_sheet(sheet, names * len(batch.clip), path, width=288)


def blur(clip: Tensor, rng: random.Random) -> Tensor:
    """What a smaller stage might have made of it: reduced 2 to 3 times and enlarged again. (b 3 f h w)."""
    frames = fold(clip)
    factor = rng.uniform(2.0, 3.0)
    size = (round(frames.shape[-2] / factor), round(frames.shape[-1] / factor))
    small = F.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return unfold(F.interpolate(small, size=frames.shape[-2:], mode="bilinear"), clip.shape[2])
