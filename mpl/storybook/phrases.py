"""The phrase tables of the captions: what every value can be called, first the plainest name.

No word stands for two values of one attribute, and no colour word hides in the phrases of another attribute, so that
a caption never contradicts its scene.
"""

SUBJECTS = {
    "car": ("car", "automobile", "motorcar", "auto", "vehicle", "toy car"),
    "boat": ("boat", "sailboat", "sailing boat", "ship", "yacht", "toy boat"),
    "rocket": ("rocket", "spaceship", "spacecraft", "space rocket", "toy rocket"),
    "balloon": ("balloon", "hot air balloon", "air balloon"),
    "bird": ("bird", "songbird", "birdie", "sparrow", "robin"),
    "butterfly": ("butterfly", "moth", "fluttering butterfly"),
    "fish": ("fish", "goldfish", "fishy"),
    "ball": ("ball", "beach ball", "toy ball", "beachball"),
    "star": ("star", "five pointed star", "smiling star"),
    "flower": ("flower", "blossom", "bloom", "daisy"),
    "heart": ("heart", "love heart", "valentine"),
    "ghost": ("ghost", "phantom", "spook", "spirit", "friendly ghost"),
}

COLOURS = {
    "red": ("red", "scarlet", "crimson", "ruby", "cherry"),
    "orange": ("orange", "tangerine", "apricot", "amber"),
    "yellow": ("yellow", "golden", "lemon", "canary"),
    "green": ("green", "emerald", "lime", "jade"),
    "blue": ("blue", "azure", "cobalt", "sapphire", "navy"),
    "purple": ("purple", "violet", "lilac", "lavender", "plum"),
    "pink": ("pink", "rosy", "magenta", "fuchsia", "rose"),
    "white": ("white", "ivory", "milky", "pearly"),
}

PATTERNS = {
    "plain": ("plain", "solid", "unpatterned", "uniform"),
    "striped": ("striped", "stripy", "streaked", "banded"),
    "spotted": ("spotted", "dotted", "spotty", "speckled"),
    "checked": ("checked", "checkered", "chequered", "tartan", "plaid"),
}

PATTERN_TAILS = {
    "plain": ("without a pattern", "in one plain tone", "of one plain colour"),
    "striped": ("with stripes", "covered in stripes", "with darker stripes"),
    "spotted": ("with spots", "covered in dots", "with darker spots", "with polka dots"),
    "checked": ("with checks", "covered in checks", "with darker squares"),
}

# (third person, participle) phrases, aligned: the same index says the same thing.
MOTION_FORMS = {
    "moves right": (
        ("moves right", "crosses from left to right", "goes to the right", "travels right", "heads right"),
        ("moving right", "crossing from left to right", "going to the right", "travelling right", "heading right"),
    ),
    "moves left": (
        ("moves left", "crosses from right to left", "goes to the left", "travels left", "heads left"),
        ("moving left", "crossing from right to left", "going to the left", "travelling left", "heading left"),
    ),
    "rises": (
        ("rises", "goes up", "climbs", "ascends", "floats up", "moves upwards", "lifts off"),
        ("rising", "going up", "climbing", "ascending", "floating up", "moving upwards", "lifting off"),
    ),
    "falls": (
        ("falls", "goes down", "drops", "descends", "sinks", "moves downwards", "comes down"),
        ("falling", "going down", "dropping", "descending", "sinking", "moving downwards", "coming down"),
    ),
    "bounces": (
        ("bounces", "hops", "jumps", "bounces up and down", "leaps"),
        ("bouncing", "hopping", "jumping", "bouncing up and down", "leaping"),
    ),
    "spins": (
        ("spins", "turns around", "rotates", "twirls", "whirls", "spins around", "tumbles"),
        ("spinning", "turning around", "rotating", "twirling", "whirling", "spinning around", "tumbling"),
    ),
    "grows": (
        ("grows", "gets bigger", "becomes larger", "swells", "expands", "grows bigger"),
        ("growing", "getting bigger", "becoming larger", "swelling", "expanding", "growing bigger"),
    ),
    "shrinks": (
        ("shrinks", "gets smaller", "becomes smaller", "dwindles", "contracts", "shrinks away"),
        ("shrinking", "getting smaller", "becoming smaller", "dwindling", "contracting", "shrinking away"),
    ),
    "sways": (
        ("sways", "swings", "rocks gently", "wobbles", "sways from side to side", "tilts to and fro"),
        ("swaying", "swinging", "rocking gently", "wobbling", "swaying from side to side", "tilting to and fro"),
    ),
}

