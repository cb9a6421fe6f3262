"""Training the autoencoder: where it goes on from, and a decoder that learns alone from what stage 4 meets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mpl.models.tiles import encode_frames
from mpl.training.autoencoder import contrast
from mpl.training.options import load_task


def test_an_autoencoder_goes_on_from_the_expert_s_folder_or_its_own(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    assets = trained / "assets"
    for folder in (assets / "translation", assets / "translation/vae"):
        assert make_task(options, assets, folder).home(folder) == assets / "translation/vae"
    with pytest.raises(ValueError, match=r"looked for vae/config.json or config.json"):
        make_task(options, assets, assets / "keyframes")


def test_a_decoder_learns_alone_where_latents_must_stay(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    options = replace(options, loss=replace(options.loss, decoder_only=True, degraded_share=0.5))
    task = make_task(options, trained / "assets", trained / "assets" / "translation")
    loss, _ = task.loss(task.model, task.draw(0, 1.0), torch.Generator().manual_seed(0))
    loss.backward()
    learning = {name.split(".")[0] for name, p in task.model.named_parameters() if p.grad is not None}
    assert learning == {"decoder", "post_quant_conv"}


def test_a_decoder_makes_sharp_pictures_of_what_stage_4_meets(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents are of the place that the picture is cut from, of one kind or the other; a share of them is used."""
    from mpl.training.command import make_task

    seen = {}

    def network(sharp: torch.Tensor, other: torch.Tensor, share: torch.Tensor, *rest: Any) -> tuple:
        seen.update(sharp=sharp, other=other, share=share)
        return sharp + torch.tensor([0.5, 0, 0, 0]).view(-1, 1, 1, 1), sharp, torch.zeros(())

    options = load_task(str(trained / "tiny.toml"), "vae")
    data = replace(options.data, batch=4, frames=3, height=32, width=64, crop=(8, 8), reuse=8)
    options = replace(options, loss=replace(options.loss, degraded_share=0.5, decoder_only=True), data=data)
    task = make_task(options, trained / "assets", trained / "assets" / "translation")
    unit = 2 ** (len(task.model.config.block_out_channels) - 1)

    def translate(clip: torch.Tensor, caption: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        small = clip[:, [0, 1, 2, 0], :, ::unit, ::unit] * task.model.config.scaling_factor
        return small, 10 * small

    whole = replace(task.heldout.draw(0, count=1), clip=torch.rand(1, 3, 3, 32, 64))
    monkeypatch.setattr(task, "translate", translate)
    monkeypatch.setattr(task, "degrade", lambda batch, seed: -batch.clip)
    monkeypatch.setattr(task.clips, "draw", lambda seed, progress, count: whole)
    kinds = set()
    for seed in range(8):
        batch = task.draw(seed, 1.0)
        assert batch.sharp.shape == (4, 3, 8, 8) and len(batch.degraded) == 3 and len(batch.captions) == 4
        ratio = batch.degraded[:2, :3] / -batch.sharp[:2, :, ::unit, ::unit]
        kinds |= {round(value) for value in ratio.flatten(1).mean(1).tolist()}
        assert torch.allclose(ratio.flatten(1).std(1), torch.zeros(2), atol=1e-3)
        fresh = task.data.draw(seed, 1.0, 2).clip[:, :, 0]
        assert torch.equal(batch.sharp[2:], fresh)
        blurred, own = batch.degraded[2], task.encoded(fresh)[0]
        assert not torch.equal(blurred, own) and (blurred - own).abs().mean() < own.abs().mean()
    assert kinds == {1, 10}
    _, figures = task.loss(network, batch, torch.Generator().manual_seed(0))
    assert torch.equal(seen["sharp"], batch.sharp) and torch.equal(seen["other"], batch.degraded)
    assert len(seen["share"]) == 3 and (seen["share"] > 0).all() and (seen["share"] <= 1).all()
    assert figures["loss_degraded"] == pytest.approx(0.5 / 3) and figures["loss_sharp"] == 0


def test_latents_are_made_by_stages_3_and_4_themselves(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import degrade
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    data = replace(options.data, batch=2, frames=3, height=32, width=64, crop=(8, 8), small=(8, 16), reuse=4)
    options = replace(options, loss=replace(options.loss, degraded_share=1.0, decoder_only=True), data=data)
    monkeypatch.setattr(degrade, "BLURRED_SHARE", 0.0)
    task = make_task(options, trained / "assets", trained / "assets" / "translation")
    [(clip, (encoded, translated), caption)] = task.latent_pairs(3, 1.0, 1)
    again = task.latent_pairs(3, 1.0, 1)[0][1]
    assert torch.equal(encoded, again[0]) and torch.equal(translated, again[1])
    assert clip.shape == (3, 3, 32, 64) and encoded.shape == translated.shape and caption
    with torch.no_grad():
        own = task.model.encode(clip.transpose(0, 1)).latent_dist.mode().transpose(0, 1)
    assert encoded.shape == own.shape and not torch.allclose(encoded, translated)
    assert (encoded - own).abs().mean() < own.abs().mean()  # in the autoencoder's own scale, of a clip much like this


def test_other_latents_need_an_encoder_that_stays(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    for decoder_only, init_from in ((False, trained / "assets" / "translation"), (True, None)):
        loss = replace(options.loss, degraded_share=0.5, decoder_only=decoder_only)
        with pytest.raises(ValueError, match="needs decoder_only = true, and a translation"):
            make_task(replace(options, loss=loss), trained / "assets", init_from)


def test_an_encoder_learns_to_give_of_whole_pictures_what_it_gave_in_tiles(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    loss = replace(options.loss, decoder_only=True, untiled_weight=1.0)
    data = replace(options.data, batch=4, height=32, width=64, crop=None)
    source = trained / "assets" / "translation"
    with pytest.raises(ValueError, match="untiled_weight: needs decoder_only = true, and a translation"):
        make_task(replace(options, loss=replace(loss, decoder_only=False)), trained / "assets", source)
    task = make_task(replace(options, loss=loss, data=data), trained / "assets", source)
    assert task.frozen() == (task.tiled,)  # goes where the trained one does
    task.tiled.register_to_config(sample_size=16)
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    off, generator, batch = [], torch.Generator().manual_seed(0), task.draw(0, 1.0)
    for _ in range(60):
        value, figures = task.loss(task.model, batch, generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        off.append(figures["loss_latents"].item())
    assert off[-1] < 0.3 * off[0]
    frames = batch.sharp
    with torch.no_grad():
        tiles = encode_frames(task.tiled, frames, tiling=True, overlap=0.25).mean
        before, after = (encode_frames(vae, frames).mean for vae in (task.tiled, task.model))
    torch.testing.assert_close(task.encoded(frames), tiles)
    assert (after - tiles).square().mean() < 0.3 * (before - tiles).square().mean()


@torch.no_grad()
def test_what_is_stored_has_channels_equally_loud_unless_the_encoder_stays(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    for decoder_only in (False, True):
        loss = replace(options.loss, decoder_only=decoder_only)
        task = make_task(replace(options, loss=loss), trained / "assets", trained / "assets" / "translation")
        task.model.register_to_config(scaling_factor=77.0)
        assert len(task.calibrate(task.model)["latent_rgb_bias"]) == 3
        assert (task.model.config.scaling_factor == 77.0) == decoder_only
        latent = task.model.encode(task.heldout_frames(10**9)).latent_dist.mean
        assert ((latent.std(dim=(0, 2, 3)) - 1).abs() < 1e-3).all().item() != decoder_only


def test_an_autoencoder_decodes_from_between_two_latents(trained: Path) -> None:
    from mpl.training.autoencoder import Autoencoder

    vae = Autoencoder.from_pretrained(trained / "assets/translation/vae").requires_grad_(False)
    sharp = torch.rand(2, 3, 16, 16)
    own, seen = vae.encode(sharp).latent_dist, {}
    vae.decode = lambda latent: seen.update(latent=latent) or SimpleNamespace(sample=latent)
    other = torch.full_like(own.mean[:1], 50.0)
    vae(sharp, other, torch.tensor([1.0]), torch.Generator().manual_seed(0))
    assert torch.allclose(seen["latent"][0], other[0])
    assert (seen["latent"][1] - own.mean[1]).abs().max() < 6 * own.std[1].max()


def test_contrast_is_that_of_a_patch_wherever_in_it_a_pattern_lies() -> None:
    stripes = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(4).expand(1, 1, 16, 16)
    there = contrast(stripes)
    assert there.shape == (1, 1, 2, 2)
    assert there[..., 0].square().sub(1e-4).tolist() == [[pytest.approx([0.5, 0.5])]]  # every other pixel's step is 1
    assert torch.allclose(contrast(stripes.roll(2, -1)), there)
    assert (contrast(0.5 + 0.5 * (stripes - 0.5)) < 0.6 * there).all()
    flat = torch.zeros(1, 1, 8, 8, requires_grad=True)
    contrast(flat).sum().backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


def test_missing_contrast_counts_as_the_option_says(trained: Path) -> None:
    from mpl.training.command import make_task

    options = load_task(str(trained / "tiny.toml"), "vae")
    losses = []
    for weight in (0.0, 1.0, 2.0):
        told = replace(options, loss=replace(options.loss, energy_weight=weight))
        task = make_task(told, trained / "assets", trained / "assets" / "translation")
        loss, figures = task.loss(task.model, task.draw(0, 1.0), torch.Generator().manual_seed(0))
        losses.append(loss.item())
        assert ("loss_energy" in figures) == bool(weight)
    assert losses[1] - losses[0] == pytest.approx(figures["loss_energy"].item(), rel=1e-3)
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)
