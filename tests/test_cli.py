"""The command line: what it makes, what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_preset

from mpl import command
from mpl import weights as weights_room
from mpl.__main__ import main
from mpl.config import override, to_toml
from mpl.terminal import RunFailed
from mpl.video import NOTE, read_recipe, read_video, write_video

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def here(tmp_path, tiny, monkeypatch):
    """An empty folder to work in, with a preset of tiny models."""
    (tmp_path / "tiny.toml").write_text(to_toml(tiny), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *arguments):
    """Exit code, lines of standard output, standard error."""
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_generate_in_a_process_of_its_own(here):
    done = subprocess.run(
        [sys.executable, "-m", "mpl", "generate", "a red car", "--preset", "tiny.toml", "--seed", "7", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said) == {"file", "recipe", "seconds", "evaluations", "peak_memory_gb"}
    assert said["evaluations"] == {"keyframes": 4, "interpolation": 4, "superres": 4, "translation": 2}
    assert set(said["seconds"]) == set(said["evaluations"]) and said["peak_memory_gb"] > 0
    assert read_video(said["file"]).shape == (5, 32, 64, 3)
    assert said["recipe"]["seed"] == 7 and read_recipe(said["file"]) == said["recipe"]
    assert Path(said["file"]).parent == Path("outputs")
    assert "cpu (asked for), float32" in done.stderr and "translation" in done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr


def test_stages_one_after_another_through_files(here, capsys):
    first = ["generate", "a red car", "--preset", "tiny.toml", "--out", "o", "--stop-after", "keyframes"]
    code, out, _ = call(capsys, *first)
    assert code == 0 and read_video(out[-1]).shape == (3, 8, 16, 3)
    second = [
        "generate",
        "a red car",
        "--preset",
        "tiny.toml",
        "--out",
        "o",
        "--from",
        out[-1],
        "--at",
        "interpolation",
    ]
    code, out, _ = call(capsys, *second, "--stop-after", "interpolation")
    assert code == 0 and read_video(out[-1]).shape == (5, 8, 16, 3)
    third = ["generate", "a red car", "--preset", "tiny.toml", "--out", "o", "--from", out[-1], "--at", "translation"]
    code, out, err = call(capsys, *third)
    assert code == 2 and "is 16×8: translation takes 32×16 or 64×32" in err
    code, out, _ = call(capsys, *third, "--resize", "--set", "translation.steps=1", "--webm", "--json")
    said = json.loads(out[-1])
    assert code == 0 and read_video(said["file"]).shape == (5, 32, 64, 3)
    assert Path(said["file"]).with_suffix(".webm").is_file() and list(said["seconds"]) == ["translation"]
    assert said["recipe"]["preset"]["translation"]["steps"] == 1


def test_videos_without_their_recipe_say_that_they_are_ai_generated_all_the_same(here, capsys):
    ask = ["generate", "a red car", "--preset", "tiny.toml", "--stop-after", "keyframes", "--no-metadata"]
    _, out, _ = call(capsys, *ask, "--webm", "--gif", "--json")
    path = Path(json.loads(out[-1])["file"])
    for made in (path, path.with_suffix(".webm"), path.with_suffix(".gif")):
        assert read_recipe(made) is None and NOTE.encode() in made.read_bytes()
    assert json.loads(path.with_suffix(".json").read_text())["prompt"] == "a red car"


def test_many_prompts_without_reloading(here, capsys, monkeypatch):
    lines = ['{"prompt": "a red car", "seed": 3}', "", '{"prompt": "a blue\u2028boat"}']  # valid in JSON, as it is
    (here / "p.jsonl").write_text("\r\n".join(lines), encoding="utf-8-sig")
    arguments = [
        "generate",
        "--prompts",
        "p.jsonl",
        "--seed",
        "9",
        "--preset",
        "tiny.toml",
        "--stop-after",
        "keyframes",
    ]
    loads, load = [], weights_room.load_model
    monkeypatch.setattr(weights_room, "load_model", lambda *a: loads.append(a[1]) or load(*a))
    code, out, _ = call(capsys, *arguments, "--json")
    assert len(loads) == len(set(loads)) == 2  # T5 and keyframes
    said = [json.loads(line) for line in out]
    assert code == 0 and [(s["recipe"]["prompt"], s["recipe"]["seed"]) for s in said] == [
        ("a red car", 3),
        ("a blue boat", 9),
    ]
    assert all(Path(s["file"]).is_file() for s in said)
    code, out, _ = call(capsys, *arguments)
    assert code == 0 and out == [s["file"] for s in said]


def test_a_cache_folder_is_used_again(here, capsys):
    arguments = [
        "generate",
        "a red car",
        "--preset",
        "tiny.toml",
        "--stop-after",
        "keyframes",
        "--cache",
        "c",
        "--json",
    ]
    seconds = [json.loads(call(capsys, *arguments)[1][-1])["seconds"]["keyframes"] for _ in range(2)]
    assert seconds[0] > 0 and seconds[1] == 0


def test_embeddings_are_kept_unless_one_says_no(here, capsys):
    arguments = ["generate", "a red car", "--preset", "tiny.toml", "--stop-after", "keyframes", "--out", "o"]
    for extra in ([], [], ["--clear-text-cache"], ["--text-cache", "t"]):
        assert call(capsys, *arguments, *extra)[0] == 0
    [kept] = (here / "o" / "text").iterdir()
    assert [path.name for path in (here / "t").iterdir()] == [kept.name]
    kept.unlink()
    assert call(capsys, *arguments, "--text-cache", "off")[0] == 0
    assert not list((here / "o" / "text").iterdir())
    arms = ["--a", "tiny.toml", "--b", "tiny.toml", "--out", "o", "--stop-after", "keyframes"]
    assert call(capsys, "compare", "a red car", *arms)[0] == 0
    assert [path.name for path in (here / "o" / "text").iterdir()] == [kept.name]


def test_a_default_text_cache_that_cannot_be_written_to_is_done_without(here, capsys):
    Path("o").mkdir()
    Path("o/text").touch()
    arguments = ["generate", "a red car", "--preset", "tiny.toml", "--stop-after", "keyframes", "--out", "o"]
    assert call(capsys, *arguments)[0] == 0


def test_compare_refuses_a_cache_that_cannot_be_written_to(here, capsys):
    for option in ("--cache", "--text-cache"):
        code, out, err = call(capsys, "compare", "x", "--a", "tiny.toml", "--b", "tiny.toml", option, "tiny.toml")
        assert code == 2 and out == [] and f"{option} = tiny.toml: cannot write there" in err


def test_compare(here, capsys):
    arms = ["--a", "tiny.toml", "--b", "tiny.toml", "--set-b", "interpolation.steps=1"]
    code, out, err = call(
        capsys, "compare", "a red car", *arms, "--seed", "2", "--stop-after", "interpolation", "--json"
    )
    said = json.loads(out[-1])
    assert code == 0 and said["differences"] == {"interpolation.steps": ["2", "1"]}
    assert said["a"]["seconds"]["keyframes"] > 0 and said["b"]["seconds"]["keyframes"] == 0
    assert said["a"]["file"] != said["b"]["file"] and "kept" in err


BAD = {
    "no prompt": ([], "give a PROMPT or --prompts"),
    "both": (["x", "--prompts", "p.jsonl"], "one of the two"),
    "empty prompt": ([""], "prompt is empty"),
    "long prompt": (["x" * 10_000], "10000 characters: at most 1000"),
    "unknown preset": (["x", "--preset", "nope"], 'preset "nope"'),
    "unknown key": (["x", "--preset", "key.toml"], "'keyframes.stepz'"),
    "broken toml": (["x", "--preset", "broken.toml"], "broken TOML"),
    "out of range": (
        ["x", "--set", "translation.strength=1.5"],
        "translation.strength = 1.5: must be a number above 0",
    ),
    "not a number": (["x", "--set", "keyframes.steps=many"], 'keyframes.steps = "many"'),
    "no value": (["x", "--set", "keyframes.steps"], "must be KEY=VALUE"),
    "prompt after --set": (["--set", "keyframes.steps=1", "a car"], "a prompt goes before --set"),
    "negative seed": (["x", "--seed", "-1"], "--seed"),
    "no seed": (["x", "--seed", "1.5"], "--seed"),
    "large seed": (["x", "--seed", str(2**63)], "--seed"),
    "unknown stage": (["x", "--stop-after", "text"], "--stop-after 'text'"),
    "input of the first": (["x", "--from", "small.mp4", "--at", "keyframes"], "--at 'keyframes'"),
    "from alone": (["x", "--from", "small.mp4"], "belong together"),
    "at alone": (["x", "--at", "superres"], "belong together"),
    "resize alone": (["x", "--resize"], "--resize needs"),
    "no such video": (["x", "--from", "none.mp4", "--at", "superres"], "none.mp4: cannot be read"),
    "broken video": (["x", "--from", "cut.mp4", "--at", "superres"], "broken video"),
    "no video": (["x", "--from", "key.toml", "--at", "superres"], "key.toml: cannot be read as a video"),
    "wrong shape": (["x", "--from", "small.mp4", "--at", "superres"], "small.mp4 is 24×8: superres takes 16×8"),
    "out is a file": (["x", "--out", "key.toml"], "--out = key.toml: cannot write there"),
    "null in out": (["x", "--out", "a\0b"], "--out = 'a\\x00b': must be a path"),
    "null in prompts": (["--prompts", "a\0b"], "--prompts = 'a\\x00b': must be a path"),
    "null in cache": (["x", "--cache", "a\0b"], "--cache = 'a\\x00b': must be a path"),
    "null in text cache": (["x", "--text-cache", "a\0b"], "--text-cache = 'a\\x00b': must be a path"),
    "cache is a file": (["x", "--cache", "key.toml"], "--cache = key.toml: cannot write there"),
    "text cache is a file": (["x", "--text-cache", "key.toml"], "--text-cache = key.toml: cannot write there"),
    "nothing to clear": (["x", "--text-cache", "off", "--clear-text-cache"], "--text-cache = off names none to clear"),
    "out is no text": (["x", "--out", "a\udcff"], "--out = 'a\\udcff': must be a path"),
    "source is no text": (["x", "--from", "\udcff.mp4", "--at", "superres"], "--from = '\\udcff.mp4': must be a path"),
    "prompt is no text": (["a \udcff car"], "prompt holds '\\udcff' at character 3"),
    "out below a file": (["x", "--out", "key.toml/below"], "cannot write there"),
    "no prompts file": (
        ["--prompts", "none"],
        "--prompts none: cannot be read: No such file or directory; accepted: a JSONL file in UTF-8, or a set: paper, ",
    ),
    "unknown key of a prompt": (["--prompts", "k.jsonl"], 'k.jsonl line 2: unknown key "sed"; accepted: prompt, seed'),
    "bad prompts line": (["--prompts", "p.jsonl"], "p.jsonl line 2: prompt is empty"),
    "unknown option": (["x", "--sed", "1"], "unrecognized arguments: --sed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_code_2(here, capsys, name):
    arguments, words = BAD[name]
    (here / "key.toml").write_text("[keyframes]\nstepz = 1\n")
    (here / "broken.toml").write_text("[keyframes\n")
    (here / "p.jsonl").write_text('{"prompt": "a"}\n{"seed": 3}\n')
    (here / "k.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "sed": 3}\n')
    write_video("small.mp4", np.zeros((2, 8, 24, 3), np.uint8), 8)
    noise = np.random.default_rng(0).integers(0, 256, (9, 8, 16, 3), np.uint8)
    data = Path(write_video("cut.mp4", noise, 8)).read_bytes()
    Path("cut.mp4").write_bytes(data[: len(data) // 2])
    preset = [] if "--preset" in arguments else ["--preset", "tiny.toml"]
    code, out, err = call(capsys, "generate", *arguments, *preset)
    assert code == 2 and out == []
    assert words in err and len(err.splitlines()) == 1, err
    assert not Path("outputs").exists() or not any(Path("outputs").iterdir())


@pytest.mark.parametrize("option", ["keyframes.width", "superres.height"])
def test_sizes_that_a_network_cannot_take(capsys, tmp_path, option):
    """The shipped networks' own units, read before any of them is loaded."""
    code, out, err = call(capsys, "generate", "x", "--set", f"{option}=66", "--out", tmp_path / "o")
    stage = option.partition(".")[0]
    assert code == 2 and out == [] and f"{option} = 66: {stage} takes multiples of" in err


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_weights_that_are_missing_or_truncated(tiny_copy, tmp_path, capsys, damage):
    preset = override(tiny_preset(tiny_copy), {"weights.superres_first_frame": "none"})
    (tmp_path / "tiny.toml").write_text(to_toml(preset), encoding="utf-8")
    path = tiny_copy / "superres" / "unet" / "diffusion_pytorch_model.safetensors"
    data = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    code, out, err = call(capsys, "generate", "x", "--preset", tmp_path / "tiny.toml", "--out", tmp_path / "o")
    assert code == 2 and out == [] and len(err.splitlines()) == 1
    assert "superres" in err and ("truncated" in err if damage == "truncated" else "holds no weight file" in err)
    assert not list((tmp_path / "o").iterdir())


