"""The fields of a predicted image, the same in `farshot predict --json` and in the service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from farshot.data.names import nfc
from farshot.evaluation.calibration import Limit
from farshot.evaluation.hierarchy import Hierarchy
from farshot.evaluation.sets import prediction_sets

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier
    from farshot.classifier.stream import Part

COVERAGE = 0.9
"""Of answers from a hierarchy, by default."""


@dataclass(frozen=True)
class Question:
    """What is asked of every image.

    Attributes:
        classifier: the adapted model.
        reject: images with a p-value of at most this get no class; None rejects none.
        coverage: of the prediction set; None asks for none. It holds for all classes only.
        hierarchy: of the classes, for an answer that is right with the probability `coverage`, or 0.9.
        only: classes to choose between; empty for all.

    Raises:
        SettingError: a level or a coverage that the model cannot keep.
        ModelError: p-values of a model that cannot give them.
        DataError: an unknown class.
    """

    classifier: FewShotClassifier
    reject: float | None = None
    coverage: float | None = None
    only: Sequence[str] = ()
    hierarchy: Hierarchy | None = None

    def __post_init__(self) -> None:
        """Refuse what the model cannot answer, before any image is read."""
        if self.reject is not None:
            self.classifier.require_familiarity().check_level(self.reject)
        if self.coverage is not None:
            _ = self.threshold
        if self.hierarchy is not None:
            _ = self.answer_threshold
        if self.only:
            self.classifier.columns_of(self.only)

    @cached_property
    def threshold(self) -> float | None:
        """The probability from which on a class is in the set; None without sets."""
        return None if self.coverage is None else self.classifier.set_threshold(self.coverage)

    @cached_property
    def answer_threshold(self) -> float:
        """The probability above which a name of the hierarchy is the answer."""
        assert self.hierarchy is not None
        return self.classifier.answer_threshold(self.hierarchy, self.coverage or COVERAGE)

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the probabilities."""
        if self.only:
            return list(dict.fromkeys(map(nfc, self.only)))
        return [str(name) for name in self.classifier.classes_]

    @property
    def limit(self) -> Limit | None:
        """The probability below which a prediction is not sure; None of some classes, as it was found with
        all."""
        return None if len(self.classes) < len(self.classifier.classes_) else self.classifier.limit_

    @property
    def has_p_values(self) -> bool:
        """Whether the model can say how unlike the labelled images an image is."""
        return self.classifier.familiarity_ is not None

    def rows(self, names: Sequence[str], part: Part, note: str = "") -> Iterator[dict[str, Any]]:
        """What is known of each image of a part.

        Args:
            names: of the images that `part.rows` counts.
            note: on all of them.
        """
        limit = self.limit
        classes, some = self.classes, len(self.classes) < len(self.classifier.classes_)
        probabilities = self.classifier.probabilities(part.logits, self.only or None)
        sets = None if self.threshold is None else prediction_sets(probabilities, self.threshold)
        chain = self.hierarchy
        answers = None if chain is None else chain.answers(probabilities, self.answer_threshold)
        for i, (number, p) in enumerate(zip(part.rows.tolist(), probabilities, strict=True)):
            row: dict[str, Any] = {
                "image": names[number],
                "class": classes[int(p.argmax())],
                "probabilities": dict(zip(classes, map(float, p), strict=True)),
                # the temperature was fitted with all classes
                "calibrated": self.classifier.calibrated_ and not some,
            }
            if limit is not None:
                row["sure"] = limit.sure(float(p.max()))
            if part.p_values is not None:
                row["p_value"] = float(part.p_values[i])
            if sets is not None:
                row["set"] = [classes[c] for c in (-p).argsort(kind="stable") if sets[i, c]]
            if answers is not None:
                row["answer"] = answers[i].name
                row["answer_probability"] = answers[i].probability
            if part.p_values is not None and self.reject is not None:
                row["rejected"] = bool(part.p_values[i] <= self.reject)
                if row["rejected"]:
                    nothing: dict[str, Any] = {
                        "class": None,
                        "set": [],
                        "answer": None,
                        "answer_probability": None,
                    }
                    row |= {name: value for name, value in nothing.items() if name in row}
            yield row | ({"note": note} if note else {})


def transductive_note(classifier: FewShotClassifier, images: int) -> str:
    """What to know of a transductive method's predictions for so many images; empty for other methods."""
    if classifier.method_.kind != "transductive":
        return ""
    return (
        f"{classifier.method_.name} is transductive: the {images} images were classified together, and with "
        "others an image may get another label."
    )


def identity(classifier: FewShotClassifier) -> str:
    """Hash of an adapted model: what it is, and every tensor; 32 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(classifier.about(), sort_keys=True, default=str).encode())
    for name, tensor in sorted(classifier.adapted_.tensors().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.float().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
