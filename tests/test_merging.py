"""An adapted model with its weights merged, as an export takes it, predicts the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from farshot import FewShotClassifier
from farshot.export.predictor import predictor
from tests.toy import toy_task, world_table

TABLE = world_table("mini-land", 60)


@pytest.mark.parametrize(
    "settings",
    [{"base": "full"}, {"base": "bitfit"}, {"base": "clip-lora"}, {"variant": "released"}, {}],
    ids=str,
)
def test_merged_weights_keep_the_anchors_of_the_frozen_model(settings: dict[str, Any]) -> None:
    task = toy_task(TABLE, shots=2)
    chosen = {"steps": 4, "views": "none", **settings}
    made = FewShotClassifier("mini", "atha", settings=chosen).fit(TABLE.subset(task.support))
    queries = TABLE.subset(task.query[:8])
    pixels = np.stack(
        [queries.pixels([row], made.adapted_.reading, made.encoder_.size)[0] for row in range(8)]
    )
    with torch.no_grad():
        found = predictor(made)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, made.predict_proba(queries), atol=1e-5)
