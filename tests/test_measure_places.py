"""Which models are where, and when: what plans say and what `Weights` does, in turn and over several videos."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import make_tiny_weights
from torch import nn

from mpl import weights as weights_room
from mpl.cascade import generate, result
from mpl.config import override
from mpl.measure.estimates import Estimates, preset_estimates
from mpl.measure.plan import make_plan, moments, walk
from mpl.weights import Weights


def test_dropped_models_are_gone_before_the_next_is_loaded(tmp_path, monkeypatch):
    """The text encoder before the first UNet, above all; every model is loaded alone."""
    tiny = make_tiny_weights(tmp_path, first_frame=True)
    weights = Weights(override(tiny, {"weights.offload": "drop"}).weights)
    alive: list[weakref.ref] = []
    loads: list[str] = []
    load = weights_room.load_model

    def watched(kind, folder, *args):
        held = [model() for model in alive if model() is not None]
        assert not sum(p.numel() for model in held for p in model.parameters() if p.device.type != "meta")
        loads.append(f"{folder.parent.name}/{folder.name}")
        model = load(kind, folder, *args)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(weights_room, "load_model", watched)
    result(generate("a red car", tiny, weights, 0))
    assert weights.loaded() == {}
    assert loads == [
        "text/text_encoder",
        "translation/text_encoder",
        "keyframes/unet",
        "interpolation/unet",
        "first/unet",
        "superres/unet",
        "translation/vae",
        "translation/unet",
        "translation/vae",
    ]


@pytest.mark.parametrize("offload", ["none", "stage", "drop"])
def test_plans_hold_the_models_that_weights_holds(tiny, offload):
    size = sum(Estimates(tiny.weights, "cpu").weights(name) for name in ("text", "clip", "keyframes", "vae"))
    preset = override(tiny, {"weights.offload": offload, "weights.keep_gb": size / 1e9})
    plan, weights = make_plan(preset, preset_estimates(preset)), Weights(preset.weights)
    for video_number in range(2):
        for state in plan.states:
            with weights.borrow(state.moment.model):
                held = weights.loaded()
            if video_number:  # the plan shows a second video
                assert held == {**state.resident, state.moment.model: state.moment.weights}
    if offload == "drop":
        assert set(weights.loaded()) == {"text", "clip", "keyframes", "vae"}  # the first that fit
        assert "but for the first" in weights.plan()
    weights.release()
    assert weights.loaded() == {} and not weights._kept


@pytest.mark.parametrize("offload", ["stage", "drop"])
def test_one_model_at_a_time_is_on_the_device(tiny, offload, monkeypatch):
    """T5 has left before the first UNet comes, and so on through a whole video; a stand-in takes the GPU's place."""
    places: dict[str, str] = {}

    def load(kind: str, folder: Path, *_: object) -> nn.Module:
        model = nn.Linear(2, 2)
        name = f"{folder.parent.name}/{folder.name}"
        places[name] = "cpu"
        model._apply = lambda *_, **__: places.pop(name)  # dropped: `nn.Module.to` of the meta device
        model.to = lambda device: places.update({name: str(device)}) or model
        return model

    monkeypatch.setattr(weights_room, "load_model", load)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    weights = Weights(override(tiny, {"weights.offload": offload}).weights)
    weights.device = torch.device("cuda")
    names = ("text", "clip", "keyframes", "interpolation", "superres", "vae", "translation", "vae")
    for name in names:
        with weights.borrow(name):
            assert [place for place in places.values() if place == "cuda"] == ["cuda"]
            assert offload == "stage" or len(places) == 1
        assert "cuda" not in places.values()
    assert len(places) == (7 if offload == "stage" else 0)


def test_kept_models_are_not_moved(tiny, monkeypatch):
    moves = []
    monkeypatch.setattr(weights_room, "load_model", lambda *a: model)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    model = nn.Linear(1000, 1000, bias=False)  # 4 MB
    model.to = lambda device: moves.append(str(device)) or model
    weights = Weights(override(tiny, {"weights.keep_gb": 0.005}).weights)
    weights.device = torch.device("cuda")
    for name in ("keyframes", "superres", "keyframes"):
        with weights.borrow(name):
            pass
    assert moves == ["cuda", "cuda", "cpu", "cuda"]  # the second no longer fits


def test_text_that_stays_comes_before_what_stayed_earlier(tiny, monkeypatch):
    """Prompts that are known from the disk let others come first; on top of them it would not fit."""
    moves = []

    def load(kind, folder, *_):
        model = nn.Linear(1000, 2000 if kind == "t5" else 1000, bias=False)  # 8 MB, 4 MB
        model.to = lambda device: moves.append((kind, str(device))) or model
        return model

    monkeypatch.setattr(weights_room, "load_model", load)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    weights = Weights(override(tiny, {"weights.keep_gb": 0.0125}).weights)
    weights.device = torch.device("cuda")
    for name in ("keyframes", "superres", "text", "keyframes", "superres"):
        with weights.borrow(name):
            pass
    unet, gone = ("video_unet", "cuda"), ("video_unet", "cpu")
    assert moves == [unet, unet, gone, gone, ("t5", "cuda"), unet, unet, gone]


def test_a_quantized_encoder_comes_anew_beside_what_is_kept(tiny):
    preset = override(tiny, {"weights.quantization": "nf4", "weights.device": "auto", "weights.offload": "none"})
    found = moments(preset, preset_estimates(preset))
    states = walk(found, preset.weights)
    text, last = states[0], states[-1]
    assert text.moment.model == "text" and "translation" in text.resident  # of the first video
    assert "text" not in last.resident and text.seconds > 0 and last.seconds == 0


@pytest.mark.parametrize("offload", ["stage", "drop"])
def test_a_known_prompt_before_a_new_one_takes_no_more(tiny, offload):
    """Models that stayed while no text had to be read make room for it, as `Weights` does."""
    preset = override(tiny, {"weights.device": "auto", "weights.offload": offload})
    found = moments(preset, preset_estimates(preset))
    text = found[0].weights
    kept = replace(preset.weights, keep_gb=(text + 1) / 1e9)
    states = walk(found, kept)
    assert states[0].gpu == text + found[0].activations  # alone
    assert all("text" in state.resident for state in states[1:]) and states[0].seconds == 0
    beside = max(m.weights + m.activations for m in found[1:])
    assert max(state.gpu for state in states) == max(text + beside, states[0].gpu)
