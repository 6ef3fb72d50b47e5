"""The adapted models that are served, and how a replaced folder takes their place.

A thread looks at the folders. One whose files have changed, and stay the same for one more look, is loaded
and tried while the old model answers; then the new one takes its place in one step. Requests that have
begun end with the model that they began with. If the new one cannot be loaded, the old one stays.
"""

from __future__ import annotations

import base64
import io
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from farshot.classifier import FewShotClassifier, load
from farshot.classifier.answers import identity
from farshot.classifier.stream import Part, predict_part
from farshot.errors import FarshotError, SettingError
from farshot.serve.pictures import Picture, Reading, table_of
from farshot.storage.hub import is_on_hub
from farshot.storage.model_folder import FILES
from farshot.storage.paths import base_name, home, own_name

if TYPE_CHECKING:
    from farshot.explain import Subject

Signature = tuple[tuple[int, ...], ...]
"""Of a folder's files; another one means that something was written."""

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Version:
    """A loaded model; it never changes.

    Attributes:
        classifier: the adapted model.
        id: hash of all that it is.
        loaded: when.
        reading: how it reads images.
    """

    def __init__(self, classifier: FewShotClassifier) -> None:
        self.classifier, self.id, self.loaded = classifier, identity(classifier), datetime.now(UTC)
        encoder = classifier.encoder_
        self.reading = Reading(
            encoder.reading(classifier.adapted_.reading), encoder.size, classifier.read_options_
        )

    @property
    def transductive(self) -> bool:
        """Whether the predictions for images depend on those that they are predicted with."""
        return self.classifier.method_.kind == "transductive"

    def predict(self, pictures: Sequence[Picture]) -> list[Part]:
        """A part of one image each."""
        table = table_of(pictures, self.reading)
        found = predict_part(
            self.classifier, table, np.arange(len(table)), {}, self.classifier.familiarity_ is not None
        )
        return [
            Part(
                np.zeros(1, dtype=np.int64),
                found.logits[i : i + 1],
                None if found.p_values is None else found.p_values[i : i + 1],
                None,
                {},
            )
            for i in range(len(table))
        ]

    def explain(self, pictures: Sequence[Picture]) -> list[str]:
        """What the model looked at in each image: a PNG as a data address."""
        from farshot.explain import compose, explain_table, panels

        table = table_of(pictures, self.reading)
        found = explain_table(self.classifier, table, seen=self._subject)
        return [
            _as_address(compose(shown, panels(shown), name=picture.name))
            for shown, picture in zip(found, pictures, strict=True)
        ]

    @cached_property
    def _subject(self) -> Subject:
        from farshot.explain import subject

        made = self.classifier
        return subject(made.adapted_, made.encoder_, made.parameters_.template)

    def described(self) -> dict[str, Any]:
        """What clients may know of it."""
        made = self.classifier
        labelled = None if made.familiarity_ is None else len(made.familiarity_.references)
        held_out = None if made.held_out_ is None else len(made.held_out_.references)
        return {
            "version": self.id,
            "loaded": self.loaded.isoformat(timespec="seconds"),
            "method": str(made.method),
            "base_model": base_name(str(made.parameters_.model)),
            "classes": [str(name) for name in made.classes_],
            "calibrated": made.calibrated_,
            "limit": None if made.limit_ is None else asdict(made.limit_),
            "smallest_reject": None if labelled is None else 1 / (labelled + 1),
            "largest_coverage": None if held_out is None else held_out / (held_out + 1),
        }


RETRY_S = (30.0, 600.0)
"""Seconds after which a folder that could not be loaded is tried again: at first, and at most."""


@dataclass
class Served:
    """One name under which a model is served.

    Attributes:
        name: in addresses.
        folder: that it is loaded from.
        version: that answers new requests.
        fault: why the folder, as it is now, is not what is served; None where it is.
    """

    name: str
    folder: str
    version: Version
    fault: str | None = None
    _loaded: Signature | None = field(default=None, repr=False)
    _tried: Signature | None = field(default=(), repr=False)
    _seen: Signature | None = field(default=None, repr=False)
    _again: float = field(default=0.0, repr=False)  # when a folder that failed is tried again, and how
    _wait: float = field(default=RETRY_S[0], repr=False)  # long to wait after that


