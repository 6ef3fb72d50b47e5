"""MedMNIST+ (Yang et al., Scientific Data 2023): eleven sets of medical pictures in one .npz file each, with
the owner's training, validation and test images.

An .npz file is a zip of arrays, mostly compressed, so its pictures cannot be read one by one. They are copied
once to the cache, under a hash of the file, as PNM files one after another. Nothing in it is unpickled. The
labels of ChestMNIST are several per picture, and the 3D sets are no pictures; they are not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from farshot.arrays import NDArray
from farshot.data.listing import Finding, Listing, Published
from farshot.data.text import first_line
from farshot.errors import DataError
from farshot.images.member import Member, Span, unpack
from farshot.storage.archives import ArchiveLimits, Entry, in_megabytes, read_directory
from farshot.storage.atomic import reason, replaced
from farshot.storage.paths import default_cache

_SIDE = 224
_SPLITS = ("train", "val", "test")
_LIMITS = ArchiveLimits(file_bytes=100_000_000_000, entries=100)
_MOST_IMAGES, _MOST_SIDE = 1_000_000, 1024
_ORGANS = (
    *("bladder", "left femur", "right femur", "heart", "left kidney", "right kidney", "liver", "left lung"),
    *("right lung", "pancreas", "spleen"),
)
_SETS: dict[str, tuple[str, tuple[int, int, int], tuple[str, ...]]] = {
    "pathmnist": (
        "PathMNIST",
        (89_996, 10_004, 7_180),
        (
            *(
                "adipose",
                "background",
                "debris",
                "lymphocytes",
                "mucus",
                "smooth muscle",
                "normal colon mucosa",
            ),
            *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
        ),
    ),
    "dermamnist": (
        "DermaMNIST",
        (7_007, 1_003, 2_005),
        (
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *(
                "benign keratosis-like lesions",
                "dermatofibroma",
                "melanoma",
                "melanocytic nevi",
                "vascular lesions",
            ),
        ),
    ),
    "octmnist": (
        "OCTMNIST",
        (97_477, 10_832, 1_000),
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    ),
    "pneumoniamnist": ("PneumoniaMNIST", (4_708, 524, 624), ("normal", "pneumonia")),
    "retinamnist": (
        "RetinaMNIST",
        (1_080, 120, 400),
        (
            *("no diabetic retinopathy", "mild diabetic retinopathy", "moderate diabetic retinopathy"),
            *("severe diabetic retinopathy", "proliferative diabetic retinopathy"),
        ),
    ),
    "breastmnist": ("BreastMNIST", (546, 78, 156), ("malignant", "normal or benign")),
    "bloodmnist": (
        "BloodMNIST",
        (11_959, 1_712, 3_421),
        (
            *("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte"),
            *("neutrophil", "platelet"),
        ),
    ),
    "tissuemnist": (
        "TissueMNIST",
        (165_466, 23_640, 47_280),
        (
            *(
                "collecting duct or connecting tubule",
                "distal convoluted tubule",
                "glomerular endothelial cells",
            ),
            *("interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments"),
            "thick ascending limb",
        ),
    ),
    "organamnist": ("OrganAMNIST", (34_561, 6_491, 17_778), _ORGANS),
    "organcmnist": ("OrganCMNIST", (12_975, 2_392, 8_216), _ORGANS),
    "organsmnist": ("OrganSMNIST", (13_932, 2_452, 8_827), _ORGANS),
}
"""Title, images of each split in version 3 of the owner's package, and classes in the order of labels. The
classes of retinamnist are the grades 0 to 4 in words."""


@dataclass(frozen=True)
class _Header:
    """The start of an array: shape, type, and the bytes before its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    length: int


def read_medmnist(name: str, path: Path) -> Listing:
    """The pictures of NAME_224.npz, in a folder or given itself.

    Raises:
        DataError: the file is not there, or not as it is distributed.
    """
    title, counts, classes = _SETS[name]
    file = path if path.is_file() else path / f"{name}_{_SIDE}.npz"
    if not file.is_file() and (path / f"{name}.npz").is_file():
        file = path / f"{name}.npz"
    if not file.is_file():
        raise DataError(f"{path} has no {name}_{_SIDE}.npz; fetch it from MedMNIST's page at Zenodo.")
    found = Listing(file, {label: label for label in classes})
    try:
        with file.open("rb") as archive:
            entries = {e.name: e for e in read_directory(archive, file.stat().st_size, _LIMITS)}
            for entry in entries.values():
                if entry.fault is not None:
                    raise DataError(f"{entry.name}: {entry.fault}")
            labels = {s: _labels(archive, _member(entries, s, "labels"), len(classes)) for s in _SPLITS}
            shapes = {s: _shape(archive, _member(entries, s, "images"), len(labels[s])) for s in _SPLITS}
            place = _unpacked(file, archive, entries, shapes, found)
    except (DataError, ValueError, EOFError) as error:
        raise DataError(f"{file}: {first_line(error)}") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read or unpacked to the cache ({reason(error)}).") from error
    _add(found, place, labels, shapes)
    _compare(found, title, counts, labels, shapes)
    return found


MEDMNIST = {
    name: Published(
        title,
        sum(counts),
        len(classes),
        f"MedMNIST+, {name}_{_SIDE}.npz (Zenodo 10519652)",
        partial(read_medmnist, name),
        (f"{name}_{_SIDE}.npz", f"medmnist/{name}_{_SIDE}.npz", f".medmnist/{name}_{_SIDE}.npz"),
    )
    for name, (title, counts, classes) in _SETS.items()
}
"""Name on the command line -> pool."""


