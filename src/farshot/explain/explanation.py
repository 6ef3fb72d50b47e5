"""What the model looked at, image by image: numbers that figures and pages draw.

Shapes: L patches, N classes, R side of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from farshot.arrays import NDArray
from farshot.data.given import image_table
from farshot.data.table import ImageTable, path_of
from farshot.errors import SettingError
from farshot.estimator import check_is_fitted
from farshot.evaluation.calibration import Limit
from farshot.explain.lens import BATCH, Ask, PassView, check_blocks, views
from farshot.explain.subject import Subject
from farshot.explain.subject import subject as subject_of
from farshot.images.options import ReadOptions
from farshot.images.reading import ImageSource
from farshot.methods.base import Adapted, softmax
from farshot.methods.finetuned import FinetunedAdapted
from farshot.training.loop import Progress, class_logits

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier, Images
else:
    FewShotClassifier = Images = Any

MOST_DEFAULT_BLOCKS = 3
_ATTENTION = {
    "class": "class token, last block",
    "attention": "query of the attention pooling",
    "mean": "mean of the patches",
}


@dataclass(frozen=True)
class MovedTokens:
    """Head and tail tokens of an image before one block.

    Attributes:
        block: vision block, from 0.
        head, tail: which patches, row by row, (L,).
        nearest: class that each patch resembles most: head tokens are pulled to it, (L,).
        farthest: class that each patch resembles least: tail tokens are pushed from it, (L,).
        pull, push: strengths; a negative one does the opposite of its name.
    """

    block: int
    head: Bool[NDArray[np.bool_], " L"]
    tail: Bool[NDArray[np.bool_], " L"]
    nearest: Int[NDArray[np.int64], " L"]
    farthest: Int[NDArray[np.int64], " L"]
    pull: float
    push: float


@dataclass(frozen=True)
class Explanation:
    """What an adapted model saw in one image.

    Attributes:
        image: the source: a path, picture or array.
        pixels: as the model read it, (R, R, 3).
        class_names: the N classes, as their labels call them where those are known.
        probabilities: of each class, (N,).
        similarity: cosine of every patch with every class direction, before the last block, (L, N).
        attention: of what is read out (the class token in the last block, or the query of attention pooling)
            to every patch, mean over heads; what is missing to 1 goes to class token and registers, (L,).
        attention_of: what that is, in words.
        moved: head and tail tokens for the chosen blocks; empty without alignment.
        options: how the source is read.
        calibrated: whether the probabilities say how often they are right.
        reading: how the source became `pixels` (farshot.images.preprocess).
        prompt_names: what prompts call the N classes.
        limit: of the model, below which a prediction is not sure; None without.
    """

    image: ImageSource
    pixels: UInt8[NDArray[np.uint8], "R R 3"]
    class_names: tuple[str, ...]
    probabilities: Float[NDArray[np.float32], " N"]
    similarity: Float[NDArray[np.float32], "L N"]
    attention: Float[NDArray[np.float32], " L"]
    attention_of: str = "class token, last block"
    moved: tuple[MovedTokens, ...] = ()
    options: ReadOptions = field(default_factory=ReadOptions)
    calibrated: bool = False
    reading: str = "squash"
    prompt_names: tuple[str, ...] = ()
    limit: Limit | None = None

    @property
    def name(self) -> str:
        """What to call the image."""
        return path_of(self.image)

    @property
    def predicted(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    @property
    def sure(self) -> bool | None:
        """Whether the prediction reaches the limit; None without one."""
        return None if self.limit is None else self.limit.sure(float(self.probabilities.max()))

    @property
    def grid(self) -> int:
        """Patches per side."""
        return math.isqrt(len(self.attention))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; patches are numbered row by row from the upper left."""
        return {
            "image": self.name,
            "class": self.class_names[self.predicted],
            **({} if self.sure is None else {"sure": self.sure}),
            "prompt_names": list(self.prompt_names),
            "probabilities": _by_class(self.class_names, self.probabilities),
            "patches_per_side": self.grid,
            "similarity": _by_class(self.class_names, self.similarity.T),
            "attention": _plain(self.attention),
            "blocks": [_moved_to_dict(moved, self.class_names) for moved in self.moved],
        }


