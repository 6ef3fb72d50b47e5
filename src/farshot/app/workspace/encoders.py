"""Base models, loaded once for all sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farshot.app.texts import Text
from farshot.app.workspace.turns import Turns
from farshot.model.device import check_device
from farshot.model.encoder import Encoder
from farshot.model.find import load_encoder

Report = Callable[[str, int, int], None]
"""(what is being done, steps done, in all); raising from it stops the work."""


def _silent(phase: str, done: int, total: int) -> None:
    """Nobody asked how far it is."""


class Encoders:
    """The base models in memory.

    One computation at a time, since more would only share the same cores: see `turn`.

    Args:
        device, precision: as `load_encoder` takes them.
        most: how many are kept; the one that was not used for longest goes.
    """

    def __init__(self, device: str = "auto", precision: str = "float32", most: int = 2) -> None:
        self.device, self.precision, self.most = device, precision, most
        self._turns = Turns()
        self._loaded: OrderedDict[str, Encoder] = OrderedDict()

    @property
    def on_processor(self) -> bool:
        """Whether there is no accelerator, so that what trains takes long."""
        return check_device(self.device).type == "cpu"

    @property
    def busy(self) -> bool:
        """Whether something is computed."""
        return self._turns.locked()

    @contextmanager
    def turn(self, report: Report | None = None) -> Iterator[Report]:
        """Wait for a turn to compute; yields a report of progress between whose calls others have theirs.

        Args:
            report: of the job; raises where the person has stopped it, while it waits, too.
        """
        if report is None:
            with self._turns.mine():
                yield _silent
            return
        last: tuple[str, int, int] = (Text("job.waiting"), 0, 0)
        with self._turns.mine(lambda: report(*last)) as let_others:

            def passing(phase: str, done: int, total: int) -> None:
                nonlocal last
                last = phase, done, total
                report(phase, done, total)
                let_others()

            yield passing

    def get(self, model: str) -> Encoder:
        """The base model of this name, loaded if need be."""
        if model not in self._loaded:
            self._loaded[model] = load_encoder(model, device=self.device, precision=self.precision)
        self._loaded.move_to_end(model)
        while len(self._loaded) > self.most:
            self._loaded.popitem(last=False)
        return self._loaded[model]
