"""Published protocols from end to end: on tiny data with random networks, in one process and in several."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation_toys import (
    changed,
    make_msrvtt,
    make_networks,
    make_ucf101,
    noise_video,
    script,
    table_without_hashes,
)
from torch import Tensor, nn

from mpl.__main__ import main
from mpl.cascade import generate
from mpl.config import Preset, override, to_toml
from mpl.evaluation import networks, published
from mpl.evaluation.networks import sha256
from mpl.evaluation.protocols import protocol_folder
from mpl.events import Event, Failed, Withheld
from mpl.video import read_video
from mpl.weights import Weights

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and data sets; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluation")
    make_networks(folder / "networks")
    make_ucf101(folder / "ucf101", 3)
    make_msrvtt(folder / "msrvtt", 3)
    return folder


@pytest.fixture
def here(preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a preset of tiny models, and random networks taken for the published ones."""
    monkeypatch.setattr(networks, "TABLE", table_without_hashes(tmp_path / "weights.toml"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(to_toml(preset))
    return tmp_path


OUT = "runs/evaluation/{}-preset-tiny.toml-stop-after-interpolation"  # videos of other options stay


def evaluate(what: str, *options: str | Path) -> list[str]:
    return [
        "evaluate", what, "--preset", "tiny.toml", "--stop-after", "interpolation", *map(str, options)
    ]  # fmt: skip


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_ucf101_end_to_end(here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed")
    options = ("--n", 2, "--weights-dir", made_once / "networks", "--real", made_once / "ucf101", "--out", "out")
    assert main([*evaluate("ucf101", *options), "--json"]) == 0
    result = last_json(capsys)
    assert len(list(Path("out/text").iterdir())) == 2  # embeddings that further videos of a prompt find
    score, fvd = result["figures"]["inception_score"], result["figures"]["fvd"]
    assert (score["n"], score["protocol_asks"], score["splits"]) == (2, 2020, 2)
    assert score["value"] == pytest.approx(1.0)  # splits of one sample
    assert fvd["value"] > 0 and (fvd["n"], fvd["protocol_asks"], fvd["real"]["n"]) == (2, 2048, 2)
    assert result["protocol"]["fvd"]["frames"] == 16 and result["protocol"]["videos"]["crop"] == "square"
    assert result["weights"]["c3d_ucf101.pt"] == sha256(made_once / "networks" / "c3d_ucf101.pt")
    assert result["versions"]["torchmetrics"] and result["command"].startswith(
        "python -m mpl evaluate ucf101 --count 2"
    )
    assert json.loads((here / "out" / "result.json").read_text()) == result
    recipes = [json.loads((here / "out" / "videos" / f"00000{i}.json").read_text()) for i in range(2)]
    assert [(r["prompt"][:7], r["seed"]) for r in recipes] == [("A woman", 0), ("Close-u", 1)]
    assert main(evaluate("ucf101", *options, "--score-only")) == 0  # again, of the same videos
    said = capsys.readouterr().out
    assert f"fvd: {fvd['value']:.4f}, 2 videos (the protocol asks for 2048), against 2 real ones" in said
    for choice in ("frames 16", "fps 8.0", "splits 10", "crop square", "unbiased covariances", "SHA-256"):
        assert choice in said
    assert main(evaluate("ucf101", "--n", 1, *options[2:])) == 2
    assert "--n 1: out/result.json is of 2 videos; another --out would keep it" in capsys.readouterr().err


def test_msrvtt_end_to_end(here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cdfvd.third_party.i3d.pytorch_i3d", reason="cd-fvd is not installed")
    data = made_once / "msrvtt"
    options = ("--real", data / "videos", "--captions", data / "test_videodatainfo.json")
    command = evaluate("msrvtt", "--n", 4, "--weights-dir", made_once / "networks", *options, "--json")
    assert main(command) == 0
    result = last_json(capsys)
    fvd, fid_vid, clipsim = (result["figures"][name] for name in ("fvd", "fid_vid", "clipsim"))
    assert fvd["n"] == fid_vid["n"] == fvd["real"]["n"] == 3  # as many as there are test videos
    assert fvd["value"] > 0 and fid_vid["value"] > 0
    assert (clipsim["n"], clipsim["protocol_asks"], clipsim["frames"]) == (4, 59794, 4 * 29)
    assert -1 <= clipsim["low"] <= clipsim["value"] <= clipsim["high"] <= 1
    assert (here / OUT.format("msrvtt") / "result.json").is_file()


def test_prompts120_end_to_end(here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = changed(here, "prompts120", ('file = "paper"', 'file = "own_set.toml"'), ("count = 120", "count = 3"))
    (here / "own_set.toml").write_text(
        'title = "a"\nabout = "b"\n[categories.cars]\ntitle = "Cars"\nprompts = ["a red car", "a blue car"]\n'
        '[categories.boats]\ntitle = "Boats"\nprompts = ["a green boat"]\n'
    )
    assert main([*evaluate(own, "--weights-dir", made_once / "networks"), "--json"]) == 0
    clipsim = last_json(capsys)["figures"]["clipsim"]
    groups = clipsim["groups"]
    assert (groups["cars"]["n"], groups["boats"]["n"], groups["boats"]["low"]) == (2, 1, None)
    assert clipsim["value"] == pytest.approx((2 * groups["cars"]["value"] + groups["boats"]["value"]) / 3)
    assert clipsim["n"] == clipsim["protocol_asks"] == 3


def test_what_cannot_be_measured_is_said_and_the_rest_is_measured(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "some").mkdir()
    shutil.copy(made_once / "networks" / "c3d_ucf101.pt", here / "some")
    assert main([*evaluate("ucf101", "--n", 1, "--weights-dir", "some"), "--json"]) == 0
    figures = last_json(capsys)["figures"]
    assert figures["inception_score"]["value"] == pytest.approx(1.0)
    assert figures["fvd"]["value"] is None
    for reason in ("--real DIR", "i3d_pretrained_400.pt not in some; from tats/fvd", "needs 2 videos"):
        assert reason in figures["fvd"]["why"]


def fid_vid_alone(here: Path) -> str:
    """A protocol of FID-vid alone, of any videos of a folder."""
    own = changed(here, "msrvtt", ('choice = "captioned"', 'choice = "random"'))
    text = Path(own).read_text()
    alone = text[text.index("[fid_vid]") : text.index("[clipsim]")]
    Path(own).write_text(text[: text.index("[fvd]")] + alone)
    return own


def test_real_videos_that_are_too_short_or_broken_are_left_out_and_said(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = fid_vid_alone(here)
    shutil.copytree(made_once / "ucf101", here / "real")
    noise_video(here / "real" / "good.mp4", 60, 5)
    whole = (here / "real" / "good.mp4").read_bytes()
    (here / "real" / "broken.mp4").write_bytes(whole[: len(whole) // 2])
    (here / "real" / "notes.txt").write_text("no video")
    captions = make_msrvtt(here / "data", 5)[1]
    options = ("--n", 5, "--captions", captions, "--real", "real", "--weights-dir", made_once / "networks")
    assert main([*evaluate(own, *options), "--json"]) == 0
    fid_vid = last_json(capsys)["figures"]["fid_vid"]
    assert fid_vid["value"] > 0 and fid_vid["n"] == 5
    assert (fid_vid["real"]["n"], fid_vid["real"]["left_out"]) == (4, 2)
    assert "damaged" in fid_vid["real"]["because"]["broken.mp4"]
    assert "too short" in fid_vid["real"]["because"]["Biking/v_Biking_g01_c01.mp4"]


def test_where_no_real_video_can_be_used_there_is_no_figure(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        noise_video(here / "real" / f"{name}.mp4", 12, 0)
    captions = made_once / "msrvtt" / "test_videodatainfo.json"
    options = ("--n", 2, "--captions", captions, "--real", "real", "--weights-dir", made_once / "networks")
    assert main(evaluate(fid_vid_alone(here), *options)) == 0
    assert "fid_vid: not measured: 0 real videos can be used, 2 are needed" in capsys.readouterr().out


def test_a_network_with_another_hash_is_refused_before_any_video(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "TABLE", protocol_folder() / "shared" / "weights.toml")
    data = made_once / "msrvtt"
    options = ("--real", data / "videos", "--captions", data / "test_videodatainfo.json", "--n", 2)
    assert main(evaluate("msrvtt", *options, "--weights-dir", made_once / "networks")) == 2
    assert "inception-2015-12-05.pt: SHA-256 " in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_what_the_safety_checker_withholds_is_left_out_and_said(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three videos; it is not tried again."""
    tried: list[int] = []

    def flagging(prompt: str, preset: Preset, weights: Weights, seed: int, **options: Any) -> Iterator[Event]:
        tried.append(seed)
        return (
            iter([Withheld("flagged", "keyframes")])
            if seed == 1
            else generate(prompt, preset, weights, seed, **options)
        )

    monkeypatch.setattr(published, "generate", flagging)
    command = evaluate("prompts120", "--n", 3, "--weights-dir", made_once / "networks")
    for _ in range(2):
        assert main(command) == 0
        assert ", 2 videos (the protocol asks for 120), 1 withheld by the safety checker" in capsys.readouterr().out
    assert tried == [0, 1, 2]
    monkeypatch.setattr(published, "generate", lambda *a, **k: iter([Failed("out of disk")]))
    assert main([*command, "--set", "keyframes.steps=1"]) == 1
    assert "out of disk" in capsys.readouterr().err


# ---- what is refused before any work


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("ucf101",), "nothing can be measured: C3D .*c3d_ucf101.pt not in runs/evaluation/weights; from dropbox"),
        (("ucf101", "--real", "nowhere"), "--real nowhere: no such folder"),
        (("prompts120", "--real", "."), "--real .: prompts120 compares with no real videos"),
        (("prompts120", "--captions", "x.json"), "--captions x.json: prompts120 has prompts of its own"),
        (("msrvtt",), "msrvtt needs --captions FILE, the data set's test_videodatainfo.json"),
        (("prompts120", "--n", "121"), "--n 121: must be a whole number from 1 to 120"),
        (("prompts120", "--n", "0"), "--n 0"),
        (("prompts120", "--score-only"), "--score-only: 120 of 120 videos made with this .*000000.mp4"),
        (("prompts120", "--score-only", "--generate-only"), "give one of the two"),
        (("prompts120", "--score-only", "--shard", "1/2"), "one process measures"),
        (("prompts120", "--shard", "3/2"), "--shard"),
        (("prompts120", "--stop-after", "video"), "--stop-after 'video': must be one of keyframes"),
        (("prompts120", "--part", "video"), "--part: not an option of evaluate prompts120"),
        (("storybook", "--shard", "1/2"), "--shard, or more processes than one: needs --cache DIR"),
        (("prompts121",), "evaluate prompts121: unknown protocol; accepted: storybook, .*msrvtt, prompts120, ucf101"),
        (("none.toml",), 'protocol "none.toml"'),
    ],
)
def test_bad_options_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], problem: str
) -> None:
    assert main(["evaluate", *options, "--preset", "tiny.toml"]) == 2
    said = capsys.readouterr().err
    assert re.search(problem, said) and said.count("\n") == 1
    assert not (here / "runs").exists()


def test_keyframes_are_too_few_for_a_network_of_16_frames(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "ucf101", "--preset", "tiny.toml", "--stop-after", "keyframes", "--n", "2"]
    assert main([*command, "--weights-dir", str(made_once / "networks"), "--real", str(made_once / "ucf101")]) == 2
    assert "8 frames at 2 per second hold no 16 at 8 per second" in capsys.readouterr().err


def test_a_broken_network_is_said_before_any_video(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.float().mean([2, 3, 4])

    (here / "wrong").mkdir()
    script(Wrong(), here / "wrong" / "c3d_ucf101.pt")
    assert main(evaluate("ucf101", "--n", 1, "--weights-dir", "wrong")) == 2
    assert "does not give probabilities of 101 classes" in capsys.readouterr().err
    assert not (here / "runs").exists()


# ---- several processes


def contents(folder: Path) -> dict[str, Any]:
    return {
        path.stem: (json.loads(path.with_suffix(".json").read_text())["seed"], read_video(path).tobytes())
        for path in sorted(folder.glob("*.mp4"))
    }


def test_parts_make_the_same_videos_and_the_same_figures(
    here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--n", 4, "--weights-dir", made_once / "networks", "--json")
    assert main(evaluate("prompts120", *options, "--out", "whole")) == 0
    whole = last_json(capsys)
    for part in ("2/3", "1/3", "3/3"):
        assert main(evaluate("prompts120", *options, "--out", "parts", "--shard", part)) == 0
        said = last_json(capsys)
        assert "run it without --shard and torchrun" in said["note"] and said["made"] in (1, 2)
    assert (said["there"], said["of"]) == (4, 4) and not (here / "parts" / "result.json").exists()
    assert contents(here / "parts" / "videos") == contents(here / "whole" / "videos")
    assert main(evaluate("prompts120", *options, "--out", "parts", "--shard", "2/3")) == 0
    assert last_json(capsys)["made"] == 0
    assert main(evaluate("prompts120", *options, "--out", "parts", "--shard", "1/3")) == 0  # all are there: it measures
    assert last_json(capsys)["figures"] == whole["figures"]


def test_videos_of_other_weights_are_made_again(here: Path, preset: Preset, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "keyframes"
    shutil.copytree(preset.weights.keyframes, folder)
    (here / "tiny.toml").write_text(to_toml(override(preset, {"weights.keyframes": str(folder)})))
    command = evaluate("prompts120", "--n", 2, "--generate-only", "--json")
    made = []
    for _ in range(3):
        assert main(command) == 0
        made.append(last_json(capsys)["made"])
        if len(made) == 2:
            config = folder / "scheduler" / "scheduler_config.json"
            config.write_text(config.read_text() + "\n")
    assert made == [2, 0, 2]
    shutil.rmtree(folder)
    assert main(evaluate("prompts120", "--n", 2, "--score-only", "--json", "--weights-dir", "none")) == 2
    assert "nothing can be measured" in capsys.readouterr().err  # the videos are taken as they are


def test_what_is_there_is_not_made_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = evaluate("prompts120", "--n", 3, "--generate-only", "--json")
    assert main(command) == 0
    assert last_json(capsys) | {"folder": ""} == {
        "folder": "", "made": 3, "there": 3, "of": 3, "note": "not measured: --generate-only"
    }  # fmt: skip
    (here / OUT.format("prompts120") / "videos" / "000001.mp4").unlink()
    assert main(command) == 0
    assert last_json(capsys)["made"] == 1


def test_torchrun_shares_the_videos(here: Path, made_once: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mpl"]
    options = ("--count", 3, "--weights-dir", made_once / "networks")
    done = subprocess.run(
        [*torchrun, *evaluate("prompts120", *options, "--out", "both")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("not measured: one process does that") == 2
    assert main(evaluate("prompts120", *options, "--out", "one")) == 0
    assert contents(here / "both" / "videos") == contents(here / "one" / "videos")
    assert main(evaluate("prompts120", *options, "--out", "both")) == 0
    figures = [json.loads((here / name / "result.json").read_text())["figures"] for name in ("one", "both")]
    assert figures[0] == figures[1]
