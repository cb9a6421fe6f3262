"""The check before any work: what is missing or broken is found there, and said in one message."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tiny import tiny_preset

from mpl.config import load_preset, override
from mpl.weights import Weights

MODEL = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def preset(tiny_copy):
    return tiny_preset(tiny_copy)


@pytest.mark.parametrize("damage", ["cut", "tail", "header", "empty", "text", "long"])
def test_a_broken_weight_file_is_found_by_the_check(preset, tiny_copy, damage):
    path = tiny_copy / "interpolation" / "unet" / MODEL
    data = path.read_bytes()
    broken = {
        "cut": data[:-100],
        "tail": data[:2000],
        "header": data[:8] + b"x" + data[9:],
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "long": data + b"0",
    }[damage]
    path.write_bytes(broken)
    for attempt in (lambda w: w.check(), lambda w: w.borrow("interpolation").__enter__()):
        with pytest.raises(ValueError, match="truncated|corrupt") as error:
            attempt(Weights(preset.weights))
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    Weights(preset.weights).check(["keyframes"])  # the others do not mind


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("vae/" + MODEL, "vae/ holds no weight file"),
        ("vae/config.json", "vae/config.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is missing"),
        ("tokenizer", "tokenizer/ is missing"),
    ],
)
def test_what_is_missing_is_named(preset, tiny_copy, gone, words):
    path = tiny_copy / "translation" / gone
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    else:
        path.unlink()
    with pytest.raises(ValueError, match=words) as error:
        Weights(preset.weights).check()
    assert "weights.translation = " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("text/tokenizer/tokenizer.json", "{", "tokenizer.json: cannot be read"),
        ("text/tokenizer/tokenizer.json", None, "tokenizer/ holds no vocabulary"),
        ("superres/image_noising_scheduler/scheduler_config.json", "[]", "must hold a JSON object"),
        ("keyframes/scheduler/scheduler_config.json", "", "cannot be read"),
        ("text/tokenizer/tokenizer.json", "{}", "tokenizer.json: cannot be read"),
        ("text/tokenizer/spiece.model", "text", "spiece.model: cannot be read"),
        ("keyframes/unet/config.json", "{}", "unet/config.json: says no block_out_channels"),
        ("translation/vae/config.json", "{}", "vae/config.json: says no block_out_channels"),
        ("translation/vae/latent_rgb.json", '{"latent_rgb_factors": "x"}', "latent_rgb.json: factors and bias must be"),
        ("translation/vae/latent_rgb.json", '{"latent_rgb_bias": {}}', "latent_rgb.json: factors and bias must be"),
        (
            "superres/scheduler/scheduler_config.json",
            '{"_class_name": "DDIMScheduler", "prediction_type": "flow"}',
            "superres/scheduler/scheduler_config.json: scheduler prediction_type is 'flow'",
        ),
    ],
)
def test_broken_companions_are_found_by_the_check(preset, tiny_copy, file, text, words):
    """Tokenizers and schedules are read as early as weights: a run must not break off at its third stage."""
    if text is None:
        (tiny_copy / file).unlink()
    else:
        (tiny_copy / file).write_text(text)
    with pytest.raises(ValueError, match=words):
        Weights(preset.weights).check()


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": []}}']
)
def test_a_broken_index_is_found_by_the_check(preset, tiny_copy, index):
    folder = tiny_copy / "keyframes" / "unet"
    (folder / MODEL).unlink()
    (folder / f"{MODEL}.index.json").write_text(index)
    with pytest.raises(ValueError, match="index.json: broken index of weight files"):
        Weights(preset.weights).check()


@pytest.mark.parametrize("old", [False, True])
def test_pickled_weights_are_read_and_broken_ones_found_by_the_check(preset, tiny_copy, old):
    folder = tiny_copy / "keyframes" / "unet"
    good = load_file(folder / MODEL)
    (folder / MODEL).unlink()
    path = folder / "diffusion_pytorch_model.bin"
    torch.save(good, path, _use_new_zipfile_serialization=not old)
    weights = Weights(preset.weights)
    weights.check()
    with weights.borrow("keyframes") as model:
        assert torch.equal(model.state_dict()["conv_in.weight"], good["conv_in.weight"].float())
    data = path.read_bytes()
    path.write_bytes(data[1:] if old else data[:-1])  # an old file does not say where it ends
    with pytest.raises(ValueError, match="diffusion_pytorch_model.bin: truncated or corrupt"):
        Weights(preset.weights).check()


def test_a_published_t5_vocabulary_without_tokenizer_json_is_read(preset, tiny_copy):
    """As DeepFloyd's repositories hold it; sentencepiece itself says what the numbers are."""
    folder = tiny_copy / "text" / "tokenizer"
    for file in folder.iterdir():
        file.unlink()
    lines = ["a red car moves in a meadow", "a blue boat crosses the sea at night", "the green ball rises in the sky"]
    with (folder / "spiece.model").open("wb") as file:
        special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2}
        SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, vocab_size=30, **special)
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 100, "sp_model_kwargs": {}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    weights = Weights(preset.weights)
    weights.check()
    pieces = SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    for prompt in ("a red car", "the  boat at NIGHT"):
        assert weights.tokenizer("text")(prompt).input_ids == [*pieces.encode(prompt), 1]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("assets/storybook/nowhere", "`python -m mpl train nowhere --preset storybook` makes them"),
        ("assets/ablations/nowhere", "presets/ablations/nowhere.toml names what makes them"),
        ("assets/mine/translation_cap1000", "`python -m mpl train translation --preset mine --cap 1000` makes them"),
    ],
)
def test_weights_of_our_own_that_are_not_made_yet(preset, source, words):
    weights = Weights(override(preset, {"weights.translation": source}).weights)
    with pytest.raises(ValueError, match=words):
        weights.check(["translation"])


def test_one_message_says_everything_about_weights_to_download(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    weights = Weights(override(load_preset("show1"), {"weights.device": "cpu"}).weights)
    with pytest.raises(ValueError) as error:
        weights.check()
    message = str(error.value)
    options = load_preset("show1").weights
    for source in {options.text, options.interpolation, options.superres, options.translation}:
        assert f"hf download {source} --include" in message
    for words in ("IF-II-L-v1.0", "accept it at", "CC BY-NC 4.0", "14 GB", str(tmp_path / "hub"), "image_noising"):
        assert words in message
    with pytest.raises(ValueError) as error:
        weights.check(["translation"])
    assert "show-1-sr2" in str(error.value) and "show-1-base" not in str(error.value)


def test_a_repository_in_the_hubs_cache_is_found_there(preset, tiny_copy, tmp_path, monkeypatch):
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    (tiny_copy / "keyframes").rename(snapshot)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    # What `hf download --include` leaves since version 2: a list of all files, of which the others are not there.
    names = ("unet/config.json", "README.md")
    listed = {"format_version": 1, "files": {name: {"size": 9, "blob_id": "0" * 40} for name in names}}
    trees = tmp_path / "hub" / "models--owner--name" / "trees"
    trees.mkdir()
    (trees / "0123.json").write_text(json.dumps(listed))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    weights = Weights(override(preset, {"weights.keyframes": "owner/name"}).weights)
    weights.check()
    with weights.borrow("keyframes") as model:
        assert type(model).__name__ == "VideoUNet"
