"""Zips byte by byte, also such as no program would write."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
FILE, LINK, DEVICE, PIPE = 0o100644, 0o120777, 0o020666, 0o010644  # modes


@dataclass(frozen=True)
class Piece:
    """One entry; None means the true value.

    Attributes:
        name: bytes where it is not to be UTF-8.
        data: before packing; as it is if `packed` is given.
        mode: kind and permissions.
        at: where the directory says it lies, if that is not where it does.
        listed_packed: the length of the packed bytes, as the directory has it.
        extra: field of the directory.
    """

    name: str | bytes
    data: bytes
    method: int = DEFLATED
    packed: bytes | None = None
    mode: int = FILE
    flags: int = 0x800
    size: int | None = None
    checksum: int | None = None
    at: int | None = None
    listed_packed: int | None = None
    extra: bytes = b""
    comment: bytes = b""


def zipped(*pieces: Piece, comment: bytes = b"") -> bytes:
    """A zip of these entries."""
    files, directory = bytearray(), bytearray()
    for piece in pieces:
        start = len(files) if piece.at is None else piece.at
        local, central = _headers(piece, start)
        if piece.at is None:
            files += local
        directory += central
    count = min(len(pieces), 0xFFFF)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(files), len(comment))
    return bytes(files + directory) + end + comment


def local_entry(piece: Piece) -> bytes:
    """Its local header and packed bytes, without a directory."""
    return _headers(piece, 0)[0]


def zeros(megabytes: int) -> bytes:
    """So many million zeros, deflated: a thousandth of them, and as quickly made."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    million = deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return million * megabytes + deflate.flush()


def _headers(piece: Piece, start: int) -> tuple[bytes, bytes]:
    """The local entry and its line in the directory."""
    name = piece.name if isinstance(piece.name, bytes) else piece.name.encode()
    packed = piece.packed
    if packed is None:
        packed = zlib.compress(piece.data, 9)[2:-4] if piece.method == DEFLATED else piece.data
    size = len(piece.data) if piece.size is None else piece.size
    checksum = zlib.crc32(piece.data) if piece.checksum is None else piece.checksum
    told = len(packed) if piece.listed_packed is None else piece.listed_packed
    common = struct.pack("<5H3I", 20, piece.flags, piece.method, 0, 33, checksum, told, size)
    local = b"PK\x03\x04" + common + struct.pack("<2H", len(name), 0) + name + packed
    lengths = struct.pack("<3H", len(name), len(piece.extra), len(piece.comment))
    central = b"PK\x01\x02" + struct.pack("<H", 0x314) + common + lengths
    central += struct.pack("<2H2I", 0, 0, piece.mode << 16, start) + name + piece.extra + piece.comment
    return local, central
