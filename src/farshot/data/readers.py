"""Read labelled images: a folder per class, a zip or tar of one, a CSV or Parquet table, JSON lists, files of
labelling tools, or a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from farshot.annotations.fiftyone import labels_file
from farshot.annotations.formats import recognised, single
from farshot.annotations.rows import Labelled
from farshot.data.archive import from_archive
from farshot.data.arrow import holds_images, read_parquet
from farshot.data.coop import from_coop, is_coop
from farshot.data.files import image_files, is_litter
from farshot.data.folders import from_folder
from farshot.data.found import Found, split_called
from farshot.data.hub import from_hub, from_parquet, from_saved, parquet_files
from farshot.data.independence import group_hint, groups_by
from farshot.data.lookup import counted_from, existing
from farshot.data.members import image_members, is_archive
from farshot.data.names import ClassNames, check_labels, in_class_order, names_in_prompts, nfc
from farshot.data.rows import from_rows, read_rows, shared_groups
from farshot.data.saved import is_saved, read_saved, splits_of
from farshot.data.shards import from_shards, images_of, is_pattern, is_shard, shards_of, tars_in
from farshot.data.table import ImageTable
from farshot.data.text import load_json
from farshot.data.urls import UrlImages, downloading
from farshot.errors import DataError
from farshot.images.member import Named, has_scheme
from farshot.images.reading import ImageSource
from farshot.sanitize import plain, short
from farshot.storage.paths import home


def read_table(
    source: str | Path,
    *,
    class_names: ClassNames = None,
    for_prompts: bool = True,
    level: int | None = None,
    groups: str | None = None,
    download: bool = False,
) -> ImageTable:
    """Read a labelled table from a folder, a file or a dataset.

    Args:
        source: a folder with one subfolder per class, perhaps within folders train, val and test; a .zip or
            .tar of such folders, or of images and a CSV; a .csv or .parquet with a column of paths and one of
            labels, and perhaps `split` and `group`; a .json of the form {"image_names", "image_labels",
            "label_names"}, or a split file of CoOp; a file of a labelling tool (docs/labels.md); WebDataset
            shards; a folder saved by `datasets`, or "hf:NAME[:SPLIT]".
        class_names: how prompts call the classes; by default the classes themselves, '_' read as a space.
        for_prompts: whether prompts will be made of the names, so that they must differ in more than case; to
            compare predictions with labels, the labels need only be different.
        level: for a folder, how many folders deep the class folders lie, from 1, not counting folders of
            splits; by default what the folders show (farshot.data.folders).
        groups: which images belong together, such as those of one patient: a column of a table, by default
            `group`; or a regular expression on the path of each image below the folder, without extension,
            whose first parentheses, or whole match, name the group.
        download: fetch images that a table names by URL and that are not in the cache yet.

    Raises:
        DataError: one sentence that names the path or row and the way out.
    """
    with downloading() if download else nullcontext():
        found = _found(str(source), level, groups)
    if for_prompts:
        names = names_in_prompts(class_names, found.classes, str(source))
    else:
        names = check_labels(found.classes, str(source))
    codes = {name: code for code, name in enumerate(found.classes)}
    return ImageTable(
        tuple(found.images),
        np.array([codes[label] for label in found.labels], np.int64),
        tuple(found.classes),
        names,
        None if found.splits is None else tuple(found.splits),
        *_groups_and_notes(str(source), found, groups),
    )


def _groups_and_notes(
    source: str, found: Found, wanted: str | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The groups of the images, and what to know of the source; a hint where its names suggest groups."""
    below = [_name_below(source, image) for image in found.images]
    if found.groups is not None:
        return tuple(found.groups), found.notes
    if wanted is not None:
        if None in below:
            raise DataError(
                f"groups: {source} has no column {short(wanted)}, and its images have no file names for a "
                "regular expression; leave out groups (--groups)."
            )
        groups = groups_by(wanted, [str(name) for name in below])
        return groups, (*found.notes, *shared_groups(found.splits, groups))
    hint = group_hint([name for name in below if name is not None], found.labels) if None not in below else ""
    return None, (*found.notes, *([hint] if hint else []))


