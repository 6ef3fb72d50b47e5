"""Downloads: the adapted model, an ONNX file, a web page, a report, the predictions."""

from __future__ import annotations

import csv
import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farshot.app.texts import Fault
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.licences import licence_of
from farshot.app.workspace.run import Adaptation, adapted_model, last_run
from farshot.app.workspace.state import Workspace
from farshot.errors import DataError
from farshot.export.about import load_exact
from farshot.export.onnx_file import export_onnx, needed_packages
from farshot.export.web_page import export_web
from farshot.export.web_runtime import NAMED, runtime_files
from farshot.model.catalogue import toy_note
from farshot.report.model import model_report
from farshot.report.page import write_page
from farshot.sanitize import cell, plain
from farshot.storage.atomic import replaced
from farshot.storage.json_text import as_json, parse_object
from farshot.storage.model_folder import PLACES, read_folder
from farshot.storage.paths import base_name

_MOST_CHECKED = 16  # pictures that an ONNX file is compared with the model on


@dataclass(frozen=True)
class Download:
    """A download.

    Attributes:
        file: what it is called.
        make: writes it to a path.
        sources: files of the workspace that it is made of: one of them changed, and it is out of date.
        of_state: whether it is made of pictures' names and labels, too.
    """

    file: str
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
            raise Fault("act.train_first_download")
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
    """The folder of the model without anything that means something on this computer only: the places of the
    pictures, and the path of a base model in a folder."""
    about, _ = read_folder(workspace.adapted)
    base = about["base_model"]
    name = base_name(base)
    kept = {
        file.name: file.read_bytes() for file in sorted(workspace.adapted.iterdir()) if file.name != PLACES
    }
    for file, key in (("farshot.json", "base_model"), ("adapter_config.json", "base_model_name_or_path")):
        if file in kept and name != base:
            said = parse_object(kept[file]) | {key: name}
            kept[file] = (as_json(said, indent=2) + "\n").encode()
    kept["README.md"] = readme(about | {"base_model": name}, licence_of(base)).encode()
    _zip(kept, place)


def readme(about: Mapping[str, Any], licence: str) -> str:
    """What a downloaded model is, and how to use it.

    Args:
        about: its farshot.json.
        licence: what is known of it, in words.
    """
    names = "\n".join(f"    {plain(str(name))}" for name in about["classes"])
    base = plain(about["base_model"])
    way = "" if base == "mini" or "/" in base else " --model PLACE-OF-THE-BASE-MODEL"
    said = [
        "# A model adapted with farshot",
        f"It tells {len(about['classes'])} classes apart:",
        names,
        f"It was adapted from {len(about['support_ids'])} labelled pictures with the method "
        f"{about['method']}; its base model is {base}.",
        *filter(None, [toy_note(base)]),
    ]
    if about.get("estimate"):
        found = about["estimate"]["accuracy"]
        low, value, high = (f"{100 * found[name]:.1f}" for name in ("low", "value", "high"))
        said.append(f"Cross-validated accuracy: {value} % (95 % interval {low} to {high}).")
    if about.get("limit"):
        limit = about["limit"]["probability"]
        where = "always" if limit is None else f"below a probability of {100 * limit:.1f} %"
        said.append(f'It says "not sure" {where}.')
    said += [
        "## Use it",
        "    pip install farshot\n    farshot predict adapted-model PICTURES" + way,
        "In Python:",
        '    from farshot import load\n    load("adapted-model").predict(["picture.jpg"])',
    ]
    if way:
        said.append(
            "The base model was a folder of the computer that it was adapted on; give its place there."
        )
    said += ["## Licence", licence]
    return "\n\n".join(said) + "\n"


def _onnx(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    staging = place.with_suffix("")
    try:
        own = workspace.table(workspace.pictures[:_MOST_CHECKED])
        export_onnx(load_exact(workspace.adapted), staging, own)
        _zip({file.name: file.read_bytes() for file in sorted(staging.iterdir())}, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _web(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    staging = place.with_suffix("")
    needed_packages()
    try:
        runtime_files()
    except DataError as error:
        raise Fault("take.web_failed", named=NAMED, why=str(error)) from error
    try:
        own = workspace.table(workspace.pictures[:_MOST_CHECKED])
        export_web(load_exact(workspace.adapted), staging, own)
        _zip({file.name: file.read_bytes() for file in sorted(staging.iterdir())}, place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _report(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    about, tensors = read_folder(workspace.adapted)
    write_page(place, "model.html", model_report(about, tensors))


def _predictions(workspace: Workspace, run: Adaptation, encoders: Encoders, place: Path) -> None:
    """Every picture with its label and the model's prediction, also where it was adapted to the picture."""
    model = adapted_model(workspace, run, encoders)
    known = {Path(one["path"]).stem for one in model.support_places_ if one["path"]}
    pictures = workspace.pictures
    asked = [picture for picture in pictures if picture.id not in run.predictions]
    if asked:
        found = model.predict_proba(workspace.table(asked))
        more = {one.id: list(map(float, p)) for one, p in zip(asked, found, strict=True)}
        run = replace(run, predictions={**run.predictions, **more})
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    shares = [cell(f"p({name})") for name in run.classes]
    writer.writerow(["image", "label", "class", "sure", "unlike", "adapted_to", *shares])
    for picture in pictures:
        answer = run.answer(picture.id)
        assert answer is not None
        sure = {True: "yes", False: "no", None: ""}[answer.sure]
        unlike = ("yes" if answer.unlike else "no") if picture.id in run.p_values else ""
        told = [cell(answer.name), sure, unlike, "yes" if picture.id in known else "no"]
        ps = [f"{p:.6f}" for p in run.predictions[picture.id]]
        writer.writerow([cell(picture.name), cell(picture.label or ""), *told, *ps])
    _write(place, rows.getvalue())


DOWNLOADS = {
    "model": Download(
        "adapted-model.zip",
        _model,
    ),
    "onnx": Download(
        "onnx-model.zip",
        _onnx,
    ),
    "web": Download("web-page.zip", _web),
    "report": Download("report.html", _report),
    "predictions": Download(
        "predictions.csv",
        _predictions,
        ("adapted/farshot.json", "predictions.json"),
        of_state=True,
    ),
}


def _zip(files: Mapping[str, bytes], place: Path) -> None:
    """Files by name in a folder named as the zip."""
    try:
        with replaced(place) as staging, zipfile.ZipFile(staging, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(f"{place.stem}/{name}", data)
    except OSError as error:
        raise Fault("disk.not_written", place=place.name, why=error.strerror) from error


def _write(place: Path, text: str) -> None:
    try:
        with replaced(place) as staging:
            staging.write_text(text, encoding="utf-8-sig")  # the mark tells spreadsheets the encoding
    except OSError as error:
        raise Fault("disk.not_written", place=place.name, why=error.strerror) from error
