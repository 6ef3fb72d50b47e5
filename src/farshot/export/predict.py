"""Say what images show: python predict.py IMAGE ... Needs onnxruntime, numpy and pillow, nothing else.

Images are read as farshot reads them: decode.py, kinds.py and tiff.py next to this file are copies of its
code. A file that cannot be read is reported on the error stream, the others are predicted, and the exit
status is 1. Lines are UTF-8 in every terminal; it is 141 if their reader has gone, and 130 after Ctrl-C.
"""

import io
import json
import os
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).resolve().parent
package = types.ModuleType("reading")  # the files next to this one, as the package that their imports expect
package.__path__ = [str(HERE)]
sys.modules["reading"] = package

from reading.decode import ReadOptions, Unreadable, decode  # noqa: E402

ABOUT = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
READING = ABOUT["images"]


def pixels(path: str) -> np.ndarray:
    """uint8 (R, R, 3): upright, over white, resized and cropped as the model expects."""
    picture = decode(path, ReadOptions.from_dict(READING), wanted=max(READING["resize"]))
    for note in picture.notes:
        print(f"Note: {path}: {note}", file=sys.stderr)
    image = picture.image
    if image.size != tuple(READING["resize"]):
        image = image.resize(READING["resize"], 2)  # bilinear
    return np.asarray(image.crop(READING["crop"]))


def main(paths: list) -> int:
    """Predicts the images one by one; returns the exit status."""
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels are what counts
    session = onnxruntime.InferenceSession(str(HERE / ABOUT["file"]), providers=["CPUExecutionProvider"])
    bad = 0
    for path in paths:
        try:
            image = pixels(path)
        except Unreadable as error:
            print(f"{path}: {error.reason}", file=sys.stderr)
            bad += 1
            continue
        probabilities = session.run(None, {"pixels": image[None]})[0][0]
        best = probabilities.argmax()
        highest = probabilities[best]
        # a percentage only where the probabilities are calibrated
        certain = f"{100 * highest:.1f} %" if ABOUT["temperature"] != 1 else f"score {highest:.3f}"
        print(f"{path}\t{ABOUT['classes'][best]}\t{certain}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    for stream, encoding in ((sys.stdout, "utf-8"), (sys.stderr, None)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to be flushed
        status = 141
    sys.exit(status)
