"""Many videos in several processes: the same ones whatever their number, none made twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpl.__main__ import main
from mpl.config import Preset, to_toml
from mpl.limits import MAX_SEED
from mpl.shards import Shard, read_shard, seed_at
from mpl.video import read_video, write_video

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ["a red car", "a blue boat", "a green ball", "a white ghost", "a red car"]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_make_up_the_whole_and_share_nothing(parts: int) -> None:
    found = [pair for number in range(1, parts + 1) for pair in Shard(number, parts).of_list(PROMPTS)]
    assert sorted(found) == sorted(enumerate(PROMPTS))
    sizes = [len(Shard(number, parts).of_list(PROMPTS)) for number in range(1, parts + 1)]
    assert max(sizes) - min(sizes) <= 1


def test_a_part_is_read_or_comes_from_torchrun() -> None:
    assert read_shard("2/8", {}, "--shard") == Shard(2, 8)
    assert read_shard(None, {"RANK": "1", "WORLD_SIZE": "2"}, "--shard") == Shard(2, 2)
    assert read_shard("1/3", {"RANK": "1", "WORLD_SIZE": "2"}, "--shard") == Shard(1, 3)
    assert read_shard(None, {"RANK": "1"}, "--shard") is None


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "١/٢"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--shard .*must be PART/PARTS"):
        read_shard(text, {}, "--shard")


def test_seeds_stay_seeds() -> None:
    assert seed_at(3, 5) == 8 and seed_at(1, MAX_SEED) == 0


@pytest.fixture
def here(preset: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(to_toml(preset))
    lines = [{"prompt": prompt} for prompt in PROMPTS[:-1]] + [{"prompt": PROMPTS[-1], "seed": 77}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path


def generate(folder: str, *options: str) -> list[str]:
    return [
        "generate", "--prompts", "p.jsonl", "--preset", "tiny.toml", "--stop-after", "keyframes", "--seed", "10",
        "--out", folder, *options,
    ]  # fmt: skip


def contents(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*.json")):
        recipe = json.loads(path.read_text())
        found[path.stem] = (recipe["prompt"], recipe["seed"], read_video(path.with_suffix(".mp4")).tobytes())
    return found


def test_the_result_is_the_same_for_any_number_of_parts(here: Path) -> None:
    assert main(generate("one", "--shard", "1/1")) == 0
    for number in (3, 1, 2):
        assert main(generate("three", "--shard", f"{number}/3")) == 0
    assert contents(here / "one") == contents(here / "three")
    assert [(name, seed) for name, (_, seed, _) in contents(here / "one").items()] == [
        ("000000", 10), ("000001", 11), ("000002", 12), ("000003", 13), ("000004", 77)
    ]  # fmt: skip


def test_what_is_there_is_not_made_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(generate("out", "--shard", "1/1")) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    (here / "out" / "000001.mp4").unlink()
    recipe = json.loads((here / "out" / "000003.json").read_text())
    (here / "out" / "000003.json").write_text(json.dumps(recipe | {"stages": {}}))  # as of a run that was stopped
    assert main(generate("out", "--shard", "1/1")) == 0
    assert [Path(line).stem for line in capsys.readouterr().out.splitlines()] == ["000001", "000003"]
    assert main(generate("out", "--shard", "1/1", "--set", "keyframes.steps=1")) == 0  # other videos
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(generate("out", "--shard", "1/1", "--set", "keyframes.steps=1", "--json")) == 0
    assert capsys.readouterr().out.splitlines() == ["{}"]


def test_other_sources_and_formats_are_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 3), np.uint8)
    for name, of in (("a.mp4", frames), ("b.mp4", 255 - frames)):
        write_video(here / name, of, 8.0)

    def made(*options: str) -> int:
        common = [x for x in generate("out", "--shard", "1/1") if x not in ("--stop-after", "keyframes")]
        assert main([*common, "--at", "interpolation", "--stop-after", "interpolation", *options]) == 0
        return len(capsys.readouterr().out.splitlines())

    assert made("--from", "a.mp4") == 5 and made("--from", "b.mp4") == 5  # of other pictures
    assert made("--from", "b.mp4", "--gif") == 5 and (here / "out" / "000004.gif").is_file()
    assert made("--from", "b.mp4", "--gif") == 0


def test_torchrun_shares_the_work(here: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "mpl"]
    done = subprocess.run(
        [*command, *generate("both")], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    )
    assert done.returncode == 0, done.stderr
    assert main(generate("one", "--shard", "1/1")) == 0
    assert contents(here / "both") == contents(here / "one")


def test_a_part_of_one_prompt_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a car", "--shard", "1/2"]) == 2
    assert "--shard needs --prompts" in capsys.readouterr().err


def test_another_list_s_videos_are_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(generate("out", "--shard", "1/1")) == 0
    before = contents(here / "out")
    (here / "p.jsonl").write_text('{"prompt": "a blue boat"}\n')
    assert main(generate("out", "--shard", "1/1")) == 2
    assert "another list's videos are kept; give another folder" in capsys.readouterr().err
    assert contents(here / "out") == before


def test_what_is_withheld_ends_no_list_and_is_not_made_again(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mpl import cascade
    from mpl.events import Withheld

    run, asked = cascade.generate, []

    def flagging(prompt: str, preset: Any, weights: Any, seed: int, **options: Any) -> Any:
        asked.append(seed)
        return iter([Withheld("flagged", "keyframes")]) if seed == 11 else run(prompt, preset, weights, seed, **options)

    monkeypatch.setattr(cascade, "generate", flagging)
    assert main(generate("out", "--shard", "1/1")) == 1
    said = capsys.readouterr()
    assert "1 of 5 videos were withheld" in said.err and len(said.out.splitlines()) == 4
    assert asked == [10, 11, 12, 13, 77]
    assert main(generate("out", "--shard", "1/1")) == 0 and len(asked) == 5
