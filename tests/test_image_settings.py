"""How a checkpoint's files say that images are resized and normalised: the pixels are the library's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from farshot.errors import ModelError
from farshot.images.preprocess import prepare
from farshot.model.encoder import normalise
from farshot.model.find import load_encoder
from tests.checkpoints import write_checkpoint
from tests.test_formats_dino import made

OTHER = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 0.2], "resample": 2}
SIDES = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


def pixels_of(folder: Path) -> torch.Tensor:
    """What the encoder's first layer sees of the picture."""
    encoder = load_encoder(folder)
    about = encoder.preprocessing
    pixels = torch.from_numpy(prepare(picture(), about.reading, encoder.size).copy())
    return normalise(pixels[None], about.mean, about.std)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "do_normalize": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_pixels_are_those_of_transformers(file: str, changes: dict[str, Any], tmp_path: Path):
    """transformers 5 saves the settings within `processor_config.json`."""
    write_checkpoint(tmp_path, depth=1)
    processor = CLIPImageProcessor(**OTHER, **SIDES, **changes)
    settings = processor.to_dict()
    (tmp_path / file).write_text(
        json.dumps({"image_processor": settings} if file.startswith("processor") else settings)
    )
    wanted = torch.as_tensor(np.asarray(processor(picture())["pixel_values"][0])).float()
    error = (pixels_of(tmp_path) - wanted).abs().max() / wanted.abs().max()
    assert error < 0.01  # a grey level of the filter


def test_the_older_file_counts_where_both_are_there(tmp_path: Path):
    write_checkpoint(tmp_path, depth=1)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OTHER))
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"image_mean": [1, 1, 1]}}')
    assert load_encoder(tmp_path).preprocessing.mean == (0.1, 0.2, 0.3)


def test_a_factor_that_no_pixel_can_be_multiplied_by_is_refused(tmp_path: Path):
    write_checkpoint(tmp_path, depth=1)
    (tmp_path / "preprocessor_config.json").write_text('{"rescale_factor": 0}')
    with pytest.raises(ModelError, match="multiplies pixels by 0"):
        load_encoder(tmp_path)


def test_dinos_settings_of_transformers_5_are_read(tmp_path: Path):
    made("dinov2", tmp_path)
    settings = OTHER | {"do_center_crop": True, "crop_size": {"height": 42, "width": 42}}
    settings |= {"size": {"shortest_edge": 56}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    encoder = load_encoder(tmp_path)
    assert (encoder.size, encoder.preprocessing.reading) == (42, "shortest56-bilinear-floor")
    assert encoder.preprocessing.mean == (0.1, 0.2, 0.3)
