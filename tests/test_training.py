"""The training loop: exact resumption, weights that load back, and the cascade running on them."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tqdm import tqdm
from training_toys import ToyTask, arguments, toy_loop

from mpl.__main__ import _terminated_as_interrupted
from mpl.models import VideoUNet
from mpl.terminal import RunFailed
from mpl.training.command import make_task
from mpl.training.options import load_task


def test_components_lie_in_the_published_layout(trained: Path) -> None:
    assets = trained / "assets"
    for path in (
        "text/text_encoder/model.safetensors",
        "text/tokenizer/tokenizer.json",
        "keyframes/unet/config.json",
        "keyframes/scheduler/scheduler_config.json",
        "superres/image_noising_scheduler/scheduler_config.json",
        "translation/unet/diffusion_pytorch_model.safetensors",
        "translation/vae/latent_rgb.json",
        "translation/text_encoder/config.json",
        "judge/config.json",
    ):
        assert (assets / path).is_file(), path
    card = (assets / "keyframes" / "README.md").read_text()
    assert "license: apache-2.0" in card and "python -m mpl train keyframes" in card
    assert "- **Starts from**: image (1 run, " in card and ", 4 samples: the table's first rows)" in card
    assert "| 1 | image | 2 | 4 |" in card and "| 2 | keyframes | 2 |" in card
    commands = card[card.index("Commands, by run") :].splitlines()[2:]
    made = [
        f"python -m mpl train {name} --preset {trained.name}/tiny.toml --minutes 1000 --seed 0 --max-steps 2"
        f" --out assets/{name}"
        for name in ("image", "keyframes")
    ]
    assert commands == [f"{number}. `{command}`" for number, command in enumerate(made, 1)]
    assert "`AutoencoderKL`" in (assets / "translation" / "vae" / "README.md").read_text()
    assert "--cap 900" in (assets / "translation" / "README.md").read_text()
    assert "--cap" not in card and "Starts from" not in (assets / "image" / "README.md").read_text()


def test_every_model_that_makes_pictures_shows_some(trained: Path) -> None:
    for what in ("vae", "image", "keyframes", "interpolation", "superres", "translation"):
        assert (trained / "runs" / what / "samples-000002.png").is_file(), what


def test_a_layout_learns_from_silhouettes_with_every_step(trained: Path) -> None:
    logs = {what: (trained / "runs" / what / "log.jsonl").read_text().splitlines() for what in ("image", "keyframes")}
    assert all("loss_draft" in json.loads(line) for line in logs["keyframes"])
    assert not any("loss_draft" in line for line in logs["image"])


def test_weights_are_stored_as_bfloat16(trained: Path) -> None:
    from safetensors.torch import load_file

    stored = load_file(trained / "assets/keyframes/unet/diffusion_pytorch_model.safetensors")
    assert {v.dtype for v in stored.values()} == {torch.bfloat16}


def test_the_cascade_runs_on_what_was_trained(trained: Path) -> None:
    from mpl.cascade import generate
    from mpl.config import load_preset, override
    from mpl.events import Finished, StageFinished
    from mpl.weights import Weights

    names = ("text", "keyframes", "interpolation", "superres", "translation")
    folders = {f"weights.{name}": str(trained / "assets" / name) for name in names}
    sizes = {"keyframes.height": "8", "keyframes.width": "16", "superres.height": "32", "superres.width": "64"}
    sizes |= {"translation.height": "32", "translation.width": "64"}
    steps = {f"{stage}.steps": "2" for stage in names[1:]}
    preset = override(load_preset("storybook"), folders | sizes | steps)
    events = list(generate("a red car moves right", preset, Weights(preset.weights), 3))
    shapes = [e.frames.shape for e in events if isinstance(e, StageFinished)]
    assert isinstance(events[-1], Finished), events[-1]
    assert shapes == [(8, 8, 16, 3), (29, 8, 16, 3), (29, 32, 64, 3), (29, 32, 64, 3)]


def test_a_second_training_goes_on_from_the_first(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import run

    out = tmp_path / "assets" / "text"
    options = {"what": "text", "preset": str(trained / "tiny.toml"), "max_steps": 1, "out": out, "seed": "5"}
    run(arguments(work=tmp_path / "runs", init_from=trained / "assets" / "text", **options))
    from safetensors.torch import load_file

    first = load_file(trained / "assets/text/text_encoder/model.safetensors")
    second = load_file(out / "text_encoder/model.safetensors")
    moved = max((first[k].float() - second[k].float()).abs().max().item() for k in first)
    assert moved < 0.1  # one step of warm-up away, not a fresh start


def test_a_run_that_began_with_other_weights_goes_on_without_being_told_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpl.training.command import run
    from mpl.training.denoisers import DenoiserTask

    monkeypatch.setattr(DenoiserTask, "sample", lambda self, path: None)  # for the test's time
    out, work = tmp_path / "assets" / "keyframes", tmp_path / "runs"
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "text").symlink_to(trained / "assets" / "text")  # and no image model to start from
    options = {"what": "keyframes", "preset": str(trained / "tiny.toml"), "out": out, "work": work}
    start = trained / "assets" / "keyframes"
    assert run(arguments(**options, init_from=start, max_steps=1))["steps"] == 1
    os.rename(work / "state", work / "state.old")  # as a kill between two renames leaves it
    assert run(arguments(**options, max_steps=2))["steps"] == 2
    assert run(arguments(**options, init_from=start, max_steps=3))["steps"] == 3
    card = (out / "README.md").read_text()
    assert "--out assets/keyframes`" in card and "--assets" not in card  # as typed
    assert "--init-from" in card and "- **Starts from**: image (1 run" in card
    models = [row["model"] for row in json.loads((out / "history.json").read_text())]
    assert models == ["image", "keyframes", "keyframes"]
    for other in ({"init_from": trained / "assets" / "image"}, {"seed": "5"}):
        with pytest.raises(ValueError, match="holds another run to go on with"):
            run(arguments(**options, **other, max_steps=4))
    assert run(arguments(**options, init_from=start, fresh=True, max_steps=1))["steps"] == 1


def test_parts_that_the_weights_lack_begin_without_effect(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "superres")
    options = replace(options, model={**options.model, "refine_channels": 8})
    start = trained / "assets" / "superres"
    task = make_task(options, trained / "assets", start)
    before = VideoUNet.from_pretrained(start / "unet")
    sample, text = torch.randn(1, 6, 2, 8, 16), torch.randn(1, 4, 16)
    label = torch.tensor([3])
    assert task.model.refiner is not None and before.refiner is None
    with torch.no_grad():
        expected = before(sample, 10, text, class_labels=label).sample
        torch.testing.assert_close(task.model(sample, 10, text, class_labels=label).sample, expected)


def test_weights_of_another_shape_than_the_preset_s_are_refused(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    options = replace(options, model={**options.model, "block_out_channels": [16, 24]})
    with pytest.raises(ValueError, match="do not fit: missing down_blocks.1"):
        make_task(options, trained / "assets", trained / "assets" / "keyframes")


@pytest.mark.parametrize(
    ("what", "block", "change", "message"),
    [
        ("superres", "superres.model", "patch_sise = 2", "superres.model: VideoUNet has no patch_sise; accepted: "),
        ("text", "text.model", "num_layers = 3", r"text.model.num_layers = 3: .* has 1"),
        ("clip", "clip.model.text", "hidden_size = 8", r"clip.model.text.hidden_size = 8: .* has 16"),
        ("judge", "judge.model", "features = 16", r"judge.model.features = 16: .* has 8"),
        ("vae", "vae.model", "layers_per_block = 2", r"vae.model.layers_per_block = 2: .* has 1"),
        (
            "translation",
            "translation.model",
            "layers_per_block = 2",
            r"translation.model.layers_per_block = 2: .* has 1",
        ),
    ],
)
def test_weights_to_go_on_from_are_those_that_the_preset_describes(
    what: str, block: str, change: str, message: str, trained: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "other.toml"
    preset.write_text(f'extends = "{trained / "tiny.toml"}"\n[{block}]\n{change}\n')
    start = trained / "assets" / {"vae": "translation"}.get(what, what)
    with pytest.raises(ValueError, match=message):
        make_task(load_task(str(preset), what), trained / "assets", start)


@pytest.mark.parametrize(("block", "kind"), [("text.model", "T5Config"), ("clip.model.vision", "CLIPVisionConfig")])
def test_a_text_encoder_s_misspelt_keys_are_refused(block: str, kind: str, trained: Path, tmp_path: Path) -> None:
    preset = tmp_path / "other.toml"
    preset.write_text(f'extends = "{trained / "tiny.toml"}"\n[{block}]\nlayerz = 3\n')
    with pytest.raises(ValueError, match=f"{block}.layerz: {kind} has none; accepted: .*num_"):
        make_task(load_task(str(preset), block.partition(".")[0]), trained / "assets", None)


def test_an_expert_of_other_latents_is_refused(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import run

    preset = tmp_path / "wide.toml"
    preset.write_text((trained / "tiny.toml").read_text().replace("in_channels = 4\nout", "in_channels = 8\nout"))
    folders = {"assets": trained / "assets", "out": tmp_path / "out", "work": tmp_path / "runs"}
    with pytest.raises(ValueError, match="translation.model.in_channels = 8: must be 4"):
        run(arguments(what="translation", preset=str(preset), **folders))
    assert not folders["work"].exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("", "superres.scheduler.prediction_type = v_prediction: must be sample with prior_std"),
        ('prior_schedule = "linear"', "superres.scheduler: its noise levels are not those of prior_schedule = linear"),
    ],
)
def test_a_prior_on_another_schedule_is_refused(change: str, message: str, trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import run

    preset = tmp_path / "prior.toml"
    prior = f"[superres.model]\nprior_std = 0.3\n{change}\n"
    text = (trained / "tiny.toml").read_text().replace("[superres.model]\n", prior)
    preset.write_text(text.replace("v_prediction", "sample") if change else text)
    folders = {"assets": trained / "assets", "out": tmp_path / "out", "work": tmp_path / "runs"}
    with pytest.raises(ValueError, match=message):
        run(arguments(what="superres", preset=str(preset), **folders))
    assert not folders["work"].exists()


def test_an_expert_in_another_folder_is_whole(trained: Path, tmp_path: Path) -> None:
    from mpl.config import load_preset, override
    from mpl.training.command import run
    from mpl.weights import Weights

    out = tmp_path / "translation_cap1000"
    options = {"what": "translation", "preset": str(trained / "tiny.toml"), "max_steps": 1, "cap": 1000}
    run(arguments(out=out, assets=trained / "assets", work=tmp_path / "runs", sample_every=1e9, **options))
    Weights(override(load_preset("storybook"), {"weights.translation": str(out)}).weights).check(["translation"])


@pytest.mark.parametrize("what", ["image", "translation"])
def test_a_killed_run_goes_on_exactly_where_it_was_saved(what: str, trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import make_task
    from mpl.training.loop import Loop, Run

    def loop(work: str) -> Loop:
        options = load_task(str(trained / "tiny.toml"), what)
        torch.manual_seed(0)
        task = make_task(options, trained / "assets", None)
        return Loop(task, Run(tmp_path / "out", tmp_path / work, minutes=1e6, max_steps=6))

    whole = loop("whole")
    losses = [whole.step()["loss"] for _ in range(6)]
    part = loop("part")
    before = [part.step()["loss"] for _ in range(3)]
    part.save_state()
    for _ in range(2):
        part.step()  # lost with the kill
    again = loop("part")
    assert again.progress.step == 3
    after = [again.step()["loss"] for _ in range(3)]
    assert before + after == losses
    for a, b in zip(whole.ema.shadow_params, again.ema.shadow_params, strict=True):
        assert torch.equal(a, b)


def test_weights_survive_samples_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToyTask, "broken", "sample")
    toy_loop(tmp_path, sample_every=0.0).train()
    assert (tmp_path / "out/weights.pt").is_file() and (tmp_path / "out/README.md").is_file()


def test_a_write_that_fails_leaves_the_earlier_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import AutoencoderKL

    from mpl.training.files import save_bf16

    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/README.md").write_text("card")
    save_bf16(model, tmp_path / "vae")
    before = {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()}
    assert before["README.md"] == b"card" and "diffusion_pytorch_model.safetensors" in before

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        save_bf16(model, tmp_path / "vae")
    assert {path.name: path.read_bytes() for path in (tmp_path / "vae").iterdir()} == before
    assert model.dtype == torch.float32


def test_only_large_models_are_stored_in_large_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import files

    class Model(torch.nn.Linear):
        def save_pretrained(self, folder: Path, max_shard_size: str) -> None:
            (folder / "config.json").write_text(json.dumps({"shards": max_shard_size}))

    for limit, shards in ((200_000_000, "8MB"), (10, "5GB")):
        monkeypatch.setattr(files, "_SMALL", limit)
        files.save_bf16(Model(4, 4), tmp_path / "model")
        assert json.loads((tmp_path / "model/config.json").read_text())["shards"] == shards


def test_a_folder_moved_away_by_a_kill_is_put_back(tmp_path: Path) -> None:
    toy_loop(tmp_path).train()
    os.rename(tmp_path / "work/state", tmp_path / "work/state.old")
    assert toy_loop(tmp_path).progress.step == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_step_save_and_say_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = ToyTask.draw

    def draw(self: ToyTask, seed: int, progress: float) -> object:
        if progress == 0.5:
            os.kill(os.getpid(), number)
        return step(self, seed, progress)

    monkeypatch.setattr(ToyTask, "draw", draw)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us without
    try:
        with pytest.raises(KeyboardInterrupt), _terminated_as_interrupted(threading.Event()):
            toy_loop(tmp_path).train()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "stopped at step 3; the state is in" in capsys.readouterr().err
    monkeypatch.setattr(ToyTask, "draw", step)
    again = toy_loop(tmp_path)
    assert again.progress.step == 3
    again.train()
    steps = [json.loads(line)["step"] for line in (tmp_path / "work/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_the_time_left_does_not_count_earlier_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import loop

    first = toy_loop(tmp_path, minutes=10.0)
    first.step()
    first.progress.seconds = 300.0
    first.save_state()
    bars = []
    monkeypatch.setattr(loop, "tqdm", lambda **kwargs: bars.append(tqdm(**kwargs)) or bars[0])
    toy_loop(tmp_path, minutes=10.0).train()
    assert (bars[0].initial, bars[0].total) == (300, 600) and 300 <= bars[0].n < 310


def test_a_state_of_earlier_versions_learns_what_its_preset_started_from(trained: Path, tmp_path: Path) -> None:
    from mpl.training.command import make_task
    from mpl.training.loop import Loop, Run

    def loop() -> Loop:
        task = make_task(load_task(str(trained / "tiny.toml"), "keyframes"), trained / "assets", None)
        return Loop(task, Run(tmp_path / "out", tmp_path / "work", minutes=1e6))

    before = loop()
    before.progress.lineage = []
    before.save_state()
    assert [row["model"] for row in loop().progress.lineage] == ["image"]


def test_a_resumed_log_repeats_no_step(tmp_path: Path) -> None:
    log = tmp_path / "work/log.jsonl"
    toy_loop(tmp_path).train()
    with log.open("a") as lines:  # what a kill leaves: steps after the save, the last cut off
        lines.write(json.dumps({"step": 5, "loss": 1.0, "minutes": 0.0}) + '\n{"step": 6, "lo')
    toy_loop(tmp_path, max_steps=6).train()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_costly_draws_are_charged_and_pauses_are_not(tmp_path: Path) -> None:
    loop = toy_loop(tmp_path)
    loop.progress.step, loop.progress.seconds = 101, 100.0  # a second each
    assert loop.charge(9.0, 8.0) == 9.0  # a sample that many steps will use
    assert loop.charge(900.0, 0.5) == 3.5 and loop.charge(900.0, 899.0) == 61.0  # paused


def test_after_a_resume_the_preset_s_rate_and_decay_hold(tmp_path: Path) -> None:
    toy_loop(tmp_path, lr=0.01, ema=0.9).train()
    again = toy_loop(tmp_path, lr=0.002, ema=0.7, max_steps=6)
    assert again.ema.decay == 0.7
    assert {group["peak_lr"] for o in again.optimizers for group in o.param_groups} == {0.002}
    momentum = [state["exp_avg"] for o in again.optimizers for state in o.state.values()]
    assert momentum and all(m.abs().sum() > 0 for m in momentum)  # the rest is what was saved


def test_a_loss_that_is_no_number_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = toy_loop(tmp_path)
    before = [p.clone() for p in loop.trained]
    monkeypatch.setattr(ToyTask, "broken", "loss")
    with pytest.raises(RunFailed, match="toy.*nan at step 1"):
        loop.train()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.trained, strict=True))


def test_fresh_forgets_the_run_before(tmp_path: Path) -> None:
    toy_loop(tmp_path).train()
    assert toy_loop(tmp_path, fresh=True).progress.step == 0
    assert not (tmp_path / "work/log.jsonl").exists()


def test_a_stored_autoencoder_is_of_the_library_s_class(trained: Path) -> None:
    config = json.loads((trained / "assets/translation/vae/config.json").read_text())
    assert config["_class_name"] == "AutoencoderKL" and config["scaling_factor"] != 0.18215
