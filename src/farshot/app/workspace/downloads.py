"""Downloads: the adapted model, an ONNX file, a report, the predictions."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.run import Adaptation, last_run
from farshot.app.workspace.state import Workspace
from farshot.errors import DataError
from farshot.export.about import load_exact
from farshot.export.onnx_file import export_onnx
from farshot.report.model import model_report
from farshot.report.page import write_page
from farshot.sanitize import cell
from farshot.storage.atomic import replaced
from farshot.storage.model_folder import read_folder

_MOST_CHECKED = 16  # pictures that an ONNX file is compared with the model on


@dataclass(frozen=True)
class Download:
    """A download.

    Attributes:
        file: what it is called.
        about: what it is for, one sentence.
        make: writes it to a path.
        sources: files of the workspace that it is made of: one of them changed, and it is out of date.
        of_state: whether it is made of pictures' names and labels, too.
    """

    file: str
    about: str
    make: Callable[[Workspace, Adaptation, Encoders, Path], None]
    sources: tuple[str, ...] = ("adapted/farshot.json",)
    of_state: bool = False


def prepare(workspace: Workspace, encoders: Encoders, name: str, report: Report | None = None) -> Path:
    """Prepare a download of the adapted model.

    Raises:
        FarshotError: one sentence on why it cannot be made.
    """
    with encoders.turn(report):
        run = last_run(workspace)
        if run is None:
            raise DataError("Adapt a model first; then there is something to take away.")
        folder = workspace.folder / "downloads"
        folder.mkdir(exist_ok=True)
        place = folder / DOWNLOADS[name].file
        sources = _sources(workspace, name)
        DOWNLOADS[name].make(workspace, run, encoders, place)
        write_json(folder / f"{name}.json", {"sources": sources})
        return place


def is_ready(workspace: Workspace, name: str) -> bool:
    """Whether a download is there and nothing that it is made of has changed since."""
    folder = workspace.folder / "downloads"
    if not (folder / DOWNLOADS[name].file).is_file() or not (folder / f"{name}.json").is_file():
        return False
    return read_json(folder / f"{name}.json").get("sources") == _sources(workspace, name)


def _sources(workspace: Workspace, name: str) -> list[list[str | int]]:
    """Name, time and size of the files that a download is made of."""
    files = [workspace.folder / source for source in DOWNLOADS[name].sources]
    if DOWNLOADS[name].of_state:
        files += workspace.state_files()
    abouts = [(file.name, file.stat()) for file in files if file.is_file()]
    return [[place, about.st_mtime_ns, about.st_size] for place, about in abouts]


def _model(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    _zip(workspace.adapted, place)


def _onnx(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    staging = place.with_suffix("")
    try:
        own = workspace.table(workspace.pictures[:_MOST_CHECKED])
        export_onnx(load_exact(workspace.adapted), staging, own)
        _zip(staging, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _report(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    about, tensors = read_folder(workspace.adapted)
    write_page(place, "model.html", model_report(about, tensors))


def _predictions(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["image", "label", "class", "sure", "unlike", *(f"p({name})" for name in run.classes)])
    for picture in workspace.pictures:
        answer = run.answer(picture.id)
        if answer is None:
            writer.writerow(
                [cell(picture.name), cell(picture.label or ""), "", "", "", *[""] * len(run.classes)]
            )
            continue
        sure = {True: "yes", False: "no", None: ""}[answer.sure]
        shares = [f"{p:.6f}" for p in run.predictions[picture.id]]
        told = [cell(answer.name), sure, "yes" if answer.unlike else "no"]
        writer.writerow([cell(picture.name), cell(picture.label or ""), *told, *shares])
    _write(place, rows.getvalue())


DOWNLOADS = {
    "model": Download(
        "adapted-model.zip",
        "The adapted model. Unpacked, it is what farshot predict and load() in Python take.",
        _model,
    ),
    "onnx": Download(
        "onnx-model.zip",
        "One ONNX file and a small program, for computers without PyTorch; compared with the model first.",
        _onnx,
    ),
    "report": Download(
        "report.html", "One page: what the model was made from, and how good it seems to be.", _report
    ),
    "predictions": Download(
        "predictions.csv",
        "The model's prediction for every picture, for a spreadsheet.",
        _predictions,
        ("adapted/farshot.json", "predictions.json"),
        of_state=True,
    ),
}


def _zip(folder: Path, place: Path) -> None:
    """All files of a folder below its name without the rest of its path."""
    try:
        with replaced(place) as staging, zipfile.ZipFile(staging, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"{place.stem}/{file.name}")
    except OSError as error:
        raise DataError(f"{place.name} cannot be written ({error.strerror}); free some space.") from error


def _write(place: Path, text: str) -> None:
    try:
        with replaced(place) as staging:
            staging.write_text(text, encoding="utf-8-sig")  # the mark tells spreadsheets the encoding
    except OSError as error:
        raise DataError(f"{place.name} cannot be written ({error.strerror}); free some space.") from error
