"""Words that trainings meet in captions, and what their text encoders know of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_training_data import video_folder

from mpl.training.command import make_task
from mpl.training.options import load_task
from mpl.training.vocabulary import build_tokenizer, tokenize


def captioned(folder: Path, *captions: str) -> Path:
    """A folder of videos with these captions."""
    folder.mkdir(exist_ok=True)
    video_folder(folder, len(captions), frames=29)
    lines = [json.dumps({"file": f"{i}.mp4", "caption": text}) + "\n" for i, text in enumerate(captions)]
    (folder / "scenes.jsonl").write_text("".join(lines))
    return folder


def test_a_vocabulary_is_of_the_captions_and_without_them_of_the_storybook() -> None:
    own, storybook = build_tokenizer(8, ["A Dog runs.", "a dog sleeps"]), build_tokenizer(8)
    assert {"a", "dog", "runs", "sleeps"} <= own.get_vocab().keys() and "balloon" not in own.get_vocab()
    assert "balloon" in storybook.get_vocab() and "dog" not in storybook.get_vocab()
    told = tokenize(own, ["a DOG runs"], 8)["input_ids"][0].tolist()
    assert own.unk_token_id not in told and told.index(3) == 3  # the end, after three words


def test_captions_that_the_encoder_does_not_know_are_told_before_work(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = load_task(str(trained / "tiny.toml"), "keyframes")
    known = captioned(tmp_path / "known", "a red car", "a blue ball", "a red ball")
    foreign = captioned(tmp_path / "foreign", "a dog runs", "a cook stirs", "a red ball")
    for folder in (known, foreign):
        make_task(replace(options, data=replace(options.data, folder=str(folder))), trained / "assets", None)
        said = capsys.readouterr().err
        assert ("does not know 67% of the words" in said) == (folder == foreign)
    assert "dog" in said and "stirs" in said and "red" not in said


def test_clip_learns_the_words_of_a_folder(trained: Path, tmp_path: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "clip")
    folder = captioned(tmp_path, "a dog runs", "a cook stirs", "a red ball")
    task = make_task(replace(options, data=replace(options.data, folder=str(folder))), trained / "assets", None)
    assert {"dog", "cook"} <= task.tokenizer.get_vocab().keys()
    assert task.model.config.text_config.vocab_size == len(task.tokenizer)
    assert "ball" not in task.tokenizer.get_vocab()  # of the video that is held out


def test_a_held_out_video_that_cannot_be_read_is_found_before_work(trained: Path, tmp_path: Path) -> None:
    from mpl.terminal import RunFailed

    options = load_task(str(trained / "tiny.toml"), "keyframes")
    folder = captioned(tmp_path, "a red car", "a blue ball", "a red ball")
    (folder / "2.mp4").write_bytes((folder / "2.mp4").read_bytes()[:200])
    with pytest.raises(RunFailed, match=r"cannot be used, 2\.mp4"):
        make_task(replace(options, data=replace(options.data, folder=str(folder))), trained / "assets", None)
