"""Training presets and arguments: what is read, and how what is wrong is named."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest
from training_toys import arguments

from mpl.training.options import (
    PRESETS,
    READ_BY,
    TASKS,
    DataOptions,
    LossOptions,
    TaskOptions,
    load_task,
    training_presets,
)


@pytest.mark.parametrize("what", TASKS)
def test_every_storybook_block_reads(what: str) -> None:
    assert load_task("storybook", what).name == what


def test_paper_preset_says_what_table_5_says() -> None:
    tasks = {what: load_task("paper", what) for what in ("keyframes", "interpolation", "superres", "translation")}
    kinds = [t.scheduler["prediction_type"] for t in tasks.values()]
    assert kinds == ["epsilon", "epsilon", "v_prediction", "epsilon"]
    assert all(t.optimizer.lr == 1e-4 and t.loss.p_drop == 0.1 for t in tasks.values())
    assert [t.loss.cap for t in tasks.values()] == [1000, 1000, 1000, 900]
    assert [t.data.batch for t in tasks.values()] == [1, 2, 1, 1]
    assert all(t.data.tokens == 77 and t.start for t in tasks.values())
    assert tasks["translation"].scheduler["clip_sample"] is False
    betas = [(t.scheduler["beta_start"], t.scheduler["beta_end"]) for t in tasks.values()]
    assert betas == [(1e-4, 0.02)] * 3 + [(0.0015, 0.0195)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[text]\nlength = 3", "text.length"),
        ("[text.loss]\nfoo = 1", "text.loss.foo"),
        ("[text", "broken TOML"),
        ("[vae]", "train text"),
        ("text = 3", r"text = 3: must be a block of keys"),
        ("[text]\nloss = 3", r"text.loss = 3: must be a block"),
        ('[text.data]\nbatch = "x"', r'text.data.batch = "x": must be a whole number from 1'),
        ("[text.data]\nbatch = 0", r"text.data.batch = 0: must be a whole number from 1"),
        ("[text.data]\nframes = true", r"text.data.frames = true: must be a whole number"),
        ("[text.data]\ntiling = 1", r"text.data.tiling = 1: must be true or false"),
        ("[text.data]\ncrop = [8]", r"text.data.crop = \[8\]: must be a list of 2"),
        ("[text.data]\ncrop = [8, 65]", r"text.data.crop = \[8, 65\]: at most \[40, 64\]"),
        ("[text.data]\nframes = 8\nspacing = 5", "text.data.frames = 8 with spacing 5: 36 frames"),
        ('[text.data]\ncaption = "loud"', r'text.data.caption = "loud": must be one of mixed, dense'),
        ('[text.data]\nfolder = "videos"', "text.data.folder"),
        ("[text.data]\nfocus = { flies = 0.5 }", r'text.data.focus."flies": unknown value; accepted: car, boat'),
        ("[text.data]\nfocus = { grows = 2 }", "text.data.focus.grows = 2: must be a number from 0 to 1"),
        ("[text.data]\nfocus = { grows = 0.6, bird = 0.6 }", "text.data.focus: its shares come to 1.2; at most 1"),
        ('[text.optimizer]\nkind = "sgd"', r'text.optimizer.kind = "sgd": must be one of adamw, muon'),
        ("[text.optimizer]\nbetas = [0.9, 2]", "text.optimizer.betas = 2: must be a number from 0 to 1"),
        ('[text.loss]\nfill = "cubic"', r'text.loss.fill = "cubic": must be one of zeros, linear'),
        ("[text.optimizer]\nclip = 0", "text.optimizer.clip = 0: must be a number above 0"),
        ('[text]\nautoencoder = "vae"', r'text.autoencoder = "vae": accepted with: image, keyframes'),
        ("[text.loss]\nmax_weight = nan", "text.loss.max_weight = nan"),
    ],
)
def test_bad_training_presets_are_named(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=names):
        load_task(str(path), "text")


@pytest.mark.parametrize(
    ("block", "change", "names"),
    [
        ("keyframes", "loss = { blur_share = 0.5 }", "keyframes.loss.blur_share = 0.5: accepted with: superres"),
        (
            "image",
            "data = { stills = 0.5 }",
            "image.data.stills = 0.5: accepted with: keyframes, superres",
        ),
        ("superres", 'loss = { fill = "linear" }', 'superres.loss.fill = "linear": accepted with: interpolation'),
        ("vae", 'autoencoder = "here"', 'vae.autoencoder = "here": accepted with: image, keyframes'),
    ],
)
def test_keys_that_a_task_does_not_read_are_refused(tmp_path: Path, block: str, change: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(f"[{block}]\n{change}\n")
    with pytest.raises(ValueError, match=names):
        load_task(str(path), block)


def test_every_key_that_few_tasks_read_is_one() -> None:
    for key in READ_BY:
        block, _, name = key.rpartition(".")
        kind = {"loss": LossOptions, "data": DataOptions, "": TaskOptions}[block]
        assert name in get_type_hints(kind)


def test_every_preset_can_be_read() -> None:
    for preset in training_presets():
        for block in tomllib.loads((PRESETS / f"{preset}.toml").read_text()):
            if block != "extends":
                assert load_task(preset, block).name == block


def test_kept_samples_are_of_one_length(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[translation]\ndata = { frames = 8, stills = 0.5 }")
    with pytest.raises(ValueError, match="translation.data.stills = 0.5: must be 0 or 1"):
        load_task(str(path), "translation")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"what": "nothing"}, "nothing"),
        ({"minutes": 0.0}, "--minutes = 0.0: must be a number above 0"),
        ({"init_from": Path("/none")}, "--init-from"),
        ({"seed": "-5"}, r'--seed = "-5": must be a whole number from 0'),
        ({"seed": 10**23}, "--seed = 1000.*: must be a whole number from 0"),
        ({"max_steps": 0}, "--max-steps = 0: must be a number from 1"),
        ({"save_every": -1.0}, "--save-every = -1.0: must be a number above 0"),
        ({"sample_every": float("nan")}, "--sample-every = nan: must be a number above 0"),
        ({"cap": 900}, "--cap = 900: train text has no cap; accepted with: train translation"),
        ({"cap": 0, "what": "translation"}, "--cap = 0: must be a number from 1 to 1000"),
    ],
)
def test_bad_training_arguments_are_named(changes: dict[str, object], names: str) -> None:
    from mpl.training.command import run

    with pytest.raises(ValueError, match=names):
        run(arguments(**changes))


def test_caption_styles_are_those_of_the_storybook() -> None:
    from mpl.storybook.captions import STYLES

    assert get_args(get_type_hints(DataOptions)["caption"]) == STYLES


def test_whole_numbers_and_lists_become_what_the_options_hold(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text("[vae]\noptimizer = { lr = 1 }\ndata = { crop = [16, 32] }\n")
    options = load_task(str(tmp_path / "good.toml"), "vae")
    assert options.optimizer.lr == 1.0 and isinstance(options.optimizer.lr, float)
    assert options.data.crop == (16, 32)


PRESET = """
[image]
scheduler = { _class_name = "DDIMScheduler" }
[keyframes]
scheduler = { _class_name = "DDIMScheduler", beta_scedule = "linear" }
[vae.model]
colours = 3
"""


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("image", r"train image needs .*text.tokenizer.*`python -m mpl train text` makes it; --assets"),
        ("vae", "vae.model: .*colours"),
        ("keyframes", "keyframes.scheduler.beta_scedule: unknown to DDIMScheduler; accepted: .*beta_schedule"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named_before_any_work(tmp_path: Path, what: str, names: str) -> None:
    from mpl.training.command import run

    (tmp_path / "my.toml").write_text(PRESET)
    with pytest.raises(ValueError, match=names):
        run(arguments(what=what, preset=str(tmp_path / "my.toml"), out=tmp_path / "out", work=tmp_path / "work"))
    assert not (tmp_path / "out").exists() and not (tmp_path / "work").exists()


@pytest.mark.parametrize("option", ["out", "work"])
def test_folders_that_cannot_be_written_to_are_named_before_any_work(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpl.training import command, loop

    monkeypatch.setattr(loop, "Loop", lambda *args: pytest.fail("training began"))
    (tmp_path / "file").touch()
    folders = {"out": tmp_path / "text", "work": tmp_path / "runs"} | {option: tmp_path / "file/inside"}
    with pytest.raises(ValueError, match=f"--{option} = .*cannot write there"):
        command.run(arguments(**folders))


@pytest.mark.parametrize(
    ("given", "folder", "cap"),
    [("", "translation", 900), ("--cap 900", "translation", 900), ("--cap 1000", "translation_cap1000", 1000)],
)
def test_an_expert_of_another_cap_takes_no_other_s_folder(
    given: str, folder: str, cap: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpl.training import command, loop

    def make(options: TaskOptions, assets: Path, init_from: Path | None) -> SimpleNamespace:
        assert options.loss.cap == cap and assets == tmp_path / "assets/storybook"
        return SimpleNamespace(home=lambda out: out)

    def stop(task: object, run: loop.Run) -> None:
        raise RuntimeError(f"{run.out} {run.work}")

    monkeypatch.setattr(command, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(command, "make_task", make)
    monkeypatch.setattr(loop, "Loop", stop)
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(RuntimeError, match=f"/assets/storybook/{folder} runs/storybook/{folder}$"):
        command.run(parser.parse_args(["translation", *given.split()]))


def test_the_work_folder_is_named_after_preset_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpl.training import command, loop

    def stop(task: object, run: loop.Run) -> None:
        raise RuntimeError(str(run.work))

    monkeypatch.setattr(loop, "Loop", stop)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="^runs/storybook/text$"):
        command.run(arguments(out=tmp_path / "text"))
