"""Step 0: the prompt becomes embeddings, T5's for the pixel stages and CLIP's for translation (paper 4.4)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mpl.config import TextOptions
from mpl.limits import check_prompt

if TYPE_CHECKING:
    from mpl.weights import Weights


@dataclass(frozen=True)
class TextStates:
    """Embeddings of one prompt, `(1, tokens, width)` float32 on the CPU.

    T5's are None for a run of stage 4 alone, CLIP's for a run without it.
    """

    t5: Tensor | None = None
    t5_negative: Tensor | None = None
    clip: Tensor | None = None
    clip_negative: Tensor | None = None
    truncated: str = ""  # end of the prompt that is over the token limit: the pixel stages never see it
    truncated_clip: str = ""  # likewise for translation


def encode(
    prompt: str, options: TextOptions, weights: Weights, translation: bool = True, pixels: bool = True
) -> TextStates:
    """Encode the prompt and the negative prompts.

    Padded or cut to `options.tokens` (at most what the tokenizer allows). T5 gets the attention mask; the
    denoisers do not, so padding takes part in their attention, as when the published models were trained.
    CLIP gets no mask.

    Args:
        prompt: 1 to 1000 characters; lower case and single spaces for T5 (the light half of the published
            cleaning).
        translation: False leaves CLIP out, for runs without stage 4: its files need not be there.
        pixels: False leaves T5 out, for runs of stage 4 alone, likewise.

    Raises:
        ValueError: an empty or too long prompt.
    """
    prompt = check_prompt(prompt)
    t5 = clip = (None, None)
    cut = cut_clip = ""
    if pixels:
        prompts = [prompt.lower(), _clean(options.negative_prompt).lower()]
        t5, cut = _encode(prompts, "text", options.tokens, weights, masked=True)
    if translation:
        prompts = [prompt, _clean(options.translation_negative_prompt)]
        clip, cut_clip = _encode(prompts, "clip", options.tokens, weights, masked=False)
    return TextStates(*t5, *clip, truncated=cut, truncated_clip=cut_clip)


def unknown_words(prompt: str, tokenizer: Any) -> list[tuple[str, str | None]]:
    """Words of the prompt that a word-level tokenizer does not know, each with the nearest one that it knows.

    Nearest by spelling (`difflib`), None where nothing is near. Tokenizers that split words into pieces know
    everything: [] for them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if tokenizer.unk_token is None or type(getattr(backend, "model", None)).__name__ != "WordLevel":
        return []
    text = _clean(prompt).lower()
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    spans = zip(found["input_ids"], found["offset_mapping"], strict=True)
    words = [text[start:stop] for token, (start, stop) in spans if token == tokenizer.unk_token_id]
    special = set(tokenizer.all_special_tokens)
    known = sorted(word for word in tokenizer.get_vocab() if word.isalnum() and word not in special)
    unknown = dict.fromkeys(word for word in words if any(map(str.isalnum, word)))
    return [(word, next(iter(difflib.get_close_matches(word, known, n=1)), None)) for word in unknown]


def _clean(prompt: str) -> str:
    return " ".join(prompt.split())


def _encode(
    prompts: list[str], name: str, tokens: int, weights: Weights, masked: bool
) -> tuple[tuple[Tensor, ...], str]:
    """Embeddings `(1, tokens, width)` of each prompt, and the words of the first that were cut off."""
    tokenizer = weights.tokenizer(name)
    tokens = min(tokens, tokenizer.model_max_length)
    length = {"max_length": tokens, "padding": "max_length", "truncation": True}
    inputs = tokenizer(prompts, **length, return_attention_mask=True, return_tensors="pt")
    mask = {"attention_mask": inputs.attention_mask.to(weights.device)} if masked else {}
    with weights.borrow(name) as model, torch.no_grad():
        states = model(inputs.input_ids.to(weights.device), **mask).last_hidden_state
    return states.to("cpu", torch.float32).split(1), _cut_off(prompts[0], tokenizer, tokens)


def _cut_off(prompt: str, tokenizer: Any, tokens: int) -> str:
    """The end of the prompt that `tokens`, the special ones among them, do not reach."""
    found = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = [start for start, _ in found["offset_mapping"]]
    kept = max(tokens - tokenizer.num_special_tokens_to_add(), 0)
    return prompt[starts[kept] :].strip() if kept < len(starts) else ""
