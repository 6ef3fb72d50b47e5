"""FewShotClassifier: an adapted image-text encoder as a scikit-learn classifier.

from farshot import FewShotClassifier, load
classifier = FewShotClassifier("openai/clip-vit-base-patch16", method="atha").fit(images, labels)
classifier.predict(["new.jpg"]); classifier.save("adapted/"); classifier = load("adapted/")
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike

from farshot.arrays import NDArray
from farshot.data.given import as_path, image_table, labelled_table, plain_label
from farshot.data.independence import are_too_alike, units
from farshot.data.names import descriptions_of, nfc
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError, SettingError
from farshot.estimator import ClassifierProtocol, check_is_fitted
from farshot.evaluation.crossval import HeldOut, hold_out
from farshot.evaluation.familiarity import Familiarity
from farshot.evaluation.metrics import Evaluation, evaluate
from farshot.evaluation.sets import prediction_sets, set_threshold
from farshot.evaluation.unseen import unseen
from farshot.images.decode import ReadOptions
from farshot.images.likeness import thumbnails
from farshot.methods import Adapted, Method, available, create, current_settings
from farshot.methods.base import softmax
from farshot.methods.registry import package_of
from farshot.model.encoder import Encoder
from farshot.model.features import image_features
from farshot.model.find import absolute_source, encoder_of_clip, is_clip_model, shared_encoder
from farshot.randomness import key
from farshot.storage.model_check import check_labelled, check_restored
from farshot.storage.model_folder import (
    damaged,
    read_folder,
    read_labelled,
    read_places,
    saved_options,
    support_labels,
    write_folder,
)
from farshot.task import DEFAULT_TEMPLATE, Task
from farshot.training.loop import Progress

if TYPE_CHECKING:
    from transformers import CLIPModel
else:
    CLIPModel = Any

_LOG = logging.getLogger(__name__)

Images = Sequence[Any] | NDArray[Any] | ImageTable
"""Paths, PIL images or arrays (H, W, 3), in any mixture; or a table."""


@dataclass(frozen=True)
class FittedParameters:
    """The parameters at the time of fitting, which `save` writes, without later changes.

    Attributes:
        method: name of the method.
        model: hub name, or the absolute path of a folder.
        descriptions: class name -> words that take its place in the prompt.
        template: the prompt.
        calibrate: whether a temperature was asked for.
        precision: of the encoder.
        seed: of every random draw.
    """

    method: str
    model: str
    descriptions: dict[str, str]
    template: str
    calibrate: bool
    precision: str
    seed: int

    @classmethod
    def of(
        cls, classifier: FewShotClassifier, encoder: Encoder, descriptions: Mapping[str, str]
    ) -> FittedParameters:
        """The present parameters, with the descriptions by class name."""
        return cls(
            classifier.method,
            absolute_source(classifier.model if isinstance(classifier.model, str | Path) else encoder.source),
            dict(descriptions),
            classifier.template,
            classifier.calibrate,
            encoder.precision,
            classifier.seed,
        )


class FewShotClassifier(ClassifierProtocol):
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
        read_options: how images of many bits or bands are read: {"range": (low, high), "bands": (r, g, b)} or
            ReadOptions; by default the range of each image is inferred.
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
        estimate_: the cross-validated estimate as a dictionary, from `calibrate`, `keep_held_out` or
            `keep_estimate`; None without.
        encoder_, method_: the base model and the method that it was fitted with.
        parameters_: the parameters that it was fitted with.
        read_options_: how the images were read, as images to predict are.
    """

    _last_held_out: tuple[tuple[Any, ...], HeldOut] | None = None
    _converted: tuple[CLIPModel, Encoder] | None = None
    estimate_: dict[str, Any] | None = None
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
        self._check_parameters()
        method = create(self.method, self.settings)
        task, classes = self._task(X, y)
        encoder = self._encoder()
        # before adapting: images too few to be left out are refused at once, not after minutes
        held_out = self._held_out(task, classes) if self.calibrate else None
        adapted: Adapted = method.adapt(
            encoder, [task], micro_batch=self.micro_batch, progress=self.progress
        )[0]
        features = image_features(encoder, task.table, task.support, adapted.reading).numpy()
        familiarity = Familiarity.of(features, units(task.table, task.support))
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
        self.support_labels_, self.support_groups_ = codes, support_groups
        self.support_places_ = _places(task)
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
        return self.held_out(X, y, folds=folds).evaluation(calibrated=self.calibrate)

    def held_out(self, X: Images, y: ArrayLike | None = None, *, folds: int | None = None) -> HeldOut:
        """The cross-validated predictions that `estimate` measures."""
        self._check_parameters()
        task, classes = self._task(X, y)
        return self._held_out(task, classes, folds)

    def _held_out(self, task: Task, classes: NDArray[Any], folds: int | None = None) -> HeldOut:
        """Cross-validate; the last predictions are kept, since `estimate` and a calibrated `fit` need the
        same."""
        method, encoder = create(self.method, self.settings), self._encoder()
        labels = tuple(map(plain_label, classes))
        question = (
            *(method, encoder, labels, task.class_names, task.template, task.descriptions, folds, self.seed),
            *(task.table.ids, task.table.contents(), task.labels.tolist(), task.table.groups),
        )
        if self._last_held_out is None or self._last_held_out[0] != question:
            found = hold_out(
                method,
                encoder,
                task,
                labels,
                folds=folds,
                seed=self.seed,
                micro_batch=self.micro_batch,
                progress=self.progress,
            )
            self._last_held_out = (question, found)
        return self._last_held_out[1]

    def _task(self, X: Images, y: ArrayLike | None) -> tuple[Task, NDArray[Any]]:
        """All images as the support of one task, and its sorted labels as they were given."""
        table, classes = labelled_table(X, y, self.class_names)
        options = X.options if isinstance(X, ImageTable) else ReadOptions()
        table = table.with_options(options if self.read_options is None else self._read_options())
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
            key=key("fit", self.seed),
        )
        return task, classes

    def _check_parameters(self) -> None:
        """Refuse parameters of the wrong type.

        Raises:
            SettingError: names the parameter and what it must be.
        """
        kinds: dict[str, tuple[tuple[type, ...], str]] = {
            "model": ((str, Path, Encoder), "a hub name, a path, an encoder or a CLIPModel"),
            "method": ((str,), "the name of a method"),
            "settings": ((Mapping, type(None)), "a mapping of a setting's name to its value"),
            "descriptions": ((Mapping, type(None)), "a mapping of a class name to its description"),
            "template": ((str,), "a prompt with {} where the class name goes"),
            "precision": ((str,), "float32 or bf16"),
            "device": ((str,), "auto, cpu, cuda or another device"),
            "micro_batch": ((int, np.integer, type(None)), "a whole number or None"),
            "seed": ((int, np.integer), "a whole number"),
            "read_options": ((ReadOptions, Mapping, type(None)), "a mapping with range and bands"),
        }
        for name, (kind, what) in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "model" and is_clip_model(value)):
                raise SettingError(f"The parameter {name} must be {what}, not {value!r}.")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise SettingError(f"The parameter micro_batch must be at least 1, not {self.micro_batch}.")

    def _read_options(self) -> ReadOptions:
        given = self.read_options
        if given is None or isinstance(given, ReadOptions):
            return given or ReadOptions()
        unknown = set(given) - {"range", "bands"}
        if unknown:
            raise SettingError(f"read_options has {min(unknown, key=str)!r}; it takes range and bands.")
        try:
            return ReadOptions.from_dict(given)
        except ValueError as error:
            raise SettingError(str(error)) from error

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
        if self._converted is None or self._converted[0] is not self.model:
            encoder = encoder_of_clip(self.model, device=self.device, precision=self.precision)
            self._converted = (self.model, encoder)
        return self._converted[1]

    # Predicting --------------------------------------------------------------------------------------

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
        logits = self.logits(X)
        if classes is not None:
            logits = logits[:, self._columns(classes)]
        return softmax(logits / np.float32(self.temperature_))

    def _columns(self, classes: Sequence[Any]) -> list[int]:
        """Index in `classes_` of each of these labels."""
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
        columns = np.array(self._columns(classes))
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
        check_is_fitted(self)
        if self.held_out_ is None:
            raise SettingError(
                "Prediction sets need cross-validated predictions; adapt again with calibrate=True."
            )
        return set_threshold(self.held_out_.calibrated, self.held_out_.labels, coverage)

    def familiarity(self, X: Images) -> Float[NDArray[np.float64], " B"]:
        """Conformal p-value of each image: small where it is unlike all images that were labelled.

        Of images from where the labelled ones come from, at most a share e have a p-value of at most e. It
        says nothing about a new class of similar images (farshot.evaluation.familiarity).

        Raises:
            ModelError: the model was saved by a version that did not keep what is needed.
        """
        check_is_fitted(self)
        if self.familiarity_ is None:
            raise ModelError(
                "This model was saved without the features of its labelled images, so it cannot say whether "
                "an image is unlike them; adapt again."
            )
        table = image_table(X).with_options(self.read_options_)
        found = image_features(
            self.encoder_, table, range(len(table)), self.adapted_.reading, progress=self.progress
        )
        return self.familiarity_.p_values(found.numpy())

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
        table = X if isinstance(X, ImageTable) and y is None else labelled_table(X, y, None)[0]
        rows, labels = self.unseen(table, include_support=include_support)
        probabilities = self.predict_proba(table.subset(rows))
        found = evaluate(labels, probabilities, [str(label) for label in self.classes_])
        left_out = 0 if include_support else len(table.test_rows()) - len(rows)
        return replace(found, calibrated=self.calibrated_, left_out=left_out)

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

    def keep_held_out(self, held_out: HeldOut) -> FewShotClassifier:
        """Calibrate with cross-validated predictions, as `fit` does with `calibrate`: the temperature, the
        estimate, and what `predict_set` needs.

        Args:
            held_out: what `held_out` returned for the images that it was fitted to.

        Raises:
            SettingError: they are for other images.
        """
        check_is_fitted(self)
        if held_out.labels.tolist() != self.support_labels_:
            raise SettingError("The cross-validated predictions are for other images than it was fitted to.")
        self.held_out_, self.temperature_ = held_out, held_out.temperature()
        return self.keep_estimate(held_out.evaluation(calibrated=True))

    # On disk -----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Save the adapted model to a folder, completely or not at all."""
        check_is_fitted(self)
        peft = self.encoder_.origin.layout != ""
        lora = self.adapted_.lora if peft else None
        tensors, labelled = self.adapted_.tensors(), self._labelled()
        write_folder(as_path(folder), self.about(), tensors, lora, labelled, self.support_places_)

    def _labelled(self) -> dict[str, torch.Tensor]:
        """What is kept of the labelled images: tensors by name."""
        kept: dict[str, NDArray[Any]] = {}
        if self.familiarity_ is not None:
            kept |= {"features": self.familiarity_.features, "similarity": self.familiarity_.similarity}
        if self.held_out_ is not None:
            kept |= {"held_out.logits": self.held_out_.logits, "held_out.fold": self.held_out_.fold}
        if self.thumbnails_ is not None:
            kept["thumbnails"] = self.thumbnails_
        return {name: torch.from_numpy(value).contiguous() for name, value in kept.items()}

    def about(self) -> dict[str, Any]:
        """Return the content of farshot.json."""
        encoder, fitted = self.encoder_, self.parameters_
        return {
            "farshot_version": version("farshot"),
            "method": fitted.method,
            "method_package": package_of(type(self.method_)),
            "revision": self.method_.revision,
            "settings": self.method_.settings(),
            "classes": list(map(plain_label, self.classes_)),
            "class_names": list(self.adapted_.class_names),
            "descriptions": fitted.descriptions,
            "template": fitted.template,
            "base_model": fitted.model,
            "base_format": encoder.origin.format,
            "base_fingerprint": encoder.fingerprint,
            "precision": fitted.precision,
            "preprocessing": {
                "reading": self.adapted_.reading,
                "size": encoder.size,
                "mean": list(encoder.preprocessing.mean),
                "std": list(encoder.preprocessing.std),
                **self.read_options_.to_dict(),
            },
            "calibrate": fitted.calibrate,
            "temperature": self.temperature_,
            "seed": fitted.seed,
            "support_ids": self.support_ids_,
            "support_labels": self.support_labels_,
            "support_groups": self.support_groups_,
            "near_copies": self.thumbnails_ is not None,
            "estimate": self.estimate_,
            "losses": [round(float(loss), 6) for loss in self.losses_],
            "trained_parameters": self.adapted_.trained,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
            },
        }

    @classmethod
    def _restored(
        cls,
        folder: str | Path,
        about: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
        method: Method,
        encoder: Encoder,
        model: str | Path | Encoder,
        device: str,
        labelled: Mapping[str, torch.Tensor],
    ) -> FewShotClassifier:
        """The classifier that a folder's farshot.json and tensors describe."""
        made = cls(
            model,
            about["method"],
            settings=current_settings(about["method"], about["settings"]),
            class_names=dict(zip(map(str, about["classes"]), about["class_names"], strict=True)),
            descriptions=about["descriptions"],
            template=about["template"],
            read_options=saved_options(folder, about),
            calibrate=bool(about.get("calibrate", False)),
            precision=encoder.precision,
            device=device,
            seed=about["seed"],
        )
        none = np.zeros(0, dtype=np.int64)
        task = Task(
            ImageTable((), None, (), ()), tuple(about["class_names"]), none, none, template=about["template"]
        )
        with damaged(f"{folder}/parts.safetensors"):
            made.adapted_ = method.restore(encoder, task, tensors)
            check_restored(made.adapted_, encoder)
        made.classes_ = np.asarray(about["classes"])
        made.encoder_, made.method_ = encoder, method
        made.losses_, made.temperature_ = np.asarray(about["losses"]), float(about["temperature"])
        made.adapted_.losses = made.losses_
        made.support_ids_ = about["support_ids"]
        made.support_labels_ = support_labels(about)
        made.support_places_ = read_places(as_path(folder))
        made.support_groups_ = list(about.get("support_groups", []))
        made.estimate_ = about.get("estimate")
        with damaged(f"{folder}/labelled.safetensors"):
            check_labelled(labelled, len(made.support_ids_), len(made.classes_), encoder.embed_dim)
            if about.get("near_copies") and labelled and "thumbnails" not in labelled:
                raise ValueError("the tensor thumbnails is missing")
        kept = {name: tensor.numpy() for name, tensor in labelled.items()}
        made.familiarity_, made.held_out_, made.thumbnails_ = None, None, kept.get("thumbnails")
        if "features" in kept:
            made.familiarity_ = Familiarity(kept["features"], kept["similarity"])
        if "held_out.logits" in kept and made.support_labels_:
            codes = np.asarray(made.support_labels_, dtype=np.int64)
            logits, fold = kept["held_out.logits"], kept["held_out.fold"]
            made.held_out_ = HeldOut(tuple(about["classes"]), codes, logits, fold)
        made.read_options_ = made._read_options()
        made.parameters_ = FittedParameters.of(made, encoder, about["descriptions"])
        return made


