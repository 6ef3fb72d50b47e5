"""The words of the mini world: nouns, colours, backgrounds, and which nouns each domain shows."""

from farshot.world.patterns import PATTERNS
from farshot.world.shapes import SHAPES

THINGS = tuple(SHAPES)
NOUNS = (*THINGS, *PATTERNS)

WORLDS = ("photo", "mini-crops", "mini-land", "mini-skin", "mini-xray")
CLASSES: dict[str, tuple[str, ...]] = {
    "photo": NOUNS,
    "mini-crops": ("rust", "blight", "scab", "mildew", "mosaic", "streak", "canker", "vein"),
    "mini-land": ("forest", "furrow", "river", "highway", "street", "orchard", "terrace", "factory"),
    "mini-skin": ("mole", "melanoma", "network", "globule", "starburst", "ulcer", "scar"),
    "mini-xray": (
        "effusion",
        "pneumothorax",
        "fracture",
        "atelectasis",
        "fibrosis",
        "tube",
        "edema",
        "pacemaker",
    ),
}

# sRGB, 0 to 255
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 40),
    "orange": (235, 130, 35),
    "yellow": (240, 210, 60),
    "green": (60, 145, 60),
    "blue": (50, 90, 200),
    "purple": (130, 60, 160),
    "pink": (240, 150, 180),
    "brown": (115, 75, 45),
    "white": (240, 240, 235),
    "grey": (135, 135, 140),
    "black": (30, 30, 35),
}

# two natural colours that a texture blends
BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "sky": ((120, 170, 225), (190, 215, 240)),
    "sand": ((205, 180, 130), (230, 210, 165)),
    "stone": ((110, 110, 112), (165, 162, 155)),
    "wood": ((120, 80, 50), (175, 130, 85)),
    "grass": ((60, 105, 45), (125, 160, 75)),
    "cloth": ((95, 60, 85), (165, 120, 130)),
    "snow": ((215, 220, 228), (245, 247, 250)),
    "night": ((18, 20, 38), (50, 52, 80)),
}

TEXTURES = ("plain", "striped", "spotted", "rough")
SIZES = ("small", "large")
COUNTS = ("one", "two", "three")
PLACES = ("on the left", "in the middle", "on the right")

_PLURALS = {
    "leaf": "leaves",
    "fish": "fish",
    "butterfly": "butterflies",
    "snowman": "snowmen",
    "hourglass": "hourglasses",
    "glasses": "glasses",
    "lightning": "lightning",
}


def plural(noun: str) -> str:
    return _PLURALS.get(noun, noun + "s")


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