def _name_below(source: str, image: ImageSource) -> str | None:
    """The path of an image below the folder of its data, with forward slashes and without extension; None for
    one without a file."""
    if not isinstance(image, Named):
        return None
    place, path = home(source), Path(str(image))
    folder = place if place.is_dir() or path.is_relative_to(place) else place.parent
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).with_suffix("").as_posix()


def _found(source: str, level: int | None, groups: str | None) -> Found:
    path = home(source)
    if is_pattern(source) and not path.exists():
        return from_shards(shards_of(str(path)))
    is_folder = not source.startswith("hf:") and path.is_dir()
    if is_folder and labels_file(path) is not None:
        return _from_annotations(path, groups)
    saved = is_folder and is_saved(path)
    shards = parquet_files(path) if is_folder and not saved else []
    tars = tars_in(path) if is_folder and not saved and not shards else []
    if is_folder and not saved and not shards and not tars:
        return from_folder(path, level)
    if not source.startswith("hf:") and is_archive(path) and path.exists():
        if path.suffix.lower() == ".tar" and level is None and is_shard(path):
            return from_shards([path])
        return from_archive(path, level, groups)
    if level is not None:
        raise DataError(
            f"{source} is not a folder per class, so it has no levels; leave out level (--level)."
        )
    if source.startswith("hf:"):
        return from_hub(source[3:], groups)
    if saved:
        return from_saved(path, groups)
    if shards:
        return from_parquet(shards, groups)
    if tars:
        return from_shards(tars)
    if not path.exists():
        raise DataError(f"There is no {path}; check the path.")
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = load_json(path)
        return _from_annotations(path, groups) if recognised(path, content) else _from_json(path, content)
    if suffix == ".xml":
        return _from_annotations(path, groups)
    if suffix not in (".csv", ".parquet"):
        raise DataError(
            f"{path} is not a folder, .csv, .parquet, .json, .xml, .zip or .tar; give one of these."
        )
    if suffix == ".parquet" and holds_images(path):
        return from_parquet([path], groups)
    urls = UrlImages(path)
    return urls.fetched(
        from_rows(
            read_rows(path),
            groups,
            lambda cell, where: urls.image(cell, where) or existing(path.parent, cell, where),
        )
    )


def _from_annotations(path: Path, groups: str | None) -> Found:
    """The labels that people gave in a file or folder of a labelling tool, without other images."""
    file = (labels_file(path) or path) if path.is_dir() else path
    known = recognised(path)
    assert known is not None
    rows = single(known.read(path), str(path))
    labelled = [row for row in rows if row.label is not None and row.by == "person"]
    if not labelled:
        by_model = any(row.by == "model" for row in rows)
        way = (
            "convert it to CSV with --by model and remove the column 'by' to take a model's as labels."
            if by_model
            else "label some images first."
        )
        raise DataError(f"{path} has no label that a person gave; {way}")
    without = len({row.image for row in rows} - {row.image for row in labelled})
    first = next((row.image for row in labelled if not has_scheme(row.image)), None)
    folder = file.parent if first is None else counted_from(file, first)
    urls = UrlImages(path)
    images = [
        urls.image(row.image, str(path)) or existing(folder, row.image, f"{path}, {plain(row.image)}")
        for row in labelled
    ]
    splits = _splits_of(labelled, path)
    found = _groups_of(labelled, path) if groups in (None, "group") else None
    notes = [] if folder == file.parent else [f"paths in {file.name} count from {folder}"]
    notes += [f"{without} images without a label are left out"] if without else []
    labels = [nfc(str(row.label).strip()) for row in labelled]
    return urls.fetched(
        Found(
            images,
            labels,
            in_class_order(set(labels)),
            splits,
            found,
            (*notes, *shared_groups(splits, found)),
        )
    )


