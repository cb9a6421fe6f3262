"""What a prompt leaves open, or says in words unknown to the models, decided in words before anything is drawn.

Knows the standard library only.

The frames of a clip are denoised beside each other. On what the text says they agree; what it leaves open each decides
for itself, too, where a model is small, and a subject without a colour changes it from frame to frame.
"""

from __future__ import annotations

import random
import re

from mpl.limits import PROMPT_LIMIT
from mpl.options import TextOptions


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
    """The prompt with what the seed has drawn for it, and those words: "", where nothing was left open.

    Only a prompt that says one of `options.nouns`, alone and in its plain form, gets anything: one of
    `options.adjectives` before the first of them, one of `options.places` at the end of its clause. What would leave
    no token or no character to spare is not added. The same seed draws the same.
    """
    said = []
    for draw in (_coloured, _placed):
        noun = _first(_listed(options.nouns), prompt)
        read, added = draw(prompt, noun, options, seed) if noun else (prompt, "")
        # A tokenizer adds two at most.
        if added and len(read) <= PROMPT_LIMIT and len(re.findall(r"\w+|[^\w\s]", read)) <= options.tokens - 2:
            prompt = read
            said.append(added)
    return prompt, ", ".join(said)


def _coloured(prompt: str, noun: re.Match[str], options: TextOptions, seed: int) -> tuple[str, str]:
    """With an adjective; as it is where it has one, of those drawn or of others, in a compound too (light-blue)."""
    adjectives = _listed(options.adjectives)
    if not adjectives or _first([*adjectives, *_listed(options.other_adjectives)], prompt, compounds=True):
        return prompt, ""
    added = random.Random(f"completion:{seed}").choice(adjectives)
    before, after = prompt[: noun.start()], prompt[noun.start() :]
    if not before.strip() and after[0].isupper():
        return f"{before}{added.capitalize()} {after[0].lower()}{after[1:]}", added
    return f"{_with_article(before, added)}{added} {after}", added


def _placed(prompt: str, noun: re.Match[str], options: TextOptions, seed: int) -> tuple[str, str]:
    """With a place; as it is where any of `options.place_words` is left without those of `options.no_places`."""
    places = _listed(options.places)
    rest, start = prompt, 0
    while found := _first(_listed(options.no_places), rest, start=start):
        rest, start = f"{rest[: found.start()]},{rest[found.end() :]}", found.start() + 1
    if not places or _first(_listed(options.place_words), rest):
        return prompt, ""
    added = random.Random(f"place:{seed}").choice(places)
    end = re.compile(r"\s*(?:[,.;:!?]|$)").search(prompt, noun.end())
    assert end is not None  # every text has an end
    return f"{prompt[: end.start()]} {added}{prompt[end.start() :]}", added


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
