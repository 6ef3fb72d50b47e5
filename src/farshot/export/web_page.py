"""A web page that classifies pictures in the browser: a folder for any static host, without a server of
farshot's and without requests to others.

The model is the file of the ONNX export; reading.js resizes pictures as Pillow does.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from farshot.classifier import FewShotClassifier
from farshot.data.table import ImageTable
from farshot.errors import ModelError
from farshot.export.about import check_place, write_about
from farshot.export.onnx_file import needed_packages, write_model
from farshot.export.web_runtime import FILES, NAMED, runtime_files
from farshot.storage.atomic import whole_folder

_PAGE = Path(__file__).with_name("page")
_NAMES = dict(zip(FILES, ("onnxruntime-web.js", "onnxruntime-web.wasm"), strict=True))
"""What the files are called on the page: many hosts do not know the ending mjs, and browsers then refuse
it."""
_NOTICES = {
    "LICENSE": "LICENSE.onnxruntime.txt",
    "ThirdPartyNotices.txt": "ThirdPartyNotices.onnxruntime.txt",
}


def export_web(
    classifier: FewShotClassifier,
    out: Path,
    images: ImageTable | None = None,
    *,
    int8: bool = False,
    p_values: bool = False,
    runtime: Path | None = None,
) -> dict[str, Any]:
    """Write a folder with index.html and all that it needs; returns what export.json says.

    Args:
        images, int8, p_values: as of `export_onnx`.
        runtime: folder of onnxruntime-web; by default from farshot's cache or the npm registry.

    Raises:
        DataError: a package or onnxruntime-web is missing, or the place is taken or cannot be written.
        ModelError: the method cannot be exported, the file predicts something else, or pictures are read by
            options that a browser does not have.
    """
    needed_packages()
    check_place(out)
    chosen = [name for name, value in classifier.read_options_.to_dict().items() if value is not None]
    if chosen:
        raise ModelError(
            f"This model reads pictures with {' and '.join(chosen)}, which browsers cannot: they decode to "
            "8 bits and three colours. Use --format onnx."
        )
    fetched = runtime_files(runtime)
    with whole_folder(out, check_place) as staging:
        about = write_model(classifier, staging, "web", images, int8=int8, p_values=p_values)
        about["runtime"] = NAMED
        for file in sorted(_PAGE.iterdir()):
            shutil.copyfile(file, staging / file.name)
        for name, content in fetched.items():
            (staging / _NAMES[name]).write_bytes(content)
        _copy_notices(staging)
        return write_about(staging, about)


def _copy_notices(staging: Path) -> None:
    """Licence and notices of ONNX Runtime, which its package for Python has and that for npm lacks."""
    found = importlib.util.find_spec("onnxruntime")
    assert found is not None and found.origin is not None
    for name, copy in _NOTICES.items():
        shutil.copyfile(Path(found.origin).with_name(name), staging / copy)