def _splits_of(rows: list[Labelled], path: Path) -> list[str] | None:
    """The split of each row; None if none has one, or some have train and the others none.

    Raises:
        DataError: some are val or test, and others have no split; or a word that is none.
    """
    splits = [split_called(row.split or "") for row in rows]
    without = [row for row, split in zip(rows, splits, strict=True) if split is None]
    odd = next((row for row in without if row.split), None)
    if without and odd is None and {*splits} <= {None, "train"}:
        return None
    if without:
        wrong = (
            "it has no split, but other images have one"
            if odd is None
            else f"{short(odd.split)} is not a split"
        )
        raise DataError(
            f"{path}, {plain((odd or without[0]).image)}: {wrong}; make it train, val or test, or convert "
            "the labels to CSV (farshot convert) and remove the column split."
        )
    return [str(split) for split in splits]


def _groups_of(rows: list[Labelled], path: Path) -> list[str] | None:
    """The group of each row; None if none has one.

    Raises:
        DataError: some have one and others not.
    """
    missing = next((row for row in rows if row.group is None), None)
    if missing is None:
        return [str(row.group) for row in rows]
    if any(row.group is not None for row in rows):
        raise DataError(
            f"{path}, {plain(missing.image)}: it has no group, but other images have one; name one, a new "
            "one if it belongs to no other, or convert the labels to CSV (farshot convert) and remove the "
            "column group."
        )
    return None


def unlabelled(sources: Iterable[str | Path]) -> ImageTable:
    """Make a table of image files; folders are searched at any depth, and links are followed.

    Files that systems and photo programs create (Thumbs.db, .xmp, ...) are left out, since `folder/*` names
    them too.

    Raises:
        DataError: a path that does not exist, or no image at all.
    """
    files: list[ImageSource] = []
    for source in sources:
        path = home(source)
        if is_pattern(str(source)) and not path.exists():
            files += images_of(shards_of(str(path)))
            continue
        if not path.exists():
            raise DataError(f"There is no {path}; check the path.")
        if path.is_dir() and is_saved(path):
            tables = [read_saved(path / name) for name in splits_of(path) or [""]]
            files += [image for table in tables for image in table.images if image is not None]
        elif path.is_dir() and labels_file(path) is None and (packed := parquet_files(path)):
            for one in packed:
                files += [image for image in read_parquet(one).images if image is not None]
        elif path.is_dir() and labels_file(path) is None and (tars := tars_in(path)):
            files += images_of(tars)
        elif path.is_dir():
            files += image_files(path)
        elif path.suffix.lower() == ".parquet" and holds_images(path):
            files += [image for image in read_parquet(path).images if image is not None]
        elif path.suffix.lower() == ".tar" and is_shard(path):
            files += images_of([path])
        elif is_archive(path):
            files += image_members(path)
        elif not is_litter([path.name], hidden=False):
            files.append(path)
    if not files:
        raise DataError("There is no image in the folders given.")
    return ImageTable(tuple(files), None, (), ())


def _from_json(path: Path, lists: Any) -> Found:
    if is_coop(lists):
        return from_coop(path, lists)
    keys = ("image_names", "image_labels", "label_names")
    if not isinstance(lists, dict) or not all(isinstance(lists.get(key), list) for key in keys):
        raise DataError(f"{path} must be a JSON object with the lists {', '.join(keys)}.")
    files, codes, classes = (lists[key] for key in keys)
    if len(files) != len(codes):
        raise DataError(
            f"{path} has {len(files)} image_names but {len(codes)} image_labels; they must be as many."
        )
    for number, code in enumerate(codes):
        if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code < len(classes):
            raise DataError(
                f"{path}, image_labels[{number}] is {short(code)}; it must be an index into the "
                f"{len(classes)} label_names."
            )
    if not files:
        raise DataError(f"{path} names no image; fill image_names.")
    urls = UrlImages(path)
    places = [f"{path}, image_names[{i}]" for i in range(len(files))]
    images: list[ImageSource] = [
        urls.image(file, where) or existing(path.parent, file, where)
        for file, where in zip(files, places, strict=True)
    ]
    # the field's lists number all classes of a larger set; those without an image are not classes here
    used = [nfc(str(classes[code])) for code in sorted(set(codes))]
    return urls.fetched(Found(images, [nfc(str(classes[code])) for code in codes], used))
