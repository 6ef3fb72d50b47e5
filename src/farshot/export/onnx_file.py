"""One ONNX file: uint8 pixels (B, R, R, 3) in, probabilities (B, N) out; for methods on frozen features, and
for others where it is asked for, also the similarity (B,) to the labelled images, from which
predict.py computes a p-value.

Normalisation, class texts, anchors and strengths are constants in it. torch.onnx traces `Predictor`, so no
formula is written a second time; onnxruntime then runs the file, and it is refused where it differs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from farshot.arrays import NDArray
from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import DataError, ModelError
from farshot.export.about import check_place, describe, interface, trust, write_about
from farshot.export.check import Predict, check_familiarity, check_same, samples
from farshot.export.int8 import Cost, measure_cost, quantise
from farshot.export.predictor import PixelModel, predictor, quiet
from farshot.images import READ_BY, decode
from farshot.storage.atomic import reason, whole_folder
from farshot.storage.json_text import as_json

FILE = "model.onnx"
OPSET = 18  # of 2022: old enough for what runs on small machines
METADATA = (
    *("classes", "images", "temperature", "calibrated", "labelled_similarity", "held_out_probability"),
    *("limit", "opset", "dynamic_batch", "method", "base_model", "base_fingerprint", "estimate"),
    "student",
)
"""Entries of export.json that the file has, too: "farshot." before the name, the value as JSON."""

# before onnxruntime is imported: it gives this computer a number, writes it to the user's cache, and reports
# its use to a server otherwise
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

MOST_BYTES = 2**31 - 2**24  # a file of protobuf ends at 2 GiB; the graph needs some of it
_IMAGES = Path(decode.__file__).parent
_PROGRAM = (
    Path(__file__).with_name("predict.py"),
    *(_IMAGES / f"{name}.py" for name in READ_BY),
)
"""What predicts without farshot, and how it reads images."""


def export_onnx(
    classifier: FewShotClassifier,
    out: Path,
    images: ImageTable | None = None,
    *,
    int8: bool = False,
    p_values: bool = False,
) -> dict[str, Any]:
    """Writes a folder with model.onnx, export.json, and predict.py with what it reads images by; returns what
    export.json says.

    Args:
        images: to compare on instead of generated ones; with `int8` labelled, since its cost is measured on
            them.
        int8: weights of 8 bits.
        p_values: of a fine-tuned method hold the frozen encoder and the features of the labelled images, too.

    Raises:
        DataError: a package is missing, or the place is taken or cannot be written.
        ModelError: the method cannot be exported, or the file predicts something else.
    """
    needed_packages()
    check_place(out)
    with whole_folder(out, check_place) as staging:
        about = write_model(classifier, staging, "onnx", images, int8=int8, p_values=p_values)
        copy_program(staging)
        return write_about(staging, about)


def copy_program(folder: Path) -> None:
    """Put predict.py and what it reads images by into an export."""
    for file in _PROGRAM:
        shutil.copyfile(file, folder / file.name)


def write_model(
    classifier: FewShotClassifier,
    folder: Path,
    kind: str,
    images: ImageTable | None,
    *,
    int8: bool,
    p_values: bool,
) -> dict[str, Any]:
    """Write model.onnx and compare it with the adapted model; returns the facts for export.json, of which the
    file's metadata has what is needed to use it.

    Args:
        kind: of export, for export.json.
        images, int8, p_values: as of `export_onnx`.
    """
    if int8 and (images is None or images.labels is None):
        raise DataError(
            "Weights of 8 bits cost accuracy, which is measured on your own images: name a labelled folder "
            "with --images."
        )
    module, file = predictor(classifier, p_values), folder / FILE
    about = describe(classifier, kind) | interface(classifier, FILE) | trust(classifier, module.outputs)
    about["opset"] = OPSET
    write_onnx(module, classifier.encoder_.size, file, classifier.method_.name, about)
    table = samples(images)
    difference = check_same(classifier, runtime(file), table, "ONNX file")
    if "similarity" in module.outputs:
        check_familiarity(classifier, similarities(file), table, "ONNX file")
    about["checked"] = {"images": len(table), "largest_difference": difference, "precision": "float32"}
    if int8:
        about |= {"precision": "int8", "int8": _in_8_bits(classifier, file, images).to_dict()}
    about["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return about


def needed_packages() -> None:
    """Check that the extra is installed; called before any work."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"Exporting to ONNX needs an extra ({error.name} is missing): pip install 'farshot[onnx]'."
        ) from error


def write_onnx(module: PixelModel, size: int, file: Path, method: str, about: Mapping[str, Any]) -> None:
    """Trace a model into a file that takes any number of images.

    Args:
        about: what export.json says; `METADATA` of it is stored in the file, as JSON.
    """
    weights = sum(tensor.numel() * 4 for tensor in module.tensors())
    if weights > MOST_BYTES:
        raise ModelError(
            f"The weights take {weights / 2**30:.1f} GiB, and one ONNX file holds 2; leave out p-values if "
            "they were asked for, or use --format torch or a smaller base model."
        )
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["pixels"],
                output_names=list(module.outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            )
        except torch.onnx.OnnxExporterError as error:
            raise ModelError(
                f"{method} cannot be written as ONNX ({reason(error)}); predict with farshot itself."
            ) from error
        assert program is not None
        program.model.producer_name, program.model.producer_version = "farshot", about["farshot_version"]
        known = {name: as_json(about[name]) for name in METADATA if name in about}
        program.model.metadata_props.update({f"farshot.{name}": text for name, text in known.items()})
        for node in program.model.graph.all_nodes():
            for name in [name for name in node.metadata_props if name.startswith("pkg.torch.")]:
                del node.metadata_props[name]  # stack traces, with paths of this computer
        program.save(file, external_data=False)


def runtime(file: Path, threads: int = 0) -> Predict:
    """The file as onnxruntime runs it; 0 threads are as many as it chooses."""
    session = _session(file, threads)

    def predict(pixels: UInt8[NDArray[np.uint8], "B R R 3"]) -> Float[NDArray[np.float32], "B N"]:
        return session.run(["probabilities"], {"pixels": pixels})[0]

    return predict


def similarities(file: Path) -> Predict:
    """The second output of the file as onnxruntime runs it, (B, 1)."""
    session = _session(file)
    return lambda pixels: session.run(["similarity"], {"pixels": pixels})[0][:, None]


def _session(file: Path, threads: int = 0) -> Any:
    """Its threads sleep while they wait: where they spin, a busy machine takes twice as long."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _in_8_bits(classifier: FewShotClassifier, file: Path, images: ImageTable | None) -> Cost:
    """Replace the file by one with 8-bit weights; returns the cost in accuracy."""
    assert images is not None
    quantised = file.with_name("int8.onnx")
    with quiet():
        quantise(file, quantised)
    cost = measure_cost(classifier, runtime(file), runtime(quantised), images)
    cost = cost.with_sizes(file.stat().st_size, quantised.stat().st_size)
    quantised.replace(file)
    return cost


def _stable_sort(self, stable=None, dim=-1, descending=False):  # type: ignore[no-untyped-def]
    """torch's stable sort as ONNX's TopK of all: among equals, both have the lower index first."""
    from onnxscript import opset18 as op

    count = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    return op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)