SETTINGS = {
    "sunny sky": (
        "in a sunny sky",
        "among fluffy clouds",
        "in a bright sky with clouds",
        "on a sunny day",
        "in the daytime sky",
        "under the shining sun",
        "in sunshine",
    ),
    "starry night": (
        "in a starry night",
        "under the stars",
        "in the night sky",
        "under a crescent moon",
        "at midnight",
        "among twinkling stars",
        "in the moonlight",
    ),
    "sunset sea": (
        "on a sunset sea",
        "over the ocean at sunset",
        "by the sea at dusk",
        "over evening waves",
        "at sundown by the sea",
        "over the sea in the evening",
        "over glittering waves",
    ),
    "meadow": (
        "in a meadow",
        "on a grassy meadow",
        "in a grassy field",
        "on a lawn",
        "in the grass",
        "in a spring pasture",
        "in the countryside",
    ),
    "desert": (
        "in a desert",
        "among sand dunes",
        "in the sandy desert",
        "over hot dunes",
        "in the sahara",
        "near a cactus",
    ),
    "snowy hills": (
        "in snowy hills",
        "in the snow",
        "on a winter day",
        "among snow covered hills",
        "among snowflakes",
        "in a wintry landscape",
        "in winter",
    ),
    "city at night": (
        "in a city at night",
        "downtown at night",
        "in a town at night",
        "among skyscrapers",
        "before a skyline with lit windows",
        "among city lights",
        "in a dark city",
    ),
    "brick wall": (
        "before a brick wall",
        "in front of a brick wall",
        "against a brick wall",
        "by a brick wall",
        "near a wall",
        "against bricks",
    ),
    "under water": (
        "under water",
        "underwater",
        "deep in the water",
        "at the bottom of the ocean",
        "among bubbles and seaweed",
        "below the surface",
        "beneath the waves",
    ),
}

CAMERAS = {
    "still": ("the camera stands still", "still camera", "static shot", "a steady camera", "fixed camera"),
    "pan": ("the camera pans", "panning camera", "panning shot", "the view slides sideways", "a tracking shot"),
    "zoom": ("the camera zooms", "zooming camera", "zoom shot", "zooming view"),
}

CAMERA_DIRECTIONS = {
    ("pan", 1): ("the camera pans right", "panning to the right", "pan right"),
    ("pan", -1): ("the camera pans left", "panning to the left", "pan left"),
    ("zoom", 1): ("the camera zooms in", "zooming in", "zoom in", "the camera moves closer"),
    ("zoom", -1): ("the camera zooms out", "zooming out", "zoom out", "the camera moves away"),
}

SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "subject": SUBJECTS,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "motion": {value: third + participle for value, (third, participle) in MOTION_FORMS.items()},
    "setting": SETTINGS,
    "camera": CAMERAS,
}

SIZES = {
    "big": ("big", "large", "huge", "giant", "great"),
    "medium": ("medium sized", "middling", ""),
    "small": ("small", "little", "tiny"),
}

# By (height, side) of the middle of the path.
PLACES = {
    ("", ""): ("in the middle", "in the centre", "at the center"),
    ("", "left"): ("on the left", "on the left side", "at the left"),
    ("", "right"): ("on the right", "on the right side", "at the right"),
    ("low", ""): ("near the bottom", "low in the picture", "in the lower half"),
    ("high", ""): ("near the top", "high in the picture", "in the upper half"),
    ("low", "left"): ("in the lower left", "at the bottom left"),
    ("low", "right"): ("in the lower right", "at the bottom right"),
    ("high", "left"): ("in the upper left", "at the top left"),
    ("high", "right"): ("in the upper right", "at the top right"),
}

ARTICLES = ("a", "a", "a", "the", "one")
OPENINGS = (
    "a picture of",
    "a storybook picture of",
    "a video of",
    "a film of",
    "an animation of",
    "look at",
    "there is",
    "we see",
    "a story about",
    "a drawing of",
)