def load(
    folder: str | Path,
    *,
    model: str | Path | Encoder | None = None,
    device: str = "auto",
    precision: str | None = None,
) -> FewShotClassifier:
    """Load an adapted model that `save` wrote.

    Args:
        folder: its folder, or "hf:OWNER/NAME" for one on the hub.
        model: the base model, if it is no longer where it was: a place, or a loaded encoder.
        device: of the base model, unless that is loaded.
        precision: "float32" or "bf16"; by default as it was adapted.

    Raises:
        ModelError: no such folder, damaged, or a base model with other weights than the one it was adapted
            from.
    """
    about, tensors = read_folder(as_path(folder))
    labelled = read_labelled(as_path(folder))
    method = _saved_method(folder, about)
    base = about["base_model"] if model is None else model
    try:
        encoder = (
            base
            if isinstance(base, Encoder)
            else shared_encoder(base, device=device, precision=precision or about["precision"])
        )
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(
            f"The base model of {folder} cannot be loaded; name its place with model=PLACE. {error}"
        ) from error
    known = encoder.fingerprint if about["format"] > 1 else encoder.fingerprint_of_version_1()
    if known != about["base_fingerprint"]:
        raise ModelError(
            f"{folder} was adapted from {about['base_model']}, but the weights in {encoder.source} are "
            "others; name its base with model=PLACE."
        )
    return FewShotClassifier._restored(folder, about, tensors, method, encoder, base, device, labelled)


