"""farshot adapts CLIP to images it has never seen, from a handful of labelled pictures."""

import logging
from typing import TYPE_CHECKING, Any

from farshot.errors import FarshotError

logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from farshot.classifier import FewShotClassifier, load
    from farshot.model.find import load_encoder

    __version__: str

__all__ = ["FarshotError", "FewShotClassifier", "__version__", "load", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("farshot")
    # the classifier brings PyTorch with it: only those who use it wait for that
    if name == "load_encoder":
        from farshot.model.find import load_encoder

        return load_encoder
    if name in ("FewShotClassifier", "load"):
        from farshot import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module 'farshot' has no attribute {name!r}")
