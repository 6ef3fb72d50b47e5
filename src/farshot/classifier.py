"""FewShotClassifier: an adapted CLIP in scikit-learn's manners.

from farshot import FewShotClassifier, load
classifier = FewShotClassifier("openai/clip-vit-base-patch16", method="atha").fit(images, labels)
classifier.predict(["new.jpg"]); classifier.save("adapted/"); classifier = load("adapted/")
"""

from __future__ import annotations

import platform
from collections.abc import Hashable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from farshot.data.given import image_table, labelled_table
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError, SettingError
from farshot.evaluation import Evaluation, evaluate
from farshot.finetune import Progress
from farshot.held_out import HeldOut, hold_out
from farshot.images.decode import ReadOptions
from farshot.methods import Adapted, create
from farshot.methods.base import softmax
from farshot.model.checkpoint import load_encoder
from farshot.model.encoder import DualEncoder
from farshot.randomness import key
from farshot.saved import read_folder, saved_options, write_folder
from farshot.task import DEFAULT_TEMPLATE, Task

Images = Sequence[Any] | NDArray[Any] | ImageTable
"""Paths, PIL images or arrays (H, W, 3), in any mixture; or a table."""


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Adapts a CLIP to the classes of a few labelled images.

    Args:
        model: hub name, folder of a checkpoint, or "mini".
        method: one of `farshot methods`.
        settings: of the method, name -> value.
        class_names: how each class is called in prompts: a mapping label -> name, or names in the order of
            the sorted labels; by default the label itself, '_' read as a space.
        descriptions: class name -> words that take its place in the prompt.
        template: the prompt; `{}` is where the class name goes.
        read_options: how images of many bits or bands are read: {"range": (low, high), "bands": (r, g, b)} or
            ReadOptions; by default the range of each image is inferred.
        calibrate: fit a temperature to cross-validated predictions, so that probabilities say how often they
            are right.
        precision: "float32" or "bf16".
        device: "auto", "cpu", "cuda", ...
        micro_batch: most images forwarded at once in training: less memory, the same result.
        seed: of every random draw.
        progress: called with (done, in all) during fitting and prediction.

    Attributes:
        classes_: the sorted labels, (N,).
        adapted_: what the method made.
        losses_: loss of each training step.
        temperature_: logits are divided by it in `predict_proba`; 1 unless calibrated.
        read_options_: how the images were read, as images to predict are.
    """

    def __init__(
        self,
        model: str | Path = "openai/clip-vit-base-patch16",
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
        """Adapts to labelled images.

        Args:
            X: images; a table brings its own labels.
            y: one label per image, of any type that sorts.

        Raises:
            FarshotError: one sentence on what is wrong with images, labels, model or settings.
        """
        method = create(self.method, self.settings)
        task, classes = self._task(X, y)
        encoder = self._encoder()
        # before adapting: images too few to be left out are refused at once, not after minutes
        temperature = self._held_out(task, classes).temperature() if self.calibrate else 1.0
        adapted: Adapted = method.adapt(
            encoder, [task], micro_batch=self.micro_batch, progress=self.progress
        )[0]
        support_ids = [task.table.id(int(row)) for row in task.support]
        # all at once, at the end: whatever stops the lines above leaves an earlier fit as it was
        self.encoder_, self.method_, self.adapted_, self.classes_ = encoder, method, adapted, classes
        self.losses_, self.temperature_, self.support_ids_ = adapted.losses, temperature, support_ids
        self.read_options_ = task.table.options
        self.estimate_: dict[str, Any] | None = None
        return self

    def estimate(self, X: Images, y: ArrayLike | None = None, *, folds: int | None = None) -> Evaluation:
        """Cross-validated quality from the labelled images alone: for those who have none to spare for
        testing.

        Each fold leaves some images of every class out and adapts to the rest; all folds are tasks of one
        batch. The classifier itself stays as it is, fitted or not. An adapted classifier has seen slightly
        more images than those of the folds, so the estimate errs on the low side.

        Args:
            folds: by default as many as the smallest class has images, at most 5.
        """
        return self.held_out(X, y, folds=folds).evaluation()

    def held_out(self, X: Images, y: ArrayLike | None = None, *, folds: int | None = None) -> HeldOut:
        """The cross-validated predictions that `estimate` measures."""
        task, classes = self._task(X, y)
        return self._held_out(task, classes, folds)

    def _held_out(self, task: Task, classes: NDArray[Any], folds: int | None = None) -> HeldOut:
        return hold_out(
            create(self.method, self.settings),
            self._encoder(),
            task,
            tuple(map(_plain, classes)),
            folds=folds,
            seed=self.seed,
            micro_batch=self.micro_batch,
            progress=self.progress,
        )

    def _task(self, X: Images, y: ArrayLike | None) -> tuple[Task, NDArray[Any]]:
        """All images as the support of one task, and its sorted labels as they were given."""
        table, classes = labelled_table(X, y, self.class_names)
        options = X.options if isinstance(X, ImageTable) else ReadOptions()
        table = table.with_options(options if self.read_options is None else self._read_options())
        assert table.labels is not None
        task = Task(
            table,
            table.names,
            np.arange(len(table)),
            table.labels,
            template=self.template,
            descriptions=dict(self.descriptions or {}),
            key=key("fit", self.seed),
        )
        return task, classes

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
        return reading, self._encoder().size

    def _encoder(self) -> DualEncoder:
        """The base model, loaded once as long as model, device and precision stay the same."""
        if getattr(self, "_loaded", None) != self._wanted():
            self.use_encoder(load_encoder(self.model, device=self.device, precision=self.precision))
        return self._base

    def use_encoder(self, encoder: DualEncoder) -> FewShotClassifier:
        """Takes a base model that is loaded already: for programs that adapt the same one again and again."""
        self._base, self._loaded = encoder, self._wanted()
        return self

    def _wanted(self) -> tuple[str, str, str]:
        return str(self.model), self.device, self.precision

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

    def predict_proba(self, X: Images) -> Float[NDArray[np.float32], "B N"]:
        """Probability of each class of `classes_`; calibrated only if `calibrate` was asked for."""
        return softmax(self.logits(X) / np.float32(self.temperature_))

    def predict(self, X: Images) -> NDArray[Any]:
        """The most probable label of each image."""
        best = self.logits(X).argmax(1)  # first, since it says when nothing is fitted
        return self.classes_[best]

    def evaluate(self, table: ImageTable, *, include_support: bool = False) -> tuple[Evaluation, int]:
        """Quality on a labelled table, and how many of its images were left out because it was adapted to
        them.

        Raises:
            DataError: a class of the table that the classifier does not know, or nothing left to measure on.
        """
        rows, labels = self.unseen(table, include_support=include_support)
        probabilities = self.predict_proba(table.subset(rows))
        found = evaluate(labels, probabilities, [str(label) for label in self.classes_])
        return found, len(table) - len(rows)

    def unseen(
        self, table: ImageTable, *, include_support: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a labelled table that it was not adapted to, and the index in `classes_` of each.

        Raises:
            DataError: as `evaluate`.
        """
        check_is_fitted(self)
        table = table.with_options(self.read_options_)
        known = {str(label): i for i, label in enumerate(self.classes_)}
        unknown = [name for name in table.classes if name not in known]
        if unknown:
            raise DataError(
                f"The label {unknown[0]!r} is not one of the classes it was adapted to ({', '.join(known)}); "
                "leave those images out, or adapt anew with them."
            )
        if table.labels is None:
            raise DataError("The images have no labels to compare with.")
        used = set() if include_support else set(self.support_ids_)
        rows = np.array([row for row in range(len(table)) if table.id(row) not in used], dtype=np.int64)
        if not len(rows):
            raise DataError(
                "All these images were used for adapting: evaluate on others, or use --include-support."
            )
        return rows, np.array([known[table.classes[code]] for code in table.labels[rows]])

    # On disk -----------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the adapted model to a folder, whole or not at all."""
        check_is_fitted(self)
        write_folder(Path(folder), self.about(), self.adapted_.tensors(), self.adapted_.lora)

    def about(self) -> dict[str, Any]:
        """What farshot.json says of the adapted model."""
        path = Path(self.model).expanduser()
        encoder = self.encoder_
        return {
            "farshot_version": version("farshot"),
            "method": self.method,
            "revision": self.method_.revision,
            "settings": self.method_.settings(),
            "classes": list(map(_plain, self.classes_)),
            "class_names": list(self.adapted_.class_names),
            "descriptions": dict(self.descriptions or {}),
            "template": self.template,
            "base_model": str(path.resolve()) if path.is_dir() else str(self.model),
            "base_fingerprint": encoder.fingerprint,
            "precision": self.precision,
            "preprocessing": {
                "reading": self.adapted_.reading,
                "size": encoder.size,
                "mean": list(encoder.mean),
                "std": list(encoder.std),
                **self.read_options_.to_dict(),
            },
            "calibrate": self.calibrate,
            "temperature": self.temperature_,
            "seed": self.seed,
            "support_ids": self.support_ids_,
            "estimate": self.estimate_,
            "losses": [round(float(loss), 6) for loss in self.losses_],
            "trained_parameters": self.adapted_.trained,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }


