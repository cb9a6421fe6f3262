"""`memory`: estimates against what is really allocated, plans against what `Weights` does, and what is chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from tiny import WIDTH, make_tiny_weights
from torch import nn
from transformers import T5Config, T5EncoderModel
from unet_configs import SMALL, TEXT

from mpl import weights as weights_room
from mpl.__main__ import main
from mpl.config import Preset, differences, load_preset, override, to_toml
from mpl.devices import choose_dtype
from mpl.loading import channels_last
from mpl.measure import plan as planning
from mpl.measure.calls import decode_call, denoise_call, encode_call
from mpl.measure.choose import HOST_EXTRA_GB, choose, policies, variants
from mpl.measure.estimates import Estimates, preset_estimates
from mpl.measure.memory_report import choice_lines
from mpl.measure.plan import Plan, make_plan, usable
from mpl.measure.structures import _published, build, find
from mpl.measure.table4 import rows
from mpl.measure.tracker import Tracker, measured_peak, tracked_peak
from mpl.models import VideoUNet
from mpl.models.latent import quicken, set_feed_forward_parts
from mpl.weights import Weights

# ---- the tracker


def video() -> nn.Module:
    return VideoUNet(**SMALL | {"block_out_channels": [32, 64]})


def latent() -> nn.Module:
    down, up = ("CrossAttnDownBlock3D", "DownBlock3D"), ("UpBlock3D", "CrossAttnUpBlock3D")
    blocks = {"down_block_types": down, "up_block_types": up, "block_out_channels": (32, 64), "layers_per_block": 1}
    return quicken(UNet3DConditionModel(**blocks, cross_attention_dim=TEXT, attention_head_dim=8, norm_num_groups=8))


def autoencoder() -> nn.Module:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return AutoencoderKL(**blocks, block_out_channels=(32, 32, 64), latent_channels=4, norm_num_groups=8)


def made(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    return channels_last(make().to(dtype).eval().requires_grad_(False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("make", "call"),
    [
        (video, lambda dtype: denoise_call((1, 3, 5, 16, 24), 8, dtype, 2.0)),
        (video, lambda dtype: denoise_call((2, 3, 4, 16, 24), 8, dtype, 2.0, split=True)),
        (video, lambda dtype: denoise_call((1, 3, 5, 16, 24), 8, dtype, 2.0, deep=True)),
        (video, lambda dtype: denoise_call((1, 3, 5, 16, 24), 8, dtype, 2.0, split=True, deep=True)),
        (latent, lambda dtype: denoise_call((1, 4, 5, 16, 24), 8, dtype, 2.0)),
        (latent, lambda dtype: denoise_call((1, 4, 5, 16, 24), 8, dtype, 2.0, parts=4)),
        (autoencoder, lambda dtype: encode_call(2, 64, 96, dtype)),
        (autoencoder, lambda dtype: decode_call(2, 64, 96, dtype)),
    ],
    ids=["video", "video split", "video deep", "video split deep", "latent", "latent in parts", "encoder", "decoder"],
)
def test_estimates_are_within_ten_percent_of_what_is_allocated(make, call, dtype):
    if dtype not in (torch.float32, choose_dtype("auto", torch.device("cpu"))[0]):
        pytest.skip("this CPU makes float32 copies of bfloat16, which no estimate counts")
    run = call(dtype)
    with torch.device("meta"):
        fake = made(make, dtype)
        estimate = tracked_peak(lambda: run(fake), [fake])
    real = made(make, dtype)
    assert estimate == pytest.approx(measured_peak(lambda: run(real)), rel=0.1)
    assert estimate == pytest.approx(tracked_peak(lambda: run(real), [real]), rel=0.01)


def test_the_tracker_counts_what_lives_once():
    with Tracker() as tracker:
        a = torch.zeros(1000)
        b = a.view(10, 100)[1:]  # the same storage
        assert (tracker.now, tracker.peak) == (4000, 4000)
        c = b + 1
        assert tracker.now == 4000 + 3600
        del a, b
        assert (tracker.now, tracker.peak) == (3600, 7600)
        c.add_(1)
    assert tracker.peak == 7600
    with pytest.raises(ValueError, match="like = 'tpu': must be cpu or cuda"):
        Tracker(like="tpu")


def test_a_gpu_s_libraries_copy_what_is_not_in_their_memory_format():
    x = torch.empty(2, 8, 4, 6, device="meta").contiguous(memory_format=torch.channels_last)
    norm = nn.GroupNorm(2, 8, device="meta")
    assert tracked_peak(lambda: norm(x), [norm], "cuda") > 1.9 * tracked_peak(lambda: norm(x), [norm], "cpu")
    convolution = channels_last(nn.Conv2d(8, 8, 3, padding=1, device="meta").requires_grad_(False))
    plain = torch.empty(2, 8, 4, 6, device="meta")
    with torch.no_grad(), Tracker([convolution], "cuda") as tracker:
        out = convolution(plain)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert tracker.peak == 2 * tracker.now


def test_feed_forwards_in_parts_give_the_same_from_less_memory():
    torch.manual_seed(0)
    model = made(latent, torch.float32)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    clip, text = torch.randn(2, 4, 5, 16, 24), torch.randn(2, 8, TEXT)
    found, peaks = [], []
    for parts in (1, 4, 64):
        set_feed_forward_parts(model, parts)
        with torch.no_grad():
            found.append(model(clip, 10, text).sample)
        peaks.append(tracked_peak(lambda: model(clip, 10, text), [model]))
    assert (found[1] - found[0]).abs().max() < 1e-5 and (found[2] - found[0]).abs().max() < 1e-5
    assert max(peaks[1:]) < 0.8 * peaks[0]


@pytest.mark.parametrize(("kind", "dtype"), [("int8", "bfloat16"), ("nf4", "bfloat16"), ("none", "float32")])
def test_quantized_weights_are_as_large_as_estimated(tmp_path, kind, dtype):
    pytest.importorskip("bitsandbytes")
    preset = make_tiny_weights(tmp_path)
    config = T5Config.from_pretrained(tmp_path / "text/text_encoder", d_model=256, d_kv=64, d_ff=512, num_layers=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "text/text_encoder")
    options = override(preset, {"weights.quantization": kind, "weights.dtype": dtype}).weights
    seen: dict[int, int] = {}
    with Weights(options).borrow("text") as model:
        for tensor in (*model.parameters(), *model.buffers()):
            state = getattr(tensor, "quant_state", None)
            parts = [tensor, getattr(tensor, "SCB", None)]
            if state is not None:
                parts += [state.absmax, state.state2.absmax]
            seen |= {id(t): t.numel() * t.element_size() for t in parts if isinstance(t, torch.Tensor)}
    estimate = Estimates(options).weights("text", kind)
    assert estimate == pytest.approx(sum(seen.values()), rel=0.03)


# ---- structures


def test_published_structures_have_the_size_that_is_known_of_them():
    options = load_preset("show1").weights
    estimates = Estimates(options)
    names = {"text": "text_encoder", "clip": "text_encoder", "vae": "vae", "safety": "."}
    for name in ("text", "clip", "keyframes", "interpolation", "superres_first_frame", "translation", "vae", "safety"):
        source = getattr(options, weights_room.PARTS[name].option)
        known = _published()[source, names.get(name, "unet")]["billions"]
        count = sum(p.numel() for p in estimates.network(name).parameters()) / 1e9
        assert count == pytest.approx(known, rel=0.02), name


def test_a_config_on_this_machine_goes_before_what_is_published(tmp_path, monkeypatch):
    preset = make_tiny_weights(tmp_path / "showlab")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "showlab/keyframes").rename(tmp_path / "showlab/show-1-base")
    there = replace(preset.weights, keyframes="showlab/show-1-base")
    assert find(there, "keyframes").config["encoder_hid_dim"] == WIDTH
    assert find(replace(there, interpolation="showlab/show-1-base@v1"), "interpolation").assumed == ""
    with pytest.raises(ValueError, match="weights.superres = me/mine: not on this machine, .* known are showlab"):
        find(replace(there, superres="me/mine"), "superres")
    config = tmp_path / "showlab/show-1-base/unet/config.json"
    config.write_text("{}")
    with pytest.raises(ValueError, match="says no block_out_channels"):
        find(there, "keyframes")


def test_the_default_number_format_comes_back_after_a_broken_config(tiny):
    broken = find(tiny.weights, "vae")
    with pytest.raises(ValueError), torch.device("meta"):
        build(replace(broken, config={**broken.config, "block_out_channels": 3}), torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32


# ---- plans


def test_all_memory_is_main_memory_on_a_cpu(tiny):
    plan = make_plan(tiny, preset_estimates(tiny))
    assert plan.peak_gpu == 0 and plan.peak_host > planning.HOST_BASE and plan.moved == 0
    order = "text clip keyframes interpolation superres vae translation vae"
    assert [state.moment.model for state in plan.states] == order.split()


@pytest.fixture(scope="module")
def show1() -> tuple[Preset, Estimates]:
    preset = load_preset("show1")
    return preset, preset_estimates(preset)


def test_eight_gb_choose_the_preset_for_eight_gb(show1):
    preset, estimates = show1
    plan = choose(preset, estimates, 8)
    assert differences(plan.preset, load_preset("show1-8gb")) == {}
    assert plan.peak_gpu <= 7.5e9 and plan.peak_gpu <= usable(8)
    assert plan.preset.weights.quantization in ("int8", "nf4")
    largest = max(state.moment.file for state in plan.states)
    assert plan.peak_host <= largest + 2e9
    assert all(not state.resident and not state.waiting for state in plan.states)  # one model at a time, anywhere


def test_twenty_four_gb_keep_models_where_they_fit(show1):
    preset, estimates = show1
    plan = choose(preset, estimates, 24)
    assert plan.peak_gpu <= 20e9
    assert plan.preset.weights.keep_gb > 0 and plan.preset.weights.quantization == "none"
    assert plan.peak_host <= max(state.moment.file for state in plan.states) + 2e9
    assert {"text", "clip"} <= set(plan.states[-1].resident)
    assert choose(preset, estimates, 80).moved == 0
    costs = [choose(preset, estimates, vram, ram_gb=64).cost for vram in (8, 12, 16, 24, 48)]
    assert costs == sorted(costs, reverse=True)  # more memory is never slower


def test_a_plan_is_a_preset_that_can_be_asked_for(tmp_path):
    before = load_preset("show1-8gb")
    after = override(before, {"weights.offload": "stage", "weights.keep_gb": 3.5, "superres.split_guidance": "false"})
    plan = Plan(after, [], 0.0)
    (tmp_path / "plan.toml").write_text("\n".join(choice_lines("show1-8gb", before, plan, 24)[1:]))
    assert differences(after, load_preset(tmp_path / "plan.toml")) == {}


@pytest.mark.parametrize("asked", ["ablations/no_expert", "sub/../mine.toml"])
def test_a_plan_holds_what_was_set_and_finds_what_it_extends(asked, tmp_path, monkeypatch):
    """From any folder, and whatever the file calls itself."""
    (tmp_path / "mine.toml").write_text('extends = "show1"\nname = "another"\n')
    for folder in ("sub", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    before = load_preset(asked)
    words = {"text.negative_prompt": 'say "no" \\ é', "weights.superres_first_frame": "none", "superres.snr": "inf"}
    after = override(before, words | {"fps": "5", "clamp": "false", "weights.keep_gb": 3.5})
    lines = choice_lines(asked, before, Plan(after, [], 0.0), 24)[1:]
    (tmp_path / "elsewhere" / "plan.toml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert differences(after, load_preset("plan.toml")) == {}


def test_what_does_not_fit_says_what_is_needed(show1):
    with pytest.raises(
        ValueError, match=r"--vram 2: nothing fits; the smallest plan needs 8\.0 GB; .* weights.dtype=bfloat16"
    ):
        choose(*show1, 2)
    with pytest.raises(ValueError, match=r"--ram 3: nothing fits; the smallest plan needs 1\d\.\d GB"):
        choose(*show1, 24, 3)
    preset = override(show1[0], {"keyframes.frames": 80, "interpolation.between": 7})  # more than decode_frames may be
    with pytest.raises(ValueError, match=r"--vram 4: nothing fits; the smallest plan needs \d+\.\d GB"):
        choose(preset, show1[1], 4)


def test_of_a_large_clip_main_memory_holds_what_it_needs(tiny):
    preset = override(tiny, {"weights.device": "cuda", "translation.height": 2560, "translation.width": 4096})
    plan = choose(preset, Estimates(preset.weights), 80)
    assert plan.peak_host > HOST_EXTRA_GB * 1e9 + max(state.moment.file for state in plan.states)
    with pytest.raises(ValueError, match=r"--ram 1: nothing fits"):
        choose(preset, Estimates(preset.weights), 80, 1)


def test_every_setting_costs_time_and_saves_memory(show1):
    preset, estimates = show1
    assert {group: len(ways) for group, ways in variants(preset, estimates).items()} == {
        "keyframes": 2,
        "interpolation": 4,
        "superres": 2,
        "translation": 4,
        "decoding": 3,
    }
    for ways in variants(preset, estimates).values():
        assert max(ways[-1].activations.values()) < max(ways[0].activations.values())
    peaks = {(p.preset.weights.quantization, p.preset.weights.offload): p for p in policies(preset, estimates)}
    assert peaks["none", "drop"].peak_host < peaks["none", "stage"].peak_host
    assert peaks["none", "stage"].peak_gpu < peaks["none", "none"].peak_gpu
    assert peaks["nf4", "none"].peak_gpu < peaks["int8", "none"].peak_gpu < peaks["none", "none"].peak_gpu


def test_pixels_need_several_times_the_memory_of_latents(show1):
    found = rows(*show1)
    pixel = min(r.peak for r in found if r.kind == "pixel" and "at once" in r.what)
    latent_network = max(r.peak for r in found if r.kind == "latent" and "network" in r.what)
    assert pixel > 40e9 and latent_network < 15e9
    preset, estimates = show1
    with pytest.raises(ValueError, match="--table4: the preset's last stage is in pixels already"):
        rows(override(preset, {"weights.upsampling": "showlab/show-1-sr1"}), estimates)


# ---- the command


def test_the_command_prints_tables_or_figures(tmp_path: Path, tiny: Preset, capsys, monkeypatch):
    (tmp_path / "tiny.toml").write_text(to_toml(override(tiny, {"weights.device": "auto"})), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["memory", "--preset", "tiny.toml", "--table4"]) == 0
    out = capsys.readouterr().out
    for words in (
        "tiny, as it is",
        "peaks: GPU 0.00 GB",
        "weights.offload",
        "translation.decode_frames = 1",
        "Table 4",
    ):
        assert words in out
    assert main(["memory", "--preset", "tiny.toml", "--vram", "8", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"peak_gpu_gb", "peak_host_gb", "stages", "settings"} <= set(said)
    assert list(said["stages"]) == ["text", "keyframes", "interpolation", "superres", "translation"]
    assert said["settings"]["weights.offload"] == "none"  # tiny models stay
    options = ["--preset", "tiny.toml", "--set", "weights.device=cuda", "keyframes.guidance=2.5", "--vram", "8"]
    assert main(["memory", *options]) == 0
    plan = capsys.readouterr().out.split("the fastest plan for 8 GB:")[1].strip().split("\n\n")[0]
    (tmp_path / "plan.toml").write_text(plan)
    found = load_preset("plan.toml")
    assert (found.weights.device, found.keyframes.guidance, found.name) == ("cuda", 2.5, "tiny-8gb")
    assert {"model", "weights_gb", "activations_gb", "peak_gpu_gb"} <= set(said["stages"]["text"]["moments"][0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vram", "0"], "--vram = 0: must be a number above 0"),
        (["--vram", "-1"], "--vram = -1"),
        (["--ram", "8"], "--ram needs --vram"),
        (["--vram", "nan"], "--vram = nan"),
        (["--preset", "nothing"], "nothing"),
        (["--set", "weights.offload=maybe"], "one of none, stage, drop"),
        (["--set", "weights.device=cpu", "--vram", "8"], "weights.device is cpu"),
        (["--set", "weights.superres=me/mine"], "weights.superres = me/mine"),
        (["--set", "keyframes.height=42"], "keyframes.height = 42: keyframes takes multiples of 8"),
        (["--set", "superres.height=162"], "superres.height = 162: superres takes multiples of 16"),
    ],
)
def test_bad_input_is_refused_in_a_line(arguments, words, capsys):
    assert main(["memory", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err and not out and err.count("\n") == 1
