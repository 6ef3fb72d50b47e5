"""The pictures of a session as data, which the page draws as tiles, filters, sorts and searches."""

from __future__ import annotations

from typing import Any

from farshot.app.sessions import Session
from farshot.app.texts import shown
from farshot.app.workspace.run import last_run
from farshot.explain.style import edge, letter, places


def tiles(session: Session) -> dict[str, Any]:
    """All pictures with their labels.

    Returns:
        `version`; `classes`, each {name, letter, edge}, edge being CSS; `model`, whether there are
        predictions; `suggested`, the ids to label next, in this order; `tiles`, for each picture in the order
        they came [id, name, index of its class or -1, how far the most probable class is above the next or
        None, why it should be labelled next or ""].
    """
    version = session.version  # before anything is read that may change
    state, suggested = session.workspace.state, dict(session.view.suggested)
    run = last_run(session.workspace)
    names = state.class_names
    order = places(names, run.classes if run is not None else ())
    index = {name: number for number, name in enumerate(names)}
    predictions = {} if run is None else run.predictions
    rows = []
    for picture in state.pictures.values():
        label = picture.label
        shares = sorted(predictions.get(picture.id, ()), reverse=True) if label is None else ()
        margin = round(shares[0] - shares[1], 6) if len(shares) > 1 else None
        reason = shown(suggested.get(picture.id, "")) if label is None else ""
        rows.append([picture.id, picture.name, -1 if label is None else index[label], margin, reason])
    return {
        "version": version,
        "classes": [
            {"name": name, "letter": letter(order[name]), "edge": edge(order[name])} for name in names
        ],
        "model": bool(predictions),
        "suggested": [id for id in suggested if id in state.pictures],
        "tiles": rows,
    }
