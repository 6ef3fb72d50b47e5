"""Choose which unlabelled images to label, at first and after a model is adapted.

    from farshot.pick import pick_first, pick_next
    pick_first(load_encoder("mini"), unlabelled(["leaves/"]), shots=5, class_names=["scab", "rust"])
    pick_next(load("adapted/"), unlabelled(["leaves/"]), count=10)

The order of the images does not matter: all are looked at in the order of their content hashes, and exact
copies count once. Shapes: B images, S labelled ones, E joint width, N classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.given import check_kind_of_names
from farshot.data.names import in_class_order, names_in_prompts
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from farshot.estimator import check_is_fitted
from farshot.evaluation.calibration import certain_in_words
from farshot.methods.frozen import class_texts
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.pick.balance import balanced
from farshot.pick.rules import FIRST, NEXT, Candidates, Rule, distinct
from farshot.randomness import numpy_generator
from farshot.sanitize import short
from farshot.task import DEFAULT_TEMPLATE, Task
from farshot.training.loop import Progress

DEFAULT_FIRST = "typical"
DEFAULT_BALANCED = "cover"  # with class names
DEFAULT_NEXT = "uncertain-spread"
"""Chosen on development seeds: docs/pick.md."""

MOST_IMAGES = 5000
"""Rules compare every image with every other; of more images, so many are drawn for them to look at."""

_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Choice:
    """Images of a table to label, most useful first.

    Attributes:
        rows: of the table, in the order to label them, (n,).
        guesses: what the model takes each for; None where it was given no class names.
        reasons: why each was chosen, in plain words.
        alike: for each, the rows of the images it represents, most similar first: those that look more like
            it than like any other chosen or labelled image.
        class_names: all that could be guessed, in the order that gives them letters and colours.
        rule: by name.
        looked_at: number of images it was chosen from; exact copies count once.
        adapt: words of the `farshot adapt` that adapts to the images once they are labelled, without the
            table and the file of names; empty where it takes more than a command.
        prompt_names: label -> its name in prompts, which that command reads from a file; else empty.
        grouped: whether the model that they are added to was adapted with groups, so that they need some.
    """

    rows: Int[NDArray[np.int64], " n"]
    guesses: tuple[str | None, ...]
    reasons: tuple[str, ...]
    alike: tuple[tuple[int, ...], ...]
    rule: str
    looked_at: int
    adapt: tuple[str, ...] = ()
    prompt_names: Mapping[str, str] = field(default_factory=dict)
    grouped: bool = False
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


def pick_first(
    encoder: Encoder,
    table: ImageTable,
    shots: int,
    *,
    class_names: Mapping[Any, str] | Sequence[str] | None = None,
    ways: int | None = None,
    rule: str | None = None,
    template: str = DEFAULT_TEMPLATE,
    seed: int = 0,
    reading: str = "model",
    progress: Progress | None = None,
) -> Choice:
    """The images to label before there is any label.

    Args:
        shots: K, images wanted of each class.
        class_names: the N classes as prompts call them, or label -> that name: K images are chosen of what
            CLIP takes for each, as far as there are so many. Without them N K images are chosen that look
            different, whichever they show.
        ways: N, where there are no class names.
        rule: one of FIRST; by default the one measured best, DEFAULT_BALANCED with class names, else
            DEFAULT_FIRST.
        seed: of random draws.
        reading: how images are read (farshot.images.preprocess).

    Raises:
        SettingError: no such rule, or a number of classes or images that makes no sense.
        DataError: fewer images than asked for, one that cannot be read, or class names that are none.
    """
    rule = rule or (DEFAULT_FIRST if class_names is None else DEFAULT_BALANCED)
    by = rule_named(FIRST, rule)
    if class_names is not None:
        check_kind_of_names(class_names)
    given = None if class_names is None else tuple(map(str, class_names))
    mapping = class_names if isinstance(class_names, Mapping) else None
    names = None if given is None else names_in_prompts(mapping, given, "class_names")
    by_label = None if mapping is None else dict(zip(given or (), mapping.values(), strict=True))
    labels = names if by_label is None else given
    count = _wanted(shots, names, ways)
    rows = _at_most(_without_copies(table), seed)
    _check_enough(len(rows), count)
    features = _features(encoder, table, rows, reading, progress)
    offered = np.flatnonzero(distinct(features, features[:0]))
    seen = Candidates(features[offered], features[:0], seed=seed)
    guess, balancing = None, count
    if names is None:
        found = offered[by(seen, min(count, len(offered)))]
    else:
        guess = _to_classes(encoder, features, names, template).argmax(1)
        found, balancing = balanced(seen, guess[offered], len(names), shots, by)
        found = offered[found]
    found = _with_copies(found, len(rows), count)
    represented = _represented_by(features, found, features[:0])
    reasons = [_LOOKS[rule](len(others) + 1) for others in represented]
    if names is not None:
        reasons[balancing:] = [
            f"{reason}; too few were guessed for each class" for reason in reasons[balancing:]
        ]
    guesses = [None if guess is None or labels is None else labels[guess[i]] for i in found]
    words = ["--model", encoder.source, *table.options.words()]
    if template != DEFAULT_TEMPLATE:
        words += ["--template", template]
    words += ["--out", "adapted/"]
    return replace(
        _choice(rows, found, guesses, reasons, represented, rule),
        adapt=tuple(words),
        prompt_names=by_label or {},
        class_names=tuple(in_class_order(labels or ())),
    )


def pick_next(
    classifier: FewShotClassifier,
    table: ImageTable,
    count: int,
    *,
    rule: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Choice:
    """The images to label next, once a model is adapted; those it was adapted to are left out, and count as
    labelled where they are among these.

    Args:
        count: images wanted.
        rule: one of NEXT; by default DEFAULT_NEXT.
        seed: of random draws.

    Raises:
        SettingError: no such rule, or no image wanted.
        DataError: fewer images than asked for, or one that cannot be read.
    """
    rule = rule or DEFAULT_NEXT
    by = rule_named(NEXT, rule)
    check_is_fitted(classifier)
    if count < 1:
        raise SettingError(f"At least one image must be chosen, not {count}.")
    table = table.with_options(classifier.read_options_)
    used = set(classifier.support_ids_)
    different = _without_copies(table)
    known_before = table.among(used)[different]
    rows, labelled = _at_most(different[~known_before], seed), different[known_before]
    _check_enough(len(rows), count, "that it was not adapted to")
    reading = classifier.adapted_.reading
    features = _features(classifier.encoder_, table, rows, reading, progress)
    known = _features(classifier.encoder_, table, labelled, reading, None)
    probabilities = classifier.predict_proba(table.subset(rows))
    offered = np.flatnonzero(distinct(features, known))
    seen = Candidates(features[offered], known, probabilities[offered], seed)
    found = _with_copies(offered[by(seen, min(count, len(offered)))], len(rows), count)
    represented = _represented_by(features, found, known)
    names = [str(label) for label in classifier.classes_]
    reasons = [
        _LOOKS[rule](len(others) + 1)
        if rule in _LOOKS
        else _between(names, probabilities[i], classifier.calibrated_)
        for i, others in zip(found, represented, strict=True)
    ]
    guesses = [names[probabilities[i].argmax()] for i in found]
    choice = _choice(rows, found, guesses, reasons, represented, rule)
    return replace(choice, grouped=bool(classifier.support_groups_), class_names=tuple(names))


def rule_named(rules: dict[str, Rule], name: str) -> Rule:
    """A rule of FIRST or NEXT.

    Raises:
        SettingError: names the choices.
    """
    if name not in rules:
        raise SettingError(
            f"There is no rule {short(name)} for this choice; choose one of: {', '.join(rules)}."
        )
    return rules[name]


def _wanted(shots: int, names: Sequence[str] | None, ways: int | None) -> int:
    """The requested number of images."""
    if names is not None and ways is not None and ways != len(names):
        raise SettingError(
            f"There are {len(names)} class names but ways is {ways}; leave out one of the two."
        )
    if names is None and ways is None:
        raise SettingError("How many classes are there? Give class_names, or their number as ways.")
    classes = len(names) if names is not None else ways
    assert classes is not None
    if names is not None and classes < 2:
        raise SettingError("A choice by class names needs at least two; give more, or none.")
    if shots < 1 or classes < 1:
        raise SettingError(f"At least one image must be chosen, not {shots} for each of {classes} classes.")
    return shots * classes


def _check_enough(images: int, count: int, which: str = "") -> None:
    if images < count:
        many = f"there are {images} different ones {which}".strip()
        raise DataError(f"{count} images are asked for, but {many}; ask for fewer, or add images.")


def _without_copies(table: ImageTable) -> Int[NDArray[np.int64], " rows"]:
    """One row per different image, by content: so the order of files changes nothing."""
    first = {table.id(row): row for row in reversed(range(len(table)))}
    return np.array([first[name] for name in sorted(first)], dtype=np.int64)


def _at_most(rows: Int[NDArray[np.int64], " rows"], seed: int) -> Int[NDArray[np.int64], " fewer"]:
    """All rows, or MOST_IMAGES drawn of them, in the same order."""
    if len(rows) <= MOST_IMAGES:
        return rows
    return rows[np.sort(numpy_generator("pick from", seed).permutation(len(rows))[:MOST_IMAGES])]


def _features(
    encoder: Encoder,
    table: ImageTable,
    rows: Sequence[int] | NDArray[np.int64],
    reading: str,
    progress: Progress | None,
) -> Float[NDArray[np.float32], "rows E"]:
    """Frozen features of length 1."""
    return image_features(encoder, table, rows, reading, progress=progress).numpy()


def _to_classes(
    encoder: Encoder, features: Float[NDArray[np.float32], "B E"], names: tuple[str, ...], template: str
) -> Float[NDArray[np.float32], "B N"]:
    """Cosines with the class texts, which the unadapted CLIP decides by."""
    none = np.zeros(0, dtype=np.int64)
    task = Task(ImageTable((), None, (), ()), names, none, none, template=template)
    texts = class_texts(encoder, [task])[0]
    directions = (texts / texts.norm(dim=-1, keepdim=True)).numpy()
    return features @ directions.T


def _with_copies(
    found: Int[NDArray[np.int64], " n"], images: int, count: int
) -> Int[NDArray[np.int64], " count"]:
    """The choice; where there are too few different images, near copies make up the number, at the end."""
    rest = np.setdiff1d(np.arange(images), found)
    return np.concatenate([found, rest[: count - len(found)]])


def _represented_by(
    features: Float[NDArray[np.float32], "B E"],
    found: Int[NDArray[np.int64], " n"],
    labelled: Float[NDArray[np.float32], "S E"],
) -> list[NDArray[np.int64]]:
    """For each chosen image the others nearest to it of all chosen and labelled ones, the nearest first."""
    alike = features @ np.concatenate([features[found], labelled]).T  # (B, n + S)
    nearest = alike.argmax(1)
    nearest[found] = -1
    out = []
    for k in range(len(found)):
        members = np.flatnonzero(nearest == k)
        out.append(members[np.argsort(-alike[members, k], kind="stable")])
    return out


def _typical_of(images: int) -> str:
    return f"typical of {images} images that look alike" if images > 1 else "looks like no other image"


def _covers(images: int) -> str:
    return f"nearest to {images} images" if images > 1 else "near no other image"


_LOOKS = {
    "random": lambda images: "drawn at random",
    "typical": _typical_of,
    "cover": _covers,
    "spread": lambda images: f"far from those before it, {_covers(images)}",
}
"""Why an image was chosen for its looks, from the number of images it represents, including itself."""


def _between(names: Sequence[str], probabilities: Float[NDArray[np.float32], " N"], calibrated: bool) -> str:
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    shares = [certain_in_words(float(probabilities[c]), calibrated, digits=0) for c in (first, second)]
    return f"between {names[first]} and {names[second]}: {' and '.join(shares)}"


def _choice(
    rows: Int[NDArray[np.int64], " B"],
    found: Int[NDArray[np.int64], " n"],
    guesses: Sequence[str | None],
    reasons: Sequence[str],
    represented: Sequence[NDArray[np.int64]],
    rule: str,
) -> Choice:
    """Map positions among the considered images to rows of the table."""
    alike = tuple(tuple(rows[others].tolist()) for others in represented)
    return Choice(rows[found], tuple(guesses), tuple(reasons), alike, rule, len(rows))