def load(
    folder: str | Path,
    *,
    model: str | Path | None = None,
    device: str = "auto",
    encoder: DualEncoder | None = None,
) -> FewShotClassifier:
    """An adapted model as `save` wrote it.

    Args:
        folder: where it lies, or "hf:OWNER/NAME" for one on the hub.
        model: where the base model lies, if no longer where it was.
        encoder: the base model, where it is loaded already.

    Raises:
        ModelError: no such folder, damaged, or a base model of other content than the one it was adapted
            from.
    """
    about, tensors = read_folder(Path(folder))
    base = str(model or about["base_model"])
    try:
        encoder = encoder or load_encoder(base, device=device, precision=about["precision"])
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(
            f"The base model of {folder} cannot be loaded; name its place with --model. {error}"
        ) from error
    if encoder.fingerprint != about["base_fingerprint"]:
        raise ModelError(
            f"{folder} was adapted from {about['base_model']}, but the weights in {base} are others; name "
            "its base with --model."
        )
    method = create(about["method"], about["settings"])
    if method.revision != about["revision"]:
        raise ModelError(
            f"{folder} was made by revision {about['revision']} of {about['method']}, this farshot has "
            f"{method.revision}: "
            f"adapt anew, or use farshot {about['farshot_version']}."
        )
    classifier = FewShotClassifier(
        base,
        about["method"],
        settings=about["settings"],
        class_names=about["class_names"],
        descriptions=about["descriptions"],
        template=about["template"],
        read_options=saved_options(folder, about),
        calibrate=bool(about.get("calibrate", False)),
        precision=about["precision"],
        device=device,
        seed=about["seed"],
    )
    none = np.zeros(0, dtype=np.int64)
    task = Task(
        ImageTable((), None, (), ()), tuple(about["class_names"]), none, none, template=about["template"]
    )
    try:
        classifier.adapted_ = method.restore(encoder, task, tensors)
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"{folder} is damaged ({str(error).splitlines()[0][:200]}); copy it again or adapt anew."
        ) from error
    classifier.classes_ = np.asarray(about["classes"])
    classifier.encoder_, classifier.method_ = encoder, method
    classifier.use_encoder(encoder)
    classifier.losses_, classifier.temperature_ = np.asarray(about["losses"]), float(about["temperature"])
    classifier.adapted_.losses = classifier.losses_
    classifier.support_ids_ = about["support_ids"]
    classifier.estimate_ = about.get("estimate")
    classifier.read_options_ = classifier._read_options()
    return classifier


def _plain(label: Any) -> Hashable:
    """A label as Python and JSON know it.

    Raises:
        DataError: a label of another type, which could be predicted but not saved.
    """
    plain = label.item() if isinstance(label, np.generic) else label
    if not isinstance(plain, str | int | float):
        raise DataError(
            f"The label {plain!r} is neither a word nor a number, so it can be neither saved nor listed; "
            "use str(label)."
        )
    return plain
