"""The T5 encoder's second lesson: to read what people say as it reads the captions that stand for it."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5EncoderModel

from mpl.storybook.captions import MAX_TOKENS, caption, tokens
from mpl.storybook.paraphrases import NAMES, WORDS, Paraphrase, paraphrase

from .files import save_bf16
from .task import Task, find_part
from .vocabulary import tokenize, tokenizer_for, with_words

_AS_THEY_ARE = 0.25  # share of captions that are not paraphrased: what is known already must stay


@dataclass(frozen=True)
class ReadBatch:
    """Captions, what is said in their place, and what position of the caption each of that stands for (b, tokens)."""

    captions: list[str]
    said: list[str]
    sources: Tensor


class ParaphraseTask(Task):
    """Distils the encoder that it begins with: states of a paraphrase shall be those of the caption, word by word.

    The denoisers have learned what those say, and need not learn anew. What a paraphrase adds says nothing, as padding.
    """

    model: T5EncoderModel

    def build(self, init_from: Path | None) -> T5EncoderModel:
        if init_from is None:
            raise ValueError("text.loss.paraphrases: needs --init-from, an encoder that reads captions")
        folder = find_part(init_from, "text_encoder")
        length = self.options.data.tokens
        known = tokenizer_for(folder.parent / "tokenizer", length)
        if not MAX_TOKENS < length <= known.model_max_length:
            accepted = f"{MAX_TOKENS + 1}, for the longest caption, to {known.model_max_length}, the tokenizer's own"
            raise ValueError(f"text.data.tokens = {length}: must be {accepted}")
        model = T5EncoderModel.from_pretrained(folder, dtype=torch.float32)
        self.known, self.reader = known, deepcopy(model).requires_grad_(False).eval()
        self.tokenizer = with_words(known, WORDS)
        model.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        self.begin_words(model.get_input_embeddings().weight.data)
        return model

    def begin_words(self, rows: Tensor) -> None:
        """New words begin as those that they stand for, the others as padding."""
        numbers = self.tokenizer.get_vocab()
        rows[len(self.known) :] = rows[self.known.pad_token_id]
        for word, others in NAMES.items():
            for number in (numbers[other] for other in others):
                if number >= len(self.known):
                    rows[number] = rows[numbers[word]]

    def frozen(self) -> tuple[nn.Module, ...]:
        return (self.reader,)

    def draw(self, seed: int, progress: float, split: str = "train") -> ReadBatch:
        rng, length = random.Random(seed), self.options.data.tokens
        data = self.data if split == "train" else self.heldout
        captions, said = [], []
        for _ in range(self.options.data.batch):
            text = caption(data.scenes(rng, 1, progress)[0], rng, style=self.options.data.caption).text
            captions.append(text)
            if split == "train" and rng.random() < _AS_THEY_ARE:
                words = tuple(tokens(text))
                said.append(Paraphrase(words, tuple(range(len(words)))))
            else:
                said.append(paraphrase(text, rng, min(length - 1, MAX_TOKENS)))
        rows = [positions(s.sources, len(tokens(text)), length) for s, text in zip(said, captions, strict=True)]
        return ReadBatch(captions, [str(s) for s in said], torch.tensor(rows, device=self.device))

    def loss(self, model: nn.Module, batch: ReadBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        wanted = self.wanted(batch)
        states = self.states(model, self.tokenizer, batch.said)
        return (states - wanted).square().mean() / wanted.var(), {}

    @torch.no_grad()
    def wanted(self, batch: ReadBatch) -> Tensor:
        """What the first encoder makes of the captions, in the order of what is said: `(b, tokens, d)`."""
        states = self.states(self.reader, self.known, batch.captions)
        return states.gather(1, batch.sources[..., None].expand(-1, -1, states.shape[-1]))

    def states(self, model: nn.Module, tokenizer: Any, texts: list[str]) -> Tensor:
        inputs = tokenize(tokenizer, texts, self.options.data.tokens)
        return model(**{name: values.to(self.device) for name, values in inputs.items()}).last_hidden_state.float()

    @torch.no_grad()
    def figures(self) -> dict[str, Any]:
        batch = self.draw(10**9, 1.0, split="heldout")
        wanted = self.wanted(batch)
        before = self.states(self.reader, self.known, batch.said)
        after = self.states(self.model, self.tokenizer, batch.said)
        errors = [((x - wanted).square().mean() / wanted.var()).item() for x in (before, after)]
        return {"error of paraphrases' states, over their variance": f"{errors[1]:.4f}, before {errors[0]:.4f}"}

    def save(self, folder: Path) -> None:
        save_bf16(self.model, folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")


def positions(sources: tuple[int | None, ...], count: int, length: int) -> list[int]:
    """Of `length` positions of a paraphrase, its end mark and its padding, those of a caption of `count` words.

    A word that stands for none is given the caption's first padding, its end mark the caption's.
    """
    padding = min(count + 1, length - 1)
    rest = range(padding, padding + length - len(sources) - 1)
    return [padding if place is None else place for place in sources] + [count] + [min(i, length - 1) for i in rest]
