"""Stage 4's autoencoder, of single frames."""

from __future__ import annotations

import json
import random
import shutil
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from mpl.checkpoints import locate
from mpl.models.tiles import encode_frames
from mpl.sampling import fold, unfold

from .data import Batch, open_data
from .degrade import Degrader, PairBatch, Reused, Translator, blur, cut_alike
from .files import save_bf16
from .objectives import mean_of, noise_like
from .task import Task, find_part
from .widen import even_channels, wake_channels, widen_autoencoder

_PATCH = 8  # pixels: large enough that a pattern's place in it does not matter, small enough to lie within an object
_WINDOW = (160, 192)  # height, width of what the expert is shown of a clip: as in its own training


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of neighbouring pixels along height and width."""
    return x.diff(dim=-2), x.diff(dim=-1)


def contrast(x: Tensor) -> Tensor:
    """Root mean square of the differences in each patch, `(n, c, h / 8, w / 8)` of `(n, c, h, w)`."""
    tall, wide = (F.pad(d.square(), pad) for d, pad in zip(edges(x), ((0, 0, 0, 1), (0, 1, 0, 0)), strict=True))
    return (F.avg_pool2d(tall + wide, _PATCH) + 1e-4).sqrt()  # its slope is without bound at 0


class Autoencoder(AutoencoderKL):
    """AutoencoderKL whose call is a training pass: distributed training shares gradients of calls alone."""

    def forward(
        self,
        sharp: Tensor,
        other: Tensor,
        share: Tensor,
        generator: torch.Generator,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """To what was decoded, the picture it should be (n 3 h w), and the latents' error: KL divergence per number.

        What is decoded of the first m lies `share` (m), in [0, 1], of the way from their own latents to others
        (m c h/8 w/8).
        While the encoder learns, mirrored latents and half-size ones (of even sides) must decode to mirrored and
        half-size pictures: smoother latents (EQ-VAE, 2502.09509). Where it is told which are `wanted` (n c h/8 w/8),
        it learns those and nothing else; the error is their mean square then.
        """
        posterior = self.encode(sharp).latent_dist
        mean, std = posterior.mean, posterior.std
        if wanted is not None:  # what is decoded of them is no reason to move them
            mean, std = mean.detach(), std.detach()
        latent = mean + std * noise_like(mean, generator)
        if count := len(other):
            moved = latent[:count].lerp(other, share.view(-1, 1, 1, 1).to(latent))
            latent = torch.cat([moved, latent[count:]])
        learns = wanted is None and self.encoder.conv_in.weight.requires_grad
        kind = torch.randint(0, 8, (), generator=generator).item() if learns else None
        if kind == 0:
            latent, sharp = latent.flip(-1), sharp.flip(-1)
        elif kind == 1 and not any(side % 2 for side in latent.shape[-2:]):
            latent, sharp = F.avg_pool2d(latent, 2), F.avg_pool2d(sharp, 2)
        error = posterior.kl().mean() / mean[0].numel() if wanted is None else F.mse_loss(posterior.mean, wanted)
        return self.decode(latent).sample, sharp, error


class FrozenAutoencoder(nn.Module):
    """Clips to scaled latents and back, for denoisers that learn latents."""

    def __init__(self, folder: str, option: str) -> None:
        """Raises ValueError naming the option where the folder holds none."""
        super().__init__()
        root = locate(folder)
        if root is None or not (root / "config.json").is_file():
            raise ValueError(f"{option} = {folder}: holds no autoencoder; `python -m mpl train vae` makes one")
        self.source = root
        self.model = AutoencoderKL.from_pretrained(root, torch_dtype=torch.float32).requires_grad_(False).eval()
        self.channels, self.unit = (
            self.model.config.latent_channels,
            2 ** (len(self.model.config.block_out_channels) - 1),
        )

    @torch.no_grad()
    def encode(self, batch: Batch) -> Batch:
        """The batch with latents for its clip, and its mask as small."""
        frames = fold(batch.clip).contiguous(memory_format=torch.channels_last)
        latents = self.model.encode(frames).latent_dist.mode() * self.model.config.scaling_factor
        count = batch.clip.shape[2]
        mask = None if batch.mask is None else unfold(F.avg_pool2d(fold(batch.mask), self.unit), count)
        return replace(batch, clip=unfold(latents, count), mask=mask)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(b c f h w) to (b 3 f 8h 8w)."""
        return unfold(self.model.decode(fold(latents) / self.model.config.scaling_factor).sample, latents.shape[2])

    def save(self, folder: Path) -> None:
        if folder.resolve() != self.source.resolve():
            shutil.copytree(self.source, folder, dirs_exist_ok=True)


