"""Weights: strict loading, borrowing, plans; what is missing or broken: test_weights_check.py."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_preset
from transformers import T5Config, T5EncoderModel

from mpl import checkpoints, loading
from mpl import weights as weights_room
from mpl.config import STAGES, load_preset, override
from mpl.options import WeightsOptions
from mpl.parts import DEFAULT_LATENT_RGB, NEEDS, PARTS
from mpl.weights import Weights

MODEL = "diffusion_pytorch_model.safetensors"
MAKERS = PARTS.keys() - {"safety", "keyframes_vae", "upsampling"}  # what generates; the checker is in test_safety.py


@pytest.fixture
def preset(tiny_copy):
    return tiny_preset(tiny_copy)


@pytest.fixture
def weights(tiny_folder):
    return Weights(tiny_preset(tiny_folder).weights)


def test_every_part_of_a_published_layout_loads(weights, tiny_folder):
    weights.check()
    classes = []
    for name in (name for name in PARTS if name in MAKERS):
        with weights.borrow(name) as model:
            assert not model.training and not any(p.requires_grad for p in model.parameters())
            assert {p.dtype for p in model.parameters()} == {torch.float32}  # stored as bfloat16
            classes.append(type(model).__name__)
    assert classes == [
        "T5EncoderModel",
        "CLIPTextModel",
        *["VideoUNet"] * 3,
        "UNet2DConditionModel",
        "UNet3DConditionModel",
        "AutoencoderKL",
    ]
    stored = load_file(tiny_folder / "keyframes" / "unet" / MODEL)
    with weights.borrow("keyframes") as model:
        for key, value in model.state_dict().items():
            assert torch.equal(value, stored[key].float()), key
    assert set(weights.loaded()) == MAKERS and all(size > 0 for size in weights.loaded().values())
    weights.release()
    assert weights.loaded() == {}


def test_an_expert_of_its_own_stands_beside_the_autoencoder_it_was_trained_with(preset, tiny_copy, tmp_path):
    for folder in ("unet", "scheduler"):
        shutil.copytree(tiny_copy / "translation" / folder, tmp_path / "expert" / folder)
    config = tmp_path / "expert" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"num_train_timesteps": 1000', '"num_train_timesteps": 500'))
    own = Weights(replace(preset.weights, expert=str(tmp_path / "expert")))
    own.check(("translation",))
    assert own.scheduler("translation").config.num_train_timesteps == 500
    assert own.revision("vae") == Weights(preset.weights).revision("vae")
    assert own.revision("translation") != Weights(preset.weights).revision("translation")
    shutil.rmtree(tmp_path / "expert" / "unet")
    with pytest.raises(ValueError, match="weights.expert = .*expert: "):
        own.check(("translation",))


def test_convolutions_are_channels_last(weights):
    with weights.borrow("translation") as model:
        kernels = [p for p in model.parameters() if p.ndim == 4]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_a_model_is_given_back_on_error_and_on_cancel(weights):
    with pytest.raises(KeyError), weights.borrow("vae") as first:
        raise KeyError
    with weights.borrow("vae") as second, weights.borrow("vae") as third:
        assert first is second is third  # loaded once
        weights.release()
        assert "vae" in weights.loaded()  # in use
    weights.release()
    assert weights.loaded() == {}

    def steps():
        with weights.borrow("vae"):
            yield

    running = steps()
    next(running)
    running.close()
    weights.release()
    assert weights.loaded() == {}


def test_threads_load_a_model_once(weights, monkeypatch):
    loads = []
    real = weights_room.load_model
    monkeypatch.setattr(weights_room, "load_model", lambda *a, **k: loads.append(1) or real(*a, **k))

    def use():
        with weights.borrow("vae"):
            pass

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_schedulers_are_fresh_and_the_checkpoints_own(weights):
    first, second = weights.scheduler("keyframes"), weights.scheduler("keyframes")
    assert first is not second and first.config.prediction_type == "v_prediction"
    assert first.config.final_sigmas_type == "sigma_min"  # as when the published checkpoints were made
    assert type(weights.image_noising_scheduler("superres")).__name__ == "DDPMScheduler"
    own = weights.image_noising_scheduler("superres_first_frame")
    assert own.config.prediction_type == "v_prediction"  # no other in that checkpoint


def test_has_and_unknown_names(weights):
    assert weights.has("superres_first_frame") and weights.has("clip")
    none = Weights(override(load_preset("storybook"), {"weights.device": "cpu"}).weights)
    assert not none.has("superres_first_frame")
    with pytest.raises(ValueError, match="weights.superres_first_frame: the preset names none"):
        none.scheduler("superres_first_frame")
    with pytest.raises(ValueError, match="'unet': must be one of text, clip"), weights.borrow("unet"):
        pass


# ---- strict


@pytest.mark.parametrize(("name", "folder"), [("superres", "superres/unet"), ("translation", "translation/unet")])
def test_missing_unexpected_and_misshapen_keys_are_errors_that_name_them(preset, tiny_copy, name, folder):
    path = tiny_copy / folder / MODEL
    good = load_file(path)

    def refused(words):
        with pytest.raises(ValueError, match=words) as error, Weights(preset.weights).borrow(name):
            pass
        assert f"weights.{name}" in str(error.value)

    save_file({k: v for k, v in good.items() if k != "conv_in.weight"}, path)
    refused("1 missing keys.* conv_in.weight")
    save_file(good | {"new.weight": torch.zeros(2)}, path)
    refused("1 unexpected keys.* new.weight")
    save_file(good | {"conv_in.weight": torch.zeros(1, 2, 3, 3)}, path)
    refused("conv_in.weight")


def test_a_key_of_an_older_format_is_dropped_by_name_and_aloud(preset, tiny_copy, monkeypatch, caplog):
    monkeypatch.setattr(loading, "DROPPED_KEYS", {"old.position_ids"})
    path = tiny_copy / "translation" / "unet" / MODEL
    save_file(load_file(path) | {"old.position_ids": torch.zeros(2)}, path)
    with caplog.at_level(logging.WARNING, "mpl.loading"), Weights(preset.weights).borrow("translation"):
        pass
    assert "old.position_ids" in caplog.text


def test_published_clip_checkpoints_hold_a_key_that_is_computed_now(preset, tiny_copy):
    path = tiny_copy / "translation" / "text_encoder" / "model.safetensors"
    stored = load_file(path)
    old = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in stored.items()}
    save_file(old | {"text_model.embeddings.position_ids": torch.arange(16)[None]}, path, {"format": "pt"})
    with Weights(preset.weights).borrow("clip") as model:
        kept = dict(model.named_parameters())
    assert torch.equal(
        next(v for k, v in kept.items() if k.endswith("token_embedding.weight")).bfloat16(),
        next(v for k, v in stored.items() if k.endswith("token_embedding.weight")),
    )


def test_shards_and_half_precision_files(preset, tiny_copy):
    folder = tiny_copy / "keyframes" / "unet"
    good = load_file(folder / MODEL)
    (folder / MODEL).unlink()
    names = sorted(good)
    parts = {"a-00001-of-00002.safetensors": names[::2], "a-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({k: good[k] for k in keys}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {k: file for file, keys in parts.items() for k in keys}}
    (folder / f"{MODEL}.index.json").write_text(json.dumps(index))
    weights = Weights(preset.weights)
    weights.check(["keyframes"])
    with weights.borrow("keyframes") as model:
        assert torch.equal(model.state_dict()[names[0]], good[names[0]].float())
    (folder / "a-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match="a-00002-of-00002.safetensors: missing weight file"):
        Weights(preset.weights).check(["keyframes"])
    save_file(good, folder / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    half = Weights(override(preset, {"weights.dtype": "bfloat16"}).weights)
    half.check(["keyframes"])
    with half.borrow("keyframes") as model:
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_what_is_a_repository():
    assert checkpoints.is_repository("owner/na.me-1") and checkpoints.is_repository("owner/name@v1")
    for source in ("assets/storybook/text", "/abs", "name", "./a", "a/b/c", "../x/y", "owner/"):
        assert not checkpoints.is_repository(source), source


def test_the_revision_follows_the_files(preset, tiny_copy):
    weights = Weights(preset.weights)
    before = {name: weights.revision(name) for name in MAKERS}
    assert before == {name: weights.revision(name) for name in MAKERS}
    config = tiny_copy / "superres" / "image_noising_scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("squaredcos_cap_v2", "linear"))
    after = {name: weights.revision(name) for name in MAKERS}
    assert {name for name in MAKERS if before[name] != after[name]} == {"superres"}


def test_the_revision_is_that_of_the_content(tmp_path, monkeypatch):
    """On any machine and at any time; of a large file of the hub's cache by the hash that is its name."""
    folders = [tmp_path / place / "unet" for place in "ab"]
    for age, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(b"1234")
        os.utime(folder / "weights.safetensors", (age, age))
    assert checkpoints.revision(folders[:1]) == checkpoints.revision(folders[1:])
    monkeypatch.setattr(checkpoints, "_READ", 3)
    checkpoints._content.cache_clear()
    assert checkpoints.revision(folders[:1]) != checkpoints.revision(folders[1:])
    (tmp_path / "blobs").mkdir()
    name = "c0ffee" + 58 * "0"
    stored = tmp_path / "blobs" / "c0" / name  # since version 2 links lead on into a store of all repositories
    stored.parent.mkdir()
    (folders[0] / "weights.safetensors").rename(stored)
    (tmp_path / "blobs" / name).symlink_to(stored)
    for folder, target in zip(folders, (stored, tmp_path / "blobs" / name), strict=True):
        (folder / "weights.safetensors").unlink(missing_ok=True)
        (folder / "weights.safetensors").symlink_to(target)
    assert checkpoints.revision(folders[:1]) == checkpoints.revision(folders[1:])
    before = checkpoints.revision(folders[:1])
    os.utime(stored, (7, 7))
    assert checkpoints.revision(folders[:1]) == before