class _Stream:
    """The unpacked bytes of an entry, read in order."""

    def __init__(self, archive: IO[bytes], entry: Entry) -> None:
        self._pieces: Iterator[bytes] = unpack(archive, entry.span)
        self._left = bytearray()

    def read(self, size: int) -> bytes:
        """So many bytes, or those that are left."""
        while len(self._left) < size and (piece := next(self._pieces, None)) is not None:
            self._left += piece
        found = bytes(self._left[:size])
        del self._left[:size]
        return found


def _member(entries: dict[str, Entry], split: str, what: str) -> Entry:
    entry = entries.get(f"{split}_{what}.npy")
    if entry is None:
        raise DataError(f"it has no array {split}_{what}; fetch it again.")
    return entry


def _header(stream: _Stream) -> _Header:
    """The header of an array, whose values follow in the stream.

    Raises:
        ValueError: it is none, or an array of Python objects.
    """
    counting = _Counting(stream)
    version = np.lib.format.read_magic(counting)  # type: ignore[arg-type]
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read is None:
        raise ValueError(f"an array of version {version}; fetch it again.")
    shape, fortran, dtype = read(counting)  # type: ignore[arg-type]
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError("an array holds Python objects, or columns first; fetch it again.")
    return _Header(shape, dtype, counting.count)


class _Counting:
    """Counts what is read of a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream, self.count = stream, 0

    def read(self, size: int) -> bytes:
        """As `_Stream.read`."""
        found = self._stream.read(size)
        self.count += len(found)
        return found


def _labels(archive: IO[bytes], entry: Entry, classes: int) -> NDArray[np.int64]:
    """The class of each picture."""
    stream = _Stream(archive, entry)
    header = _header(stream)
    shape = header.shape
    if header.dtype.kind not in "iu" or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
        raise DataError(
            f"{entry.name} has the shape {shape} of {header.dtype}, not one whole number per picture; a set "
            "with several labels per picture is no pool."
        )
    if not 0 < shape[0] <= _MOST_IMAGES:
        raise DataError(f"{entry.name} has {shape[0]} rows; fetch it again.")
    values = np.frombuffer(stream.read(shape[0] * header.dtype.itemsize), header.dtype)
    if len(values) != shape[0] or stream.read(1):
        raise DataError(f"{entry.name} does not hold the {shape[0]} labels that it declares; fetch it again.")
    labels = values.astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        odd = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"{entry.name} has the label {odd}, but the classes are 0 to {classes - 1}.")
    return labels


def _shape(archive: IO[bytes], entry: Entry, rows: int) -> tuple[int, ...]:
    """The shape of the pictures, checked against the bytes there are."""
    header = _header(_Stream(archive, entry))
    shape = header.shape
    fits = len(shape) in (3, 4) and shape[3:] in ((), (3,)) and header.dtype == np.uint8
    if not fits or not all(0 < side <= _MOST_SIDE for side in shape[1:3]):
        raise DataError(
            f"{entry.name} has the shape {shape} of {header.dtype}, which are no pictures of MedMNIST."
        )
    if shape[0] != rows:
        raise DataError(f"{entry.name} has {shape[0]} pictures, but there are {rows} labels; fetch it again.")
    if entry.span.size != header.length + int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{entry.name} does not hold the {shape[0]} pictures that it declares; fetch it again."
        )
    return shape


def _pnm(shape: tuple[int, ...]) -> bytes:
    """The header of one picture as a PNM file."""
    return b"P%d %d %d 255\n" % (6 if len(shape) == 4 else 5, shape[2], shape[1])


def _unpacked(
    file: Path,
    archive: IO[bytes],
    entries: dict[str, Entry],
    shapes: dict[str, tuple[int, ...]],
    found: Listing,
) -> Path:
    """The file in the cache with all pictures, split by split; written if it is not there."""
    with file.open("rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()[:32]
    place = default_cache() / "datasets" / f"{digest}.pnm"
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with replaced(place) as staging, staging.open("wb") as out:
        for split, shape in shapes.items():
            stream, size = _Stream(archive, _member(entries, split, "images")), int(np.prod(shape[1:]))
            _header(stream)
            for _ in range(shape[0]):
                out.write(_pnm(shape) + stream.read(size))
            stream.read(1)  # to the end, where the checksum is compared
    found.findings.append(
        Finding(
            f"the pictures of {file.name} were unpacked to the cache, {place} "
            f"({in_megabytes(place.stat().st_size)})"
        )
    )
    return place


def _add(
    found: Listing, place: Path, labels: dict[str, NDArray[np.int64]], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Add the pictures in the cache to the listing."""
    classes, start = list(found.classes), 0
    for split, codes in labels.items():
        size = len(_pnm(shapes[split])) + int(np.prod(shapes[split][1:]))
        for row, code in enumerate(codes.tolist()):
            name = f"{split}/{row:06d}"
            image = Member(f"{found.root}/{name}", place, Span(start, size, size))
            found.files[name], found.splits[name] = (image, classes[code]), split
            start += size


def _compare(
    found: Listing,
    title: str,
    counts: tuple[int, int, int],
    labels: dict[str, NDArray[np.int64]],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """Add findings where the sides of pictures or the sizes of splits are others."""
    sides = sorted({side for shape in shapes.values() for side in shape[1:3]})
    if sides != [_SIDE]:
        found.findings.append(
            Finding(
                f"pictures are {sides[0]} pixels wide, not {_SIDE}",
                f"Fetch the file of MedMNIST+ that ends in _{_SIDE}.npz.",
                differs=True,
            )
        )
    here = tuple(len(labels[split]) for split in _SPLITS)
    if here != counts and sum(here) == sum(counts):
        found.findings.append(
            Finding(
                f"train, val and test have {here} pictures; those of {title} have {counts}",
                "Fetch the file again.",
                differs=True,
            )
        )