class VaeTask(Task):
    """L1 on pixels and gradients, a little KL, equivariance (EQ-VAE, 2502.09509).

    Where the latent leaves a texture open, the least error is a grey mean of all it could be. With `loss.energy_weight`
    each patch must have as much contrast as the picture has there, wherever in the patch that lies.

    With `loss.degraded_share`, that share of the pictures is decoded from between their own latents and others: of what
    stage 4 meets in their place, or of what its expert makes of that. They must come back sharp, so the decoder does a
    part of the last step itself, as that of LTX-Video (2501.00103); one that has met renders alone draws edges where
    there are none. Those latents are costly, and are used again and again, so the encoder must stay as it is. All other
    pictures are new ones, half of them decoded from between their own latents and those of a blurred copy: of too few
    scenes the decoder learns the scenes.

    With `loss.untiled_weight` the encoder learns to give of whole crops what the one it began with gives in tiles of
    its `sample_size`, so that a larger picture needs none: as norms go by all that they see, and zeros beyond borders
    are less of a larger picture, an autoencoder knows the size that it has learned on. Latents stay what they were.
    """

    model: Autoencoder
    tiled: Autoencoder | None = None  # the one it began with, where the encoder learns from its tiles

    def build(self, init_from: Path | None) -> Autoencoder:
        loss = self.options.loss
        if loss.degraded_share and not (loss.decoder_only and init_from):
            raise ValueError(
                "vae.loss.degraded_share: needs decoder_only = true, and a translation in --init-from; "
                "`--preset latents16` makes a first autoencoder"
            )
        if loss.untiled_weight and not (loss.decoder_only and init_from):
            raise ValueError("vae.loss.untiled_weight: needs decoder_only = true, and a translation in --init-from")
        if not init_from:
            return self.construct(Autoencoder, **self.options.model)
        folder = find_part(init_from, "vae")
        model = Autoencoder.from_pretrained(folder, torch_dtype=torch.float32)
        self.check_start(model.config, folder, ("latent_channels", "sample_size"))
        known = model.config.latent_channels
        if (channels := self.options.model.get("latent_channels", known)) != known:
            model = widen_autoencoder(model, channels)
        model.register_to_config(sample_size=self.options.model.get("sample_size", model.config.sample_size))
        if loss.untiled_weight:
            self.tiled = deepcopy(model).requires_grad_(False).eval()
        elif loss.decoder_only:
            for part in (model.encoder, model.quant_conv):
                part.requires_grad_(False)
        else:
            pictures = self.heldout_frames(10**9 + 2)
            wake_channels(model, pictures)
            even_channels(model, pictures)
        if loss.degraded_share:
            self.data = open_data(replace(self.options.data, frames=1))
            self.clips = open_data(replace(self.options.data, crop=None))
            self.degrade, self.translate = Degrader(self), Translator(folder.parent, self.options.data)
            self.pairs = Reused(self.latent_pairs, replace(self.options.data, batch=self.costly))
        return model

    def frozen(self) -> tuple[nn.Module, ...]:
        return () if self.tiled is None else (self.tiled,)

    @property
    def costly(self) -> int:
        """How many pictures of a batch come with latents made by stages 3 and 4."""
        wanted = self.options.data.batch * self.options.loss.degraded_share
        return max(1, round(wanted)) if wanted else 0

    def draw(self, seed: int, progress: float) -> PairBatch:
        """Crops of single frames (b 3 h w), and other latents (m c h/8 w/8) for the first m of them."""
        if not self.costly:
            batch = self.data.draw(seed, progress).to(self.device)
            frames = fold(batch.clip)
            return PairBatch(frames, frames.new_empty(0), batch.captions)
        self.encode_seconds, rng = 0.0, random.Random(f"{seed}/reuse")
        known = self.pairs.draw(seed, progress, rng)
        cuts = [self.cut(picture, rng.choice(latents), rng) for picture, latents, _ in known]
        sharp, other = (torch.stack(part).to(self.device) for part in zip(*cuts, strict=True))
        captions = [caption for _, _, caption in known]
        if count := self.options.data.batch - self.costly:
            fresh = self.data.draw(seed, progress, count).to(self.device)
            sharp = torch.cat([sharp, fold(fresh.clip)])
            captions += fresh.captions
            if half := count // 2:
                other = torch.cat([other, self.encoded(fold(blur(fresh.clip[:half], rng)))])
        return PairBatch(sharp, other, captions)

    @torch.no_grad()
    def encoded(self, frames: Tensor) -> Tensor:
        """(n 3 h w) to latents (n c h/8 w/8)."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        return encode_frames(self.tiled or self.model, frames, tiling=self.tiled is not None).mean

    def cut(self, clip: Tensor, latents: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
        """A crop of one frame of a clip (3 f h w), and of its latents (c f h/8 w/8)."""
        frame, unit = rng.randrange(clip.shape[1]), clip.shape[-1] // latents.shape[-1]
        tall, wide = self.options.data.crop or clip.shape[-2:]
        rooms = zip(clip.shape[-2:], (tall, wide), strict=True)
        top, left = (rng.randint(0, (size - wanted) // unit) for size, wanted in rooms)
        picture = clip[:, frame, unit * top : unit * top + tall, unit * left : unit * left + wide]
        return picture, latents[:, frame, top : top + tall // unit, left : left + wide // unit]

    def latent_pairs(self, draw: int, progress: float, count: int) -> list[tuple[Tensor, tuple[Tensor, Tensor], str]]:
        """What one draw brings: windows of clips (3 f h w), two kinds of latents for each, and captions."""
        batch = self.clips.draw(draw, progress, count)
        rng, started = random.Random(f"{draw}/window"), time.monotonic()
        both = torch.stack([batch.clip, self.degrade(batch, draw)], dim=1)
        window = tuple(map(max, _WINDOW, self.options.data.crop or (0, 0)))
        windows = cut_alike(both, tuple(map(min, window, batch.clip.shape[-2:])), rng)  # type: ignore[arg-type]
        found = []
        for i, (sharp, degraded) in enumerate(windows):
            scaled = self.translate(degraded[None], batch.captions[i], rng.getrandbits(62))
            latents = tuple(latent[0] / self.model.config.scaling_factor for latent in scaled)
            found.append((sharp, latents, batch.captions[i]))
        self.encode_seconds += time.monotonic() - started
        return found

    def loss(self, model: nn.Module, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        changed = torch.arange(len(batch.sharp)) < len(batch.degraded)
        share = torch.rand(len(batch.degraded), generator=generator).sqrt()  # the others rather: those are what is met
        sharp = batch.sharp.contiguous(memory_format=torch.channels_last)
        wanted = None if self.tiled is None else self.encoded(sharp)
        decoded, picture, off = model(sharp, batch.degraded, share, generator, wanted)
        errors = (decoded - picture).abs().flatten(1).mean(1)
        gradient = sum((a - b).abs().mean() for a, b in zip(edges(decoded), edges(picture), strict=True))
        figures = {"loss_sharp": mean_of(errors, ~changed), "loss_degraded": mean_of(errors, changed)}
        if self.tiled is not None:
            figures["loss_latents"] = off
        loss = errors.mean() + 0.5 * gradient + (self.options.loss.untiled_weight or 1e-6) * off
        if weight := self.options.loss.energy_weight:
            figures["loss_energy"] = F.l1_loss(contrast(decoded.float()), contrast(picture.float()))
            loss = loss + weight * figures["loss_energy"]
        return loss, figures

    def heldout_frames(self, seed: int) -> Tensor:
        """(n 3 h w), on the device; n is 8, or a batch where that is more."""
        count = max(8, self.options.data.batch)
        return self.heldout.draw(seed, count=count).clip[:, :, 0].to(self.device)

    def reconstructed(self, frames: Tensor) -> Tensor:
        return self.model.decode(self.model.encode(frames).latent_dist.mode()).sample

    @torch.no_grad()
    def calibrate(self, model: AutoencoderKL) -> dict[str, Any]:
        """Makes latents' channels equally loud and sets scaling_factor to 1/std of held-out ones, unless those stay.

        Returns the best linear map to RGB.
        """
        picture = self.heldout_frames(10**9)
        if not self.options.loss.decoder_only:
            even_channels(model, picture)
            std = model.encode(picture).latent_dist.mean.std().item()
            model.register_to_config(scaling_factor=round(1 / std, 5))
        latent = model.encode(picture).latent_dist.mean.float().cpu()
        scaled = (latent * model.config.scaling_factor).permute(0, 2, 3, 1).flatten(0, 2)
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
        config = {key: value for key, value in self.model.config.items() if not key.startswith("_")}
        stored = AutoencoderKL(**config)  # the plain class, under its own name
        stored.load_state_dict(self.model.state_dict())
        factors = self.calibrate(stored.to(self.device))
        save_bf16(stored, home)
        (home / "latent_rgb.json").write_text(json.dumps(factors) + "\n")
