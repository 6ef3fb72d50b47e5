"""One torch.export archive (.pt2): the same inputs and outputs as the ONNX file, for PyTorch without farshot.

Its weights are raw bytes. `torch.export.load` unpickles what an archive marks as pickled, though: nothing in
those written here, but anything in one that somebody else has changed.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import ModelError
from farshot.export.about import check_place, describe, interface, trust, write_about
from farshot.export.check import Predict, check_familiarity, check_same, samples
from farshot.export.predictor import Predictor, predictor, quiet
from farshot.storage.atomic import reason, whole_folder
from farshot.storage.json_text import as_json

FILE = "model.pt2"


def export_torch(
    classifier: FewShotClassifier, out: Path, images: ImageTable | None = None, *, p_values: bool = False
) -> dict[str, Any]:
    """Write a folder with model.pt2 and export.json; returns what export.json says.

    Args:
        images: to compare on instead of generated ones.
        p_values: as of `farshot.export.onnx_file.export_onnx`.

    Raises:
        DataError: the place is taken or cannot be written.
        ModelError: the method cannot be exported, or the file predicts something else.
    """
    check_place(out)
    module = predictor(classifier, p_values)
    about = describe(classifier, "torch") | interface(classifier, FILE) | trust(classifier, module.outputs)
    about["outputs"] = list(module.outputs)
    with whole_folder(out, check_place) as staging:
        file = staging / FILE
        _write(module, classifier.encoder_.size, file, about)
        run, table = runtimes(file, len(module.outputs)), samples(images)
        difference = check_same(classifier, run[0], table, "torch.export archive")
        if len(run) > 1:
            check_familiarity(classifier, run[1], table, "torch.export archive")
        about["checked"] = {"images": len(table), "largest_difference": difference, "precision": "float32"}
        about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        return write_about(staging, about)


def _write(module: Predictor, size: int, file: Path, about: dict[str, Any]) -> None:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with quiet(), torch.no_grad():
        try:
            program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
        except (RuntimeError, torch._dynamo.exc.Unsupported) as error:
            raise ModelError(
                f"{about['method']} cannot be written by torch.export ({reason(error)}); predict with "
                "farshot itself."
            ) from error
        for part in program.graph_module.modules():
            for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
                node.meta.pop("stack_trace", None)  # has paths of this computer
        whole = io.BytesIO()  # torch ends the process where it cannot write to a file, as on a full disk
        text = as_json(about, indent=2)
        torch.export.save(program, whole, extra_files={"export.json": text})
    file.write_bytes(whole.getbuffer())


def runtimes(file: Path, outputs: int) -> list[Predict]:
    """Each output of the archive as PyTorch runs it, as `farshot.export.check` takes it.

    Args:
        outputs: how many the archive has: probabilities (B, N), and similarities (B, 1) as the second.
    """
    with quiet():
        module = torch.export.load(file).module()

    def one(number: int) -> Predict:
        def predict(pixels: UInt8[NDArray[np.uint8], "B R R 3"]) -> Float[NDArray[np.float32], "B N"]:
            with torch.no_grad():
                found = module(torch.tensor(pixels))
            if outputs == 1:
                return found.numpy()
            return found[number].numpy() if number == 0 else found[number].numpy()[:, None]

        return predict

    return [one(number) for number in range(outputs)]
