"""Weights of 8 bits by onnxruntime's dynamic quantisation, and what they cost on the user's own images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.evaluation.intervals import Interval, PairedDifference, paired_difference, proportion_interval
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
    difference: PairedDifference
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


_BLOCKS = "vision.encoder."
"""What the names of the vision tower's blocks begin with in the traced module."""


def quantise(file: Path, to: Path) -> None:
    """The linear layers of the vision tower's blocks in 8 bits, which are nearly all weights; class texts,
    anchors and heads stay as they are.

    Activations are quantised as they come, so no images are needed for it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    chosen = [
        node.name for node in onnx.load(file).graph.node if node.op_type == "MatMul" and _in_block(node)
    ]
    # 7 of the 8 bits and a scale per column: processors without VNNI would else run over, and this way all
    # give the numbers that are measured here
    quantize_dynamic(
        file,
        to,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=chosen,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


def _in_block(node: Any) -> bool:
    """Whether a node was traced within a block; products of two activations in it are passed over anyway."""
    return any(_BLOCKS in entry.value for entry in node.metadata_props if entry.key.endswith("name_scopes"))


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
    right_before, right_after = before == labels, after == labels
    return Cost(
        proportion_interval(int(right_before.sum()), len(rows)),
        proportion_interval(int(right_after.sum()), len(rows)),
        paired_difference(right_after.astype(np.float64), right_before.astype(np.float64)),
        proportion_interval(int((before != after).sum()), len(rows)),
    )
