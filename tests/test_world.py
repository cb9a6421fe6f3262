"""The prompt helper: chips go where they belong and leave the rest alone, and notices say what the models cannot do."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mpl.storybook.captions import VOCABULARY, caption, tokens
from mpl.storybook.scene import ATTRIBUTES, sample_scene
from mpl.ui.world import GROUPS, chips, insert, look, surprise

CHIPS = [(group, chip) for group, phrases in chips().items() for chip in phrases]
HOSTILE = [
    "?!.,;:-'\"()[]{}" * 66,
    "<script>alert('car')</script>",
    "<b>a red car</b> & <i>boat</i>",
    "🚗🚗🚗 🌊",
    "a 🚗 car 🌊.",
    "a " * 500,
    "an an the a",
    "red " * 250,
    "car " * 250,
    "zooming",
    "in",
    "of with a",
    "ſtar K ½ ² ٣ cars",
    "\n\t a\u00a0car\u2028in\na\tmeadow \x00",
    "İı ǅ 汽车 машина",
    "a" * 900 + "n't",
    "don't isn’t can't 'tis",
    "9" * 1000 + " cars",
]
PROMPTS = [
    "",
    "  ",
    "a car",
    "Red",
    "In a meadow",
    "rises",
    "The camera pans.",
    "a dragon",
    "a plaid dragon in a meadow",
]


def captions(count: int, style: str = "mixed"):
    rng = random.Random(0)
    for _ in range(count):
        scene = sample_scene(rng, "all")
        yield scene, caption(scene, rng, style)


def test_importing_and_using_it_loads_neither_torch_nor_gradio():
    code = (
        "import sys, mpl.ui.world as w\nw.look('a car'); w.insert('', 'Subject', 'car'); w.surprise(1)\n"
        "assert not {'torch', 'gradio', 'transformers', 'numpy'} & {n.split('.')[0] for n in sys.modules}"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_chips_hold_every_value_in_words_that_the_models_know():
    groups = chips()
    assert list(groups) == ["Subject", "Colour", "Pattern", "Motion", "Place", "Camera"]
    for group, phrases in groups.items():
        read = [look(phrase).labels for phrase in phrases]
        assert all(list(labels) == [GROUPS[group]] for labels in read)
        values = [labels[GROUPS[group]] for labels in read]
        assert list(dict.fromkeys(values)) == list(ATTRIBUTES[GROUPS[group]])
        assert max(map(values.count, values)) <= 2 and len(set(phrases)) == len(phrases)
        assert {word for phrase in phrases for word in tokens(phrase)} <= set(VOCABULARY)


def test_captions_are_read_as_they_were_meant_and_raise_no_notice():
    wrong = []
    for scene, made in captions(5000):
        seen = look(made.text)
        if seen.notices or seen.labels != {name: scene.labels[name] for name in ATTRIBUTES if name in made.named}:
            wrong.append((made.text, seen))
    assert not wrong


@pytest.mark.parametrize(("group", "chip"), CHIPS)
def test_a_chip_sets_its_attribute_and_leaves_the_others(group, chip):
    value = look(chip).labels[GROUPS[group]]
    prompts = [made.text for _, made in captions(50)] + [made.text for _, made in captions(50, "short")]
    for prompt in prompts + PROMPTS + HOSTILE:
        before, made = look(prompt), insert(prompt, group, chip)
        after = look(made)
        assert after.labels == {**before.labels, GROUPS[group]: value}, (prompt, made)
        assert insert(made, group, chip) == made, "a second click changes nothing"
    for prompt in prompts:
        made = insert(prompt, group, chip)
        assert not look(made).notices, made
        assert {*tokens(made)} <= {*VOCABULARY, ",", "."}, made
        assert "  " not in made and " ," not in made and ",," not in made and made.endswith(".") == prompt.endswith(".")
        words = tokens(made)
        for word, following in zip(words, words[1:], strict=False):
            if word in ("a", "an") and following != "uniform":
                assert (word == "an") == (following[0] in "aeiou"), made


def test_every_order_of_clicks_ends_at_the_same_scene():
    rng = random.Random(1)
    for _ in range(300):
        chosen = [(group, rng.choice(phrases)) for group, phrases in chips().items()]
        rng.shuffle(chosen)
        prompt = ""
        for group, chip in chosen:
            prompt = insert(prompt, group, chip)
        labels = {GROUPS[group]: look(chip).labels[GROUPS[group]] for group, chip in chosen}
        assert look(prompt).labels == labels, prompt
        assert not look(prompt).notices and "toy" not in prompt, prompt


@pytest.mark.parametrize(
    ("prompt", "group", "chip", "expected"),
    [
        ("", "Subject", "car", "a car"),
        ("", "Colour", "orange", "an orange toy"),
        ("", "Motion", "rises", "a toy rises"),
        ("", "Place", "in a meadow", "a toy in a meadow"),
        ("an orange toy", "Subject", "boat", "an orange boat"),
        ("an automobile", "Subject", "boat", "a boat"),
        ("a car", "Colour", "orange", "an orange car"),
        ("A car", "Colour", "orange", "An orange car"),
        ("Scarlet car.", "Colour", "blue", "Blue car."),
        ("an orange car", "Colour", "red", "a red car"),
        ("a big red car", "Pattern", "striped", "a big striped red car"),
        ("a car with polka dots", "Pattern", "striped", "a car with stripes"),
        ("a car with spots in a meadow.", "Motion", "rises", "a car with spots rises in a meadow."),
        ("a picture of a red car", "Motion", "spins", "a picture of a red car spinning"),
        ("a car is in a meadow", "Motion", "spins", "a car is spinning in a meadow"),
        ("a car is rising", "Motion", "falls", "a car is falling"),
        ("a car rises.", "Place", "in a meadow", "a car rises in a meadow."),
        ("a car through the snow", "Place", "in a meadow", "a car in a meadow"),
        ("a car", "Camera", "the camera zooms in", "a car, the camera zooms in"),
        ("a static shot of a car", "Camera", "the camera pans left", "the camera pans left, a car"),
        ("a car with a still camera", "Camera", "the camera pans left", "a car, the camera pans left"),
        ("a red and blue car", "Colour", "green", "a green car"),
        ("a car and a boat rise", "Subject", "ball", "a ball rise"),
        ("two cars", "Subject", "butterfly", "two butterflies"),
        ("a dragon", "Colour", "red", "a red dragon"),
        ("a red dragon rises", "Subject", "boat", "a red boat rises"),
        ("In a meadow", "Subject", "car", "a car in a meadow"),
        ("red", "Subject", "car", "a red car"),
    ],
)
def test_known_sentences(prompt, group, chip, expected):
    assert insert(prompt, group, chip) == expected


def test_bad_clicks_say_what_is_accepted():
    with pytest.raises(ValueError, match="accepted: Subject, Colour"):
        insert("a car", "Size", "big")
    with pytest.raises(ValueError, match="group 'Colour'; accepted: red"):
        insert("a car", "Colour", "car")


def test_surprises_are_whole_known_and_repeatable():
    made = [surprise(seed) for seed in range(1000)]
    assert made == [surprise(seed) for seed in range(1000)]
    assert len(set(made)) > 900
    for sentence in made:
        seen = look(sentence)
        assert not seen.notices and {"subject", "colour", "motion", "setting"} <= set(seen.labels)
        assert {*tokens(sentence)} <= {*VOCABULARY, ","} and len(tokens(sentence)) <= 30
    for name, values in ATTRIBUTES.items():
        assert {look(sentence).labels.get(name) for sentence in made} - {None} >= {*values} - {"plain"}


@pytest.mark.parametrize(
    ("prompt", "notices"),
    [
        ("", []),
        ("a red car rises in the meadow", []),
        ("a car without a pattern", []),
        ("one star under the stars", []),
        ("a car and boat", ["The models draw one subject; this prompt names two: car and boat."]),
        ("car, ship, moth", ["The models draw one subject; this prompt names three: car, ship and moth."]),
        ("a car and an automobile", []),
        ("a red car, azure", ["The models draw one colour; this prompt names two: red and azure."]),
        (
            "a car in a desert, under water",
            ["The models draw one place; this prompt names two: in a desert and under water."],
        ),
        (
            "a dragon",
            [
                "None of these words names a subject the models know. They know: car, boat, rocket, balloon, bird, "
                "butterfly, fish, ball, star, flower, heart, ghost."
            ],
        ),
        ("an old eagle flying up over a garden", []),
        ("eagles", ["The models draw their subject once; this prompt asks for more than one (eagles)."]),
        ("two cars", ["The models draw their subject once; this prompt asks for more than one (cars)."]),
        ("3 red fish", ["The models draw their subject once; this prompt asks for more than one (fish)."]),
        ("1 fish", []),
        (
            "a car without wheels, not in a meadow",
            [
                'The models do not follow negations ("without", "not"): what you rule out may appear all the same.',
            ],
        ),
        (
            "a car that doesn't spin",
            ['The models do not follow negations ("not"): what you rule out may appear all the same.'],
        ),
    ],
)
def test_known_notices(prompt, notices):
    assert list(look(prompt).notices) == notices


def test_any_reading_of_a_place_counts():
    for prompt in (
        "a car through the snow",
        "a car across a sandy desert",
        "a car on lawn",
        "a car in front of a skyline with lit windows",
    ):
        assert "setting" in look(prompt).labels
    assert "setting" not in look("a boat over the waves").labels
    assert look("a Car\nIN A MEADOW").labels == {"subject": "car", "setting": "meadow"}
    assert look("carpet, boating, in, a meadow").labels == {}


@pytest.mark.parametrize("prompt", HOSTILE)
def test_notices_never_repeat_what_was_typed(prompt):
    for notice in look(prompt).notices:
        assert len(notice) < 300 and not set("<>&🚗") & set(notice)
