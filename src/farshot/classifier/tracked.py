"""Settings and results of a classifier for experiment trackers (farshot.training.tracking)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farshot.evaluation.metrics import Evaluation
from farshot.methods import Method
from farshot.model.encoder import Encoder
from farshot.storage.paths import base_name
from farshot.task import Task
from farshot.training.tracking import current

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier


def tell_settings(classifier: FewShotClassifier, method: Method, encoder: Encoder, task: Task) -> None:
    """Tell what a fit begins with."""
    if (tracker := current()) is not None:
        facts = {"model": base_name(str(encoder.source)), "method": method.name, "seed": int(classifier.seed)}
        facts |= {"precision": encoder.precision, "template": task.template}
        facts |= {"images": len(task.support), "classes": list(task.class_names)}
        tracker.on_settings("fit", facts | dict(method.settings()))


def told(name: str, found: Evaluation) -> Evaluation:
    """Tell a result, and return it."""
    if (tracker := current()) is not None:
        tracker.on_result(name, found.values())
    return found
