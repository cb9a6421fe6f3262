"""What the embedded models understand, and help with writing a prompt that they follow.

A prompt is read as words; the longest known phrase counts, so that "under the stars" is a place and no subject.
The words come from the caption tables of the storybook, which load neither torch nor gradio.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache

from mpl.storybook.captions import SYNONYMS
from mpl.storybook.paraphrases import other_names
from mpl.storybook.phrases import CAMERA_DIRECTIONS, MOTION_FORMS, PATTERN_TAILS, PLACES, SIZES
from mpl.storybook.scene import ATTRIBUTES

GROUPS = dict(zip(("Subject", "Colour", "Pattern", "Motion", "Place", "Camera"), ATTRIBUTES, strict=True))
# A second phrase for some values; the first one of every value is its plainest name in the tables.
_EXTRAS = (
    *("scarlet", "golden", "emerald", "violet", "rosy", "spins around"),
    *("under the stars", "by the sea at dusk", "in the grass", "in the snow", "downtown at night", "near a wall"),
)
_LONGEST = 8  # words of a phrase at most
_STAND_IN = "toy"  # a noun that the captions know and that names no subject, for prompts that have none yet
_ARTICLES = ("a", "an", "the")
_DETERMINERS = {*_ARTICLES, "one", "no", "this", "that", "my", "your", "his", "her", "its", "our", "their", "some"}
_PREPOSITIONS = (
    *("in front of", "in", "on", "over", "under", "among", "by", "near", "at", "before", "against", "through"),
    *("across", "above", "along", "beside", "behind", "from", "into", "inside", "towards", "within", "past"),
)
_RENAMED = ("subject", "colour", "pattern", "size")  # what people have other names for
_LINKS = ("and", "is", "with", "that", "which")
# Phrases whose preposition makes their meaning: "on the waves" is not under water, "two stars" are no night.
_FIXED = ("under the stars", "under water", "below the surface", "beneath the waves")
_NUMBERS = "two three four five six seven eight nine ten eleven twelve both several many few dozens multiple"
_NEGATIONS = "no not without never none nothing neither nor except cannot"
_INTRODUCTIONS = "of at is are see about with show shows"  # a motion that follows these is a participle
_WORD = r"[^\W_]+(?:['’]t(?![^\W_]))?"
# What may stand between two phrases that one phrase replaces: "red and blue", "a car, a boat".
_BETWEEN = r"(?i)[\s,/&+-]*(?:\b(?:and|or|then)\b\s*)?(?:\b(?:a|an|the)\b\s*)?"


@dataclass(frozen=True)
class Look:
    """What a prompt says to the models: attribute -> value, the first named counts, and what a person should know."""

    labels: dict[str, str]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A known phrase of a prompt, or a word that belongs to none; `start` and `stop` count characters."""

    words: str
    start: int
    stop: int
    joined: bool  # to the one before: nothing but space or a hyphen is between
    attribute: str = ""  # "size" and "position" besides those of the world
    value: str = ""


def chips() -> dict[str, tuple[str, ...]]:
    """Phrases to click by group: every value of the world, as the captions say it."""
    found: dict[str, tuple[str, ...]] = {}
    for group, attribute in GROUPS.items():
        phrases: list[str] = []
        for value, names in SYNONYMS[attribute].items():
            directed = [names[0] for (camera, _), names in CAMERA_DIRECTIONS.items() if camera == value]
            phrases += directed or [names[0], *(name for name in names[1:] if name in _EXTRAS)]
        found[group] = tuple(phrases)
    return found


