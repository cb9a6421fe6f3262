"""What a prompt leaves open, or says in words unknown to the models, decided in words before anything is drawn.

Knows the standard library only.

The frames of a clip are denoised beside each other. On what the text says they agree; what it leaves open each decides
for itself, too, where a model is small, and a subject without a colour changes it from frame to frame.
"""

from __future__ import annotations

import random
import re

from mpl.config import TextOptions
from mpl.limits import PROMPT_LIMIT


def substitutes(options: TextOptions) -> dict[str, str]:
    """Words of `options.substitutes`, in lower case, each with the one that is read in its place."""
    pairs = (part.split(":") for part in _listed(options.substitutes))
    return {word.strip().lower(): other.strip() for word, other in pairs}


def substitute(prompt: str, options: TextOptions) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The prompt in words that the models know better, and what was replaced by what, each once, in its order.

    A word is replaced wherever it stands alone or in a compound (black-and-white), an article before it mended, unless
    the prompt would become longer than is accepted.
    """
    known = substitutes(options)
    replaced: dict[str, str] = {}
    read, start = prompt, 0
    while found := _first(list(known), read, compounds=True, start=start):
        word = next(word for word in known if re.fullmatch(re.escape(word), found[0], re.IGNORECASE))
        other = known[word].capitalize() if found[0][0].isupper() else known[word]
        before = _with_article(read[: found.start()], other)
        read, start = before + other + read[found.end() :], len(before) + len(other)
        replaced[word] = known[word]
    return (read, tuple(replaced.items())) if len(read) <= PROMPT_LIMIT else (prompt, ())


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
        read = f"{_with_article(before, added)}{added} {after}"
    return (read, added) if len(read) <= PROMPT_LIMIT else (prompt, "")


def _listed(words: str) -> list[str]:
    return [word for part in words.split(",") if (word := " ".join(part.split()))]


def _with_article(before: str, word: str) -> str:
    """What stands before a word, its "a" or "an" as the word asks for it."""
    article = "an" if word[0].lower() in "aeiou" else "a"
    return re.sub(r"(?i)\b(a)n?(\s+)$", rf"\g<1>{article[1:]}\2", before)


def _first(words: list[str], prompt: str, compounds: bool = False, start: int = 0) -> re.Match[str] | None:
    """Where the prompt, from `start` on, first says one of the words, alone; of those that begin there the longest.

    With `compounds`, as a part of one that is written with hyphens, too.
    """
    longest = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    joins = r"\w" if compounds else r"[\w-]"
    said = re.compile(rf"(?i)(?<!{joins})(?:{longest})(?!{joins})")
    return said.search(prompt, start) if words else None
