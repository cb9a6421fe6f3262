"""A text encoder that reads captions learns to read what people say in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from mpl.stages.text import unknown_words
from mpl.training.command import make_task
from mpl.training.options import load_task
from mpl.training.paraphrase import ReadBatch, positions
from mpl.training.vocabulary import build_tokenizer, with_words


def test_words_added_are_numbered_after_those_that_are_known(tmp_path: Path) -> None:
    known = build_tokenizer(8)
    more = with_words(known, ["eagle", "car", "taxi"])  # of which it knows the car
    more.save_pretrained(tmp_path)
    for tokenizer in (more, AutoTokenizer.from_pretrained(tmp_path)):
        ids = tokenizer("a red car, an eagle", padding="max_length", max_length=8)["input_ids"]
        assert ids[:5] == known("a red car, an")["input_ids"][:5]
        assert tokenizer.get_vocab().items() >= known.get_vocab().items()
        assert {tokenizer.get_vocab()[word] for word in ("eagle", "taxi")} == {len(known), len(known) + 1}
        assert ids[5:] == [len(known), tokenizer.eos_token_id, tokenizer.pad_token_id]
        assert unknown_words("an eagle on a zebra", tokenizer) == [("zebra", None)]


def test_each_position_stands_for_one_of_the_caption_s() -> None:
    # "show red car fast" for "red car": words, end mark, padding; what was added is padding, too
    assert positions((None, 0, 1, None), 2, 8) == [3, 0, 1, 3, 2, 3, 4, 5]
    assert positions((0, 1), 2, 6) == [0, 1, 2, 3, 4, 5]
    assert positions((0, None, 1), 2, 4) == [0, 3, 1, 2]


def test_paraphrases_come_to_be_read_as_captions_and_captions_as_before(trained: Path) -> None:
    options = load_task(str(trained / "tiny.toml"), "text")
    options = replace(options, loss=replace(options.loss, paraphrases=True))
    with pytest.raises(ValueError, match="text.loss.paraphrases: needs --init-from"):
        make_task(options, trained / "assets", None)
    for tokens in (16, 40):
        wrong = replace(options, data=replace(options.data, tokens=tokens))
        with pytest.raises(ValueError, match=f"text.data.tokens = {tokens}: must be 31, .* to 32"):
            make_task(wrong, trained / "assets", trained / "assets" / "text")
    task = make_task(options, trained / "assets", trained / "assets" / "text")
    optimizer, generator = torch.optim.Adam(task.model.parameters(), lr=1e-2), torch.Generator()

    def error(batch: ReadBatch) -> float:
        return task.loss(task.model, batch, generator)[0].item()

    others = task.draw(10**6, 1.0, split="heldout")
    length = options.data.tokens
    same = replace(others, said=others.captions, sources=torch.arange(length).repeat(len(others.said), 1))
    assert error(same) < 1e-6  # it begins as the one that it learns from
    before = error(others)
    for step in range(150):
        loss, _ = task.loss(task.model, task.draw(step, 1.0), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error(others) < 0.75 * before
    assert error(same) < 0.3 * before