def explain(
    classifier: FewShotClassifier,
    images: Images,
    *,
    blocks: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> list[Explanation]:
    """Explain what a classifier predicts for images.

    Args:
        images: as `FewShotClassifier.predict` takes them.
        blocks: vision blocks, from 0, to show head and tail tokens for; by default `default_blocks`.
        progress: called with (images done, in all).

    Raises:
        SettingError: a block that the model does not have, or before which it moves no tokens.
    """
    check_is_fitted(classifier)
    table = image_table(images).with_options(classifier.read_options_)
    return list(explain_table(classifier, table, blocks=blocks, progress=progress))


def explain_table(
    classifier: FewShotClassifier,
    table: ImageTable,
    *,
    seen: Subject | None = None,
    blocks: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[Explanation]:
    """One explanation per image, with the labels, temperature and limit of a classifier.

    Args:
        seen: the classifier as `subject` gives it, where that is at hand.
        blocks, progress: as of `explain`.
    """
    if seen is None:
        seen = subject_of(classifier.adapted_, classifier.encoder_, classifier.parameters_.template)
    labels = tuple(str(label) for label in classifier.classes_)
    found = explain_images(seen, table, blocks=blocks, temperature=classifier.temperature_, progress=progress)
    for one in found:
        yield replace(one, class_names=labels, limit=classifier.limit_)


def explain_images(
    subject: Subject,
    table: ImageTable,
    *,
    blocks: Sequence[int] | None = None,
    temperature: float = 1.0,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> Iterator[Explanation]:
    """One explanation per image, made as they are asked for: memory does not grow with their number.

    Args:
        blocks: vision blocks, from 0, to show head and tail tokens for; by default `default_blocks`.
        temperature: logits are divided by it, as in `FewShotClassifier.predict_proba`.

    Raises:
        SettingError: a block that the model does not have, or before which it moves no tokens.
    """
    chosen = default_blocks(subject) if blocks is None else _with_tokens(blocks, subject)
    # a method that needs more than the embedding may look at all images together: it gets them in one call
    known = None if isinstance(subject.adapted, FinetunedAdapted) else subject.adapted.logits(table)
    start = 0
    for view in views(
        subject, table, Ask(choices=tuple(chosen), pooling=True), progress=progress, batch=batch
    ):
        rows = np.arange(start, start + len(view.pixels))
        scores = known[rows] if known is not None else _embedding_logits(subject.adapted, view)
        probabilities = softmax((scores / np.float32(temperature)).astype(np.float32))
        for i, row in enumerate(rows):
            one = _one(subject, table.images[row], view, i, probabilities[i])
            yield replace(
                one,
                options=table.options,
                calibrated=temperature != 1,
                reading=subject.adapted.reading,
                prompt_names=subject.class_names,
            )
        start += len(rows)


def _embedding_logits(adapted: Adapted, view: PassView) -> Float[NDArray[np.float32], "B N"]:
    """Class scores of a fine-tuned method from the embeddings that the pass made already."""
    assert isinstance(adapted, FinetunedAdapted)
    embedded = view.embedded[None].to(adapted.encoder.device)
    return class_logits(embedded, adapted.texts.final, adapted.scale)[0].cpu().numpy()


def default_blocks(subject: Subject) -> list[int]:
    """Those of strongest pull and strongest push, and the last: at most three; none without alignment."""
    alignment = subject.alignment
    if alignment is None:
        return []
    among = alignment.blocks
    pull, push = (abs(values.detach()[0, among]) for values in (alignment.pull, alignment.push))
    # the last of equals: later blocks are nearer to the prediction
    strongest = {max(range(len(among)), key=lambda i: (float(values[i]), i)) for values in (pull, push)}
    return sorted({among[i] for i in strongest} | {among[-1]})[:MOST_DEFAULT_BLOCKS]


def _with_tokens(blocks: Sequence[int], subject: Subject) -> list[int]:
    """Sort the blocks; refuse those before which the model moves no tokens."""
    chosen = check_blocks(blocks, subject.encoder)
    acting = [] if subject.alignment is None else subject.alignment.blocks
    if chosen and not acting:
        raise SettingError(
            "Blocks are for methods that move head and tail tokens, such as atha; this model's does not."
        )
    if missing := sorted(set(chosen) - set(acting)):
        raise SettingError(
            f"This model moves no tokens before block {missing[0]}, but before {', '.join(map(str, acting))}."
        )
    return chosen


def _one(
    subject: Subject, image: ImageSource, view: PassView, i: int, probabilities: NDArray[np.float32]
) -> Explanation:
    alignment, prefix, pooling = subject.alignment, subject.encoder.vision.config.prefix, view.pooling
    assert pooling is not None
    moved: list[MovedTokens] = []
    for block, choice in sorted(view.choices.items()):
        assert alignment is not None
        head, tail, nearest, farthest = (value[i].numpy() for value in choice)
        pull, push = (float(values.detach()[0, block]) for values in (alignment.pull, alignment.push))
        moved.append(MovedTokens(block, head, tail, nearest, farthest, pull, push))
    return Explanation(
        image,
        view.pixels[i],
        subject.class_names,
        probabilities,
        view.similarity[i].numpy(),
        pooling[i].mean(0)[prefix:].numpy(),
        _ATTENTION[subject.encoder.vision.config.pool],
        tuple(moved),
    )


def _moved_to_dict(moved: MovedTokens, names: tuple[str, ...]) -> dict[str, Any]:
    head, tail = np.flatnonzero(moved.head), np.flatnonzero(moved.tail)
    return {
        "block": moved.block,
        "pull": moved.pull,
        "push": moved.push,
        "head": [{"patch": int(i), "pulled_to": names[moved.nearest[i]]} for i in head],
        "tail": [{"patch": int(i), "pushed_from": names[moved.farthest[i]]} for i in tail],
    }


def _by_class(names: tuple[str, ...], values: NDArray[np.float32]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}


def _plain(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), 6).tolist()
