"""Step 0: the prompt becomes embeddings, T5's for the pixel stages and CLIP's for translation (paper 4.4)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unicodedata import category

import torch
from torch import Tensor

import mpl
from mpl.limits import check_prompt
from mpl.options import TextOptions
from mpl.store import StageCache, digest

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
    unknown: tuple[tuple[str, str | None], ...] = ()  # see `unknown_words`; of the first stage's tokenizer
    kept: bool = False  # all of them come from the cache: no text model was borrowed


@dataclass(frozen=True)
class _Encoded:
    """What one encoder makes of a prompt and its negative prompt; nothing where the run does not need it."""

    states: Tensor | None = None
    negative: Tensor | None = None
    truncated: str = ""
    unknown: tuple[tuple[str, str | None], ...] = ()
    kept: bool = True


def encode(
    prompt: str,
    options: TextOptions,
    weights: Weights,
    translation: bool = True,
    pixels: bool = True,
    cache: StageCache | None = None,
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
        cache: where each encoder's embeddings are kept and looked up, T5's apart from CLIP's; None keeps nothing.

    Raises:
        ValueError: an empty or too long prompt.
    """
    prompt = check_prompt(prompt)
    t5 = clip = _Encoded()
    if pixels:
        prompts = [prompt.lower(), _clean(options.negative_prompt).lower()]
        t5 = _kept_or_encoded(prompts, "text", options.tokens, weights, cache)
    if translation:
        prompts = [prompt, _clean(options.translation_negative_prompt)]
        clip = _kept_or_encoded(prompts, "clip", options.tokens, weights, cache)
    return TextStates(
        t5.states,
        t5.negative,
        clip.states,
        clip.negative,
        t5.truncated,
        clip.truncated,
        t5.unknown if pixels else clip.unknown,
        t5.kept and clip.kept,
    )


def unknown_words(prompt: str, tokenizer: Any, unfinished: bool = False) -> list[tuple[str, str | None]]:
    """Words and signs of the prompt that a word-level tokenizer does not know, each with the nearest one that it knows.

    Where the prompt is `unfinished`, its last word is left out if a known one begins with it.
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
    last = words[-1] if words else ""
    if unfinished and last and prompt.lower().endswith(last) and any(word.startswith(last) for word in known):
        words.pop()
    unknown = dict.fromkeys(word for word in words if any(category(char)[0] != "P" for char in word))  # no commas
    return [(word, next(iter(difflib.get_close_matches(word, known, n=1)), None)) for word in unknown]


def _clean(prompt: str) -> str:
    return " ".join(prompt.split())


def _kept_or_encoded(
    prompts: list[str], name: str, tokens: int, weights: Weights, cache: StageCache | None
) -> _Encoded:
    """The embeddings from the cache, else made and kept there. Prompt and negative prompt are one entry.

    They go through the encoder together, and other company in a batch would change an embedding's last bits.
    """
    if cache is None:
        return _encode(prompts, name, tokens, weights)
    how = [weights.revision(name), str(weights.dtype(name)), weights.quantization(name), weights.device.type]
    key = digest("text", mpl.__version__, name, prompts, tokens, how)
    if entry := cache.get(key):
        states = {k: torch.from_numpy(v) for k, v in entry.arrays.items()}
        unknown = tuple((word, near) for word, near in entry.info["unknown"])
        return _Encoded(**states, truncated=entry.info["truncated"], unknown=unknown)
    made = _encode(prompts, name, tokens, weights)
    arrays = {"states": made.states.numpy(), "negative": made.negative.numpy()}
    cache.put(key, arrays, {"truncated": made.truncated, "unknown": made.unknown})
    return made


def _encode(prompts: list[str], name: str, tokens: int, weights: Weights) -> _Encoded:
    """Embeddings `(1, tokens, width)` of both prompts, and what of the first is cut off or unknown."""
    tokenizer = weights.tokenizer(name)
    tokens = min(tokens, tokenizer.model_max_length)
    length = {"max_length": tokens, "padding": "max_length", "truncation": True}
    inputs = tokenizer(prompts, **length, return_attention_mask=True, return_tensors="pt")
    mask = {"attention_mask": inputs.attention_mask.to(weights.device)} if name == "text" else {}
    with weights.borrow(name) as model, torch.no_grad():
        states = model(inputs.input_ids.to(weights.device), **mask).last_hidden_state
    unknown = tuple(unknown_words(prompts[0], tokenizer))
    cut = _cut_off(prompts[0], tokenizer, tokens)
    return _Encoded(*states.to("cpu", torch.float32).split(1), cut, unknown, kept=False)


def _cut_off(prompt: str, tokenizer: Any, tokens: int) -> str:
    """The end of the prompt that `tokens`, the special ones among them, do not reach."""
    found = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    starts = [start for start, _ in found["offset_mapping"]]
    kept = max(tokens - tokenizer.num_special_tokens_to_add(), 0)
    return prompt[starts[kept] :].strip() if kept < len(starts) else ""
