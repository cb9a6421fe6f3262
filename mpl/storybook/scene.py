"""Scenes: what can be in a picture of the storybook, how scenes are drawn at random, and which are held out.

Units: the frame is 1 high and 1.8 wide (the 9:5 of 576x320), the origin is its centre, x points right and y up.
Time runs over a clock of 29 frames; every motion is spread over frames 0 to 28.
"""

import dataclasses
import hashlib
import random
from collections.abc import Mapping

CLOCK_FRAMES = 29
FRAME_ASPECT = 1.8
HELDOUT_ONE_IN = 10

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "subject": (
        "car",
        "boat",
        "rocket",
        "balloon",
        "bird",
        "butterfly",
        "fish",
        "ball",
        "star",
        "flower",
        "heart",
        "ghost",
    ),
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white"),
    "pattern": ("plain", "striped", "spotted", "checked"),
    "motion": (
        "moves right",
        "moves left",
        "rises",
        "falls",
        "bounces",
        "spins",
        "grows",
        "shrinks",
        "sways",
    ),
    "setting": (
        "sunny sky",
        "starry night",
        "sunset sea",
        "meadow",
        "desert",
        "snowy hills",
        "city at night",
        "brick wall",
        "under water",
    ),
    "camera": ("still", "pan", "zoom"),
}
SPLITS = ("train", "heldout", "all")
# Not the pattern: it cannot be seen at 64x40, where a combination held out by its pattern alone would be known.
_SPLIT_ATTRIBUTES = ("subject", "colour", "setting", "motion")
_CROSSINGS = ("moves right", "moves left")
_VERTICALS = ("rises", "falls", "bounces")
_SCALINGS = ("grows", "shrinks")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene: six labels and the continuous parameters that complete it.

    `size` is the side of the subject's box as a fraction of the frame's height, the largest over the clip: what grows
    or shrinks is half as large at its other end, or the motion would not show. `x` and `y` are the middle of its path,
    `travel` is how far it goes to each side of that middle (frame heights; a spin's or a sway's turn, in radians, is
    derived in `motions`). `phase` in [0, 1) starts the small periodic movements, `speed`
    around 1 paces them. `light` in [-1, 1] brightens or dims the setting a little. `clutter` in [0, 1] is how much
    secondary detail the setting shows. `camera_sign` is the side of a pan (+1: the camera goes right) or the sense
    of a zoom (+1: in). `seed` places the details of the setting. `turn`, in radians, turns the subject besides what its
    motion does; no scene of the world has any, and no caption says it.
    """

    subject: str
    colour: str
    pattern: str
    motion: str
    setting: str
    camera: str
    x: float = 0.0
    y: float = 0.0
    size: float = 0.6
    travel: float = 0.2
    phase: float = 0.0
    speed: float = 1.0
    light: float = 0.0
    clutter: float = 1.0
    camera_sign: int = 1
    seed: int = 0
    turn: float = 0.0

    def __post_init__(self) -> None:
        for name, values in ATTRIBUTES.items():
            _check(name, getattr(self, name), values)

    @property
    def labels(self) -> dict[str, str]:
        """The value of every attribute, in the order of `ATTRIBUTES`."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    @property
    def facing(self) -> int:
        """+1 where the subject looks right, -1 where it looks left (only when it moves left)."""
        return -1 if self.motion == "moves left" else 1


def is_heldout(labels: Mapping[str, str]) -> bool:
    """Whether a combination of labels belongs to the tenth that nothing generative is trained on.

    A fixed hash of subject, colour, setting and motion decides, so the split never depends on a sampler.
    """
    key = "|".join(labels[name] for name in _SPLIT_ATTRIBUTES)
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELDOUT_ONE_IN == 0


def sample_scene(rng: random.Random, split: str = "train", level: float = 1.0, **fixed: str) -> Scene:
    """Draws a scene: labels uniform and independent (given the split), then place, size and the rest.

    `level` is the curriculum: 0 puts the subject in the middle, 60-65 % of the frame's height, with little motion
    and little clutter; 1 is the full world. `fixed` pins attributes by name (`subject="car"`).
    Raises ValueError for an unknown split, attribute or value, a level outside [0, 1], or pinned attributes that
    the split excludes.
    """
    _check("split", split, SPLITS)
    if not 0.0 <= level <= 1.0:
        raise ValueError(f"level is {level}; accepted: 0 to 1")
    for name, value in fixed.items():
        _check("attribute", name, tuple(ATTRIBUTES))
        _check(name, value, ATTRIBUTES[name])
    labels = _sample_labels(rng, split, fixed)
    return Scene(**labels, **_sample_geometry(rng, labels["motion"], level))


def scene_for_index(index: int, split: str = "train", level: float = 1.0) -> Scene:
    """Scene number `index` (0, 1, ...) of a split: always the same one, whatever else was drawn before."""
    _check("split", split, SPLITS)
    return sample_scene(random.Random(f"storybook:{split}:{index}"), split, level)


def _check(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} is {value!r}; accepted: {', '.join(accepted)}")


def _sample_labels(rng: random.Random, split: str, fixed: Mapping[str, str]) -> dict[str, str]:
    """Uniform labels by rejection; a held-out draw needs about ten tries, so a thousand failures mean none exists."""
    for _ in range(1000):
        labels = {name: fixed.get(name) or rng.choice(values) for name, values in ATTRIBUTES.items()}
        if split == "all" or is_heldout(labels) == (split == "heldout"):
            return labels
    raise ValueError(f"{dict(fixed)} leaves no scene in split {split!r}; free an attribute or use split 'all'")


def _sample_geometry(rng: random.Random, motion: str, level: float) -> dict[str, float | int]:
    """Size, path and the small parameters, such that the whole subject stays inside the frame at every time."""
    small = 0.45 + 0.15 * (1.0 - level)
    large = 0.65
    if motion in _VERTICALS:
        large = 0.65 - 0.13 * level
    elif motion in _CROSSINGS:
        large = 0.65 - 0.09 * level
    elif motion in _SCALINGS:
        small, large = 0.60, 0.65
    size = rng.uniform(small, large)
    # Subjects fill at most 1.2 of their box sideways; a small margin keeps outlines off the border.
    room_x = FRAME_ASPECT / 2 - 0.6 * size - 0.02
    room_y = 0.5 - 0.5 * size - 0.02
    if motion in _CROSSINGS:
        travel = min(room_x, 0.56) * (0.35 + 0.65 * level) * rng.uniform(0.9, 1.0)
        x = 0.0
        y = rng.uniform(-1.0, 1.0) * room_y * level
    elif motion in _VERTICALS:
        travel = room_y * (0.6 + 0.4 * level) * rng.uniform(0.92, 1.0)
        x = rng.uniform(-1.0, 1.0) * room_x * 0.85 * level
        y = 0.0
    else:
        travel = 0.09 if motion == "sways" else 0.0
        x = rng.uniform(-1.0, 1.0) * (room_x - travel) * 0.85 * level
        y = rng.uniform(-1.0, 1.0) * room_y * (0.6 if motion in ("spins", "sways") else 1.0) * level
    return {
        "x": x,
        "y": y,
        "size": size,
        "travel": travel,
        "phase": rng.random(),
        "speed": rng.uniform(0.85, 1.15),
        "light": rng.uniform(-1.0, 1.0),
        "clutter": level * rng.uniform(0.5, 1.0),
        "camera_sign": rng.choice((-1, 1)),
        "seed": rng.getrandbits(31),
    }