class Models:
    """All models that are served.

    Args:
        folders: of adapted models, perhaps as NAME=FOLDER, or hf:OWNER/NAME.
        model, device: as for `farshot.load`.
        told: called with a sentence on each model that is exchanged, or cannot be.

    Attributes:
        clock: seconds, by which a folder that failed is tried again.

    Raises:
        FarshotError: a folder that cannot be loaded, or two of one name.
    """

    def __init__(
        self,
        folders: Sequence[str],
        *,
        model: str | None = None,
        device: str = "auto",
        told: Callable[[str], None] = lambda _sentence: None,
        counted: Callable[[str, bool], None] = lambda _name, _exchanged: None,
    ) -> None:
        self._model, self._device = model, device
        self._told, self._counted = told, counted
        self.clock = time.monotonic
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        named = [_named(folder) for folder in folders]
        for name, folder in named:
            others = [other for known, other in named if known == name]
            if len(others) > 1:
                raise SettingError(
                    f"{others[0]} and {others[1]} are both called {name}; name one of them: OTHER={folder}."
                )
        self.served: dict[str, Served] = {}
        for name, folder in named:
            before = _signature(folder)
            self.served[name] = Served(name, folder, self._load(folder), _loaded=before)

    def start(self, every: float) -> None:
        """Look at the folders every so many seconds, in a thread."""
        self._thread = threading.Thread(
            target=self._look_again, args=(every,), name="farshot-reload", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Look at all folders once."""
        for one in self.served.values():
            if not is_on_hub(one.folder):
                self._look_at(one)

    def _look_again(self, every: float) -> None:
        while not self._stop.wait(every):
            try:
                self.look()
            except Exception:  # such as an error stream that is closed; the next look is not given up
                _LOG.exception("a look at the folders failed")

    def _look_at(self, one: Served) -> None:
        now, before = _signature(one.folder), one._seen
        one._seen = now
        if now == one._loaded:
            if one.fault is not None:
                self._told(f"{one.folder} is again what is served as {one.name}.")
            one.fault, one._tried = None, ()
            return
        if now != one._tried:
            one._wait = RETRY_S[0]
        elif self.clock() < one._again:  # what it lacked elsewhere, such as the base model, may come
            return
        if now != before:  # still being written
            return
        one._tried, one._again = now, self.clock() + one._wait
        one._wait = min(2 * one._wait, RETRY_S[1])
        if now is None:
            self._keep(one, f"{one.folder} is gone")
            return
        try:
            version = self._load(one.folder)
        except FarshotError as error:
            self._keep(one, str(error))
        except Exception as error:
            self._keep(one, f"an error in farshot itself ({type(error).__name__}: {error})")
        else:
            if _signature(one.folder) != now:  # written to while it was read
                one._tried = ()
                return
            one.version, one.fault, one._loaded = version, None, now
            self._counted(one.name, True)
            self._told(f"{one.name} is now what is in {one.folder} ({version.id}).")

    def _keep(self, one: Served, why: str) -> None:
        loaded = f"{one.version.loaded:%Y-%m-%d %H:%M:%S} UTC"
        sentence = f"{why.rstrip('.')}. The model loaded at {loaded} is still served."
        if one.fault != sentence:
            one.fault = sentence
            self._counted(one.name, False)
            self._told(sentence)

    def _load(self, folder: str) -> Version:
        """Load a model and try it, so that the first request finds everything ready."""
        version = Version(load(folder, model=self._model, device=self._device))
        size = version.reading.size
        grey = np.full((size, size, 3), 128, dtype=np.uint8)
        version.predict([Picture("a trial", b"a trial", grey, ())])  # not decoded: its pixels are known
        return version


def _named(folder: str) -> tuple[str, str]:
    """The name under which a folder is served, and the folder."""
    name, equals, place = folder.partition("=")
    if not (equals and _NAME.fullmatch(name) and place) or home(folder).exists():
        place = folder
        name = Path(folder).name if is_on_hub(folder) else own_name(home(folder))
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{name!r} cannot be part of an address; give {place} another name of letters, digits, dots and "
            f"dashes: NAME={place}."
        )
    return name, place


def _signature(folder: str) -> Signature | None:
    """What tells whether a model's files were written to; None where there is no model."""
    found = []
    for number, name in enumerate(FILES):
        try:
            state = (home(folder) / name).stat()
        except OSError:
            continue
        found.append((number, state.st_ino, state.st_size, state.st_mtime_ns))
    return tuple(found) if found and found[0][0] == 0 else None


def _as_address(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
