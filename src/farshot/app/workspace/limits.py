"""Limits of what is accepted; anything larger is refused before it costs memory, disk or time."""

from __future__ import annotations

from dataclasses import dataclass

from farshot.errors import SettingError
from farshot.images.reading import MOST_PIXELS
from farshot.images.untrusted import FILE_BYTES, PIXELS
from farshot.storage.archives import ArchiveLimits


@dataclass(frozen=True)
class Limits(ArchiveLimits):
    """What one workspace accepts; all whole numbers from 1.

    Attributes:
        file_bytes: of one image file.
        archive_bytes: of a zip as it comes.
        unpacked_bytes: of all that is unpacked of one zip.
        entries: that one zip may list, folders and files of every kind.
        images: in a workspace.
        pixels: of one image.

    Raises:
        SettingError: a limit that is no whole number from 1, or more pixels than can be read at all.
    """

    file_bytes: int = FILE_BYTES
    archive_bytes: int = 300_000_000  # a few hundred photographs: what people wait for on a home line
    unpacked_bytes: int = 1_000_000_000  # images hardly shrink in a zip, except for BMP and TIFF
    entries: int = 25_000  # five times the images: sidecars, folders and the twins that macOS adds
    images: int = 5_000  # far above a few shots of many classes; tests/test_app_scale.py measures the board
    pixels: int = PIXELS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixels > MOST_PIXELS:
            raise SettingError(f"The limit pixels must be at most {MOST_PIXELS}, not {self.pixels}.")