def insert(prompt: str, group: str, chip: str) -> str:
    """The prompt with a chip of `chips` in it: in place of the phrase that names that attribute, or where it belongs.

    Everything else that the prompt names stays. A prompt without words counts as empty; where a colour, a pattern or a
    motion finds nothing to describe, "a toy" stands in until a subject is clicked.

    Raises:
        ValueError: an unknown group, or a chip that is not of that group.
    """
    accepted = chips()
    if chip not in accepted.get(group, ()):
        choices = ", ".join(accepted.get(group, accepted))
        raise ValueError(f"chip is {chip!r} of group {group!r}; accepted: {choices}")
    attribute = GROUPS[group]
    prompt = prompt if _parts(prompt) else f"a {_STAND_IN}"
    parts = _parts(prompt)
    named = [part for part in parts if part.attribute == attribute]
    if named:
        return _replace(prompt, parts, named, chip)
    if attribute in ("setting", "camera"):
        return _append(prompt, parts, attribute, chip)
    if _noun(parts) is None:
        prompt = _add_noun(prompt, parts)
    return _describe(prompt, _parts(prompt), attribute, chip)


def reword(prompt: str, word: str, other: str) -> str:
    """The prompt with one word in place of another wherever it stands, a capital for a capital."""

    def write(found: re.Match[str]) -> str:
        return other.capitalize() if found[0][0].isupper() else other

    return re.sub(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", write, prompt)


def surprise(seed: int) -> str:
    """A sentence of the world with a subject, a colour, a motion and a place at least; the same for the same seed."""
    rng = random.Random(f"surprise:{seed}")
    subject, colour, pattern, motion, place, camera = (rng.choice(phrases) for phrases in chips().values())
    adjectives = f"{pattern} {colour}" if rng.random() < 0.5 and pattern != "plain" else colour
    sentence = f"{_article(adjectives)} {adjectives} {subject} {motion} {place}"
    return f"{sentence}, {camera}" if rng.random() < 0.4 else sentence


def look(prompt: str) -> Look:
    """Reads a prompt before any time is spent on it. Notices quote known words only, never the prompt itself."""
    parts = _parts(prompt)
    named: dict[str, dict[str, str]] = {}
    for part in parts:
        if part.attribute in ATTRIBUTES:
            named.setdefault(part.attribute, {}).setdefault(part.value, part.words)
    labels = {attribute: next(iter(named[attribute])) for attribute in ATTRIBUTES if attribute in named}
    notices = []
    if prompt.strip() and "subject" not in named:
        known = ", ".join(ATTRIBUTES["subject"])
        notices.append(f"None of these words names a subject the models know. They know: {known}.")
    for group, attribute in GROUPS.items():
        words = list(named.get(attribute, {}).values())
        if len(words) > 1:
            count = {2: "two", 3: "three", 4: "four"}.get(len(words), "several")
            one = "camera movement" if attribute == "camera" else group.lower()
            listed = f"{', '.join(words[:-1])} and {words[-1]}"
            notices.append(f"The models draw one {one}; this prompt names {count}: {listed}.")
    crowd = next((part.words for part in parts if _is_crowd(parts, part)), None)
    if crowd:
        notices.append(f"The models draw their subject once; this prompt asks for more than one ({crowd}).")
    words = ["not" if part.words.endswith(("n't", "n’t")) else part.words for part in parts]
    denied = ", ".join(dict.fromkeys(f'"{word}"' for word in words if word in _NEGATIONS.split()))
    if denied:
        notices.append(f"The models do not follow negations ({denied}): what you rule out may appear all the same.")
    return Look(labels, tuple(notices))


def _singular(subject: str) -> tuple[str, ...]:
    """All names of one of a subject."""
    return SYNONYMS["subject"][subject] + other_names("subject").get(subject, ())


def _plural(noun: str) -> str:
    if noun.endswith(("fish", "y")):
        return noun if noun.endswith("fish") else f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x")) else "s")


@cache
def _lexicon() -> dict[tuple[str, ...], tuple[str, str]]:
    """Every phrase as words -> (attribute, value); the first entry counts, so exact phrases go before lenient ones."""
    tables = [*SYNONYMS.items(), ("pattern", PATTERN_TAILS), ("size", SIZES)]
    entries = [(name, key, value) for key, table in tables for value in table for name in table[value] if name]
    entries += [(name, key, value) for key in _RENAMED for value, names in other_names(key).items() for name in names]
    entries += [(name, "camera", camera) for (camera, _), names in CAMERA_DIRECTIONS.items() for name in names]
    entries += [("fishes", "subject", "fish"), *((name, "position", "") for names in PLACES.values() for name in names)]
    entries += [(_plural(name), "subject", value) for value in SYNONYMS["subject"] for name in _singular(value)]
    for name, value in [(name, value) for value, names in SYNONYMS["setting"].items() for name in names]:
        start = next((p for p in _PREPOSITIONS if name.startswith(f"{p} ")), "")
        if start and name not in _FIXED:
            core = re.sub("^(a|an|the) ", "", name.removeprefix(f"{start} "))
            entries += [(f"{p} {a} {core}", "setting", value) for p in _PREPOSITIONS for a in ("", *_ARTICLES)]
    return {tuple(name.split()): (attribute, value) for name, attribute, value in reversed(entries)}


def _parts(prompt: str) -> list[_Part]:
    """The prompt from left to right as known phrases, the longest first, and other words."""
    words: list[_Part] = []
    for match in re.finditer(_WORD, prompt):
        gap = prompt[words[-1].stop : match.start()] if words else ""
        words.append(_Part(match[0].lower(), match.start(), match.end(), gap == "-" or gap.isspace()))
    lexicon, parts = _lexicon(), []
    while words:
        size = next((size for size in range(1, min(len(words), _LONGEST)) if not words[size].joined), _LONGEST)
        key = tuple(word.words for word in words[:size])
        while len(key) > 1 and key not in lexicon:
            key = key[:-1]
        stop = words[len(key) - 1].stop
        parts.append(_Part(" ".join(key), words[0].start, stop, words[0].joined, *lexicon.get(key, ("", ""))))
        del words[: len(key)]
    return parts


def _kind(part: _Part) -> str:
    """The attribute of a part, save "adjective" and, for a pattern after the noun, "tail"."""
    if part.attribute == "pattern" and part.words in PATTERN_TAILS[part.value]:
        return "tail"
    return "adjective" if part.attribute in ("colour", "pattern", "size") else part.attribute


def _before(parts: list[_Part], part: _Part) -> str:
    """The word before a noun with its adjectives and article, "" where none is."""
    index = parts.index(part)
    while index and (_kind(parts[index - 1]) == "adjective" or parts[index - 1].words in _DETERMINERS):
        index -= 1
    return parts[index - 1].words if index else ""


def _is_crowd(parts: list[_Part], part: _Part) -> bool:
    """Whether a part names a subject more than once: "cars", "two fish"."""
    number = _before(parts, part)
    counted = number in _NUMBERS.split() or (number.isdecimal() and number.lstrip("0") not in ("", "1"))
    return part.attribute == "subject" and (counted or part.words not in _singular(part.value))


def _article(following: str) -> str:
    return "an" if following[:1] in tuple("aeiou") and not following.startswith(("uni", "one", "eu")) else "a"


def _splice(prompt: str, start: int, stop: int, phrase: str) -> str:
    """Puts a phrase in place of a span, a capital for a capital, and mends an "a" or "an" before it."""
    before = re.sub(r"(?i)\b(a)n?(\s+)$", rf"\1{_article(phrase)[1:]}\2", prompt[:start])
    if stop > start and prompt[start].isupper():
        phrase = phrase[0].upper() + phrase[1:]
    return before + phrase + prompt[stop:]


def _replace(prompt: str, parts: list[_Part], named: list[_Part], chip: str) -> str:
    """Writes the chip over the first phrase of its attribute and those that are listed with it."""
    first, stop = named[0], named[0].stop
    for part in named[1:]:
        if not re.fullmatch(_BETWEEN, prompt[stop : part.start]):
            break
        stop = part.stop
    if first.attribute == "camera":
        return _replace_camera(prompt, first.start, stop, chip)
    if first.attribute == "motion":
        chip = _form(chip, any(first.words in participles for _, participles in MOTION_FORMS.values()))
    elif _kind(first) == "tail":
        chip = PATTERN_TAILS[_lexicon()[(chip,)][1]][0]
    elif _is_crowd(parts, first):
        chip = _plural(chip)
    return _splice(prompt, first.start, stop, chip)


def _replace_camera(prompt: str, start: int, stop: int, chip: str) -> str:
    """A camera chip is a clause of its own: "with a" before the old words and "of" after them go, commas come."""
    before = re.sub(r"(?i)(?:\b(?:with|in|by|as|from)\s+)?(?:\b(?:a|an|the)\s+)?$", "", prompt[:start])
    before = re.sub(r"(?<=\w)\s+$", ", ", before)
    after = re.sub(r"(?i)^\s+of\b", "", prompt[stop:])
    comma = "," if re.match(r"\s+\w", after) else ""
    return _splice(before + prompt[start:stop] + after, len(before), len(before) + stop - start, chip + comma)


def _form(chip: str, participle: bool) -> str:
    """A motion as a verb, "rises", or as its participle, "rising"."""
    forms = {third: doing for pair in MOTION_FORMS.values() for third, doing in zip(*pair, strict=True)}
    return forms[chip] if participle else chip


def _append(prompt: str, parts: list[_Part], attribute: str, chip: str) -> str:
    """Puts a place or a camera phrase at the end, before a final full stop."""
    body = prompt.rstrip().rstrip(".!?").rstrip(" ,;")
    close = parts[-1].attribute in ("subject", "motion") or parts[-1] == _noun(parts)
    link = " " if attribute == "setting" and close and parts[-1].stop == len(body) else ", "
    return f"{body}{link}{chip}{prompt.rstrip()[len(body) :].strip(' ,;')}"


def _noun(parts: list[_Part]) -> _Part | None:
    """What the prompt is about: its subject, or else the first unknown word that closes a noun phrase: "a dragon"."""
    found = [part for part in parts if part.attribute == "subject"]
    for before, part, after in zip(parts, parts[1:], [*parts[2:], None], strict=False):
        led = part.joined and (before.words in _DETERMINERS or _kind(before) == "adjective")
        closed = after is None or not after.joined or after.words in (*_PREPOSITIONS, *_LINKS)
        other = not part.attribute and part.words not in (*_DETERMINERS, *_PREPOSITIONS, *_LINKS)
        if led and other and (closed or _kind(after) not in ("", "adjective")):
            found.append(part)
    return found[0] if found else None


def _add_noun(prompt: str, parts: list[_Part]) -> str:
    """Gives a stand-in to a prompt that has no noun: after its first adjectives, else in front of everything."""
    led, first = parts[0].words in _DETERMINERS, parts[0]
    index = int(led)
    while index < len(parts) and _kind(parts[index]) == "adjective":
        index += 1
    start, lead = first.start if first.attribute else 0, f"a {_STAND_IN},"
    if index and (index == len(parts) or parts[index].attribute or not parts[index].joined):
        prompt = _splice(prompt, parts[index - 1].stop, parts[index - 1].stop, f" {_STAND_IN}")
        if led:
            return prompt
        lead = _article(first.words)
    elif _kind(first) in ("motion", "setting", "position", "tail"):
        lead = lead.rstrip(",")
    initial = prompt[start].lower() if first.attribute else prompt[start]
    return f"{prompt[:start]}{lead} {initial}{prompt[start + 1 :]}"


def _describe(prompt: str, parts: list[_Part], attribute: str, chip: str) -> str:
    """Puts a colour or pattern before the noun, a motion after it, or a subject in place of a noun that is none."""
    noun = _noun(parts)
    assert noun is not None
    start, stop, index = noun.start, noun.stop, parts.index(noun)
    if attribute == "subject":
        return _splice(prompt, start, stop, chip)
    if attribute == "motion":
        participle = _before(parts, noun) in _INTRODUCTIONS.split()
        for part in parts[index + 1 : index + 3]:
            if part.joined and part.start == stop + 1 and (_kind(part) == "tail" or part.words in ("is", "are")):
                stop, participle = part.stop, participle or not part.attribute
        return _splice(prompt, stop, stop, f" {_form(chip, participle)}")
    if attribute == "pattern" and noun.joined and parts[index - 1].attribute == "colour":
        start = parts[index - 1].start
    return _splice(prompt, start, start, f"{chip} ")
