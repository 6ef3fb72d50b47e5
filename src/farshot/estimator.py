"""scikit-learn's estimator protocol without importing scikit-learn, which takes longer than importing
PyTorch.

It is loaded only where something asks for it: `clone`, `GridSearchCV`, `Pipeline`, a score with weights.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from farshot.errors import DataError

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

        Raises:
            DataError: not one label per image.
        """
        found, true = np.asarray(self.predict(X)), np.asarray(y)  # type: ignore[attr-defined]
        if true.shape == (len(found), 1):
            true = true.ravel()
        if true.shape != found.shape:
            raise DataError(
                f"There are {len(found)} images but labels of shape {true.shape}; give one label per image."
            )
        weights = None if sample_weight is None else np.asarray(sample_weight)
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
