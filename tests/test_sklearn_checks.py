"""FewShotClassifier passes scikit-learn's own checks of an estimator, but for those that images cannot pass.

The checks give tables of numbers; `OfRows` draws every row as a picture of vertical stripes, so that they can
run. What they fit is a linear probe, which learns in a moment and looks at its images.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sklearn
from jaxtyping import config
from numpy.typing import ArrayLike
from PIL import Image
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.fixes import parse_version

from farshot import FewShotClassifier

NUMBERS = (
    "is about faults that tables have and pictures have not: those are refused by name, see test_reading"
)
FEATURES = "pictures of any size are taken, so there is no number of features to keep and compare"
CANNOT_PASS = {
    "check_classifiers_train": f"{FEATURES}: its last lines; linear-probe passes what comes before them",
    "check_complex_data": NUMBERS,
    "check_estimator_sparse_array": NUMBERS,
    "check_estimator_sparse_matrix": NUMBERS,
    "check_estimator_sparse_tag": NUMBERS,
    "check_estimators_empty_data_messages": NUMBERS,
    "check_estimators_nan_inf": NUMBERS,
    "check_fit2d_predict1d": NUMBERS,
    "check_n_features_in": FEATURES,
    "check_n_features_in_after_fitting": FEATURES,
    "check_supervised_y_2d": "a column of labels is refused with one sentence, not reshaped with a warning",
}
if parse_version(sklearn.__version__) >= parse_version("1.9"):  # earlier ones have it for other estimators
    CANNOT_PASS["check_array_api_input"] = (
        "runs only where SCIPY_ARRAY_API is set; images are arrays of NumPy"
    )


def pictures(rows: ArrayLike) -> list[Image.Image]:
    """One picture per row, as many stripes as numbers. Rows that differ are different pictures, if only in
    the lowest bits, since a picture cannot have two labels."""
    numbers = np.atleast_2d(np.asarray(rows, dtype=np.float64))
    grey = np.round(255 / (1 + np.exp(-numbers))).astype(np.uint8)
    found = []
    for row, stripes in zip(numbers, grey, strict=True):
        bits = np.unpackbits(np.frombuffer(hashlib.sha256(row.tobytes()).digest(), np.uint8))
        pixels = np.tile(stripes.repeat(4), (8, 1)) & 254
        found.append(Image.fromarray(pixels | np.resize(bits, pixels.shape)))
    return found


class OfRows(FewShotClassifier):
    """The classifier, on rows of numbers."""

    def fit(self, X: Any, y: Any = None) -> "OfRows":
        super().fit(pictures(X), y)
        return self

    def logits(self, X: Any) -> Any:
        return super().logits(pictures(X))


with warnings.catch_warnings():
    # it follows scikit-learn's protocol without its base class, whose import takes longer than PyTorch's
    warnings.filterwarnings("ignore", "Estimator OfRows does not inherit", UserWarning)
    CHECKS = list(estimator_checks_generator(OfRows("mini", "linear-probe"), mark=None))


@pytest.fixture(autouse=True)
def wrong_types_on_purpose() -> Iterator[None]:
    """The checks give what annotations forbid, to see how it is refused; here only farshot may refuse."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def _name(check: Any) -> str:
    return str(check.func.__name__) if hasattr(check, "func") else ""


@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=_name)
def test_a_check_passes_or_its_reason_stands_above(estimator: OfRows, check: Callable[[OfRows], None]):
    if _name(check) not in CANNOT_PASS:
        check(estimator)
        return
    with pytest.raises(Exception):  # noqa: B017  of any kind; one that passes by now must leave the list
        check(estimator)


def test_the_list_names_checks_that_there_are():
    assert set(CANNOT_PASS) <= {_name(check) for _, check in CHECKS}
