"""Stage 4's networks: the autoencoder, and the latent expert trained on its low-noise timesteps."""

from __future__ import annotations

import json
import random
import shutil
import time
from dataclasses import dataclass, replace
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
from mpl.stages.translation import set_tiling

from .data import Batch, open_data, reduced
from .degrade import Enlarger, blur
from .denoisers import DiffusionTask
from .files import save_bf16
from .language import FrozenText
from .objectives import draw_timesteps, mean_of, noise_like, weighted_error
from .task import Task, find_part

_REMEMBERED = 32  # draws: how far back a step reaches for samples to use again
_LOWEST_DEGRADED = 60  # below this timestep what noise would have to stand for the difference is larger than any noise
_BLURRED_SHARE = 0.3  # of degraded clips, where superresolution makes the others


def cut_alike(latents: Tensor, window: tuple[int, int] | None, rng: random.Random) -> Tensor:
    """A random window of each sample of (b … h w), the same for all that the sample holds; None leaves them whole."""
    if window is None:
        return latents
    (height, width), (tall, wide) = latents.shape[-2:], window
    parts = []
    for sample in latents:
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        parts.append(sample[..., top : top + tall, left : left + wide])
    return torch.stack(parts)


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
    """Autoencoder of single frames: L1 on pixels and gradients, a little KL, equivariance (EQ-VAE, 2502.09509).

    With `loss.degraded_share`, that share of the pictures is blurred and must come back blurred: stage 4 encodes what
    superresolution made, and a decoder that has met sharp renders only draws edges where there are none.
    """

    model: Autoencoder

    def build(self, init_from: Path | None) -> Autoencoder:
        if not init_from:
            return self.construct(Autoencoder, **self.options.model)
        model = Autoencoder.from_pretrained(find_part(init_from, "vae"), torch_dtype=torch.float32)
        if self.options.loss.decoder_only:
            for part in (model.encoder, model.quant_conv):
                part.requires_grad_(False)
        return model

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        clip = batch.clip
        if blurred := round(len(clip) * self.options.loss.degraded_share):
            rng = random.Random(torch.randint(0, 2**31, (), generator=generator).item())
            clip = torch.cat([blur(clip[:blurred], rng), clip[blurred:]])
        frames = fold(clip).contiguous(memory_format=torch.channels_last)
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
    """Scaled latents (b c f h w) of sharp clips and of what is shown in place of some, degraded copies."""

    sharp: Tensor
    degraded: Tensor
    captions: list[str]


class TranslationTask(DiffusionTask):
    """Eq. 5 in latents on timesteps below the cap (section 3.6).

    With `loss.degraded_share`, that share of the clips above timestep 60 is noised from a degraded picture while the
    target stays the sharp one: what the stage meets is a superresolution result, not a render. With `data.small` it is
    just that, made by the superres model from clips of that size; without, and for a part of them, a blurred copy.
    """

    model: UNet3DConditionModel

    def build(self, init_from: Path | None) -> nn.Module:
        vae = AutoencoderKL.from_pretrained(self.sibling("translation/vae", "vae"), torch_dtype=torch.float32)
        self.vae = channels_last(vae.requires_grad_(False).eval())
        set_tiling(self.vae, self.options.data.tiling)
        self.known: dict[int, list[tuple[Tensor, Tensor, str]]] = {}  # by draw
        self.data, self.heldout = (open_data(replace(self.options.data, crop=None), x) for x in ("train", "heldout"))
        self.enlarger = self.build_enlarger() if self.options.data.small else None
        return super().build(init_from)

    def build_enlarger(self) -> Enlarger:
        from transformers import T5EncoderModel

        superres, text = (self.sibling(f"{x}/{part}", x) for x, part in (("superres", "unet"), ("text", "tokenizer")))
        return Enlarger(superres.parent, FrozenText(text.parent, T5EncoderModel, self.options.data.tokens))

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
        """Crops of the latents of whole clips: each is used about `reuse` times, by steps near to each other.

        A batch depends on its seed alone: what is not remembered of earlier draws, as after a start, is drawn for it.
        """
        o = self.options.data
        self.encode_seconds = 0.0
        rng = random.Random(f"{seed}/reuse")
        newest = seed // max(1, o.reuse // o.batch)  # steps that share a draw
        chosen = list(self.samples(newest, progress))
        while len(chosen) < o.batch:
            chosen.append(rng.choice(self.samples(newest - rng.randint(1, _REMEMBERED), progress)))
        self.known = {known: samples for known, samples in self.known.items() if known >= newest - _REMEMBERED}
        sharp, degraded, captions = zip(*chosen, strict=True)
        pairs = cut_alike(torch.stack([torch.stack(sharp), torch.stack(degraded)], dim=1), self.window, rng)
        return LatentBatch(pairs[:, 0], pairs[:, 1], list(captions))

    @property
    def window(self) -> tuple[int, int] | None:
        """Height and width of a crop in latents."""
        crop, factor = self.options.data.crop, 2 ** (len(self.vae.config.block_out_channels) - 1)
        return crop and (crop[0] // factor, crop[1] // factor)

    def samples(self, draw: int, progress: float) -> list[tuple[Tensor, Tensor, str]]:
        """What one draw brings: sharp latents, degraded ones, captions."""
        if draw not in self.known:
            o = self.options.data
            batch = self.data.draw(draw, progress, max(1, o.batch // o.reuse)).to(self.device)
            started = time.monotonic()
            sharp = degraded = self.encode(batch.clip)
            if self.options.loss.degraded_share:
                degraded = self.encode(self.degrade(batch, draw))
            self.encode_seconds += time.monotonic() - started
            self.known[draw] = list(zip(sharp, degraded, batch.captions, strict=True))
        return self.known[draw]

    def degrade(self, batch: Batch, seed: int) -> Tensor:
        """What the stage would meet in place of the batch's clips, as large as they are."""
        rng, o = random.Random(f"{seed}/degrade"), self.options.data
        if self.enlarger is None or rng.random() < _BLURRED_SHARE:
            return blur(batch.clip, rng)
        small = reduced(batch, *o.small)
        return self.enlarger(small, batch.captions, o.height, o.width, rng.getrandbits(62)).to(self.device)

    def loss(
        self, model: nn.Module, batch: LatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        latent = batch.sharp
        noise = noise_like(latent, generator)
        t = draw_timesteps(len(latent), self.schedule, self.options.loss, generator)
        degraded = (torch.rand(len(latent), generator=generator) < self.options.loss.degraded_share) & (
            t >= _LOWEST_DEGRADED
        )
        shown = torch.where(degraded.view(-1, 1, 1, 1, 1).to(latent.device), batch.degraded, latent)
        noisy = self.schedule.add_noise(shown, noise, t)
        # The target is the one whose clean estimate, read off the noisy input, is the sharp latent.
        alpha, sigma = self.schedule.coefficients(t, latent)
        implied = (noisy - alpha * latent) / sigma.clamp(min=1e-3)
        target = self.schedule.target(latent, implied, t)
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