def _saved_method(folder: str | Path, about: Mapping[str, Any]) -> Method:
    """The method of a saved model.

    Raises:
        ModelError: its package is missing, or its numbers have changed since.
    """
    name, package = about["method"], about.get("method_package", "farshot")
    if package != "farshot" and name not in available():
        raise ModelError(
            f"{folder} was adapted with the method {name!r} of the package {package}, which is missing or "
            f"cannot be imported; install it: pip install {package}."
        )
    try:
        method = create(name, current_settings(name, about["settings"]))
    except SettingError as error:
        raise ModelError(f"{folder}/farshot.json cannot be used as it is: {error}") from error
    if method.revision != about["revision"]:
        raise ModelError(
            f"{folder} was made by revision {about['revision']} of {name}, this farshot has "
            f"{method.revision}: adapt it again, or use farshot {about['farshot_version']}."
        )
    return method


def _places(task: Task) -> list[dict[str, Any]]:
    """Where the support images lie, with label and group."""
    table = task.table
    return [
        {
            "path": str(Path(image).absolute()) if isinstance(image, str | Path) else None,
            "label": table.classes[int(code)],
            "group": None if table.groups is None else table.groups[int(row)],
        }
        for row, code in zip(task.support, task.labels, strict=True)
        for image in [table.images[int(row)]]
    ]