# ---- policy


def test_the_plan_says_why():
    plan = Weights(WeightsOptions(device="cpu", dtype="bfloat16", quantization="int8")).plan()
    assert "cpu (asked for), bfloat16 (asked for)" in plan and "int8" in plan


def test_offload_moves_a_model_there_and_back(preset, monkeypatch):
    """On the meta device in place of a GPU: what is moved where, and when."""
    weights = Weights(preset.weights)
    moves = []
    model = torch.nn.Linear(1, 1)
    model.to = lambda device: moves.append(str(device)) or model
    monkeypatch.setattr(weights_room, "load_model", lambda *a: model)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    weights.device = torch.device("cuda")
    with weights.borrow("vae"), weights.borrow("vae"):
        assert moves == ["cuda"]
    assert moves == ["cuda", "cpu"]
    weights.options = override(preset, {"weights.offload": "none"}).weights
    with weights.borrow("vae"):
        pass
    assert moves == ["cuda", "cpu", "cuda"]
    weights.options, left = preset.weights, [2 * 10**9 + 7]  # the model has two numbers of four bytes
    monkeypatch.setattr(weights_room, "main_memory_left", lambda: left[0])
    with weights.borrow("vae"):
        pass
    assert "vae" not in weights.loaded() and {p.device.type for p in model.parameters()} == {"meta"}
    left[0] += 1
    with weights.borrow("vae"):
        pass
    assert "vae" in weights.loaded() and moves[-1] == "cpu"

    def full(device):
        raise torch.OutOfMemoryError("full")

    model.to = full
    with pytest.raises(torch.OutOfMemoryError), weights.borrow("vae"):
        pass
    assert "vae" not in weights.loaded()