def test_the_other_exit_codes(here, capsys, monkeypatch):
    arguments = ["generate", "x", "--preset", "tiny.toml"]
    for error, expected in ((RunFailed("Out of memory"), 1), (KeyboardInterrupt(), 130)):

        def run(_, error=error):
            raise error

        monkeypatch.setattr(command, "run_generate", run)
        code, out, err = call(capsys, *arguments)
        assert code == expected and out == [] and len(err.splitlines()) == 1
    assert call(capsys, "frobnicate")[0] == 2
    assert call(capsys)[0] == 2
    code, out, _ = call(capsys, "--help")
    assert code == 0 and all(
        verb in "\n".join(out) for verb in ("generate", "compare", "storybook", "train", "evaluate")
    )
    code, out, _ = call(capsys, "generate", "--help")
    assert code == 0 and "--stop-after" in "\n".join(out)
    code, out, _ = call(capsys, "memory", "--help")
    assert code == 0 and "What a preset needs, and what fits into a GPU." in out


TERMINATED = """
import os, signal, sys, time
from pathlib import Path
from mpl import command
from mpl.__main__ import main
from mpl.video import replacing

def run(_):
    if not (fork := os.fork()):
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitpid(fork, 0)[1] == signal.SIGTERM  # it ends at once
    with replacing(Path("v.mp4")) as unfinished:
        unfinished.touch()
        print("begun", flush=True)
        time.sleep(60)

command.run_generate = run
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
sys.exit(main(["generate", "x"]))
"""


@pytest.mark.parametrize("interrupt", ["default_int_handler", "SIG_IGN"])  # as a shell starts it, or in the background
def test_a_terminated_run_leaves_nothing_half_written(tmp_path, interrupt):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command_line = [sys.executable, "-c", TERMINATED, interrupt]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command_line, cwd=tmp_path, env=environment, **pipes) as process:
        begun = process.stdout.readline()
        process.terminate()
        _, told = process.communicate()
    assert begun == "begun\n" and process.returncode == 143, told
    assert told == "mpl generate: terminated; nothing half-written is left\n" and not list(tmp_path.iterdir())
