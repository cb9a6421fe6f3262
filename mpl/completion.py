"""What a prompt leaves open, decided in words before anything is drawn. Knows the standard library only.

The frames of a clip are denoised beside each other. On what the text says they agree; what it leaves open each decides
for itself, too, where a model is small, and a subject without a colour changes it from frame to frame.
"""

from __future__ import annotations

import random
import re

from mpl.config import TextOptions
from mpl.limits import PROMPT_LIMIT


def complete(prompt: str, options: TextOptions, seed: int) -> tuple[str, str]:
    """The prompt with an adjective before its noun, and that adjective; the prompt as it is and "" where it has one.

    The noun is the first of `options.nouns`, alone and in its plain form; a prompt without any stays as it is, and so
    does one that names any of `options.adjectives` or `options.other_adjectives`, in a compound too (light-blue), or
    has no token or no character to spare. The same seed draws the same of `options.adjectives`.
    """
    nouns, adjectives = _listed(options.nouns), _listed(options.adjectives)
    noun = _first(nouns, prompt) if adjectives else None
    spare = options.tokens - 2 - len(re.findall(r"\w+|[^\w\s]", prompt))  # a tokenizer adds two at most
    if noun is None or spare < 1 or _first([*adjectives, *_listed(options.other_adjectives)], prompt, compounds=True):
        return prompt, ""
    added = random.Random(f"completion:{seed}").choice(adjectives)
    before, after = prompt[: noun.start()], prompt[noun.start() :]
    if not before.strip() and after[0].isupper():
        read = f"{before}{added.capitalize()} {after[0].lower()}{after[1:]}"
    else:
        article = "an" if added[0] in "aeiou" else "a"
        before = re.sub(r"(?i)\b(a)n?(\s+)$", rf"\g<1>{article[1:]}\2", before)
        read = f"{before}{added} {after}"
    return (read, added) if len(read) <= PROMPT_LIMIT else (prompt, "")


def _listed(words: str) -> list[str]:
    return [word for part in words.split(",") if (word := " ".join(part.split()))]


def _first(words: list[str], prompt: str, compounds: bool = False) -> re.Match[str] | None:
    """Where the prompt first says one of the words, as a word of its own; of those that begin there the longest.

    With `compounds`, as a part of one that is written with hyphens, too.
    """
    longest = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    joins = r"\w" if compounds else r"[\w-]"
    return re.search(rf"(?i)(?<!{joins})(?:{longest})(?!{joins})", prompt) if words else None
