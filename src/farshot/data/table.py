"""ImageTable: images, and the class of each if it is known. All readers return one."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int
from PIL import Image

from farshot.arrays import NDArray
from farshot.data.decoded import Decoded, Outcome
from farshot.data.independence import draw
from farshot.errors import DataError
from farshot.images.identity import PREFIX, content_id, identify
from farshot.images.likeness import remember_picture
from farshot.images.member import Member, Named
from farshot.images.options import ReadOptions
from farshot.images.preprocess import prepare, wanted_side
from farshot.images.reading import ImageSource, UnreadableImage, image_id, read_image, read_picture
from farshot.sanitize import short, visible

SPLITS = ("train", "val", "test")

_THREADS = 4
_MOST_LISTED = 20


class ReadingNote(UserWarning):
    """Part of an image was left out, or its values were stretched, when it was read."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images in a fixed order.

    Attributes:
        images: paths, PIL images or arrays.
        labels: index into `classes` of each image; None where labels are not known.
        classes: the classes as the data calls them.
        names: the same classes as prompts call them.
        splits: "train", "val" or "test" of each image; None where the data has no splits.
        groups: what each image was taken of, such as a patient or a leaf; images of one group are not
            independent. None where the data does not say.
        notes: how a reader understood its source where another reading is possible.
        options: how images of many bits or bands are read.
    """

    images: tuple[ImageSource, ...]
    labels: Int[NDArray[np.int64], " images"] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    splits: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    _ids: dict[int, str] = field(default_factory=dict, repr=False)
    _contents: dict[int, str] = field(default_factory=dict, repr=False)
    options: ReadOptions = field(default_factory=ReadOptions, kw_only=True)
    _decoded: Decoded = field(default_factory=Decoded, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        for what in ("splits", "groups"):
            values = getattr(self, what)
            if values is not None and len(values) != len(self.images):
                raise DataError(
                    f"The table has {len(self.images)} images but {len(values)} {what}; give one per image."
                )
        odd = sorted(set(self.splits or ()) - set(SPLITS))
        if odd:
            raise DataError(f"{odd[0]!r} is not a split; splits are {', '.join(SPLITS)}.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def features_folder(self) -> Path | None:
        """Folder in which the features of its images are kept; None for in memory only."""
        return None

    def subset(self, rows: Sequence[int] | NDArray[np.int64]) -> ImageTable:
        """A table of these rows, in this order, with all classes."""
        chosen = [int(row) for row in rows]
        labels = None if self.labels is None else self.labels[chosen]
        known = {new: self._ids[old] for new, old in enumerate(chosen) if old in self._ids}
        contents = {new: self._contents[old] for new, old in enumerate(chosen) if old in self._contents}
        return replace(
            self,
            images=tuple(self.images[row] for row in chosen),
            labels=labels,
            splits=None if self.splits is None else tuple(self.splits[row] for row in chosen),
            groups=None if self.groups is None else tuple(self.groups[row] for row in chosen),
            _ids=known,
            _contents=contents,
        )

    @property
    def test_split(self) -> str | None:
        """The split to measure on: "test", or "val" where there is no "test"; None without splits."""
        if self.splits is None:
            return None
        return "test" if "test" in self.splits else "val"

    def train_rows(self) -> Int[NDArray[np.int64], " rows"]:
        """Rows to adapt to: those of the split "train", or all where the table has no splits."""
        return self._rows_of("train")

    def test_rows(self) -> Int[NDArray[np.int64], " rows"]:
        """Rows to measure on: those of `test_split`, or all where the table has no splits."""
        return self._rows_of(self.test_split)

    def _rows_of(self, split: str | None) -> Int[NDArray[np.int64], " rows"]:
        if self.splits is None:
            return np.arange(len(self))
        return np.array([row for row, name in enumerate(self.splits) if name == split], dtype=np.int64)

    def check_one_label(self) -> None:
        """Refuse a picture with two labels.

        Raises:
            DataError: names the picture and both labels.
        """
        labels = self._known_labels()
        first: dict[str, int] = {}
        for row in range(len(self)):
            other = first.setdefault(self.content(row), row)
            if labels[other] != labels[row]:
                a, b = (self.classes[labels[r]] for r in (other, row))
                places = [self._called(r) for r in (other, row)]
                same = places[0] if places[0] == places[1] else f"{places[0]} and {places[1]}, one picture,"
                raise DataError(
                    f"{same} has two labels, {short(a)} and {short(b)}; keep one, or leave the picture out."
                )

    def with_options(self, options: ReadOptions) -> ImageTable:
        """The same images with other options for reading."""
        if options == self.options:
            return self
        return replace(self, options=options, _decoded=Decoded(), _contents={})

    def with_absolute_paths(self) -> ImageTable:
        """The same images, wherever the current folder is."""
        return replace(self, images=tuple(map(_absolute, self.images)))

    def id(self, row: int) -> str:
        """Hash of one image's content, and of the options if they are not the default; the key of caches."""
        if row not in self._ids:
            self._ids[row] = image_id(self.images[row])
        if self.options == ReadOptions():
            return self._ids[row]
        return hashlib.sha256(f"{self._ids[row]}{self.options.to_dict()}".encode()).hexdigest()[:32]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Content hashes of all images."""
        return tuple(self.id(row) for row in range(len(self)))

    def content(self, row: int) -> str:
        """Identity of the picture that an image shows: equal for copies, whether files of any format, PIL
        images or arrays.

        Raises:
            UnreadableImage: it cannot be read.
        """
        if row not in self._contents:
            self._contents[row] = content_id(self.images[row], self.options)
        return self._contents[row]

    def contents(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> tuple[str, ...]:
        """Identities of these rows' pictures, or of all; an image that cannot be read equals no other."""
        chosen = range(len(self)) if rows is None else map(int, rows)
        with ThreadPoolExecutor(_THREADS) as pool:
            return tuple(pool.map(self._content_or_name, chosen))

    def _content_or_name(self, row: int) -> str:
        try:
            return self.content(row)
        except UnreadableImage:
            return f"unreadable {row}"

    def among(self, ids: Collection[str]) -> NDArray[np.bool_]:
        """Which rows show a picture with one of these identities; hashes of earlier versions are matched by
        `id`."""
        found = np.zeros(len(self), dtype=bool)
        if any(name.startswith(PREFIX) for name in ids):
            found |= np.array([name in ids for name in self.contents()], dtype=bool)
        if any(not name.startswith(PREFIX) for name in ids):
            found |= np.array([name in ids for name in self.ids], dtype=bool)
        return found

    def pixels(
        self, rows: Sequence[int] | NDArray[np.int64], reading: str, size: int
    ) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """Pixels of these rows, (rows, R, R, 3); for "reduced" a list, since shapes differ.

        Warns:
            ReadingNote: something of an image was left out or stretched.

        Raises:
            UnreadableImage: the first that cannot be read.
        """

        def one(row: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
            return self._prepared(row, reading, size)

        chosen = [int(row) for row in rows]
        with ThreadPoolExecutor(_THREADS) as pool:  # for one row a thread costs more than it saves
            found = list(map(one, chosen) if len(chosen) == 1 else pool.map(one, chosen))
        self.warn((row, note) for row, (_, notes) in zip(chosen, found, strict=True) for note in notes)
        read = [pixels for pixels, _ in found]
        if reading == "reduced":
            return read
        return np.stack(read) if read else np.zeros((0, size, size, 3), dtype=np.uint8)

    def image(self, row: int) -> Image.Image:
        """One image as upright RGB, in full size.

        Raises:
            UnreadableImage: as `read_image`.
        """
        return read_image(self.images[row], options=self.options)

    def draw(self, shots: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw K rows of every class, all of different pictures, and of different groups where there are
        enough. Return these and all rows that are independent of them (farshot.data.independence), both in
        table order.

        Raises:
            DataError: a class has fewer than K images.
        """
        return draw(self, shots, seed)

    def check_readable(
        self,
        skip_unreadable: bool = False,
        progress: Callable[[int, int], None] | None = None,
        keep: tuple[str, int] | None = None,
    ) -> ImageTable:
        """Read every image once, and return the table, or the table without images that cannot be read.

        Args:
            progress: called with (images read, in all).
            keep: the reading and size that `pixels` will be asked for, so that no file is decoded again then.

        Warns:
            ReadingNote: something of an image was left out or stretched.

        Raises:
            DataError: lists all unreadable images at once, unless they are to be skipped; or a class has none
                left.
        """

        looked = self.look(keep, progress)
        self.warn(looked.notes)
        faults = looked.faults
        bad = [self.fault(row, error) for row, error in faults.items()]
        if not bad:
            return self
        if not skip_unreadable:
            raise unreadable(bad, len(self))
        left = self.subset([row for row in range(len(self)) if row not in faults])
        empty = (
            []
            if left.labels is None
            else [c for i, c in enumerate(self.classes) if not (left.labels == i).any()]
        )
        if empty or not len(left):
            what = f"no image of the class {short(empty[0])}" if empty else "no image at all"
            raise DataError(f"Without the {len(bad)} unreadable images there is {what} left; add some.")
        return left

    def look(
        self,
        keep: tuple[str, int] | None = None,
        progress: Callable[[int, int], None] | None = None,
        *,
        identities: bool = True,
        near: bool = False,
    ) -> Outcome:
        """Decode every image once; nothing is raised or warned of.

        Args:
            keep, progress: as in `check_readable`.
            identities: find what `content` returns, too, where the whole picture is decoded.
            near: keep the thumbnails with which near copies are found (farshot.images.likeness).
        """

        def one(row: int) -> tuple[UnreadableImage | None, tuple[str, ...]]:
            source = self.images[row]
            try:
                if keep is not None:
                    return None, self._prepared(row, *keep, identities, near)[1]
                picture = read_picture(source, self.options)
                self._contents[row] = identify(source, picture.image, self.options)
                return None, picture.notes
            except UnreadableImage as error:
                return error, ()

        found = Outcome({}, [])
        with ThreadPoolExecutor(_THREADS) as pool:
            for row, (fault, notes) in enumerate(pool.map(one, range(len(self)))):
                found.notes.extend((row, note) for note in notes)
                if fault is not None:
                    found.faults[row] = fault
                if progress:
                    progress(row + 1, len(self))
        return found

    def fault(self, row: int, error: UnreadableImage, number: int | None = None) -> str:
        """The sentence on an image that cannot be read; one in memory is named by its position.

        Args:
            number: the row in the table that this one is part of.
        """
        if isinstance(self.images[row], Named):
            return str(error)
        return f"image {(row if number is None else number) + 1}, {error}"

    def part(self, rows: Sequence[int] | NDArray[np.int64]) -> ImageTable:
        """As `subset`, with separate room for decoded pixels, which ends with it."""
        return replace(self.subset(rows), _decoded=Decoded())

    def with_pixels(self, pixels: Sequence[NDArray[np.uint8]], reading: str, size: int) -> ImageTable:
        """The same files, whose pixels in a reading are known, so that none is decoded again."""
        decoded = Decoded()
        for source, found in zip(self.images, pixels, strict=True):
            decoded.keep(source, reading, size, found)
        return replace(self, _decoded=decoded)

    def _prepared(
        self, row: int, reading: str, size: int, identities: bool = True, near: bool = False
    ) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """Pixels of one image and the notes on it; none if the pixels were kept."""
        source = self.images[row]
        kept = self._decoded.pixels(source, reading, size)
        if kept is not None:
            return kept, ()
        picture = read_picture(source, self.options, wanted=wanted_side(reading, size))
        # a JPEG that was decoded smaller does not show its identity
        if identities and picture.image.size == picture.size:
            self._contents[row] = identify(source, picture.image, self.options)
        if near:
            remember_picture(source, picture.image, self.options)
        pixels = prepare(picture.image, reading, size)
        self._decoded.keep(source, reading, size, pixels)
        return pixels, picture.notes

    def warn(self, notes: Iterable[tuple[int, str]]) -> None:
        """Issue one ReadingNote for each new note on a row, with the first image concerned."""
        named = ((self._name(row), note) for row, note in notes)
        for note, names in self._decoded.new_notes(named).items():
            where = names[0] if len(names) == 1 else f"{len(names)} images, the first {names[0]}"
            warnings.warn(f"{where}: {note}", ReadingNote, stacklevel=3)

    def _name(self, row: int) -> str:
        source = self.images[row]
        return str(source) if isinstance(source, Named) else f"image {row + 1}"

    def _called(self, row: int) -> str:
        source = self.images[row]
        return str(source) if isinstance(source, Named) else f"Image {row + 1}"

    def _known_labels(self) -> NDArray[np.int64]:
        if self.labels is None:
            raise DataError("These images have no labels.")
        return self.labels


def path_of(source: ImageSource) -> str:
    """The name of an image in output."""
    return str(source) if isinstance(source, Named) else "(in memory)"


def unreadable(faults: Sequence[str], images: int) -> DataError:
    """The error that lists images that cannot be read, out of so many."""
    listed = "\n  ".join(map(visible, faults[:_MOST_LISTED]))
    more = f"\n  and {len(faults) - _MOST_LISTED} more" if len(faults) > _MOST_LISTED else ""
    return DataError(
        f"{len(faults)} of {images} images cannot be read; fix or remove them, or use "
        f"--skip-unreadable:\n  {listed}{more}",
        lines=True,
    )


def none_readable(faults: Sequence[str]) -> DataError:
    """The error where all images cannot be read, although that is allowed of some."""
    return DataError(f"None of the {len(faults)} images can be read. {faults[0]}")


def _absolute(source: ImageSource) -> ImageSource:
    if isinstance(source, Member):
        return source.absolute()
    return Path(source).absolute() if isinstance(source, str | Path) else source
