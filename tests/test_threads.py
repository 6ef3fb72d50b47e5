"""Any number of threads may predict with any number of adapted models on one encoder."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from farshot import FewShotClassifier
from farshot.images.reading import image_id, read_image
from farshot.model.find import load_encoder
from tests.toy import world_table

TABLE = world_table(count=40)
THREADS = 8
QUICK = {"views": "none", "steps": 2, "lora_lr": 0.01}


@pytest.mark.slow
@pytest.mark.parametrize("predictions", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_eight_threads_with_three_models_on_one_encoder(predictions: int) -> None:
    encoder = load_encoder("mini")
    support, others = TABLE.draw(2, 0)
    queries = [TABLE.subset(others[i : i + 2]) for i in range(0, 8, 2)]
    models = [
        FewShotClassifier(encoder, method, settings=settings).fit(TABLE.subset(support))
        for method, settings in (("atha", QUICK), ("prompt-lora", QUICK), ("zero-shot", {}))
    ]
    wanted = [[model.logits(table) for table in queries] for model in models]

    def predict(number: int) -> list[float]:
        torch.set_num_threads(1)
        found = []
        for i in range(predictions):
            model, table = (number + i) % len(models), (number * 7 + i) % len(queries)
            found.append(float(np.abs(models[model].logits(queries[table]) - wanted[model][table]).max()))
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        differences = [value for found in pool.map(predict, range(THREADS)) for value in found]
    assert len(differences) == THREADS * predictions
    assert max(differences) == 0
    again = [[model.logits(table) for table in queries] for model in models]
    for one, other in zip(wanted, again, strict=True):
        assert all(map(np.array_equal, one, other))


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_one_pil_image_is_decoded_by_any_number_of_threads(ending: str, tmp_path: Path) -> None:
    """A PIL image decodes its file when it is first used."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = tmp_path / f"picture.{ending}"
    Image.fromarray(pixels).resize((400, 300)).save(file)
    wanted, name = np.asarray(read_image(file)), image_id(Image.open(file))

    def read(image: Image.Image) -> bool:
        return np.array_equal(np.asarray(read_image(image)), wanted) and image_id(image) == name

    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            assert all(pool.map(read, [Image.open(file)] * 4))
