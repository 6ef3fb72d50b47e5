"""Predict many images on several devices or machines: workers load the adapted model once and predict parts;
the caller gets the parts in order.

Shapes: B images of one part, N classes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from farshot.classifier.answers import identity
from farshot.classifier.saved import load
from farshot.classifier.stream import AT_ONCE, Part, chunks_of, predict_found
from farshot.data.table import ImageTable
from farshot.errors import FarshotError, SettingError
from farshot.model.find import absolute_source
from farshot.storage.hub import is_on_hub
from farshot.storage.paths import home
from farshot.workers.executors import Executor, Finished, check_version

if TYPE_CHECKING:
    from farshot.classifier.fewshot import FewShotClassifier

_POLL_S = 0.5
_MOST_DEATHS = 3  # of workers with the same images: then the images are to blame, not the machines
MOST_WAITING = 64  # parts that came before one that was handed out earlier: memory must not grow

Chunk = tuple[int, int]
"""The first row, and the one after the last."""


@dataclass(frozen=True)
class Predicted:
    """A part, with the notes on its images: (row, what was left out or stretched)."""

    part: Part
    notes: list[tuple[int, str]]


class Worker:
    """Predicts parts of one table.

    Attributes:
        loads: images that it takes at once.
    """

    loads = (AT_ONCE,)

    def __init__(self, classifier: FewShotClassifier, table: ImageTable, p_values: bool) -> None:
        self._classifier, self._table, self._p_values = classifier, table, p_values

    def compute(self, chunk: Chunk) -> Predicted:
        """The predictions for some rows."""
        rows = np.arange(*chunk)
        table, classifier = self._table.part(rows), self._classifier
        found = table.look((classifier.adapted_.reading, classifier.encoder_.size), identities=False)
        notes = [(int(rows[place]), note) for place, note in found.notes]
        return Predicted(predict_found(classifier, table, found, rows, p_values=self._p_values), notes)


@dataclass(frozen=True)
class Setup:
    """What a remote worker is created from.

    Attributes:
        folder: of the adapted model; an absolute path, or a name on the hub.
        model: its base model, as `load` takes it.
        identity: of the model that the driver has (`farshot.classifier.answers.identity`).
        version: of the driver's farshot.
        table: the images, with absolute paths.
    """

    folder: str
    model: str
    identity: str
    version: str
    table: ImageTable
    p_values: bool

    def worker(self, device: str, share: float = 1.0) -> Worker:
        """Create the worker on a device of this machine.

        Raises:
            FarshotError: another version of farshot or another model than the driver's.
        """
        check_version(self.version)
        classifier = load(self.folder, model=self.model, device=device)
        if identity(classifier) != self.identity:
            raise FarshotError(
                f"The model {self.folder} of this worker is not the driver's; copy the same to every machine."
            )
        return Worker(classifier, self.table, self.p_values)


def require_independent(classifier: FewShotClassifier) -> None:
    """Refuse a transductive method, whose predictions depend on each other.

    Raises:
        SettingError: names it.
    """
    if classifier.method_.kind == "transductive":
        raise SettingError(
            f"{classifier.method_.name} predicts all images together, which several workers cannot share; "
            "leave out --executor and --workers."
        )


def setup_for(
    classifier: FewShotClassifier, folder: str | Path, table: ImageTable, *, p_values: bool = False
) -> Setup:
    """The setup of remote workers, with absolute paths.

    Args:
        folder: from which the classifier was loaded.

    Raises:
        SettingError: as `require_independent`.
    """
    require_independent(classifier)
    place = str(folder) if is_on_hub(folder) else str(home(folder).absolute())
    return Setup(
        place,
        absolute_source(classifier.encoder_.source),
        identity(classifier),
        version("farshot"),
        table.with_options(classifier.read_options_).with_absolute_paths(),
        p_values,
    )


def predict_parts_on(executor: Executor, classifier: FewShotClassifier, table: ImageTable) -> Iterator[Part]:
    """As `farshot.classifier.stream.predict_parts`, computed by an executor whose workers are of `setup_for`.

    A part whose worker dies is given to another.

    Args:
        classifier: its `progress` is called with (images done, in all).

    Raises:
        FarshotError: images with which several workers died, or no worker is left.

    Warns:
        ReadingNote: at the end, what was left out of images or stretched.
    """
    chunks = [(int(rows[0]), int(rows[-1]) + 1) for rows in chunks_of(len(table), AT_ONCE)]
    left, deaths = deque(chunks), Counter[Chunk]()
    finished: dict[Chunk, Predicted] = {}
    notes: list[tuple[int, str]] = []
    for number, chunk in enumerate(chunks):
        last = chunks[: number + MOST_WAITING][-1]
        while chunk not in finished:
            for worker in executor.idle():
                if left and left[0] <= last:
                    executor.give(worker, left.popleft())
            for event in executor.wait(_POLL_S):
                if isinstance(event, Finished):
                    finished[event.chunk] = event.results
                    continue
                deaths[event.chunk] += 1
                if deaths[event.chunk] == _MOST_DEATHS:
                    names = [str(table.images[row]) for row in (event.chunk[0], event.chunk[1] - 1)]
                    raise FarshotError(
                        f"{_MOST_DEATHS} workers died with the images from {names[0]} to {names[1]} "
                        f"({event.why}); leave out the one that is to blame, or use a machine with more "
                        "memory."
                    )
                left.appendleft(event.chunk)
        found = finished.pop(chunk)
        notes += found.notes
        yield found.part
        if classifier.progress:
            classifier.progress(chunk[1], len(table))
    table.warn(notes)
