"""English for scenes: varied captions from dense to short, and every word they can use.

Captions are lower case, made of words (letters only), commas and full stops. `MAX_TOKENS` bounds words plus
punctuation, so that 32 tokens hold any caption with its end mark.
"""

import dataclasses
import random
import re
from collections.abc import Callable

from .phrases import (
    ARTICLES,
    CAMERA_DIRECTIONS,
    MOTION_FORMS,
    OPENINGS,
    PATTERN_TAILS,
    PLACES,
    SIZES,
    SYNONYMS,
)
from .scene import ATTRIBUTES, Scene

__all__ = ["MAX_TOKENS", "STYLES", "SYNONYMS", "VOCABULARY", "Caption", "caption", "in_first_words", "tokens"]

MAX_TOKENS = 30
STYLES = ("mixed", "dense", "full", "short", "tacit")
_DENSE_SHARE = 0.7
_TACIT_SHARE = 0.5
_CANONICAL_SHARE = 0.35


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and the attributes (names of `ATTRIBUTES`) that a reader can know from it."""

    text: str
    named: frozenset[str]

    def __str__(self) -> str:
        return self.text


def caption(scene: Scene, rng: random.Random, style: str = "mixed") -> Caption:
    """Describes a scene in one of many ways.

    Styles: "dense" names all six attributes, size and place; "full" all six attributes; "short" the subject and
    one to three more; "mixed" is 70 % dense, 10 % full and 20 % short; "tacit" is that, but as people speak: patterns
    are named, and half of the time nothing is said of a thing that has none. Raises ValueError for any other style.
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; accepted: {', '.join(STYLES)}")
    tacit = style == "tacit"
    if style in ("mixed", "tacit"):
        draw = rng.random()
        style = "dense" if draw < _DENSE_SHARE else "full" if draw < _DENSE_SHARE + 0.1 else "short"
    if style == "short":
        others = rng.sample([name for name in ATTRIBUTES if name != "subject"], rng.randint(1, 3))
        named = frozenset(["subject", *others])
    else:
        named = frozenset(ATTRIBUTES)
    if tacit and scene.pattern != "plain":
        named |= {"pattern"}
    elif tacit and rng.random() < _TACIT_SHARE:
        named -= {"pattern"}
    for _ in range(20):
        text = _compose(scene, named, style == "dense", rng)
        if len(tokens(text)) <= MAX_TOKENS:
            return Caption(text, named)
    return Caption(_compose(scene, named, False, rng, plain_words=True), named)


def in_first_words(text: str, scene: Scene, attribute: str) -> bool:
    """Whether a caption says an attribute in the first of all words for it, "red" and not "crimson"."""
    value = getattr(scene, attribute)
    firsts = {forms[0] for forms in MOTION_FORMS[value]} if attribute == "motion" else {SYNONYMS[attribute][value][0]}
    tails = PATTERN_TAILS[value] if attribute == "pattern" else ()
    said = [words for words in (*SYNONYMS[attribute][value], *tails) if re.search(rf"\b{words}\b", text)]
    return max(said, key=len, default="") in firsts


def tokens(text: str) -> list[str]:
    """Words and punctuation marks of a caption, lower case."""
    return re.findall(r"[a-z]+|[^\sa-z]", text.lower())


def _compose(scene: Scene, named: frozenset[str], dense: bool, rng: random.Random, plain_words: bool = False) -> str:
    """One sentence: noun phrase, what it does, where, from where it is seen; in one of several orders."""

    def words(attribute: str) -> str:
        choices = SYNONYMS[attribute][getattr(scene, attribute)]
        return choices[0] if plain_words or rng.random() < _CANONICAL_SHARE else rng.choice(choices)

    thing = _noun_phrase(scene, named, dense, words, rng, plain_words)
    third, participle = MOTION_FORMS[scene.motion]
    form = 0 if plain_words or rng.random() < _CANONICAL_SHARE else rng.randrange(len(third))
    does, doing = (third[form], participle[form]) if "motion" in named else ("", "")
    where = words("setting") if "setting" in named else ""
    place = rng.choice(_place_words(scene)) if dense else ""
    seen = _camera_words(scene, words, rng, dense) if "camera" in named else ""
    opening = "" if plain_words or rng.random() < 0.6 else rng.choice(OPENINGS)

    orders = [[f"{thing} {does} {where}", place, seen], [f"{thing} {does}", place, where, seen]]
    if not plain_words:
        orders.append([f"{opening} {thing} {doing} {where}", place, seen])
        if where:
            orders.append([where, f"{thing} {does} {place}", seen])
        if seen:
            orders.append([seen, f"{opening} {thing} {doing}", place, where])
        orders.append([f"{opening} {thing} {place} {where}", doing, seen])
    parts = [" ".join(part.split()) for part in rng.choice(orders)]
    text = ", ".join(part for part in parts if part)
    return text + ("." if rng.random() < 0.5 else "")


def _noun_phrase(
    scene: Scene,
    named: frozenset[str],
    dense: bool,
    words: Callable[[str], str],
    rng: random.Random,
    plain_words: bool,
) -> str:
    """Article, size, pattern, colour and subject, the pattern sometimes after the noun."""
    size = rng.choice(SIZES[_size_class(scene)]) if dense else ""
    colour = words("colour") if "colour" in named else ""
    noun = words("subject")
    adjective, tail = "", ""
    if "pattern" in named:
        adjective = words("pattern")
        if not plain_words and rng.random() < 0.25:
            adjective, tail = "", rng.choice(PATTERN_TAILS[scene.pattern])
    phrase = " ".join(f"{size} {adjective} {colour} {noun} {tail}".split())
    article = "a" if plain_words else rng.choice(ARTICLES)
    if article == "a" and phrase[0] in "aeiou":
        article = "an"
    return f"{article} {phrase}"


def _camera_words(scene: Scene, words: Callable[[str], str], rng: random.Random, dense: bool) -> str:
    """Camera words, half of the time with the direction of the pan or zoom."""
    directed = CAMERA_DIRECTIONS.get((scene.camera, scene.camera_sign))
    if directed and rng.random() < (0.7 if dense else 0.3):
        return rng.choice(directed)
    return words("camera")


def _size_class(scene: Scene) -> str:
    """A third each of the sizes that scenes have: big from 0.58 of the frame's height, small below 0.52."""
    return "big" if scene.size >= 0.58 else "small" if scene.size < 0.52 else "medium"


def _place_words(scene: Scene) -> tuple[str, ...]:
    """Words for the middle of the path; a direction that the motion crosses is not named."""
    across, height = "", ""
    if scene.motion not in ("moves right", "moves left"):
        across = "left" if scene.x < -0.2 else "right" if scene.x > 0.2 else ""
    if scene.motion not in ("rises", "falls", "bounces"):
        height = "low" if scene.y < -0.08 else "high" if scene.y > 0.08 else ""
    return PLACES[(height, across)]


def _vocabulary() -> tuple[str, ...]:
    """Every word that a caption can contain, gathered from the phrase tables."""
    sources: list[str] = [*ARTICLES, *OPENINGS, "an"]
    for values in SYNONYMS.values():
        for phrases in values.values():
            sources.extend(phrases)
    for forms in MOTION_FORMS.values():
        sources.extend(forms[0] + forms[1])
    for table in (PATTERN_TAILS, PLACES, SIZES, CAMERA_DIRECTIONS):
        for phrases in table.values():
            sources.extend(phrases)
    return tuple(sorted({word for source in sources for word in tokens(source) if word.isalpha()}))


VOCABULARY: tuple[str, ...] = _vocabulary()
