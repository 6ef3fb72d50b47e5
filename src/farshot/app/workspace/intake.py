"""Store untrusted uploads as image files in a folder, or refuse them with a reason.

What is kept is kept byte for byte, so that the same file gives the same predictions everywhere; its name on
disk is made of its content and its true format, never of what it was called. Nothing is believed: not a name,
an extension, a size that something declares of itself. No byte is unpickled, run or handed to a format that
is not on the list of `formats`. Whoever serves these files to a browser must name their type and forbid
guessing it (`X-Content-Type-Options: nosniff`): a picture can be a program as well.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

from farshot.app.texts import Fault, Text, message
from farshot.app.workspace.formats import check_image
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.names import Place, parts_of, places_of, shown_folders, shown_name
from farshot.data.files import is_litter
from farshot.errors import DataError
from farshot.images.kinds import HEAD_BYTES, ZIP_MAGIC
from farshot.images.member import CHUNK, unpack
from farshot.images.reading import UnreadableImage, image_id
from farshot.images.untrusted import check_kind, in_megabytes, is_zip, too_many_bytes
from farshot.sanitize import plain
from farshot.storage.archives import read_directory
from farshot.storage.atomic import reason

UNFINISHED = ".incoming-"
"""How files begin that are not known to be images yet; only a machine that stops leaves one behind."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file.

    Attributes:
        name: as the browser called it, perhaps with folders ("Class/x.jpg"); untrusted.
        path: where its bytes lie.
        wrapped: whether a single folder is around all files that were sent with it, and proposes nothing for
            those that lie loose in it; None: as the uploads of this call tell.
        folders: those of all files that were sent with it, joined with "/"; untrusted, and empty where nobody
            says.
    """

    name: str
    path: Path
    wrapped: bool | None = None
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """An image that was stored.

    Attributes:
        id: content hash, `farshot.images.reading.image_id` of the file.
        name: what it was called, fit for display.
        place: where it lay, which proposes its class.
        path: the stored file.
        folders: all folders of its name, fit for display, joined with "/".
    """

    id: str
    name: str
    place: Place
    path: Path
    folders: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that was not stored.

    Attributes:
        name: what it was called, fit for display.
        reason: what is wrong and the way out, may be a `Text`; the sentence follows the name and a colon.
        same_as: the id of the image that it equals, where it is refused only for being here already.
        place: where such an image lay, which proposes its class.
        folders: all folders of its name, as those of `Taken`.
    """

    name: str
    reason: str
    same_as: str | None = None
    place: Place = field(default_factory=Place)
    folders: str = ""


def take_in(
    uploads: Sequence[Upload],
    place: Path,
    limits: Limits,
    known: Collection[str] = (),
    full: str = "upload.full",
) -> tuple[list[Taken], list[Refused]]:
    """Stores the images among uploads, and those in the zips among them.

    Litter of operating systems is passed over in silence; every other file is in one of the two lists.

    Args:
        place: the folder of stored images; made where it is missing, but not the one that it is in.
        known: ids of all images that are there, which count towards the limit and are not stored again.
        full: key of what is said where there is no room for more.

    Raises:
        DataError: the folder cannot be made.
    """
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise Fault("upload.no_folder", place=place, why=reason(error)) from error
    intake = _Intake(place, limits, known, full)
    wrapped = {upload.wrapped for upload in uploads}
    around = wrapped.pop() if len(wrapped) == 1 else None
    others = {folder for upload in uploads for folder in upload.folders}
    others = {folder for folder in others if not is_litter(parts_of(f"{folder}/picture"), hidden=False)}
    folders = places_of([upload.name for upload in uploads], around, others)
    for upload, folder in zip(uploads, folders, strict=True):
        if not is_litter(parts_of(upload.name), hidden=False):
            intake.upload(upload, folder)
    return intake.taken, intake.refused


