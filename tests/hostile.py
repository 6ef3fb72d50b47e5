"""Uploads that mean harm, or look like it, made on the spot: names, images, foreign files and zips.

    for hostile in hostile_uploads(tmp_path):
        ...  # send hostile.path under hostile.name

Each comes with the words that its refusal must hold and with the number of images in it that are good. They
are hostile under the default limits; large ones are mostly holes, so that the disk hardly notices.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests import hostile_files, hostile_images, hostile_zips
from tests.image_bytes import encoded
from tests.input_helpers import picture


@dataclass(frozen=True)
class Hostile:
    """One upload.

    Attributes:
        kind: what is hostile about it; no two are alike.
        name: as the browser would call it.
        path: where its bytes lie.
        words: in one of its refusals; empty where nothing of it is refused.
        taken: how many images must be taken from it.
    """

    kind: str
    name: str
    path: Path
    words: str
    taken: int


def hostile_uploads(folder: Path) -> list[Hostile]:
    """All of them, written into an empty folder; no two hold the same image.

    Files that would run code if they were unpickled would make a file "ran" in it.
    """
    numbers = count(1000)

    def good() -> bytes:
        """A fine image, each time another."""
        return encoded(picture(next(numbers), 8, 8), "PNG")

    made = [
        *((f"name: {kind}", name, good(), "", 1) for kind, name in NAMES),
        *hostile_images.images(),
        *hostile_files.files(folder / "ran"),
        *hostile_zips.zips(good),
    ]
    written = []
    for number, (kind, name, data, words, taken) in enumerate(made):
        path = folder / f"{number:03d}"
        path.write_bytes(data)
        written.append(Hostile(kind, name, path, words, taken))
    return [*written, *_no_files(folder, good()), *_large(folder)]


NAMES = (
    ("a tag with a script", "<img src=x onerror=alert(1)>.jpg"),
    ("a tag that closes another", '"><script>alert(1)</script>.png'),
    ("a scheme that runs", "javascript:alert(1)"),
    ("a data address", "data:text/html,<script>alert(1)</script>"),
    ("up and away", "../../../../etc/cron.d/job.png"),
    ("up and away, Windows", "..\\..\\Windows\\System32\\evil.png"),
    ("up and away, encoded", "%2e%2e%2f%2e%2e%2fetc%2fpasswd.png"),
    ("up and away, wide letters", "．．／．．／etc／passwd.png"),
    ("from the root", "/etc/passwd"),
    ("a drive", "C:\\Windows\\win.ini.png"),
    ("a share", "\\\\server\\share\\evil.png"),
    ("only dots", ".."),
    ("nothing", ""),
    ("only spaces", " \t "),
    ("ends as a folder", "cat.png/"),
    ("reserved, console", "CON"),
    ("reserved, nothing", "NUL.png"),
    ("a stream of NTFS", "cat.png:hidden.exe"),
    ("a null byte", "cat.png\0.exe"),
    ("a null byte in a folder", "cat\0/../dog.png"),
    ("turned round", "cat\u202egnp.exe"),
    ("turned round and isolated", "\u2067cat\u2066.png"),
    ("letters without width", "c\u200ba\u200dt\ufeff.png"),
    ("lines", "cat\r\nSet-Cookie: a=b\r\n\r\n.png"),
    ("line separators", "cat\u2028dog\u2029.png"),
    ("codes of terminals", "\x1b[2J\x1b]0;title\x07cat.png"),
    ("ten thousand characters", "a" * 10_000 + ".png"),
    ("ten thousand in the extension", "cat." + "p" * 10_000),
    ("a thousand folders", "a/" * 1000 + "cat.png"),
    ("marks piled up", "c" + "\u0301" * 500 + "at.png"),
    ("half a character", "cat\ud800.png"),
    ("no character", "cat\uffff.png"),
    ("a template", "{{7*7}}${7*7}<%= 7*7 %>{% raw %}.png"),
    ("a formula", "=cmd|' /C calc'!A0.png"),
    ("an option", "--out=evil.png"),
    ("a shell's command", "$(touch ran);`touch ran`|touch ran.png"),
    ("a query", "'; DROP TABLE images;--.png"),
    ("a web server's file", ".htaccess"),
    ("a program's extension", "cat.php"),
)
"""What fine images are called: they are taken, under a name that cannot act."""


def _no_files(folder: Path, image: bytes) -> Iterator[Hostile]:
    """Paths that are not ordinary files."""
    (folder / "fine.png").write_bytes(image)
    (folder / "link.png").symlink_to(folder / "fine.png")
    yield Hostile("a link to an image", "link.png", folder / "link.png", "not an ordinary file", 0)
    (folder / "device.png").symlink_to("/dev/zero")
    yield Hostile("a link to a device", "device.png", folder / "device.png", "not an ordinary file", 0)
    (folder / "folder.png").mkdir()
    yield Hostile("a folder", "folder.png", folder / "folder.png", "not an ordinary file", 0)
    yield Hostile("a file that is gone", "gone.png", folder / "gone.png", "cannot be read", 0)
    yield Hostile("a path with a null byte", "x.png", Path(f"{folder}/a\0b.png"), "cannot be read", 0)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        yield Hostile("a pipe", "pipe.png", folder / "pipe.png", "not an ordinary file", 0)


def _large(folder: Path) -> Iterator[Hostile]:
    """More bytes than are taken; all but the first are holes."""
    for name, start, size, words in (
        ("large.png", b"\x89PNG\r\n\x1a\n", 31_000_000, "the file is over 30 MB"),
        ("endless.png", b"\x89PNG\r\n\x1a\n", 10_000_000_000, "the file is over 30 MB"),
        ("large.zip", b"PK\x03\x04", 301_000_000, "the zip is over 300 MB"),
    ):
        with (folder / name).open("wb") as file:
            file.write(start)
            file.truncate(size)
        yield Hostile(f"{name} of {size:,} bytes", name, folder / name, words, 0)
