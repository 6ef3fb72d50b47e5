"""Says what images show: python predict.py IMAGE ... Needs onnxruntime, numpy and pillow, nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
about = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(str(HERE / about["file"]), providers=["CPUExecutionProvider"])


def pixels(path: str) -> np.ndarray:
    """uint8 (R, R, 3): upright, over white, resized and cropped as the model expects."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = image.resize(about["images"]["resize"], Image.Resampling.BILINEAR)
    return np.asarray(image.crop(about["images"]["crop"]))


for path in sys.argv[1:]:
    probabilities = session.run(None, {"pixels": pixels(path)[None]})[0][0]
    best = probabilities.argmax()
    print(f"{path}\t{about['classes'][best]}\t{100 * probabilities[best]:.1f} %")
