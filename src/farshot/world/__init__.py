"""The mini world: small procedural images with known truth, for demos, tests and controlled experiments.

One source domain, "photo", and four target domains at growing distance show the same nouns in other guise.
"""

from farshot.world.generator import Images, class_names, generate, write_folder
from farshot.world.vocabulary import WORLDS

__all__ = ["WORLDS", "Images", "class_names", "generate", "write_folder"]
