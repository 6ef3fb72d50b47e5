"""Export the LoRA for PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farshot.classifier import FewShotClassifier
from farshot.errors import ModelError
from farshot.export.about import check_place, describe, write_about
from farshot.export.card import adapter_card
from farshot.export.predictor import parts_of
from farshot.storage.atomic import whole_folder
from farshot.storage.model_folder import write_adapter
from farshot.storage.paths import base_name


def export_adapter(classifier: FewShotClassifier, out: Path) -> dict[str, Any]:
    """Write a folder that PEFT loads onto the base model; returns the content of export.json.

    Raises:
        DataError: the place is taken or cannot be written.
        ModelError: there is no LoRA.
    """
    check_place(out)
    adapted = classifier.adapted_
    if adapted.lora is None:
        raise ModelError(
            f"{classifier.method_.name} has no LoRA, so there is no adapter for PEFT; `--format onnx` "
            "exports it whole."
        )
    about = describe(classifier, "peft")
    about["left_out"] = [name for name, part in parts_of(adapted).items() if part is not adapted.lora]
    with whole_folder(out, check_place) as staging:
        write_adapter(staging, base_name(classifier.parameters_.model), adapted.tensors(), adapted.lora)
        (staging / "README.md").write_text(adapter_card(about), encoding="utf-8")
        return write_about(staging, about)
