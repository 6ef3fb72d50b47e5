"""Options of the service, and what one request may cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from farshot.errors import SettingError
from farshot.images.untrusted import FILE_BYTES, PIXELS
from farshot.storage.paths import home
from farshot.web.address import is_loopback

KEY_VARIABLE = "FARSHOT_API_KEY"
PORT = 8000
_SHORTEST_KEY = 16
_LONGEST_KEY = 4096


@dataclass(frozen=True)
class Limits:
    """What is taken; anything larger is refused before it costs memory or time.

    Attributes:
        files: images of one request.
        file_bytes: of one image file.
        pixels: of one image.
        request_bytes: of one request's body.
        held_bytes: of the bodies of all requests that are being answered.
        body_seconds: for a body to arrive completely.
        explained: images of a request with explanations, which cost several times a prediction.
        queue: images, of all requests, that are being worked on or wait.
    """

    files: int = 64
    file_bytes: int = FILE_BYTES
    pixels: int = PIXELS
    request_bytes: int = 100_000_000
    held_bytes: int = 400_000_000
    body_seconds: float = 60.0
    explained: int = 8
    queue: int = 256

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise SettingError(f"The limit {one.name} must be above 0, not {getattr(self, one.name)!r}.")
        if self.files > self.queue:
            raise SettingError(
                f"A request may have {self.files} images but only {self.queue} fit into the queue; name a "
                "larger --queue or fewer --files."
            )


@dataclass(frozen=True)
class Batching:
    """How images of several requests are computed together.

    Attributes:
        size: most images computed at once; 1 computes each alone.
        wait: seconds that the first of a batch waits for others.
    """

    size: int = 32
    wait: float = 0.002

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.wait <= 10:
            raise SettingError(
                f"A batch has at least 1 image and waits 0 to 10 s for others, not {self.size} and "
                f"{self.wait} s."
            )


@dataclass(frozen=True)
class Options:
    """Options of the service.

    Attributes:
        folders: of adapted models, perhaps as NAME=FOLDER.
        host, port: where it listens; port 0 takes any that is free.
        api_key: that every request must bring; None asks for none.
        model: base model of all folders, where it is no longer where it was.
        device: of the base models.
        reload_every: seconds between looks at the folders; 0 never looks again.
        batching, limits: as above.

    Raises:
        SettingError: an address that others reach, without a key.
    """

    folders: Sequence[str]
    host: str = "127.0.0.1"
    port: int = PORT
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    device: str = "auto"
    reload_every: float = 2.0
    batching: Batching = Batching()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        require_key(self.host, self.api_key)

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach the address."""
        return is_loopback(self.host)


def require_key(host: str, key: str | None) -> None:
    """Refuse an address that other computers reach, without a key.

    Raises:
        SettingError: one sentence with the way out.
    """
    if key is None and not is_loopback(host):
        raise SettingError(
            f"Other computers can reach {host}, so requests must bring a key: write one into a file and name "
            f"it with --api-key-file, or set {KEY_VARIABLE}; or leave --host out."
        )


def read_key(file: Path | None) -> str | None:
    """The API key in a file, else that of the environment; None where there is neither.

    Raises:
        SettingError: the file cannot be read, or the key is short, long, or not in visible ASCII.
    """
    if file is None:
        if KEY_VARIABLE not in os.environ:
            return None
        where, key = KEY_VARIABLE, os.environ[KEY_VARIABLE]
    else:
        where = str(file)
        try:
            with home(file).open("rb") as opened:
                key = opened.read(_LONGEST_KEY + 1).decode("ascii", errors="replace")
        except OSError as error:
            raise SettingError(
                f"The key in {file} cannot be read ({error.strerror}); check --api-key-file."
            ) from error
    key = key.strip()
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise SettingError(
            f"The key in {where} has {len(key)} characters; take one of {_SHORTEST_KEY} to {_LONGEST_KEY}, "
            "such as `openssl rand -hex 32` prints."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingError(
            f"The key in {where} has characters that no header can carry; use letters and digits."
        )
    return key
