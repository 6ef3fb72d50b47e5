"""Images in the rows of datasets on disk: Arrow files, as `datasets` saves them, and Parquet files.

The images stay in the files and are read one by one. Parquet is compressed, so its rows are copied once to
the cache, under a hash of the file, as an Arrow file in which each image lies as it is.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from farshot.arrays import NDArray
from farshot.data.found import IMAGE_COLUMNS, LABEL_COLUMNS
from farshot.data.names import nfc
from farshot.data.rows import in_words, is_blank
from farshot.data.text import first_line
from farshot.errors import DataError
from farshot.images.member import Member, Span
from farshot.images.reading import ImageSource
from farshot.storage.archives import ArchiveLimits, in_megabytes
from farshot.storage.atomic import check_writable, replaced
from farshot.storage.json_text import parse_object
from farshot.storage.paths import default_cache, ordinary

_NAMES = (*IMAGE_COLUMNS, "img", "picture", "photo")
_ROWS_AT_ONCE = 64
_LAYOUT = 2  # of files in the cache; raised when other columns are kept
_MOST_ROWS = 10_000_000
_WAY = "free space, or set FARSHOT_CACHE to another folder"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BOMB_RATIO, BOMB_BYTES = 100, 1_000_000_000  # images hardly shrink: more than both is refused


@dataclass
class Table:
    """The rows of one or several files.

    Attributes:
        columns: names of all columns of the files.
        images: of each row; None where it has none.
        labels: of each row; None where the files have no column of classes.
        more: the other columns of words, numbers and dates, by name.
        notes: what was written to the cache.
    """

    columns: tuple[str, ...] = ()
    images: list[ImageSource | None] = field(default_factory=list)
    labels: list[Any] | None = None
    more: dict[str, list[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """What is read: `image` and `label` are columns, `classes` the names of numbered classes."""

    image: str
    label: str | None
    classes: tuple[str, ...] | None
    more: tuple[str, ...]


def holds_images(path: Path) -> bool:
    """Whether the rows of a Parquet file hold images rather than their paths.

    Raises:
        DataError: it cannot be read.
    """
    pa = _pyarrow(path)
    with _reading(pa, path, "as Parquet"):
        from pyarrow import parquet

        schema = parquet.read_schema(ordinary(path))
        return any(_is_image(pa, column) for column in schema)


def read_arrow(files: list[Path], name: str, first: int = 0) -> Table:
    """The rows of Arrow files.

    Args:
        name: what the rows are called in: NAME/row 0.
        first: the number of the first row.

    Raises:
        DataError: they cannot be read, or have no images.
    """
    pa = _pyarrow(name)
    found = Table()
    with _reading(pa, name, "as a saved dataset"):
        for file in files:
            for batch, base, size in _batches(pa, file):
                columns = _columns(pa, batch.schema, name)
                found.columns = tuple(batch.schema.names)
                start = first + len(found.images)
                if start + len(batch) > _MOST_ROWS:
                    raise DataError(f"{name} has over {_MOST_ROWS:,} rows; give a part of it.")
                found.images += _images(batch.column(columns.image), file, base, size, name, start)
                if columns.label is not None:
                    labels = [_label(value, columns) for value in batch.column(columns.label).to_pylist()]
                    found.labels = [*(found.labels or ()), *labels]
                for column in columns.more:
                    found.more.setdefault(column, []).extend(batch.column(column).to_pylist())
    return found


def read_parquet(path: Path) -> Table:
    """The rows of a Parquet file that holds images, numbered from 1.

    Raises:
        DataError: it cannot be read, or unpacked to the cache.
    """
    pa = _pyarrow(path)
    with _reading(pa, path, "as Parquet"):
        from pyarrow import parquet

        columns = tuple(parquet.read_schema(ordinary(path)).names)
        with ordinary(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        place = default_cache() / "datasets" / f"{digest}-{_LAYOUT}.arrow"
        notes: tuple[str, ...] = ()
        if not place.is_file():
            check_writable(place.parent, _WAY, place.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with replaced(place) as staging:
                    _unpack(pa, path, staging)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                why = f"cannot be written ({os.strerror(error.errno)}); {_WAY}"
                raise DataError(f"{path}: the cache {place.parent} {why}.") from error
            size = in_megabytes(place.stat().st_size)
            notes = (f"the images of {path} were unpacked to the cache, {place} ({size})",)
    found = read_arrow([place], str(path), 1)
    found.columns, found.notes = columns, notes
    return found


def _pyarrow(where: object) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DataError(f"Reading {where} needs an extra: pip install 'farshot[parquet]'.") from error
    return pa


class _reading:
    """Turns the exceptions of pyarrow into one DataError."""

    def __init__(self, pa: Any, name: object, how: str) -> None:
        self._name, self._how = name, how
        faults = (OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError)
        self._faults: tuple[Any, ...] = (*faults, OverflowError, AttributeError, pa.ArrowException)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._faults) and not isinstance(error, DataError):
            line = first_line(error)
            raise DataError(f"{self._name} cannot be read {self._how} ({line}); save it again.") from error


def _unpack(pa: Any, path: Path, place: Path) -> None:
    """Write the columns of a Parquet file that matter as an Arrow file, part by part."""
    from pyarrow import parquet

    packed = ordinary(path).stat().st_size
    most = max(BOMB_BYTES, _BOMB_RATIO * packed)
    file = parquet.ParquetFile(path, memory_map=False, pre_buffer=False)
    with file:
        schema = file.schema_arrow
        columns = _columns(pa, schema, str(path))
        kept = [columns.image, *([columns.label] if columns.label else []), *columns.more]
        kept_schema = pa.schema([schema.field(name) for name in kept], schema.metadata)
        with pa.OSFile(str(place), "wb") as out, pa.ipc.new_stream(out, kept_schema) as writer:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=kept):
                writer.write_batch(batch.select(kept))
                if out.tell() > most:
                    raise DataError(f"{path} unpacks to over {in_megabytes(most)}, far more than images do.")


def _batches(pa: Any, path: Path) -> Iterator[tuple[Any, int, int]]:
    """The record batches of an Arrow file, with the address where the file is in memory, and its size."""
    with pa.memory_map(str(ordinary(path))) as mapped:
        size = mapped.size()
        whole = mapped.read_buffer(size)  # a view, not a copy
        mapped.seek(0)
        if whole.slice(0, 6).to_pybytes() == b"ARROW1" if size >= 6 else False:
            reader = pa.ipc.open_file(mapped)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(mapped))
        for batch in batches:
            batch.validate(full=True)  # offsets beyond the file would end the process
            yield batch, whole.address, size


def _columns(pa: Any, schema: Any, name: str) -> _Columns:
    features = _features(schema.metadata)
    kinds = {column: str(how.get("_type")) for column, how in features.items() if isinstance(how, Mapping)}
    images = [c.name for c in schema if kinds.get(c.name) == "Image" or (not kinds and _is_image(pa, c))]
    labels = [c.name for c in schema if kinds.get(c.name) == "ClassLabel"]
    labels = labels or [c.name for c in schema if c.name.strip().lower() in LABEL_COLUMNS]
    if len(images) != 1 or len(labels) > 1 or len(set(schema.names)) < len(schema.names):
        raise DataError(
            f"The dataset {name} needs exactly one image column and one class column; it has {schema.names}."
        )
    classes = None
    if labels and kinds.get(labels[0]) == "ClassLabel":
        classes = tuple(map(str, features[labels[0]]["names"]))
        if len({nfc(one.strip()) for one in classes}) < len(classes):
            raise DataError(f"The dataset {name} has two classes of one name; rename or merge them.")
    more = [c.name for c in schema if c.name not in (*images, *labels) and _is_plain(pa, c.type)]
    return _Columns(images[0], labels[0] if labels else None, classes, tuple(more))


def _features(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The types of the columns as `datasets` describes them; empty for files that it did not write."""
    text = (metadata or {}).get(b"huggingface")
    features = parse_object(text)["info"]["features"] if text else {}
    return features if isinstance(features, dict) else {}


