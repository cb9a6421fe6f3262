"""Words of captions: a tokenizer over those that a training will meet, and what an encoder does not know of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from mpl.stages.text import unknown_words

from .data import VideoData

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
MOST_WORDS = 30_000  # of captions of one's own, the most frequent ones
LOOKED_AT = 500  # captions
TOLD = 0.05  # share of unknown words from which on they are told
_SHOWN = 8  # unknown words


def build_tokenizer(tokens: int, captions: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: <pad> 0, <unk> 1, <s> 2, </s> 3; captions end in </s>.

    Its words are those of the captions, or the storybook's where there are none.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from mpl.storybook.captions import VOCABULARY

    split, normal = pre_tokenizers.Whitespace(), normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    texts = map(normal.normalize_str, captions or VOCABULARY)
    counts = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    words = {word for word, _ in counts.most_common(MOST_WORDS)} | set(",.!-'")
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *sorted(words)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer, core.pre_tokenizer = normal, split
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=tokens,
        padding_side="right",
    )


def tokenizer_for(folder: Path | None, tokens: int, data: Any = None) -> PreTrainedTokenizerBase:
    """The tokenizer of earlier weights, whose word numbers they learned, or a new one over the words of the data."""
    from transformers import AutoTokenizer

    if folder:
        return AutoTokenizer.from_pretrained(folder)
    return build_tokenizer(tokens, data.all_captions() if isinstance(data, VideoData) else ())


def with_words(tokenizer: PreTrainedTokenizerFast, words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with more words, numbered after its own."""
    from tokenizers import Tokenizer

    core = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = core["model"]["vocab"]
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    names = ("pad_token", "unk_token", "bos_token", "eos_token", "model_max_length", "padding_side")
    kept = {name: getattr(tokenizer, name) for name in names}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(core)), **kept)


def tokenize(tokenizer: PreTrainedTokenizerBase, captions: list[str], tokens: int) -> dict[str, Tensor]:
    """input_ids and attention_mask, (b, tokens) int64, padded and cut to length, at most the tokenizer's own."""
    length = {"max_length": min(tokens, tokenizer.model_max_length), "padding": "max_length", "truncation": True}
    inputs = tokenizer(captions, **length, return_attention_mask=True, return_tensors="pt")
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def note_unknown(tokenizer: PreTrainedTokenizerBase, data: Any, where: str) -> None:
    """Says on stderr, before any work, that captions of one's own have words which their encoder does not know.

    It reads them all as one and the same word, so that nothing can be learned from them; `where` says what encoder.
    """
    captions = data.captions(LOOKED_AT) if isinstance(data, VideoData) else []
    unknown = Counter(word for caption in captions for word, _ in unknown_words(caption, tokenizer))
    words = sum(len({*caption.lower().split()}) for caption in captions)
    share = unknown.total() / max(1, words)
    if share >= TOLD:
        shown = ", ".join(word for word, _ in unknown.most_common(_SHOWN))
        tqdm.write(
            f"{where}: its text encoder does not know {share:.0%} of the words in the captions ({shown}"
            f"{', …' if len(unknown) > _SHOWN else ''}) and cannot tell them apart",
            sys.stderr,
        )
