"""Zips that mean harm: paths that lead away, bombs, lies. Most hold one good image, too."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from PIL import Image

from farshot.app.workspace.limits import Limits
from tests.hostile_images import Made
from tests.image_bytes import encoded
from tests.zip_bytes import (
    BZIP2,
    DEVICE,
    LINK,
    LZMA,
    PIPE,
    STORED,
    Piece,
    local_entry,
    zeros,
    zipped,
)

_ENTRIES = Limits().entries
_TOO_MANY = f"lists over {_ENTRIES:,} files"


def zips(good: Callable[[], bytes]) -> Iterator[Made]:
    """All of them.

    Args:
        good: gives a fine image, each time another.
    """
    for kind, bad, words in (*_paths(good), *_kinds(good), *_lies(good)):
        yield f"zip: {kind}", "images.zip", zipped(Piece("cat/good.png", good()), bad), words, 1
    yield from _archives(good)
    yield from _bombs(good)


def _paths(good: Callable[[], bytes]) -> Iterator[tuple[str, Piece, str]]:
    away, odd = "its path leads out of the archive", "its path in the archive is not an ordinary one"
    for name, words in (
        ("../evil.png", away),
        ("cat/../../evil.png", away),
        ("cat/..", away),
        ("/etc/evil.png", odd),
        ("C:/Windows/evil.png", odd),
        ("C:evil.png", odd),
        ("..\\evil.png", odd),
        ("\\\\server\\evil.png", odd),
        ("cat\\evil.png", odd),
        ("evil.png\0.txt", odd),
    ):
        yield f"path {name!r}", Piece(name, good()), words


def _kinds(good: Callable[[], bytes]) -> Iterator[tuple[str, Piece, str]]:
    for kind, mode in (("link", LINK), ("device", DEVICE), ("pipe", PIPE)):
        yield kind, Piece("evil.png", b"/etc/passwd", mode=mode), "a link or a device"
    yield "link with a picture in it", Piece("evil.png", good(), mode=LINK), "a link or a device"
    yield "locked", Piece("evil.png", good(), flags=0x801), "locked with a password"
    yield "strongly locked", Piece("evil.png", good(), flags=0x841), "locked with a password"
    for kind, method in (("bzip2", BZIP2), ("LZMA", LZMA), ("unknown", 99)):
        yield f"packed as {kind}", Piece("evil.png", good(), method=method), "packed in an unusual way"
    inner = zipped(Piece("evil.png", good()))
    yield "zip in a zip", Piece("inner.zip", inner), "a zip within a zip"
    yield "zip in a zip, called an image", Piece("inner.png", inner), "a zip within a zip"
    for _ in range(10):
        inner = zipped(Piece("images.zip", inner))
    yield "zip within zips of the same name, ten deep", Piece("images.zip", inner), "a zip within a zip"
    yield "drawing with a script", Piece("evil.svg", b"<svg onload='alert(1)'/>"), "an SVG drawing"
    yield "page", Piece("index.html", b"<html><script>alert(1)</script>"), "a web page"


def _lies(good: Callable[[], bytes]) -> Iterator[tuple[str, Piece, str]]:
    image = good()
    yield "larger than it says", Piece("evil.png", image, size=len(image) - 1), "larger than the zip says"
    more = Piece("evil.png", image, method=STORED, size=len(image) - 1)
    yield "larger than it says, not packed", more, "larger than the zip says"
    yield "smaller than it says", Piece("evil.png", image, size=len(image) + 1), "it is damaged"
    yield "another checksum", Piece("evil.png", image, checksum=1), "it is damaged"
    yield "no deflate", Piece("evil.png", image, packed=b"\xff" * 90), "damaged within the zip"
    flat = encoded(Image.new("RGB", (1000, 1000)), "BMP")
    ten = Piece("evil.bmp", flat, packed=_behind(flat, zeros(10_000)), size=60_000)
    yield "10 GB said to be 60 kB", ten, "larger than the zip says"
    yield "empty", Piece("evil.png", b""), "the file is empty"
    yield "30 MB and one", Piece("evil.png", b"", size=30_000_001), "it is over 30 MB"
    yield "zeros called an image", Piece("evil.png", b"", packed=zeros(29), size=29_000_000), "no image in a"


def _behind(start: bytes, packed: bytes) -> bytes:
    """Deflated bytes with others, not compressed, in front."""
    start = start[:60_000]
    return struct.pack("<BHH", 0, len(start), len(start) ^ 0xFFFF) + start + packed


def _archives(good: Callable[[], bytes]) -> Iterator[Made]:
    """The archive as a whole is odd."""
    damaged = "is damaged or not whole"
    fine = zipped(Piece("cat/good.png", good()))
    yield "half a zip", "half.zip", fine[: len(fine) // 2], damaged, 0
    yield "first bytes of a zip alone", "first.zip", b"PK\x03\x04" + bytes(99), damaged, 0
    yield "an empty zip", "empty.zip", zipped(), "there is no image in the zip", 0
    yield (
        "a folder called an image",
        "d.zip",
        zipped(Piece("cat.jpg/", b"")),
        "there is no image in the zip",
        0,
    )
    litter = ("__MACOSX/cat/._a.png", "cat/.DS_Store", "cat/Thumbs.db", ".git/evil.png")
    yield "only litter", "l.zip", zipped(*(Piece(n, b"x") for n in litter)), "there is no image in the zip", 0
    yield "names that are no text", "n.zip", zipped(Piece(b"\xff\xfe.png", good())), damaged, 0
    twice = zipped(Piece("cat.png", good()), Piece("cat.png", good()), Piece("CAT.PNG", good()))
    yield "a name three times", "t.zip", twice, "", 3
    hostile = zipped(Piece("<img src=x onerror=alert(1)>/\u202egnp.exe", good()))
    yield "a script in the name of a folder", "s.zip", hostile, "", 1
    yield "a zip in the comment of a zip", "c.zip", zipped(comment=fine), "", 1
    yield "a comment of 64 kB", "comment.zip", zipped(Piece("a.png", good()), comment=b"x" * 65535), "", 1
    comments = (Piece(f"{n}.png", b"", comment=b"x" * 65535) for n in range(300))
    yield "comments of 64 kB each", "comments.zip", zipped(*comments), _TOO_MANY, 0
    absurd = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2**62, 2**61)
    absurd += struct.pack("<4sIQI", b"PK\x06\x07", 0, len(fine) - 22, 1)
    yield "a directory of 4 exabytes", "exa.zip", fine[:-22] + absurd + fine[-22:], damaged, 0


def _bombs(good: Callable[[], bytes]) -> Iterator[Made]:
    gigabytes = zeros(3_400)
    three = (
        Piece(f"{n}.bmp", b"", method=8, packed=gigabytes, size=3_400_000_000, checksum=n) for n in range(3)
    )
    yield "a bomb of 10 GB", "bomb.zip", zipped(*three), "claims to unpack to 10,200 MB", 0
    zip64 = Piece("a.png", b"", size=0xFFFFFFFF, extra=struct.pack("<HHQ", 1, 8, 2**63))
    yield "8 exabytes in zip64", "exabytes.zip", zipped(zip64), "claims to unpack to", 0
    far = struct.pack("<HHQ", 1, 8, 2**60)
    beyond = zipped(Piece("a.png", good(), listed_packed=0xFFFFFFFF, extra=far))
    yield "an exabyte of packed bytes", "far.zip", beyond, "is damaged or not whole", 0
    kernel = Piece("0.png", good(), method=STORED)
    same = (Piece(f"{n}.png", kernel.data, method=STORED, at=0) for n in range(1, 1000))
    yield "a thousand names for the same bytes", "same.zip", zipped(kernel, *same), "its files overlap", 0
    inner = Piece("b.png", good(), method=STORED)
    outer = Piece("a.png", local_entry(inner), method=STORED)
    start = 30 + len("a.png")
    nested = zipped(outer, Piece("b.png", inner.data, method=STORED, at=start))
    yield "a file that quotes the next", "quoted.zip", nested, "its files overlap", 0
    entry = Piece("a.png", b"", method=STORED)
    yield "a hundred thousand entries", "many.zip", zipped(*[entry] * 100_000), _TOO_MANY, 0
    some = zipped(*[entry] * (_ENTRIES + 1))
    yield "one entry too many", "some.zip", some, _TOO_MANY, 0
    level = zipped(*(Piece(f"page {n}.zip", zipped(Piece("0.dll", bytes(1_000_000)))) for n in range(16)))
    book = zipped(*(Piece(f"book {n}.zip", level) for n in range(16)))
    yield "sixteen zips of sixteen zips", "42.zip", book, "a zip within a zip", 0
