"""Say what images show: python predict.py IMAGE ... Needs onnxruntime, numpy and pillow, nothing else.

"not sure" follows a class whose probability is below the limit in export.json, where the model has one.
--reject 0.05 gives no class to images that are unlike all labelled ones, and also loses about 5 % of those
that are like them; --coverage 0.9 adds the classes that hold the true one with this probability. Both need
what export.json holds: for --reject, export a fine-tuned model with --p-values.

Images are read as farshot reads them: the other Python files next to this one are copies of its code. A file
that cannot be read is reported on the error stream, the others are predicted, and the exit status is 1. Lines
are UTF-8 in every terminal; it is 141 if their reader has gone, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import bisect
import io
import json
import math
import os
import sys
import types
import warnings
from pathlib import Path

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it writes a number of this computer and reports its use
import onnxruntime

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the folder stays as it was written
package = types.ModuleType("reading")  # the files next to this one, as the package that their imports expect
package.__path__ = [str(HERE)]
sys.modules["reading"] = package

from reading.decode import decode  # noqa: E402
from reading.faults import Unreadable  # noqa: E402
from reading.options import ReadOptions  # noqa: E402
from reading.preprocess import prepare, wanted_side  # noqa: E402

ABOUT = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
READING = ABOUT["images"]


def shown(name: str) -> str:
    """A name without what a terminal would obey."""
    return "".join(c if ord(c) >= 32 and not 127 <= ord(c) < 160 else repr(c)[1:-1] for c in name)


def pixels(path: str) -> np.ndarray:
    """uint8 (R, R, 3): upright, over white, resized and cropped as the model expects."""
    reading, size = READING["reading"], READING["size"]
    picture = decode(path, ReadOptions.from_dict(READING), wanted=wanted_side(reading, size))
    for note in picture.notes:
        print(f"Note: {shown(path)}: {note}", file=sys.stderr)
    return prepare(picture.image, reading, size)


NO_P_VALUES = (
    "a student knows nothing of the labelled images"
    if ABOUT.get("student")
    else "it holds no features of the labelled images; write it again with "
    "farshot export MODEL --format onnx --p-values --out FOLDER"
)


def needed(name: str, why: str) -> list:
    """What export.json holds of this name."""
    if not ABOUT.get(name):
        sys.exit(f"This model cannot do that: {why}.")
    return ABOUT[name]


def check_share(option: str, value: float) -> None:
    """Ends the program where this is no share."""
    if not 0 < value < 1:
        sys.exit(f"{option} must lie between 0 and 1, not {value:g}.")


def set_threshold(coverage: float) -> float:
    """The probability from which on a class is in the set of an image."""
    known = needed("held_out_probability", "it was adapted without --calibrate, or is a student")
    check_share("--coverage", coverage)
    rank = math.ceil((len(known) + 1) * coverage - 1e-9)
    if rank > len(known):
        sys.exit(f"--coverage {coverage:g} is too much for {len(known)} labelled images.")
    return known[len(known) - rank]


def sure(probability: float, limit: dict) -> bool:
    """Whether it reaches the limit that the model was given; float32 differs in the last digits."""
    return limit["probability"] is not None and probability >= limit["probability"] - 1e-6


def line(path: str, outputs: list, reject: float | None, threshold: float | None) -> str:
    """What is printed for an image."""
    probabilities = outputs[0][0]
    best = probabilities.argmax()
    # a percentage only where the probabilities are calibrated
    certain = (
        f"{100 * probabilities[best]:.1f} %"
        if ABOUT["temperature"] != 1
        else f"score {probabilities[best]:.3f}"
    )
    words = [shown(path), shown(str(ABOUT["classes"][best])), certain]
    p_value = None
    if len(outputs) > 1:
        known = ABOUT["labelled_similarity"]
        p_value = (1 + bisect.bisect_right(known, float(outputs[1][0]) + 1e-6)) / (1 + len(known))
    limit = ABOUT.get("limit")
    if limit is not None and not sure(float(probabilities[best]), limit):
        words.append("not sure")
    rejected = reject is not None and p_value is not None and p_value <= reject
    if rejected:
        words[1:] = ["none of these", "-"]
    if p_value is not None:
        words.append(f"p {p_value:.3f}")
    if threshold is not None:
        order = (-probabilities).argsort(kind="stable")
        chosen = [c for c in order if probabilities[c] >= threshold or c == best]
        chosen = [] if rejected else chosen
        words.append("{" + ", ".join(shown(str(ABOUT["classes"][c])) for c in chosen) + "}")
    return "\t".join(words)


def main(arguments: list) -> int:
    """Predicts the images one by one; returns the exit status."""
    parser = argparse.ArgumentParser(description="Say what images show.")
    parser.add_argument("paths", nargs="*", metavar="IMAGE")
    parser.add_argument(
        "--reject", type=float, help="no class for images whose p is at most this, such as 0.05"
    )
    parser.add_argument(
        "--coverage", type=float, help="add the classes that hold the true one so often, such as 0.9"
    )
    given = parser.parse_args(arguments)
    if given.reject is not None:
        known = needed("labelled_similarity", NO_P_VALUES)
        check_share("--reject", given.reject)
        if given.reject < 1 / (len(known) + 1):
            sys.exit(f"--reject {given.reject:g} is too little for {len(known)} labelled images.")
    threshold = None if given.coverage is None else set_threshold(given.coverage)
    warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels are what counts
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other programs get on
    session = onnxruntime.InferenceSession(
        str(HERE / ABOUT["file"]), options, providers=["CPUExecutionProvider"]
    )
    bad = 0
    for path in given.paths:
        try:
            image = pixels(path)
        except Unreadable as error:
            print(f"{shown(path)}: {error.reason}", file=sys.stderr)
            bad += 1
            continue
        outputs = session.run(None, {"pixels": image[None]})
        print(line(path, outputs, given.reject, threshold), flush=True)
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
