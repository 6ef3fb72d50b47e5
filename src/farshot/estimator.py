"""scikit-learn's estimator protocol without importing scikit-learn, which takes longer than importing
PyTorch.

It is loaded only where something asks for it: `clone`, `GridSearchCV`, `Pipeline`, a score with weights.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from farshot.arrays import NDArray
from farshot.data.given import labels_of
from farshot.data.names import nfc
from farshot.errors import DataError
from farshot.sanitize import short

C = TypeVar("C", bound="ClassifierProtocol")


class ClassifierProtocol:
    """The methods that scikit-learn requires of a classifier in addition to `fit` and `predict`.

    Constructor arguments are kept as attributes of the same name.
    """

    _estimator_type = "classifier"

    @classmethod
    def parameter_names(cls) -> list[str]:
        """Names of the constructor's arguments, sorted."""
        return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

    @classmethod
    def _get_param_names(cls) -> list[str]:  # scikit-learn's own name, which its checks call
        return cls.parameter_names()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments.

        Args:
            deep: no argument is an estimator, so it makes no difference.
        """
        return {name: getattr(self, name) for name in self.parameter_names()}

    def set_params(self: C, **params: Any) -> C:
        """Changes constructor arguments; a fitted model stays as it is until the next `fit`.

        Raises:
            ValueError: an unknown name.
        """
        known = self.parameter_names()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. Valid parameters are: {known!r}."
                )
            setattr(self, name, value)
        return self

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of `predict` on labelled images.

        Numbers are compared as numbers, anything else as text, in Unicode's composed form; a label that was
        not fitted counts as wrong.

        Raises:
            DataError: not one label, or one weight, per image; labels that are no classes, none of which was
                fitted, or weights that sum to nothing.
        """
        found: NDArray[Any] = self.predict(X)  # type: ignore[attr-defined]
        classes: NDArray[Any] = self.classes_  # type: ignore[attr-defined]
        true = labels_of(np.ravel(y) if getattr(y, "shape", ())[1:] == (1,) else y, len(found))
        if not all(values.dtype.kind in "biuf" for values in (true, classes)):
            true, classes, found = (_as_text(values) for values in (true, classes, found))
        if len(true) and not np.isin(true, classes).any():
            raise DataError(
                f"None of the labels, such as {short(true[0])}, is one of the classes it was fitted to "
                f"({', '.join(map(str, classes))}); give labels of these."
            )
        weights = None if sample_weight is None else _checked_weights(sample_weight, len(true))
        return float(np.average(found == true, weights=weights))

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name].default and repr(value) != repr(defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "classes_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            transformer_tags=None,
            regressor_tags=None,
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )


def _as_text(labels: NDArray[Any]) -> NDArray[Any]:
    return np.array([nfc(str(label)) for label in labels.tolist()], dtype=object)


def _checked_weights(given: ArrayLike, images: int) -> NDArray[np.float64]:
    """Weights of images.

    Raises:
        DataError: another number of them, or they are not numbers above 0.
    """
    try:
        weights = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("sample_weight holds something else than numbers; give one per image.") from None
    if weights.shape != (images,):
        raise DataError(
            f"There are {images} images but sample_weight has the shape {weights.shape}; give one per image."
        )
    if not np.isfinite(weights).all() or weights.min(initial=0) < 0 or weights.sum() == 0:
        raise DataError("sample_weight must be numbers of at least 0, of which some are above 0.")
    return weights


def check_is_fitted(estimator: Any) -> None:
    """Raise an error if the estimator is not fitted.

    Raises:
        sklearn.exceptions.NotFittedError: it has not been fitted.
    """
    if not hasattr(estimator, "classes_"):
        from sklearn.exceptions import NotFittedError

        raise NotFittedError(
            f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate "
            "arguments before using this estimator."
        )
