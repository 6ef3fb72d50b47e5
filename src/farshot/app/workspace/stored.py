"""Read the state of a workspace from its journal, be the workspace open or not."""

from __future__ import annotations

from farshot.app.texts import Fault
from farshot.app.workspace.journal import STATE, Journal
from farshot.app.workspace.picture import State


def stored(journal: Journal) -> State | None:
    """The state on disk; None where there is none yet.

    Raises:
        DataError: it is damaged, or was written by a newer farshot.
    """
    found = journal.read()
    if found is None:
        return None
    try:
        return State.read(*found)
    except (AttributeError, KeyError, TypeError) as error:
        raise Fault(
            "disk.damaged", place=journal.folder / STATE, why=str(error), folder=journal.folder
        ) from error