@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.1), ("nf4", 0.5)])
def test_a_quantized_text_encoder_is_near_the_plain_one(preset, tiny_copy, kind, tolerance):
    """Of widths that bitsandbytes' kernel for CPUs with bfloat16 takes: it packs 32 rows of 64 numbers."""
    pytest.importorskip("bitsandbytes")
    folder = tiny_copy / "text" / "text_encoder"
    config = T5Config.from_pretrained(folder, d_model=64, d_kv=32, d_ff=64)
    torch.manual_seed(0)
    T5EncoderModel(config).save_pretrained(folder)
    ids = torch.tensor([[3, 4, 7, 1, 2]])
    with Weights(preset.weights).borrow("text") as model:
        plain = model(ids).last_hidden_state
    weights = Weights(override(preset, {"weights.quantization": kind, "weights.dtype": "bfloat16"}).weights)
    with weights.borrow("text") as model:
        kinds = {type(module).__name__ for module in model.modules()}
        quantized = model(ids).last_hidden_state.float()
        model.save_pretrained(tiny_copy / "saved")
    assert kinds & {"Linear8bitLt", "Linear4bit"}
    assert (quantized - plain).norm() / plain.norm() < tolerance
    assert weights.loaded() == {} and not any(model.parameters())  # dropped after use, though somebody still holds it
    again = T5EncoderModel.from_pretrained(tiny_copy / "saved")
    assert kinds & {type(module).__name__ for module in again.modules()} & {"Linear8bitLt", "Linear4bit"}
    assert (again(ids).last_hidden_state.float() - quantized).norm() / quantized.norm() < 0.01  # bfloat16's own


