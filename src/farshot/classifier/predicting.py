"""Predictions of a fitted classifier: labels, probabilities, prediction sets, p-values.

Shapes: B images, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from farshot.arrays import NDArray
from farshot.data.given import image_table
from farshot.data.names import nfc
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError, SettingError
from farshot.estimator import check_is_fitted
from farshot.evaluation.crossval import HeldOut
from farshot.evaluation.familiarity import Familiarity
from farshot.evaluation.hierarchy import Answer, Hierarchy
from farshot.evaluation.sets import prediction_sets, set_threshold
from farshot.images.options import ReadOptions
from farshot.methods import Adapted
from farshot.methods.base import softmax
from farshot.model.appearance import image_appearance
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.sanitize import short
from farshot.training.loop import Progress

Images = Sequence[Any] | NDArray[Any] | ImageTable
"""Paths, PIL images or arrays (H, W, 3), in any mixture; or a table."""


class Predicting:
    """The part of `FewShotClassifier` that predicts; the attributes are described there."""

    adapted_: Adapted
    classes_: NDArray[Any]
    encoder_: Encoder
    familiarity_: Familiarity | None
    held_out_: HeldOut | None
    progress: Progress | None
    read_options_: ReadOptions
    temperature_: float

    def logits(self, X: Images) -> Float[NDArray[np.float32], "B N"]:
        """Score of each class of `classes_`, as the method makes them; softmax gives probabilities."""
        check_is_fitted(self)
        table = image_table(X).with_options(self.read_options_)
        return self.adapted_.logits(table, progress=self.progress)

    def decision_function(
        self, X: Images
    ) -> Float[NDArray[np.float32], "B N"] | Float[NDArray[np.float32], " B"]:
        """The logits; of two classes, as scikit-learn's scorers expect, how far the second is above the
        first, (B,)."""
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(
        self, X: Images, classes: Sequence[Any] | None = None
    ) -> Float[NDArray[np.float32], "B N"]:
        """Probability of each class of `classes_`; calibrated only if `calibrate` was asked for.

        With a transductive method it depends on the images predicted together, as in `predict`.

        Args:
            classes: labels, where it is known that each image shows one of these: the columns, in this order.

        Raises:
            DataError: a label that is not one of `classes_`, or fewer than two.
        """
        return self.probabilities(self.logits(X), classes)

    def probabilities(
        self, logits: Float[NDArray[np.float32], "B N"], classes: Sequence[Any] | None = None
    ) -> Float[NDArray[np.float32], "B chosen"]:
        """What `predict_proba` makes of logits, which parts of many images come with."""
        if classes is not None:
            logits = logits[:, self.columns_of(classes)]
        return softmax(logits / np.float32(self.temperature_))

    def columns_of(self, classes: Sequence[Any]) -> list[int]:
        """Index in `classes_` of each of these labels.

        Raises:
            DataError: as `predict_proba`.
        """
        if isinstance(classes, str):
            raise DataError(f"classes is {short(classes)}; give a list of labels.")
        known = {str(label): column for column, label in enumerate(self.classes_)}
        wanted = list(dict.fromkeys(nfc(str(label)) for label in classes))
        places = {nfc(name): column for name, column in known.items()}
        unknown = [name for name in wanted if name not in places]
        if unknown:
            raise DataError(
                f"{unknown[0]!r} is not one of the classes it was adapted to ({', '.join(known)}); choose "
                "among these."
            )
        if len(wanted) < 2:
            raise DataError("Name at least two classes to choose between.")
        return [places[name] for name in wanted]

    def predict(self, X: Images, classes: Sequence[Any] | None = None) -> NDArray[Any]:
        """The most probable label of each image, of all or of these classes.

        With a transductive method (`farshot methods` marks them), an image's label and probabilities depend
        on the images it is predicted with: pass all of them in one call.
        """
        logits = self.logits(X)  # first, since it says when nothing is fitted
        if classes is None:
            return self.classes_[logits.argmax(1)]
        columns = np.array(self.columns_of(classes))
        return self.classes_[columns[logits[:, columns].argmax(1)]]

    def predict_set(self, X: Images, coverage: float = 0.9) -> list[tuple[Any, ...]]:
        """The labels of each image that are needed to hold the true one with this probability, the most
        probable first.

        The threshold is that of the cross-validated predictions (farshot.evaluation.sets). It holds for
        images from where the labelled ones come from, on average over classes.

        Raises:
            SettingError: the classifier was fitted without calibrate=True, or to too few images.
        """
        probabilities = self.predict_proba(X)
        chosen = prediction_sets(probabilities, self.set_threshold(coverage))
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            tuple(self.classes_[c] for c in ranked if row[c])
            for ranked, row in zip(order.tolist(), chosen, strict=True)
        ]

    def set_threshold(self, coverage: float) -> float:
        """The probability from which on a class is in a set of `predict_set`.

        Raises:
            SettingError: as `predict_set`.
        """
        held_out = self._require_held_out("Prediction sets need")
        return set_threshold(held_out.calibrated, held_out.labels, coverage, held_out.units)

    def predict_from(self, X: Images, hierarchy: Hierarchy, coverage: float = 0.9) -> list[Answer]:
        """The class of each image where the model is certain enough, else what that class belongs to.

        So many answers are right, the true class or a name above it, on the same terms as sets
        (farshot.evaluation.hierarchy).

        Args:
            hierarchy: of `classes_`, in their order.

        Raises:
            DataError: a hierarchy of other classes.
            SettingError: as `predict_set`.
        """
        threshold = self.answer_threshold(hierarchy, coverage)
        return hierarchy.answers(self.predict_proba(X), threshold)

    def answer_threshold(self, hierarchy: Hierarchy, coverage: float) -> float:
        """The probability above which a name is an answer of `predict_from`.

        Raises:
            DataError, SettingError: as `predict_from`.
        """
        check_is_fitted(self)
        hierarchy.check_classes(self.classes_)
        held_out = self._require_held_out("Answers from a hierarchy need")
        return hierarchy.threshold(held_out.calibrated, held_out.labels, coverage, held_out.units)

    def _require_held_out(self, what: str) -> HeldOut:
        check_is_fitted(self)
        if self.held_out_ is None:
            raise SettingError(f"{what} cross-validated predictions; adapt again with calibrate=True.")
        return self.held_out_

    def familiarity(self, X: Images) -> Float[NDArray[np.float64], " B"]:
        """Conformal p-value of each image: small where it is unlike all images that were labelled.

        Of images from where the labelled ones come from, at most a share e have a p-value of at most e. It
        says nothing about a new class of similar images (farshot.evaluation.familiarity).

        Raises:
            ModelError: the model was saved by a version that did not keep what is needed.
        """
        check_is_fitted(self)
        known = self.require_familiarity()
        return known.p_values(*self.seen_by_familiarity(image_table(X), self.progress))

    def seen_by_familiarity(
        self, table: ImageTable, progress: Progress | None = None
    ) -> tuple[Float[NDArray[np.float32], "B E"], Float[NDArray[np.float32], "B A"] | None]:
        """What `familiarity_` compares of a table's images: frozen features and, where the model knows that
        of the labelled images, the appearance."""
        table, reading = table.with_options(self.read_options_), self.adapted_.reading
        features = image_features(self.encoder_, table, range(len(table)), reading, progress=progress)
        if self.require_familiarity().look is None:
            return features.numpy(), None
        return features.numpy(), image_appearance(self.encoder_, table, reading)

    def require_familiarity(self) -> Familiarity:
        """What `familiarity` compares with.

        Raises:
            ModelError: as `familiarity`.
        """
        if self.familiarity_ is None:
            raise ModelError(
                "This model was saved without the features of its labelled images, so it cannot say whether "
                "an image is unlike them; adapt again."
            )
        return self.familiarity_