class _Intake:
    """The state of one call of `take_in`."""

    def __init__(self, place: Path, limits: Limits, known: Collection[str], full: str) -> None:
        self.place, self.limits, self.known, self.full = place, limits, set(known), full
        self.taken: list[Taken] = []
        self.refused: list[Refused] = []

    def upload(self, upload: Upload, folder: Place) -> None:
        with self._refusing(upload.name), _opened(upload.path) as (file, size):
            if file.read(4) in ZIP_MAGIC:
                self._zip(file, size)
                return
            file.seek(0)
            if size > self.limits.file_bytes:
                raise too_many_bytes(self.limits.file_bytes)
            self._image(upload.name, folder, iter(lambda: file.read(CHUNK), b""))

    def _zip(self, file: IO[bytes], size: int) -> None:
        """Entries in their order; what one of them has wrong does not stop the others."""
        entries = [
            entry
            for entry in read_directory(file, size, self.limits)
            if not (entry.is_folder or is_litter(parts_of(entry.name), hidden=True))
        ]
        if not entries:
            raise Fault("upload.no_image_in_zip")
        folders = places_of([entry.name for entry in entries])
        unpacked = _Count()
        for number, (entry, folder) in enumerate(zip(entries, folders, strict=True)):
            left = len(entries) - number
            if self._is_full():
                raise Fault("upload.left_out", n=left, why=self._full().text)
            if not entry.fault and unpacked.bytes + entry.span.size > self.limits.unpacked_bytes:
                most = in_megabytes(self.limits.unpacked_bytes)
                raise Fault("upload.unpacks_to", size=most, n=left)
            with self._refusing(entry.name):
                if entry.fault:
                    raise DataError(entry.fault)
                self._image(entry.name, folder, unpacked.of(unpack(file, entry.span)))

    def _image(self, name: str, folder: Place, pieces: Iterator[bytes]) -> None:
        """Stores one image under its content and true format, once all of it has been decoded."""
        if self._is_full():
            raise self._full()
        head = b""
        while len(head) < HEAD_BYTES and (piece := next(pieces, b"")):
            head += piece
        if is_zip(head):
            raise Fault("upload.zip_in_zip")
        check_kind(head)
        with self._unfinished(chain([head], pieces)) as file:
            identity = image_id(file)
            if identity in self.known:
                why = Text("upload.same")
                self.refused.append(Refused(shown_name(name), why, identity, folder, shown_folders(name)))
                return
            stored = self.place / (identity + check_image(file, self.limits))
            file.replace(stored)
        self.known.add(identity)
        self.taken.append(Taken(identity, shown_name(name), folder, stored, shown_folders(name)))

    @contextmanager
    def _unfinished(self, pieces: Iterator[bytes]) -> Iterator[Path]:
        """A file of these bytes in the place it would stay, gone afterwards unless it was renamed."""
        handle, path = tempfile.mkstemp(prefix=UNFINISHED, dir=self.place)
        try:
            with os.fdopen(handle, "wb") as out:
                for piece in pieces:
                    if out.tell() + len(piece) > self.limits.file_bytes:  # it grew while it was read
                        raise Fault("upload.file_over", size=in_megabytes(self.limits.file_bytes))
                    out.write(piece)
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Turn an error about a file into its refusal."""
        try:
            yield
        except UnreadableImage as error:
            self._refuse(name, error.reason)
        except DataError as error:
            self._refuse(name, message(error))
        except OSError as error:  # of the system, such as a full disk
            self._refuse(name, Text("upload.cannot_store", why=reason(error)))

    def _refuse(self, name: str, why: str) -> None:
        self.refused.append(Refused(shown_name(name), why if isinstance(why, Text) else plain(why)))

    def _is_full(self) -> bool:
        return len(self.known) >= self.limits.images

    def _full(self) -> Fault:
        return Fault(self.full, most=self.limits.images)


class _Count:
    """How many bytes came, of what was asked for: of a file that is no image only the first."""

    def __init__(self) -> None:
        self.bytes = 0

    def of(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.bytes += len(piece)
            yield piece


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """An ordinary file and its size; anything else at this path, a link or a pipe, is not followed or waited
    for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        ordinary = stat.S_ISREG(path.lstat().st_mode)
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0)) if ordinary else None
    except (OSError, ValueError) as error:
        raise Fault("upload.cannot_read", why=reason(error)) from error
    if handle is None:
        raise Fault("upload.not_ordinary")
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):  # exchanged since it was looked at
            raise Fault("upload.not_ordinary")
        yield file, about.st_size
