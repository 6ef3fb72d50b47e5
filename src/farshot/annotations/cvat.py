"""CVAT for images 1.1: XML with a <tag> for the label of each image. Boxes and other shapes are passed over.

A tag has no score: whether a model made it is in its `source` ("auto").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from farshot.annotations.files import check_unicode, in_order, new_file, optional_text, size_of, text_of
from farshot.annotations.rows import Labelled
from farshot.errors import DataError
from farshot.storage.paths import ordinary

_BY_MODELS = ("auto", "semi-auto")
_NO_SUBSET = "default"  # as CVAT calls that of images to which nobody gave one


def read(path: Path) -> list[Labelled]:
    """The tags of a file: one row for each tag, and one for an image without.

    Raises:
        DataError: names the line. Entities are refused, since they can grow without bound.
    """
    reader = _Reader(path)
    try:
        with ordinary(path).open("rb") as file:
            reader.parser.ParseFile(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path.") from error
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code)
        raise DataError(f"{path}, line {error.lineno}: not XML ({why}); export it again.") from error
    except (LookupError, ValueError) as error:
        raise DataError(f"{path} has an encoding that cannot be read ({error}); save it as UTF-8.") from error
    if not reader.is_cvat:
        raise DataError(f"{path} is not XML of CVAT; export the task or project as 'CVAT for images 1.1'.")
    return reader.rows


def write(rows: Sequence[Labelled], path: Path) -> None:
    """Write a file that CVAT imports into a task which has these images and labels; scores are left out.

    Raises:
        DataError: `path` is taken or not writable, or a name is no Unicode.
    """
    check_unicode(rows, path)
    labels = "".join(
        f"<label><name>{_escaped(name)}</name><type>tag</type></label>"
        for name in sorted(in_order(row.label for row in rows))
    )
    images: dict[str, list[Labelled]] = {}
    for row in rows:
        images.setdefault(row.image, []).append(row)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><size>{len(images)}</size><mode>annotation</mode>",
        f"    <labels>{labels}</labels></task></meta>",
    ]
    for number, (image, tags) in enumerate(images.items()):
        size = size_of(image, path.parent)
        more = "" if size is None else f' width="{size[0]}" height="{size[1]}"'
        if tags[0].split is not None:
            more = f" subset={_quoted(tags[0].split)}{more}"
        lines.append(f'  <image id="{number}" name={_quoted(image)}{more}>')
        lines += [
            f'    <tag label={_quoted(tag.label)} source="{"auto" if tag.by == "model" else "manual"}"></tag>'
            for tag in tags
            if tag.label is not None
        ]
        lines.append("  </image>")
    text = "\n".join([*lines, "</annotations>", ""])
    with new_file(path) as staging:
        staging.write_bytes(text.encode("utf-8"))


class _Reader:
    """What the parser calls while it reads a file."""

    def __init__(self, path: Path) -> None:
        self.rows: list[Labelled] = []
        self.is_cvat = False
        self._path, self._open, self._tags = path, list[str](), 0
        self._image = ""
        self._split: str | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.EntityDeclHandler = self._entity
        self.parser.ExternalEntityRefHandler = self._entity

    def _start(self, name: str, values: dict[str, str]) -> None:
        where = f"{self._path}, line {self.parser.CurrentLineNumber}"
        if not self._open:
            self.is_cvat = name == "annotations"
        elif self._open == ["annotations"] and name == "track":
            raise DataError(
                f"{where}: a track, as in videos; export the task as 'CVAT for images 1.1' instead."
            )
        elif self._open == ["annotations"] and name == "image":
            self._image, self._tags = text_of(values.get("name"), where, "the name of the image"), 0
            subset = values.get("subset", "")
            self._split = None if subset.lower() == _NO_SUBSET else optional_text(subset, where, "subset")
        elif self._open == ["annotations", "image"] and name == "tag":
            label = text_of(values.get("label"), where, "the label of the tag")
            self._add(label, values.get("source") in _BY_MODELS)
            self._tags += 1
        self._open.append(name)

    def _end(self, name: str) -> None:
        self._open.pop()
        if name == "image" and self._open == ["annotations"] and not self._tags:
            self._add(None, False)

    def _add(self, label: str | None, by_model: bool) -> None:
        self.rows.append(
            Labelled(self._image, label, by="model" if by_model else "person", split=self._split)
        )

    def _entity(self, *_: object) -> int:
        raise DataError(f"{self._path} declares entities, which files of CVAT do not; export it again.")


def _escaped(text: str) -> str:
    return _quoted(text)[1:-1]


def _quoted(text: str) -> str:
    """An attribute's value; characters that XML cannot hold become question marks."""
    kept = "".join(c if c >= " " or c in "\t\n\r" else "?" for c in text)
    return quoteattr(kept, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;", '"': "&quot;"})