def _is_image(pa: Any, column: Any) -> bool:
    """Whether a column holds image files, by its type and name."""
    kind = column.type
    if pa.types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(number).name for number in range(kind.num_fields)}
    return column.name.strip().lower() in _NAMES and _is_bytes(pa, kind)


def _is_bytes(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(pa: Any, kind: Any) -> bool:
    """Whether values are words, numbers or dates, as splits and groups are."""
    kinds = ("string", "large_string", "string_view", "primitive", "decimal", "dictionary", "null")
    return any(getattr(pa.types, f"is_{name}", lambda _: False)(kind) for name in kinds)


def _label(value: Any, columns: _Columns) -> str | None:
    """The name of a class; None where there is none: a test split often has -1."""
    if value is None or columns.classes is None:
        return None if is_blank(value) else in_words(value)
    if isinstance(value, str):
        return value
    if int(value) >= len(columns.classes):
        raise ValueError(f"class {value} of {len(columns.classes)}")
    return None if int(value) < 0 else columns.classes[int(value)]


def _images(
    column: Any, file: Path, base: int, size: int, name: str, start: int
) -> Iterator[ImageSource | None]:
    """The image of each row."""
    import pyarrow as pa

    struct = pa.types.is_struct(column.type)
    values = column.field("bytes") if struct else column
    paths: list[Any] = column.field("path").to_pylist() if struct else [None] * len(column)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    whole = values.is_valid().to_numpy(zero_copy_only=False) & there
    places = _places(pa, values, base)
    most = ArchiveLimits().file_bytes
    for row in range(len(column)):
        called = f"{name}/row {start + row}"
        if whole[row]:
            begin, length = int(places[row]), int(places[row + 1] - places[row])
            if length > most:
                raise DataError(f"{called}: it is over {in_megabytes(most)}; scale it down.")
            if not 0 <= begin <= begin + length <= size:
                raise DataError(f"{name} keeps its images compressed; save it again without compression.")
            yield Member(called, file, Span(begin, length, length))
        elif there[row] and paths[row]:
            yield Path(name).parent / paths[row]
        else:
            yield None


def _places(pa: Any, values: Any, base: int) -> NDArray[np.int64]:
    """Where each value begins in the file, and where the last ends."""
    if not _is_bytes(pa, values.type):
        raise ValueError(f"images of type {values.type}")
    _, offsets, data = values.buffers()
    width = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    if data is None or offsets is None or not len(values):
        return np.zeros(len(values) + 1, np.int64)
    found = np.frombuffer(offsets, width)[values.offset : values.offset + len(values) + 1]
    return found.astype(np.int64) + (data.address - base)
