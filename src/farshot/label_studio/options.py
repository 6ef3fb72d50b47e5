"""Options of the ML backend, and what one request may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from farshot.errors import SettingError
from farshot.images.untrusted import FILE_BYTES, PIXELS
from farshot.serve.options import Batching, require_key
from farshot.serve.options import Limits as PictureLimits
from farshot.web.address import is_loopback

PORT = 9090
METHOD = "linear-probe"
"""As `farshot adapt` takes where no method is given."""

MODEL = "openai/clip-vit-base-patch16"


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        tasks: of one request for predictions.
        chunk: pictures that are fetched and held at once.
        request_bytes: of one request's body, which may hold pictures as data URLs.
        values: commas and brackets of a body, each of which may become an object of many times its bytes.
        body_seconds: for a body to arrive completely.
        requests: for predictions, that are worked on at once.
        look_seconds: between looks at the labels that nobody asked for.
        labelled_bytes: of the labelled pictures together, which are held while the model adapts.
    """

    tasks: int = 10_000
    chunk: int = 32
    request_bytes: int = 100_000_000
    values: int = 1_000_000
    body_seconds: float = 60.0
    requests: int = 4
    look_seconds: float = 30.0
    labelled_bytes: int = 2_000_000_000

    @property
    def pictures(self) -> PictureLimits:
        """Of each picture, as `farshot serve` has them."""
        return PictureLimits(file_bytes=FILE_BYTES, pixels=PIXELS)


@dataclass(frozen=True)
class Options:
    """Options of the ML backend.

    Attributes:
        folder: of the adapted model; empty or missing until there are labels.
        url: of Label Studio.
        token: of a user there.
        project: its number; None takes the first that connects.
        control: name of the Choices, where a project has several.
        model: encoder; None takes that of the adapted model, or MODEL.
        method: None takes that of the adapted model, or METHOD.
        settings: of the method.
        labels: so many new or changed labels start an adaptation.
        device: of the encoder.
        host, port: where it listens; port 0 takes any that is free.
        api_key: that every request must bring; None asks for none.

    Raises:
        SettingError: an address that others reach, without a key; or no label to wait for.
    """

    folder: Path
    url: str
    token: str | None = field(default=None, repr=False)
    project: int | None = None
    control: str | None = None
    model: str | None = None
    method: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    labels: int = 10
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = PORT
    api_key: str | None = field(default=None, repr=False)
    limits: Limits = Limits()
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise SettingError(f"--labels must be at least 1, not {self.labels}.")
        if self.settings and self.method is None:
            raise SettingError("--set is for a method; name it with --method.")
        require_key(self.host, self.api_key)

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach the address."""
        return is_loopback(self.host)
