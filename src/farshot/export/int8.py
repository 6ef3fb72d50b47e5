"""Weights of 8 bits by onnxruntime's dynamic quantisation, and what they cost on the user's own images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farshot.classifier import FewShotClassifier
from farshot.data.independence import units_of_copies
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.intervals import Interval
from farshot.evaluation.metrics import compare_shares, share_interval
from farshot.export.check import Predict, predict_table


@dataclass(frozen=True)
class Cost:
    """What 8 bits changed, on labelled images that the model was not adapted to.

    Attributes:
        float32, int8: share of images classified right, 95 % Wilson intervals.
        difference: int8 minus float32, image by image.
        changed: share of images that get another class.
        float32_bytes, int8_bytes: size of the file.
    """

    float32: Interval
    int8: Interval
    difference: Interval
    changed: Interval
    float32_bytes: int = 0
    int8_bytes: int = 0

    def with_sizes(self, float32_bytes: int, int8_bytes: int) -> Cost:
        """The same with the sizes of the files."""
        return dataclasses.replace(self, float32_bytes=float32_bytes, int8_bytes=int8_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        shares = {
            name: {"value": share.mean, "low": share.low, "high": share.high}
            for name, share in (("float32", self.float32), ("int8", self.int8), ("changed", self.changed))
        }
        difference = {name: getattr(self.difference, name) for name in ("mean", "low", "high")}
        sizes = {"float32_bytes": self.float32_bytes, "int8_bytes": self.int8_bytes}
        return {"images": self.float32.n, **shares, "difference": difference, **sizes}


_LINEAR = "aten.linear.default"
"""What the tracer calls the product of a linear layer."""


def quantise(file: Path, to: Path) -> None:
    """The linear layers of the vision tower in 8 bits, which are nearly all weights; class texts, anchors,
    heads and features of labelled images stay as they are.

    Activations are quantised as they come, so no images are needed for it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(file)
    chosen = [node for node in model.graph.node if node.op_type == "MatMul" and _is_linear(node)]
    _store_transposed(model.graph, chosen)
    # 7 of the 8 bits and a scale per column: processors without VNNI would else run over, and this way all
    # give the numbers that are measured here
    quantize_dynamic(
        model,
        to,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=[node.name for node in chosen],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


def _is_linear(node: Any) -> bool:
    return any(entry.value.endswith(_LINEAR) for entry in node.metadata_props if entry.key == "namespace")


def _store_transposed(graph: Any, products: Sequence[Any]) -> None:
    """Store weights in the order in which they are multiplied. The tracer leaves larger ones to be transposed
    in every run, and only stored weights are quantised."""
    from onnx import numpy_helper

    stored = {one.name: one for one in graph.initializer}
    turned = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in stored and len(stored[node.input[0]].dims) == 2
    }
    for node in products:
        weight = turned.get(node.input[1])
        if weight is not None:
            name = f"{weight}_transposed"
            if name not in stored:
                value = np.ascontiguousarray(numpy_helper.to_array(stored[weight]).T)
                stored[name] = numpy_helper.from_array(value, name)
                graph.initializer.append(stored[name])
            node.input[1] = name
    used = {name for node in graph.node for name in node.input}
    for node in [node for node in graph.node if node.output[0] in turned.keys() - used]:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for weight in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(weight)


def measure_cost(classifier: FewShotClassifier, float32: Predict, int8: Predict, images: ImageTable) -> Cost:
    """Both files on the labelled images that the model was not adapted to."""
    rows, labels = classifier.unseen(images)
    if len(rows) < 2:
        raise DataError(
            "The cost of 8 bits needs at least two labelled images that the model was not adapted to; add "
            "some to the folder of --images."
        )
    table = images.subset(rows)
    before, after = (predict_table(classifier, run, table).argmax(1) for run in (float32, int8))
    unit = units_of_copies(table.contents(), table.groups)
    ours, theirs, difference = compare_shares(after == labels, before == labels, unit)
    return Cost(theirs, ours, difference, share_interval(before != after, unit))
