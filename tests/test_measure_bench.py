"""The bench: counts by hand, fits on made-up costs, the plain form against the quick one, the verb from end to end.

No test looks at how long anything took.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from test_measure_starting import stub_page
from torch import nn
from torch.nn import functional as F
from unet_configs import SMALL, awaken

from mpl.__main__ import main
from mpl.cascade import Arm
from mpl.config import Preset, override, to_toml
from mpl.loading import channels_last
from mpl.measure import bench, compiled, forward, naive, operators, peak, scaling, starting
from mpl.measure.bench import Call, RunTime, StageTime
from mpl.measure.flops import Traffic, counting_flops, work_of
from mpl.measure.naive import NaiveWeights, naive_preset, plain
from mpl.measure.peak import Shape
from mpl.models import VideoUNet
from mpl.models.latent import fold_upsampling, quicken
from mpl.weights import Weights

PROMPT = "a red car"


@pytest.fixture
def preset_file(tiny: Preset, tmp_path: Path) -> str:
    """The tiny preset as a file, with one step a stage."""
    path = tmp_path / "tiny.toml"
    stages = ("keyframes", "interpolation", "superres", "translation")
    path.write_text(to_toml(override(tiny, {f"{stage}.steps": 1 for stage in stages})))
    return str(path)


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    monkeypatch.setattr(peak, "SPELL", 1e-4)
    monkeypatch.setattr(peak, "TIMINGS", 1)
    monkeypatch.setattr(peak, "COPY_BYTES", 2**12)
    monkeypatch.setattr(operators, "CALLS", 1)
    monkeypatch.setattr(scaling, "FRAMES", (4, 8))
    monkeypatch.setattr(scaling, "BATCHES", (1, 2))


# ---- counting


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operations_are_those_counted_by_hand(dtype):
    conv, linear = nn.Conv2d(3, 4, 3, padding=1).to(dtype), nn.Linear(8, 5).to(dtype)
    x, y = torch.randn(2, 3, 6, 7, dtype=dtype), torch.randn(2, 3, 8, dtype=dtype)
    query, key = torch.randn(2, 3, 300, 8, dtype=dtype), torch.randn(2, 3, 400, 8, dtype=dtype)
    with torch.no_grad(), counting_flops() as counter:
        conv(x.contiguous(memory_format=torch.channels_last))
        assert counter.lap() == 2 * 9 * 3 * 4 * (2 * 6 * 7)
        linear(y)
        assert counter.lap() == 2 * 8 * 5 * (2 * 3)
        F.scaled_dot_product_attention(query, key, key)  # queries by keys, then weights by values
        assert counter.lap() == 2 * (2 * 2 * 3 * 300 * 400 * 8)
        F.gelu(y) + 1
        assert counter.lap() == 0
    assert counter.total == 2 * 9 * 3 * 4 * 84 + 2 * 8 * 5 * 6 + 4 * 6 * 300 * 400 * 8


def test_bytes_are_inputs_and_outputs_but_not_views():
    a, b = torch.randn(4, 8), torch.randn(8, 2)
    with Traffic() as traffic:
        a.view(8, 4).t()[1:].unsqueeze(0)
    assert traffic.bytes == 0
    work = work_of(lambda: torch.relu(a @ b))
    assert work.bytes == 4 * (32 + 16 + 8) + 4 * (8 + 8)
    assert work.flops == 2 * 4 * 8 * 2
    assert work.intensity == work.flops / work.bytes
    with Traffic() as traffic:
        torch.relu(torch.ones(1, 8).expand(100, 8))
    assert traffic.bytes == 4 * 8 + 4 * 8 + 4 * 800  # ones written; read as it is stored, written whole


# ---- fits and figures


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_the_fitted_exponent_is_that_of_a_power_law(power):
    sizes = [8, 15, 22, 29]
    assert scaling.exponent(sizes, [0.3 * size**power for size in sizes]) == pytest.approx(power)


def test_there_is_no_exponent_of_one_size():
    assert scaling.exponent([8, 8], [1.0, 2.0]) is None


def test_memory_a_frame_is_fitted_against_frames_alone():
    points = tuple(scaling.Point(n, 1.0, 0.5 + 0.002 * n) for n in (8, 15, 22))
    assert scaling.Line("superres", "frames", points).gb_per_frame == pytest.approx(0.002)
    assert scaling.Line("superres", "pixels", points).gb_per_frame is None


def run_time(seconds: float, stage: float) -> RunTime:
    return RunTime(seconds, seconds / 10, 1.0, {"text": StageTime(0.1, 0, None), "superres": StageTime(stage, 8, 0.5)})


def test_figures_are_medians_with_their_spread():
    times = [run_time(3.0, 2.0), run_time(5.0, 4.0), run_time(4.0, 2.5)]
    stages = bench.stage_figures(times, {"text": 10**9, "superres": 5 * 10**9})
    superres = stages["superres"]
    assert (superres["seconds"], superres["seconds_min"], superres["seconds_max"]) == (2.5, 2.0, 4.0)
    assert superres["gflops"] == 2.0 and superres["evaluations"] == 8 and superres["peak_memory_gb"] == 0.5
    whole = bench.whole_figures(times, {"text": 1, "superres": 2})
    assert whole["seconds"] == 4.0 and whole["flops"] == 3 and whole["first_preview_seconds"] == 0.4


def test_ratios_are_of_runs_that_followed_each_other():
    found = bench.ratio_figures({"a": [run_time(1, 1), run_time(2, 2)], "b": [run_time(5, 3), run_time(8, 8)]})
    assert (found["of"], found["to"]) == ("b", "a")
    assert found["ratios"]["whole"] == {"ratio": 4.5, "ratio_min": 4.0, "ratio_max": 5.0}
    assert found["ratios"]["superres"]["ratio"] == 3.5


def test_runs_take_turns(monkeypatch):
    order = []
    monkeypatch.setattr(bench, "timed_run", lambda arm, prompt, seed: order.append(arm) or run_time(1, 1))
    bench.timed_runs({"a": "A", "b": "B"}, PROMPT, 0, 2, lambda line: None)
    assert order == ["A", "B", "A", "B"]


# ---- the plain form


def assert_same_and_restored(model: nn.Module, call: Call) -> None:
    """The plain form gives the same numbers by other operations, and leaves nothing behind."""
    strides, layouts = {name: p.stride() for name, p in model.named_parameters()}, set()
    hooks = [list(m._forward_pre_hooks) for m in model.modules()]
    with torch.no_grad(), counting_flops() as quick:
        expected = call(model).sample
    with plain(model), torch.no_grad(), counting_flops() as published:
        assert all(p.is_contiguous() for p in model.parameters())
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        watch = [
            m.register_forward_hook(lambda m, args, out: layouts.add(args[0].is_contiguous())) for m in convolutions
        ]
        actual = call(model).sample
        for handle in watch:
            handle.remove()
    assert layouts == {True}
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    assert published.total >= quick.total
    assert {name: p.stride() for name, p in model.named_parameters()} == strides
    assert not [m for m in model.modules() if "forward" in vars(m)]
    assert [list(m._forward_pre_hooks) for m in model.modules()] == hooks
    with torch.no_grad():
        torch.testing.assert_close(call(model).sample, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"only_cross_attention": True, "resnet_time_scale_shift": "default", "resnet_out_scale_factor": 1.4},
        {"refine_channels": 8, "input_skip": True, "frame_embedding": True, "patch_size": 2, "coordinates": True},
        {"transfromer_in_opt": True},
    ],
)
def test_the_plain_video_unet_gives_the_same_numbers(more):
    torch.manual_seed(0)
    model = channels_last(awaken(VideoUNet(**(SMALL | more))))
    call = Call(torch.randn(2, 3, 5, 16, 24), torch.tensor(300), torch.randn(2, 7, 16), {})
    assert_same_and_restored(model, call)


def test_the_plain_latent_unet_gives_the_same_numbers():
    from tiny import _latent_unet

    torch.manual_seed(0)
    model = channels_last(quicken(awaken(_latent_unet())))
    assert isinstance(model, UNet3DConditionModel)
    assert_same_and_restored(model, Call(torch.randn(1, 4, 5, 8, 8), torch.tensor(300), torch.randn(1, 7, 16), {}))


def test_every_layer_that_has_a_plain_form_takes_it():
    vae = fold_upsampling(AutoencoderKL(up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(32, 32)))
    taken = set()
    for model in (awaken(VideoUNet(**SMALL)), vae):
        with plain(model):
            taken |= {type(m) for m in model.modules() if "forward" in vars(m)}
    assert taken == set(naive._FORMS)


def test_the_plain_form_ends_with_an_error_too_and_takes_float32_alone():
    model = awaken(VideoUNet(**SMALL))
    with pytest.raises(KeyError), plain(model):
        raise KeyError
    assert not [m for m in model.modules() if "forward" in vars(m)]
    with pytest.raises(ValueError, match="bfloat16: the plain form computes in float32"), plain(model.bfloat16()):
        pass


def test_a_naive_cascade_makes_the_same_video(tiny):
    from tiny import last_frames

    from mpl.cascade import generate

    quick = last_frames(generate(PROMPT, tiny, Weights(tiny.weights), 0))
    slow = naive_preset(override(tiny, {"interpolation.gaps_per_batch": 7}))
    assert slow.interpolation.gaps_per_batch == 1 and slow.weights.dtype == "float32"
    published = last_frames(generate(PROMPT, slow, NaiveWeights(slow.weights), 0))
    assert abs(quick.astype(int) - published.astype(int)).max() <= 1


# ---- calls


def test_the_largest_calls_are_noted_and_the_weights_left_as_they_were(tiny):
    weights = Weights(tiny.weights)
    counted = bench.counted_run(Arm(tiny, weights), PROMPT, 0)
    assert set(counted.flops) == {"text", "keyframes", "interpolation", "superres", "translation"}
    assert all(counted.flops.values())
    assert "borrow" not in vars(weights)
    shapes = {name: tuple(call.sample.shape) for name, call in counted.calls.items()}
    assert shapes["keyframes"] == (2, 3, 3, 8, 16)  # guided: [negative, positive]
    assert shapes["superres"] == (1, 6, 3, 16, 32)  # 5 frames are two windows of 3
    assert "class_labels" in counted.calls["superres"].labels
    four = counted.calls["superres"].of_batch(4)
    with weights.borrow("superres") as model, torch.no_grad():
        assert not model._forward_pre_hooks
        assert len(four(model).sample) == 4
    levels = [s for s in bench.shapes(counted, weights) if s.stage == "keyframes"]
    assert levels == [Shape("keyframes", 6, 16, 8, 16), Shape("keyframes", 6, 32, 4, 8)]
    assert counted.inputs["vae"][-2:] == (4, 8)  # of 32×64
    widths = {(s.height, s.width) for s in bench.shapes(counted, weights) if s.stage == "translation"}
    assert {(32, 64), (4, 8)} <= widths  # of the decoder's first level and its last
    rows = [s for s in bench.shapes(counted, weights) if s.stage == "text"]
    assert {s.pictures for s in rows} == {2} and {s.height for s in rows} == {1}  # both prompts


def test_a_call_says_what_its_number_format_changes(tiny, monkeypatch):
    monkeypatch.setattr(forward, "shares_of_time", lambda *_: {})  # the profiler's, which takes longer than all else
    small = override(tiny, {"keyframes.frames": 2})
    found = {}
    for name in ("float32", "bfloat16"):
        weights = Weights(dataclasses.replace(tiny.weights, dtype=name))
        calls = bench.counted_run(Arm(small, weights), PROMPT, 0).calls
        found[name] = forward.forward_figures(calls, weights, None, 1)
    assert {figures["deviation"] for figures in found["float32"].values()} == {None}
    assert all(1e-4 < figures["deviation"] < 0.1 for figures in found["bfloat16"].values())


# ---- the verb


def run_verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """What `--json` says."""
    assert main(["bench", "--json", "--prompt", PROMPT, "--repeats", "1", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_verb_measures_every_part_and_writes_what_it_says(preset_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(starting, "app_command", lambda preset: stub_page)
    out = tmp_path / "made" / "bench.json"
    said = run_verb(capsys, "--preset", preset_file, "--out", str(out))
    assert json.loads(out.read_text()) == said
    assert list(said["stages"]) == ["keyframes", "interpolation", "superres", "translation"]
    for figures in said["stages"].values():
        assert figures["seconds"] > 0 and figures["gflops"] > 0 and figures["fraction_of_peak"] > 0
        assert figures["fraction_of_matmul_peak"] > 0
        assert figures["flops"] > 0 and figures["evaluations"] > 0 and figures["peak_memory_gb"] > 0
    assert said["whole"]["first_preview_seconds"] > 0 and said["text"]["text"]["flops"] > 0
    assert said["text"]["text"]["fraction_of_peak"] is None and said["text"]["text"]["fraction_of_matmul_peak"] > 0
    assert {(o["kind"], o["dtype"]) for o in said["peak"]["operations"]} == {
        (kind, dtype) for kind in ("convolution", "matmul") for dtype in ("bfloat16", "float32")
    }
    for figures in said["forward"].values():
        assert figures["fraction_of_peak"] > 0 and figures["fraction_of_roofline"] > 0 and figures["bytes"] > 0
        assert figures["spent"]["convolutions"] > 0 and figures["spent"][operators.DISPATCH] > 0
    assert {(f["what"], f["against"]) for f in said["scaling"]} >= {
        (what, against)
        for what in ("keyframes", "interpolation", "superres", "translation", "decode")
        for against in ("frames", "pixels")
    } | {("keyframes network", "batch")}
    assert all(f["exponent"] is not None for f in said["scaling"])
    assert set(said["loading"]) == {"text", "keyframes", "interpolation", "superres", "clip", "translation", "vae"}
    assert said["app"]["seconds"] > 0 and said["machine"]["cores"] >= 1
    assert said["command"].startswith("python -m mpl bench --preset ")
    assert not [path for path in out.parent.iterdir() if path != out]


@pytest.mark.slow
def test_what_compiling_would_win_is_measured_for_those_who_ask(preset_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "eager")  # torch's, which compiles nothing
    options = ["--preset", preset_file, "--parts", "compile", "--repeats", "1", "--out", str(tmp_path / "bench.json")]
    assert main(["bench", *options]) == 0
    assert "by torch.compile" in capsys.readouterr().out
    made = json.loads((tmp_path / "bench.json").read_text())["compile"]
    assert set(made) == {"keyframes", "interpolation", "superres", "translation"}
    for figures in made.values():
        assert figures["first_call_seconds"] > 0 and figures["compiled_seconds"] > 0
        assert (figures["calls_to_win_back"] is None) == (figures["compiled_seconds"] >= figures["seconds"])


def test_a_network_that_cannot_be_compiled_is_said(preset_file, tmp_path, capsys, monkeypatch):
    out = tmp_path / "bench.json"
    options = ["--preset", preset_file, "--parts", "loading,compile", "--repeats", "1", "--out", str(out)]
    monkeypatch.setattr(compiled, "BACKEND", "nowhere")
    assert main(["bench", *options]) == 1
    told = capsys.readouterr()
    assert "could not be compiled" in told.err and "models from disk" in told.out
    made = json.loads(out.read_text())
    assert made["loading"] and "compile" not in made  # what was measured before is there


def test_the_naive_form_runs_in_turn_and_people_see_tables(preset_file, tmp_path, capsys):
    out = str(tmp_path / "bench.json")
    options = ["--naive", "--parts", "stages,peak,forward", "--repeats", "2", "--prompt", PROMPT, "--out", out]
    assert main(["bench", "--preset", preset_file, *options]) == 0
    said = capsys.readouterr()
    assert "time of naive over tiny, in turn" in said.out and "keyframes" in said.out and out in said.out
    assert [line[:5] for line in said.err.splitlines() if ", run " in line] == ["tiny,", "naive", "tiny,", "naive"]
    made = json.loads(Path(out).read_text())
    assert made["other"]["name"] == "naive" and made["ratio"]["ratios"]["superres"]["ratio"] > 0
    assert made["other"]["stages"]["keyframes"]["evaluations"] == made["stages"]["keyframes"]["evaluations"]
    assert made["other"]["stages"]["keyframes"]["fraction_of_peak"] > 0
    assert made["other"]["forward"]["interpolation"]["shape"][0] == 1  # one gap
    assert len(made["whole"]["runs"]) == 2


def test_a_stage_that_calls_no_network_has_no_share(preset_file, tmp_path, capsys):
    said = run_verb(
        capsys,
        *("--preset", preset_file, "--set", "keyframes.frames=1"),
        *("--parts", "stages,peak", "--out", str(tmp_path / "bench.json")),
    )
    assert said["stages"]["interpolation"]["fraction_of_peak"] is None
    assert said["stages"]["keyframes"]["fraction_of_peak"] > 0


def test_two_presets_run_in_turn(preset_file, tmp_path, capsys):
    said = run_verb(
        capsys,
        *("--preset", preset_file, "--against", preset_file, "--set-against", "keyframes.steps=2"),
        *("--parts", "stages", "--out", str(tmp_path / "bench.json")),
    )
    assert said["ratio"]["of"] == "tiny (against)" and said["ratio"]["to"] == "tiny"
    assert said["stages"]["keyframes"]["fraction_of_peak"] is None  # nothing measured it
    twice = said["other"]["stages"]["keyframes"]["evaluations"]
    assert twice == 2 * said["stages"]["keyframes"]["evaluations"]


def test_the_naive_form_of_another_preset(preset_file, tmp_path, capsys):
    said = run_verb(
        capsys,
        *("--preset", preset_file, "--naive", "--against", preset_file),
        *("--set-against", "keyframes.steps=2", "name=slow"),
        *("--parts", "stages", "--repeats", "1", "--out", str(tmp_path / "bench.json")),
    )
    assert said["ratio"]["of"] == "naive slow" and said["ratio"]["to"] == "tiny"
    twice, once = said["other"]["stages"], said["stages"]
    assert twice["keyframes"]["evaluations"] == 2 * once["keyframes"]["evaluations"]
    assert twice["interpolation"]["evaluations"] >= once["interpolation"]["evaluations"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--repeats", "0"], "--repeats = 0: must be"),
        (["--parts", "stages,speed"], "--parts 'speed': must be one or more of stages, peak"),
        (["--parts", "peak", "--naive"], "--naive needs stages"),
        (["--naive", "--set", "name=naive"], "gives it another name"),
        (["--set-against", "keyframes.steps=4"], "--set-against needs --against"),
        (["--against", "storybook"], "does not differ"),
        (["--set", "keyframes.steps=0"], "keyframes.steps"),
        (["--seed", "x"], "--seed"),
        (["--prompt", ""], "--prompt"),
        (["--out", "bench.txt"], "must be a file that ends in .json"),
        (["--set", "weights.keyframes=nowhere"], "nowhere"),
    ],
)
def test_bad_options_are_said_before_any_work(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "counted_run", lambda *args: pytest.fail("work began"))
    monkeypatch.setattr(starting, "app_figures", lambda *args: pytest.fail("work began"))
    out = [] if "--out" in options else ["--out", str(tmp_path / "bench.json")]
    assert main(["bench", *options, *out]) == 2
    assert message in capsys.readouterr().err
