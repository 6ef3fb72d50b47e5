"""Labels from one format to another: tables, folders and files of labelling tools."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from farshot.annotations import csv_file
from farshot.annotations.files import check_new, check_new_folder, new_folder
from farshot.annotations.formats import FORMATS, format_called, recognised, single
from farshot.annotations.rows import Labelled
from farshot.data.arrow import holds_images
from farshot.data.files import is_litter, may_be_image
from farshot.data.found import split_called
from farshot.data.lookup import counted_from, existing
from farshot.data.readers import read_table
from farshot.data.urls import UrlImages
from farshot.errors import DataError, SettingError
from farshot.images.member import Member, Named, has_scheme, is_url
from farshot.images.reading import ImageSource
from farshot.sanitize import plain, short
from farshot.storage.paths import home

IMAGEFOLDER = "imagefolder"
TARGETS = (*FORMATS, IMAGEFOLDER)
"""What can be written."""

_ENDINGS = {".csv": "csv", ".xml": "cvat"}
_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]|^\.+$|[. ]$')


@dataclass(frozen=True)
class Choice:
    """Which rows are converted, and how paths are read and written.

    Attributes:
        images: the folder that relative paths of the source count from; by default that of the source.
        relative_to: the folder that paths in the new file count from; by default its own.
        by: only labels that a person, or a model, gave; by default both.
        several: which label an image with several gets; by default it is refused.
    """

    images: Path | None = None
    relative_to: Path | None = None
    by: str | None = None
    several: str | None = None

    def __post_init__(self) -> None:
        if self.by not in (None, "person", "model"):
            raise SettingError(f"--by takes person or model, not {self.by!r}.")
        if self.several not in (None, "first", "skip"):
            raise SettingError(f"--several takes first or skip, not {self.several!r}.")


def convert_labels(
    source: str,
    out: Path,
    to: str,
    choice: Choice | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> list[Labelled]:
    """Write the labels of a source in another format; returns the rows as written.

    Args:
        source: anything that read_table reads, a CSV of predictions, or a file of a labelling tool.
        out: the new file or folder; must not be there yet.
        to: one of TARGETS.
        told: called with each note, such as on images that are left out.

    Raises:
        DataError: one sentence that names the file or row and the way out.
        SettingError: there is no such format.
    """
    if to not in TARGETS:
        raise SettingError(f"There is no format {to!r}; choose of {', '.join(TARGETS)}.")
    choice, out = choice or Choice(), home(out)
    as_folder = to == IMAGEFOLDER or (to == "fiftyone" and out.suffix.lower() != ".json")
    if (wanted := _ENDINGS.get(out.suffix.lower(), to)) != to:
        raise SettingError(f"{out} is called as a file of {wanted}; choose another name, or --to {wanted}.")
    (check_new_folder if as_folder else check_new)(out)
    if source.startswith("hf:") and to != IMAGEFOLDER:
        raise DataError(
            f"The images of {source} lie in the cache of `datasets`, so that no path leads to them; copy "
            f"them with --to {IMAGEFOLDER}."
        )
    rows, folder, images = _read(source, choice, told)
    if choice.by is not None:
        rows = [row for row in rows if row.by == choice.by]
    if not rows:
        raise DataError(
            f"{source} has no rows to convert{'' if choice.by is None else f' by a {choice.by}'}."
        )
    rows = _with_known_splits(rows, source, to)
    if to == IMAGEFOLDER:
        with_label = [row for row in rows if row.label is not None]
        if left_out := len({row.image for row in rows} - {row.image for row in with_label}):
            told(f"{left_out} images without a label are left out")
        return _copy(with_label, folder, out, source, images)
    base = home(choice.relative_to) if choice.relative_to else out if as_folder else out.parent
    rows = [replace(row, image=_from(base, folder, row.image)) for row in rows]
    outside = next((row.image for row in rows if Path(row.image).is_absolute()), None)
    if to == "cvat" and outside is not None:
        raise SettingError(
            f"CVAT names pictures by paths below a folder, and {outside} is not below {base}; name the "
            "folder that was uploaded, with --relative-to."
        )
    format_called(to).write(rows, out)
    return rows


def _read(
    source: str, choice: Choice, told: Callable[[str], None]
) -> tuple[list[Labelled], Path, dict[str, Named]]:
    """The rows of a source, the folder that their paths count from, and images by name where they were
    looked up already."""
    path = home(source)
    known = recognised(path) if path.exists() else None
    if known is None and path.is_file() and _is_list(path):
        rows = csv_file.read(path)
    elif known is not None:
        rows = known.read(path)
    else:
        table = read_table(source, for_prompts=False)
        assert table.labels is not None
        for note in table.notes:
            told(note)
        images = [image for image in table.images if isinstance(image, Named)]
        if len(images) < len(table):
            raise DataError(f"{source} holds images without names, which a list of labels cannot name.")
        rows = [
            Labelled(
                str(image if isinstance(image, Member) else Path(str(image)).absolute()),
                table.classes[label],
                split=None if table.splits is None else table.splits[row],
                group=None if table.groups is None else table.groups[row],
            )
            for row, (image, label) in enumerate(zip(images, table.labels.tolist(), strict=True))
        ]
        return rows, Path(), {row.image: image for row, image in zip(rows, images, strict=True)}
    every = len({row.image for row in rows})
    rows = single(rows, source, choice.several)
    if left_out := every - len({row.image for row in rows}):
        told(f"{left_out} images with several labels are left out")
    if choice.images is not None:
        return rows, home(choice.images), {}
    if known is None:
        as_given = bool(rows) and rows[0].by == "model" and not _here(path.parent, rows)
        return rows, Path() if as_given else path.parent, {}
    file = path / "x" if path.is_dir() else path
    first = next((row.image for row in rows if not has_scheme(row.image)), None)
    return rows, file.parent if first is None else counted_from(file, first), {}


def _is_list(path: Path) -> bool:
    """Whether this is a table of paths."""
    suffix = path.suffix.lower()
    return suffix == ".csv" or (suffix == ".parquet" and not holds_images(path))


def _with_known_splits(rows: list[Labelled], source: str, to: str) -> list[Labelled]:
    """The rows with splits called train, val and test; with none where some have train and the others none.
    As farshot.data.readers reads them. A CSV file keeps other words, to be changed there.

    Raises:
        DataError: a split is another word.
    """
    splits = [split_called(row.split or "") for row in rows]
    odd = next((row for row, split in zip(rows, splits, strict=True) if row.split and not split), None)
    if odd is not None and to != "csv":
        raise DataError(
            f"{source}, {plain(odd.image)}: {short(odd.split)} is not a split; make it train, val or test, "
            "or convert the labels to CSV and change or remove the column split there."
        )
    if odd is None and {*splits} == {None, "train"}:
        return [replace(row, split=None) for row in rows]
    return [replace(row, split=split or row.split) for row, split in zip(rows, splits, strict=True)]


def _here(folder: Path, rows: Sequence[Labelled]) -> bool:
    """Whether the first image is there: a CSV of predictions has paths as they were given to the command,
    other tables count from their folder."""
    return has_scheme(rows[0].image) or os.path.lexists(folder / rows[0].image)


def _from(base: Path, folder: Path, image: str) -> str:
    """The path of an image as a new file names it: relative below its folder, absolute elsewhere. What is no
    path stays."""
    if has_scheme(image):
        return image
    place = Path(os.path.abspath(folder / image))  # noqa: PTH100  links stay
    below = Path(os.path.abspath(base))  # noqa: PTH100
    return place.relative_to(below).as_posix() if place.is_relative_to(below) else str(place)


def _copy(
    with_label: Sequence[Labelled], folder: Path, out: Path, source: str, known: Mapping[str, Named]
) -> list[Labelled]:
    """Copy the labelled images into a folder per class, perhaps within one per split."""
    if len({row.image for row in with_label}) < len(with_label):
        raise DataError(
            "An image has labels of a person and of a model; choose with --by person or --by model."
        )
    if not with_label:
        raise DataError("No image has a label; there is nothing to copy.")
    images = _images(with_label, folder, source, known)
    without = next((row for row in with_label if row.split is None), None)
    if without is not None and any(row.split for row in with_label):
        raise DataError(
            f"{source}, {plain(without.image)}: it has no split, but other images have one; give it one, or "
            "convert the labels to CSV and remove the column split there."
        )
    written: list[Labelled] = []
    taken: set[str] = set()
    with new_folder(out) as staging:
        for row, image in zip(with_label, images, strict=True):
            parts = [*([] if row.split is None else [row.split]), str(row.label)]
            for part in parts:
                if _UNSAFE.search(part) or is_litter([part], hidden=True):
                    raise DataError(f"The label {part!r} cannot be the name of a folder; rename it.")
            place = PurePosixPath(*parts, _name(row.image))
            number = 1
            while str(place).lower() in taken:
                number += 1
                place = place.with_name(f"{PurePosixPath(_name(row.image)).stem}-{number}{place.suffix}")
            taken.add(str(place).lower())
            (staging / place).parent.mkdir(parents=True, exist_ok=True)
            _copy_one(image, staging / place)
            written.append(replace(row, image=str(place)))
    return written


def _name(image: str) -> str:
    name = re.sub(r"[?#].*", "", image) if is_url(image) else image
    name = _UNSAFE.sub("_", PurePosixPath(name.replace("\\", "/")).name) or "image"
    for changed in (name, f"image{name}"):
        if may_be_image(changed):
            return changed
    return f"image{name}.img"  # a name that readers do not pass over


def _images(
    rows: Sequence[Labelled], folder: Path, source: str, known: Mapping[str, Named]
) -> list[ImageSource]:
    """The images of rows, downloaded where they are named by URL."""
    urls = UrlImages(source)
    named = [
        urls.image(row.image, f"{source}, {row.image}")
        or known.get(row.image)
        or existing(folder, row.image, source)
        for row in rows
    ]
    images, note = urls.fetch(named)
    for image in images:
        if isinstance(image, Member) and image.fault is not None:
            raise DataError(f"{note}: {image}: {image.fault}")
    return images


def _copy_one(image: ImageSource, place: Path) -> None:
    if isinstance(image, Member):
        place.write_bytes(image.read())
    else:
        shutil.copyfile(str(image), place)
