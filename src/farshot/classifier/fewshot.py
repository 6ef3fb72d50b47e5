"""FewShotClassifier: an adapted image-text encoder as a scikit-learn classifier."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from farshot.arrays import NDArray
from farshot.classifier.hub import OnHub
from farshot.classifier.parameters import FittedParameters, check_parameters, read_options
from farshot.classifier.predicting import Images, Predicting
from farshot.classifier.stream import measure
from farshot.classifier.tracked import tell_settings, told
from farshot.classifier.written import described, places, save
from farshot.data.given import labelled_table, measured_table, plain_label
from farshot.data.independence import are_too_alike, units
from farshot.data.names import descriptions_of
from farshot.data.table import ImageTable
from farshot.errors import DataError, SettingError
from farshot.estimator import ClassifierProtocol, check_is_fitted
from farshot.evaluation.calibration import Limit
from farshot.evaluation.crossval import HeldOut, hold_out
from farshot.evaluation.familiarity import Familiarity
from farshot.evaluation.metrics import Evaluation
from farshot.evaluation.unseen import unseen
from farshot.images.likeness import thumbnails
from farshot.images.options import ReadOptions
from farshot.methods import Adapted, create
from farshot.model.appearance import image_appearance
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.model.find import encoder_of_clip, shared_encoder, weights_hash
from farshot.randomness import key
from farshot.task import DEFAULT_TEMPLATE, Task
from farshot.training.loop import Progress

if TYPE_CHECKING:
    from transformers import CLIPModel
else:
    CLIPModel = Any

_LOG = logging.getLogger(__name__)


class FewShotClassifier(OnHub, Predicting, ClassifierProtocol):
    """Adapts an image-text encoder to the classes of a few labelled images.

    Args:
        model: hub name, folder or file of a checkpoint, or "mini"; or an encoder that is loaded already
            (`load_encoder`), or a transformers CLIPModel. An encoder keeps its device and precision.
            scikit-learn's `clone` copies a CLIPModel but not an encoder, so pass an encoder to
            `GridSearchCV` and the like.
        method: one of `farshot methods`. The default fine-tunes the encoder: with CLIP ViT-B/16 and a few
            images of each of 5 classes it takes hours on two CPU cores, and 17 s on a large GPU.
            "linear-probe" takes seconds.
        settings: of the method, name -> value.
        class_names: how each class is called in prompts: a mapping label -> name, or names in the order of
            the sorted labels (of a table: of its classes); by default the label itself, '_' read as a space,
            or the names of a table.
        descriptions: label or class name -> words that replace the name in the prompt.
        template: the prompt; `{}` is where the class name goes.
        read_options: how images of many bits, bands or pages are read: {"range": (low, high),
            "bands": (r, g, b), "page": n} or ReadOptions; by default the range of each image is inferred.
        calibrate: cross-validate when fitting: the predictions for the images that were left out give an
            estimate of the quality, a temperature with which probabilities say how often they are right, and
            what `predict_set` needs. `estimate` then measures calibrated probabilities.
        precision: "float32" or "bf16".
        device: "auto", "cpu", "cuda", ...
        micro_batch: most images forwarded at once in training: less memory, the same result.
        seed: of every random draw.
        progress: called with (done, in all) during fitting and prediction.

    Attributes:
        classes_: the sorted labels, or the classes of a table in its order, (N,).
        adapted_: what the method made.
        losses_: loss of each training step.
        temperature_: logits are divided by it in `predict_proba`; 1 unless calibrated.
        calibrated_: whether a temperature was fitted.
        held_out_: the cross-validated predictions; None unless calibrated.
        familiarity_: the labelled images, to which `familiarity` compares others; None in models saved by
            versions that did not keep them.
        thumbnails_: small grey copies of the labelled images (farshot.images.likeness), with which near
            copies are kept out of an evaluation; None where the images are too alike for that, and in models
            saved by versions that did not keep them.
        support_ids_: identity of the picture of each image it was fitted to (farshot.images.identity).
        support_places_: absolute path, label and group of each of those images, the path None for an image
            that was not a file; empty in models saved by versions that did not keep them.
        support_labels_: index in classes_ of each of those images; empty in models saved by versions that did
            not record it.
        support_groups_: the groups of those images; empty where the data has none.
        not_recognised_: "near copies" and "groups", where a pushed model came without what finds such images.
        estimate_: the cross-validated estimate as a dictionary, from `calibrate`, `keep_held_out` or
            `keep_estimate`; None without.
        adapted_on_: the day it was adapted, in UTC, as "2026-05-17"; None in models saved by versions that
            did not record it.
        limit_: the probability below which a prediction is not sure, from `keep_held_out`; None without.
        encoder_, method_: the base model and the method that it was fitted with.
        parameters_: the parameters that it was fitted with.
        read_options_: how the images were read, as images to predict are.
    """

    _last_held_out: tuple[tuple[Any, ...], HeldOut] | None = None
    _converted: tuple[tuple[Any, ...], Encoder] | None = None
    estimate_: dict[str, Any] | None = None
    limit_: Limit | None = None
    adapted_on_: str | None = None
    not_recognised_: tuple[str, ...] = ()
    familiarity_: Familiarity | None
    held_out_: HeldOut | None
    thumbnails_: NDArray[np.uint8] | None

    def __init__(
        self,
        model: str | Path | Encoder | CLIPModel = "openai/clip-vit-base-patch16",
        method: str = "atha",
        *,
        settings: Mapping[str, Any] | None = None,
        class_names: Mapping[Any, str] | Sequence[str] | None = None,
        descriptions: Mapping[str, str] | None = None,
        template: str = DEFAULT_TEMPLATE,
        read_options: ReadOptions | Mapping[str, Any] | None = None,
        calibrate: bool = False,
        precision: str = "float32",
        device: str = "auto",
        micro_batch: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self.settings = settings
        self.class_names = class_names
        self.descriptions = descriptions
        self.template = template
        self.read_options = read_options
        self.calibrate = calibrate
        self.precision = precision
        self.device = device
        self.micro_batch = micro_batch
        self.seed = seed
        self.progress = progress

    # Fitting -----------------------------------------------------------------------------------------

    def fit(self, X: Images, y: ArrayLike | None = None) -> FewShotClassifier:
        """Adapt to labelled images.

        Args:
            X: images; a table brings its own labels. Of a table with splits, those of "train" are used.
            y: one label per image, of any type that sorts.

        Raises:
            FarshotError: one sentence on what is wrong with images, labels, model or settings.
        """
        check_parameters(self)
        method = create(self.method, self.settings)
        method.check_queries()
        task, classes = self._task(X, y)
        encoder = self._encoder()
        # before adapting: images too few to be left out are refused at once, not after minutes
        held_out = self._held_out(task, classes) if self.calibrate else None
        tell_settings(self, method, encoder, task)
        adapted: Adapted = method.adapt(
            encoder, [task], micro_batch=self.micro_batch, progress=self.progress
        )[0]
        features = image_features(encoder, task.table, task.support, adapted.reading).numpy()
        look = image_appearance(encoder, task.table.subset(task.support), adapted.reading)
        familiarity = Familiarity.of(features, units(task.table, task.support), look)
        support_ids = [task.table.content(int(row)) for row in task.support]
        small = None
        if not are_too_alike(task.table, task.support):
            small = thumbnails([task.table.images[int(row)] for row in task.support], task.table.options)
        codes = [int(code) for code in task.labels]
        support_groups = sorted(set(task.table.groups or ()))
        # all at once, at the end: an error or Ctrl-C in the lines above leaves an earlier fit unchanged
        self.encoder_, self.method_, self.adapted_, self.classes_ = encoder, method, adapted, classes
        self.losses_, self.support_ids_, self.familiarity_ = adapted.losses, support_ids, familiarity
        self.held_out_, self.thumbnails_ = held_out, small
        self.temperature_ = 1.0 if held_out is None else held_out.temperature()
        self.not_recognised_, self.limit_, self.adapted_on_ = (), None, datetime.now(UTC).date().isoformat()
        self.support_labels_, self.support_groups_ = codes, support_groups
        self.support_places_ = places(task)
        self.read_options_ = task.table.options
        self.parameters_ = FittedParameters.of(self, encoder, task.descriptions)
        self.estimate_ = None if held_out is None else held_out.evaluation(calibrated=True).to_dict()
        _LOG.info(
            "adapted %s with %s to %d images of %d classes",
            encoder.source,
            self.method,
            len(task.support),
            len(classes),
        )
        return self

    def estimate(self, X: Images, y: ArrayLike | None = None, *, folds: int | None = None) -> Evaluation:
        """Estimate the quality by cross-validation of the labelled images, without images for testing.

        Each fold leaves some images of every class out and adapts to the rest; all folds are tasks of one
        batch. The classifier itself stays as it is, fitted or not. An adapted classifier has seen slightly
        more images than those of the folds, so the estimate errs on the low side. Copies of a picture are
        left out together.

        With `calibrate`, each fold is measured at the temperature that is fitted to the others. A `fit` to
        the same images uses the same folds without computing them again.

        Args:
            folds: by default as many as the smallest class has images, at most 5.
        """
        return told("estimate", self.held_out(X, y, folds=folds).evaluation(calibrated=self.calibrate))

    def held_out(self, X: Images, y: ArrayLike | None = None, *, folds: int | None = None) -> HeldOut:
        """The cross-validated predictions that `estimate` measures."""
        check_parameters(self)
        task, classes = self._task(X, y)
        return self._held_out(task, classes, folds)

    def _held_out(self, task: Task, classes: NDArray[Any], folds: int | None = None) -> HeldOut:
        """Cross-validate; the last predictions are kept, since `estimate` and a calibrated `fit` need the
        same."""
        method, encoder = create(self.method, self.settings), self._encoder()
        labels = tuple(map(plain_label, classes))
        question = (
            *(
                method,
                encoder,
                labels,
                task.class_names,
                task.template,
                task.descriptions,
                folds,
                int(self.seed),
            ),
            *(task.table.ids, task.table.contents(), task.labels.tolist(), task.table.groups),
        )
        if self._last_held_out is None or self._last_held_out[0] != question:
            found = hold_out(
                method,
                encoder,
                task,
                labels,
                folds=folds,
                seed=int(self.seed),
                micro_batch=self.micro_batch,
                progress=self.progress,
            )
            self._last_held_out = (question, found)
        return self._last_held_out[1]

    def _task(self, X: Images, y: ArrayLike | None) -> tuple[Task, NDArray[Any]]:
        """All images as the support of one task, and its sorted labels as they were given."""
        table, classes = labelled_table(X, y, self.class_names)
        options = X.options if isinstance(X, ImageTable) else ReadOptions()
        table = table.with_options(options if self.read_options is None else read_options(self.read_options))
        if table.splits is not None:
            rows = table.train_rows()
            if not len(rows):
                raise DataError(
                    "No image is in the split 'train', so there is nothing to adapt to; give other splits, "
                    "or a table without them."
                )
            table = table.subset(rows)
        table.check_one_label()
        assert table.labels is not None
        task = Task(
            table,
            table.names,
            np.arange(len(table)),
            table.labels,
            template=self.template,
            descriptions=descriptions_of(self.descriptions or {}, table.names, table.classes),
            key=key("fit", int(self.seed)),
        )
        return task, classes

    def input_reading(self, table: ImageTable) -> tuple[str, int]:
        """How `fit` will read the images of a labelled table, so that they need not be decoded twice: reading
        and size (farshot.images.preprocess). Loads the base model."""
        assert table.labels is not None
        shots = int(np.bincount(table.labels).min())
        reading = create(self.method, self.settings).support_reading(len(table.classes), shots)
        encoder = self._encoder()
        return encoder.reading(reading), encoder.size

    def _encoder(self) -> Encoder:
        """The base model; one that is loaded already is not loaded again."""
        if isinstance(self.model, Encoder):
            return self.model
        if isinstance(self.model, str | Path):
            return shared_encoder(self.model, device=self.device, precision=self.precision)
        state = (self.model, self.device, self.precision, weights_hash(self.model))
        if self._converted is None or self._converted[0] != state:
            encoder = encoder_of_clip(self.model, device=self.device, precision=self.precision)
            self._converted = (state, encoder)
        return self._converted[1]

    # Measuring ---------------------------------------------------------------------------------------

    def evaluate(self, X: Images, y: ArrayLike | None = None, *, include_support: bool = False) -> Evaluation:
        """Measure the quality on labelled images.

        Images that it was adapted to, copies of them and images of their groups are left out; `left_out` of
        the result says how many. Of a table with splits, the images of "test" are measured, or of "val" where
        there are none of "test".

        Args:
            X: images; a table brings its own labels.
            y: one label per image, as given to `fit`.
            include_support: count the images that it was adapted to as well, and those of their groups.

        Raises:
            DataError: a label that the classifier does not know, or nothing left to measure on.
        """
        check_is_fitted(self)
        if y is None:
            table = X if isinstance(X, ImageTable) else labelled_table(X, y, None)[0]
        else:
            table = measured_table(X, y)
        return measure(self, table, include_support=include_support).evaluation

    @property
    def calibrated_(self) -> bool:
        """Whether a temperature was fitted, so that probabilities may be shown as percentages."""
        return self.temperature_ != 1

    def unseen(
        self, table: ImageTable, *, include_support: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a labelled table that show no picture it was adapted to, and the index in `classes_` of
        each.

        Files, PIL images and arrays of one picture are the same (farshot.images.identity).

        Raises:
            DataError: as `evaluate`.
        """
        check_is_fitted(self)
        return unseen(
            table.with_options(self.read_options_),
            [str(label) for label in self.classes_],
            set(self.support_ids_),
            set(self.support_groups_),
            self.thumbnails_,
            include_support=include_support,
        )

    def with_method(self, method: str, settings: Mapping[str, Any] | None = None) -> FewShotClassifier:
        """A classifier that is not fitted, of the same parameters and the same loaded encoder but another
        method."""
        other = FewShotClassifier(**self.get_params())
        return other.set_params(model=self._encoder(), method=method, settings=settings)

    def keep_estimate(self, estimate: Evaluation) -> FewShotClassifier:
        """Record a cross-validated estimate, which `save` writes and model cards and reports show.

        Args:
            estimate: what `estimate` returned for the images that it was fitted to.
        """
        check_is_fitted(self)
        self.estimate_ = estimate.to_dict()
        return self

    def keep_held_out(self, held_out: HeldOut, wanted: float | None = None) -> FewShotClassifier:
        """Calibrate with cross-validated predictions, as `fit` does with `calibrate`: the temperature, the
        estimate, and what `predict_set` needs.

        Args:
            held_out: what `held_out` returned for the images that it was fitted to.
            wanted: share of the given predictions that should be right; sets `limit_`.

        Raises:
            SettingError: they are for other images.
        """
        check_is_fitted(self)
        if held_out.labels.tolist() != self.support_labels_:
            raise SettingError("The cross-validated predictions are for other images than it was fitted to.")
        self.held_out_, self.temperature_ = held_out, held_out.temperature()
        self.limit_ = None if wanted is None else Limit.of(held_out.certainty(wanted))
        return self.keep_estimate(held_out.evaluation(calibrated=True))

    # On disk -----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Save the adapted model to a folder, completely or not at all."""
        check_is_fitted(self)
        save(self, folder)

    def about(self) -> dict[str, Any]:
        """Return the content of farshot.json."""
        check_is_fitted(self)
        return described(self)
