"""What people say in place of captions: everyday words for the world's own, other prepositions, words that add nothing.

A paraphrase remembers of each of its words which word of the caption it stands for, or that it stands for none, so that
a text encoder can learn to read it as it reads the caption. What is drawn of a word is the nearest that the world has:
of an eagle a bird.
"""

import random
from typing import NamedTuple

from .captions import MAX_TOKENS, tokens
from .phrases import ARTICLES, MOTION_FORMS, SETTINGS, SIZES, SYNONYMS

SPOKEN = "spoken"  # the style of paraphrases, where captions are asked for by style

# One word for another, wherever it stands.
NAMES = {
    "car": ("taxi", "cab", "van", "jeep", "racecar"),
    "boat": ("vessel", "dinghy", "canoe", "ferry"),
    "rocket": ("starship", "shuttle"),
    "balloon": ("airship", "blimp", "zeppelin"),
    "bird": ("eagle", "parrot", "pigeon", "seagull", "crow", "owl", "swallow", "bluebird"),
    "butterfly": ("monarch",),
    "fish": ("trout", "carp", "shark", "clownfish"),
    "ball": ("football", "basketball", "sphere"),
    "star": ("starfish",),
    "flower": ("tulip", "sunflower", "lily", "poppy", "orchid"),
    "ghost": ("spectre", "specter"),
    "red": ("maroon", "vermilion"),
    "yellow": ("gold", "mustard"),
    "green": ("olive", "mint", "greenish"),
    "blue": ("indigo", "cyan", "bluish"),
    "purple": ("mauve",),
    "pink": ("coral", "pinkish"),
    "white": ("cream", "silver"),
    "striped": ("stripey", "zebra"),
    "spotted": ("dotty", "freckled"),
    "checked": ("chequerboard",),
    "big": ("gigantic", "enormous", "massive"),
    "small": ("mini", "miniature", "wee"),
    "meadow": ("grassland", "prairie", "garden", "park"),
    "field": ("farm", "garden", "park"),
    "lawn": ("backyard",),
    "desert": ("wasteland",),
    "dunes": ("sands",),
    "hills": ("mountains", "slopes", "peaks"),
    "snow": ("ice", "blizzard", "snowfall"),
    "city": ("metropolis", "street"),
    "town": ("village",),
    "skyscrapers": ("buildings", "towers"),
    "sea": ("beach", "coast", "shore"),
    "seaweed": ("corals", "algae", "kelp"),
    "wall": ("walls",),
    "cactus": ("cacti",),
    "sunshine": ("sunlight",),
    "moonlight": ("starlight",),
    "midnight": ("nighttime",),
    "rises": ("soars",),
    "rising": ("soaring",),
    "falls": ("plummets", "plunges"),
    "falling": ("plummeting", "plunging"),
    "hops": ("skips", "springs"),
    "hopping": ("skipping", "springing"),
    "spins": ("revolves", "pirouettes"),
    "spinning": ("revolving", "pirouetting"),
    "grows": ("enlarges", "inflates"),
    "growing": ("enlarging", "inflating"),
    "shrinks": ("deflates", "diminishes"),
    "shrinking": ("deflating", "diminishing"),
    "sways": ("wiggles", "dances", "shakes", "trembles"),
    "swaying": ("wiggling", "dancing", "shaking", "trembling"),
}
# How things go where a direction follows.
GOES = {"moves", "goes", "travels", "heads", "floats", "comes", "crosses"}
GOING = {"moving", "going", "travelling", "heading", "floating", "coming", "crossing"}
DIRECTIONS = {"right", "left", "to", "from", "up", "upwards", "down", "downwards"}
WAYS = ("flies", "drives", "swims", "sails", "runs", "walks", "drifts", "rolls", "glides", "races", "rides", "speeds")
ON_THE_WAY = (
    *("flying", "driving", "swimming", "sailing", "running", "walking"),
    *("drifting", "rolling", "gliding", "racing", "riding", "speeding"),
)
# Before places; "under" and "among" say what place it is.
BEFORE = ("in", "on", "over", "by", "near", "against", "before")
PREPOSITIONS = (
    *("in", "on", "over", "at", "near", "by", "above", "across", "through", "along"),
    *("around", "inside", "into", "past", "beside", "towards", "within"),
)
_TIMES = {"day", "sunshine", "winter", "front"}  # in phrases that begin as places do
LOOKS = (
    *("cute", "beautiful", "shiny", "pretty", "lovely", "happy", "funny", "old", "new", "nice", "magical", "cheerful"),
    *("brave", "lonely", "soft", "wooden", "glowing", "cartoon", "colourful", "young", "majestic", "single"),
)
MANNERS = ("slowly", "quickly", "happily", "gracefully", "softly", "fast", "smoothly", "calmly", "swiftly", "quietly")
IDLE = ("flies", "flying", "stands", "standing", "sits", "sitting", "swims", "swimming", "sails", "drives", "driving")
FRONTS = ("show me", "please draw", "an image of", "a cartoon of", "make a video of", "a short clip of", "imagine")
UNHEARD = "xyzzy"  # for words that no table has