def test_without_bitsandbytes_the_text_encoder_is_not_quantized_and_it_is_said(preset, monkeypatch):
    asked = override(preset, {"weights.quantization": "int8", "weights.dtype": "bfloat16"}).weights
    monkeypatch.setattr("mpl.weights.importlib.util.find_spec", lambda name: None)
    weights = Weights(asked)
    assert "T5 in bfloat16, since int8 needs bitsandbytes, which is not installed" in weights.plan()
    with weights.borrow("text") as model:
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_latent_preview_factors(preset, tiny_copy):
    weights = Weights(preset.weights)
    factors, bias = weights.latent_rgb()
    assert np.allclose(factors, DEFAULT_LATENT_RGB) and not bias.any()
    path = tiny_copy / "translation" / "vae" / "latent_rgb.json"
    path.write_text(json.dumps({"latent_rgb_factors": np.eye(4, 3).tolist(), "latent_rgb_bias": [0, 0.5, 0]}))
    factors, bias = weights.latent_rgb()
    assert np.array_equal(factors, np.eye(4, 3)) and bias.tolist() == [0, 0.5, 0]
    path.write_text(json.dumps({"latent_rgb_factors": [[1, 2]]}))
    with pytest.raises(ValueError, match="must be 4 × 3"):
        weights.latent_rgb()
    path.unlink()
    config = path.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 8}))
    factors, bias = weights.latent_rgb()
    assert factors.shape == (8, 3) and np.ptp(factors, axis=1).max() == 0  # grey


def test_text_encoders_which_are_done_by_then_are_not_read_ahead(weights, monkeypatch):
    read = []
    monkeypatch.setattr("mpl.weights.checkpoints.read_ahead", lambda folders, half: read.extend(folders))
    weights.read_ahead(STAGES)
    assert {path.name for path in read} == {"unet", "vae"}


def test_needs_cover_every_stage():
    assert tuple(NEEDS) == STAGES
    assert set().union(*NEEDS.values()) == MAKERS | {"keyframes_vae"}


def test_licences_are_those_of_the_cards_or_of_what_is_published(tmp_path):
    card = tmp_path / "mine"
    card.mkdir()
    (card / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    options = WeightsOptions(text="showlab/show-1-base@abc", keyframes=str(card), superres=str(tmp_path / "nowhere"))
    found = Weights(options).licences()
    assert found["showlab/show-1-base@abc"] == "CC BY-NC 4.0"
    assert (found[str(card)], found[str(tmp_path / "nowhere")]) == ("apache-2.0", "not told")
    assert None not in found
