"""Images and models that explanations are tried on."""

from __future__ import annotations

from farshot import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.explain import Subject, subject
from farshot.world import class_names, generate

WORLD = "mini-crops"
SHORT = {"steps": 2, "views": "none"}


def images_of(world: str, indices: range) -> ImageTable:
    """Test images of a mini world, labelled."""
    drawn = generate(world, "test", indices)
    names = class_names(world)
    return ImageTable(tuple(drawn.pixels), drawn.labels, names, names)


def adapted(method: str, **settings: object) -> FewShotClassifier:
    classifier = FewShotClassifier("mini", method, settings=settings)
    table = images_of(WORLD, range(60))
    return classifier.fit(table.subset(table.draw(1, 0)[0]))


def seen(classifier: FewShotClassifier) -> Subject:
    return subject(classifier.adapted_, classifier.encoder_)