class Paraphrase(NamedTuple):
    """Words and signs, and of each the place of the caption's token that it stands for; None stands for none."""

    words: tuple[str, ...]
    sources: tuple[int | None, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


def paraphrase(text: str, rng: random.Random, longest: int = MAX_TOKENS) -> Paraphrase:
    """A caption in other words, of at most `longest` words and signs: what does not fit is not added."""
    said = [(word, place) for place, word in enumerate(tokens(text))]
    at = _setting(said)
    still = not any(_is_motion(said, i) for i in range(len(said)))
    if at is not None and rng.random() < 0.5:
        said[at] = (rng.choice(PREPOSITIONS), said[at][1])
    said = [_renamed(said, i, rng) for i in range(len(said))]
    if at is not None and still and rng.random() < 0.5:
        said.insert(at, (rng.choice(IDLE), None))
    articles = [i for i, (word, _) in enumerate(said) if word in ARTICLES or word == "an"]
    if articles and rng.random() < 0.35:
        said.insert(rng.choice(articles) + 1, (_filler(LOOKS, rng), None))
    moving = [i for i, (word, place) in enumerate(said) if place is not None and word in _VERBS]
    if moving and rng.random() < 0.25:
        said.insert(rng.choice(moving) + rng.randint(0, 1), (_filler(MANNERS, rng), None))
    if rng.random() < 0.15:
        said[:0] = [(word, None) for word in rng.choice(FRONTS).split()]
    while len(said) > longest:
        added = [i for i, (_, place) in enumerate(said) if place is None]
        del said[added[-1] if added else -1]
    words, sources = zip(*said, strict=True)
    return Paraphrase(words, sources)


def other_names(attribute: str) -> dict[str, tuple[str, ...]]:
    """By value of an attribute (or of "size"), the words that people say for its names."""
    table = SIZES if attribute == "size" else SYNONYMS[attribute]
    found = {value: [other for name in names for other in NAMES.get(name, ())] for value, names in table.items()}
    return {value: tuple(others) for value, others in found.items() if others}


def _renamed(said: list[tuple[str, int | None]], i: int, rng: random.Random) -> tuple[str, int | None]:
    word, place = said[i]
    after = said[i + 1][0] if i + 1 < len(said) else ""
    for known, others in ((GOES, WAYS), (GOING, ON_THE_WAY)):
        if word in known and after in DIRECTIONS:
            return (rng.choice(others) if rng.random() < 0.5 else word), place
    return (rng.choice(NAMES[word]) if word in NAMES and rng.random() < 0.3 else word), place


def _setting(said: list[tuple[str, int | None]]) -> int | None:
    """Where a place's preposition is that can be another; the longest phrase's, as some begin with a shorter one."""
    words = [word for word, _ in said]
    found = None
    for i, word in enumerate(words):
        if word not in BEFORE:
            continue
        fits = [p for p in _PLACES if words[i : i + len(p)] == p]
        if fits and not _TIMES & set(max(fits, key=len)):
            found = i
    return found


def _is_motion(said: list[tuple[str, int | None]], i: int) -> bool:
    words = [word for word, _ in said]
    return any(words[i : i + len(phrase)] == phrase for phrase in _MOTIONS)


def _filler(words: tuple[str, ...], rng: random.Random) -> str:
    return UNHEARD if rng.random() < 0.2 else rng.choice(words)


_PLACES = [tokens(phrase) for phrases in SETTINGS.values() for phrase in phrases]
_MOTIONS = [tokens(phrase) for forms in MOTION_FORMS.values() for form in forms for phrase in form]
_VERBS = {phrase[0] for phrase in _MOTIONS} | {*WAYS, *ON_THE_WAY}
WORDS: tuple[str, ...] = tuple(
    sorted(
        {word for others in NAMES.values() for word in others}
        | {*WAYS, *ON_THE_WAY, *PREPOSITIONS, *LOOKS, *MANNERS, *IDLE}
        | {word for front in FRONTS for word in front.split()}
    )
)
