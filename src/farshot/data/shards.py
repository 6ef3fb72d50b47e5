"""Labelled images of WebDataset shards: tars in which files of one name are one example, such as 12.jpg and
12.cls.

A label is the text of KEY.cls, of "label", "cls" or "class" in KEY.json, or of KEY.txt. Where all labels are
whole numbers, a file classnames.txt in the folder of the shards names the classes, one a line, each once.
Nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from farshot.data.files import called_picture, is_packed, may_be_image
from farshot.data.found import LABEL_COLUMNS, Found, splits_by_name
from farshot.data.members import entries_of, member, text_of
from farshot.data.names import in_class_order, nfc
from farshot.data.text import read_text
from farshot.errors import DataError
from farshot.images.member import Member
from farshot.sanitize import plain, visible
from farshot.storage.archives import Entry
from farshot.storage.json_text import parse_object

_LABELS = ("cls", "json", "txt")
_PICKLED = ("pyd", "pickle", "pkl", "pth", "pt")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000
_MOST_LABEL = 1_000_000  # bytes; that of ImageNet has 3
_NAMES = "classnames.txt"


@dataclass
class _Example:
    """The files of one key: its image, the file that says its class, and files with a dot more in their names
    that look like these, such as a mask in 12.seg.png."""

    images: list[Entry] = field(default_factory=list)
    labels: dict[str, Entry] = field(default_factory=dict)
    more_images: list[Entry] = field(default_factory=list)
    more_labels: list[Entry] = field(default_factory=list)


def is_pattern(source: str) -> bool:
    """Whether this names shards as shards-{000..009}.tar does."""
    return bool(_RANGE.search(source)) and source.lower().endswith(".tar")


def shards_of(source: str) -> list[Path]:
    """The shards that a pattern names.

    Raises:
        DataError: one is missing, or the range is empty or too long.
    """
    match = _RANGE.search(source)
    assert match is not None
    first, last = int(match[1]), int(match[2])
    if last < first or last - first >= _MOST_SHARDS or len(_RANGE.findall(source)) > 1:
        raise DataError(f"{source}: the range must go up and have at most {_MOST_SHARDS:,} shards.")
    names = [f"{number:0{len(match[1])}d}" for number in range(first, last + 1)]
    found = [Path(f"{source[: match.start()]}{name}{source[match.end() :]}") for name in names]
    missing = next((path for path in found if not path.is_file()), None)
    if missing is not None:
        raise DataError(f"There is no {missing}, which {source} names; check the range.")
    return found


def tars_in(folder: Path) -> list[Path]:
    """The tars directly in a folder, by name; none where the folder's images are pictures.

    Raises:
        DataError: as `is_packed`.
    """
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    tars = sorted(entry for entry in entries if entry.suffix.lower() == ".tar")
    return tars if tars and is_packed(folder, tars, _holds_pictures) else []


def _holds_pictures(tar: Path) -> bool:
    try:
        return any(called_picture(entry.name) for entry in entries_of(tar))
    except DataError:
        return False


def is_shard(path: Path) -> bool:
    """Whether images in a tar have labels as files of the same name.

    Raises:
        DataError: the tar cannot be read.
    """
    return any((one.images and one.labels) or one.more_labels for one in _examples(path).values())


def from_shards(paths: Sequence[Path]) -> Found:
    """The labelled images of shards, in their order. Those of a folder have the split that begins their
    names, such as train-000.tar, if several are named so.

    Raises:
        DataError: a shard that cannot be read; an image without a label, or two of one key; a key without
            an image of its name; a shard of no split where others name several.
    """
    images: list[Member] = []
    labels: list[str] = []
    splits: list[str | None] = []
    of_shards = splits_by_name([path.name for path in paths], str(paths[0].parent))
    for path, split in zip(paths, of_shards, strict=True):
        for key, example in _examples(path).items():
            wrong = example.more_labels or ([] if example.images else example.more_images)
            if wrong:
                raise DataError(
                    f"{path}, {visible(wrong[0].name)}: a key ends at the first dot, so that this is another "
                    f"file of {visible(PurePosixPath(key).name)}; rename it without further dots."
                )
            if not example.images:
                continue
            where = f"{path}, {visible(key)}"
            if len(example.images) > 1:
                raise DataError(f"{where}: two images of one key; give each a key.")
            images.append(member(path, example.images[0]))
            labels.append(_label(path, example.labels, where))
            splits.append(split)
    if not images:
        raise DataError(f"{paths[0]} holds no image; pack the images themselves into it.")
    labels = _named(paths[0].parent / _NAMES, labels)
    named = [split for split in splits if split is not None]
    return Found(list(images), labels, in_class_order(set(labels)), named or None)


def _examples(path: Path) -> dict[str, _Example]:
    """The files of a shard by key: the path without what follows the first dot of the last part."""
    found: dict[str, _Example] = {}
    for entry in entries_of(path):
        name = PurePosixPath(entry.name)
        kind = name.name.partition(".")[2].lower()
        example = found.setdefault(_key(name), _Example())
        if kind in _PICKLED:
            raise DataError(
                f"{path}, {visible(entry.name)}: this is a Python pickle, which is never opened; "
                "write labels as .cls or .json."
            )
        if kind in _LABELS:
            example.labels[kind] = entry
        elif kind.endswith(".cls"):
            example.more_labels.append(entry)
        elif may_be_image(name.name):
            (example.more_images if "." in kind else example.images).append(entry)
    return found


def _key(name: PurePosixPath) -> str:
    return (name.parent / name.name.partition(".")[0]).as_posix()


def _label(path: Path, files: Mapping[str, Entry], where: str) -> str:
    kind = next((kind for kind in _LABELS if kind in files), None)
    if kind is None:
        raise DataError(f"{where}: no label; add a file .cls, .json or .txt with its class.")
    text = text_of(path, files[kind], _MOST_LABEL)
    if kind == "json":
        try:
            values = parse_object(text)
        except ValueError as error:
            raise DataError(f"{where}.json cannot be read as JSON ({error}); write it again.") from error
        found = next((values[name] for name in ("cls", *LABEL_COLUMNS) if name in values), None)
        if not isinstance(found, str | int) or isinstance(found, bool):
            raise DataError(f'{where}.json has no class; write one as "label", a word or a whole number.')
        text = str(found)
    label = nfc(text.strip())
    if not label or "\n" in label:
        raise DataError(f"{where}.{kind}: {'no label' if not label else 'several lines'}; write one class.")
    return label


def _named(place: Path, labels: list[str]) -> list[str]:
    """Labels with the names of their classes, where they are numbers and a file names these."""
    if not place.is_file() or not all(label.isdecimal() for label in labels):
        return labels
    names = [nfc(line.strip()) for line in read_text(place).rstrip().splitlines()]
    for number, name in enumerate(names, start=1):
        if not name or name in names[: number - 1]:
            wrong = f"{plain(name)} is named twice" if name else "there is no name"
            raise DataError(
                f"{place}, line {number}: {wrong}; name each class once, one a line, in the order of the "
                "labels."
            )
    beyond = next((label for label in labels if int(label) >= len(names)), None)
    if beyond is not None:
        raise DataError(f"{place} names {len(names)} classes, and there is a label {beyond}; add its name.")
    return [names[int(label)] for label in labels]


def images_of(paths: Sequence[Path]) -> Iterator[Member]:
    """The images of shards without their labels, in their order; what has more in its name than the key, such
    as a mask in 12.seg.png, is left out where there is an image 12.png."""
    for path in paths:
        examples = _examples(path)
        for entry in entries_of(path):
            name = PurePosixPath(entry.name)
            images = examples[_key(name)].images
            if entry in images or (not images and may_be_image(name.name)):
                yield member(path, entry)
