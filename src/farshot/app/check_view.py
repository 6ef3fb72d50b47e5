"""Render how good the adapted model is: the accuracy, the limit, confusions, doubtful labels, comparisons."""

from __future__ import annotations

from typing import Any

from farshot.app.sessions import Session
from farshot.app.texts import Text, message
from farshot.app.view import places_of, render
from farshot.app.workspace import copies, foreign, left_out, more_labels
from farshot.app.workspace.groups import MOST_LETTERS, hint, preview, suggestions
from farshot.app.workspace.left_out import LeftOut
from farshot.app.workspace.picture import Picture
from farshot.app.workspace.run import Adaptation
from farshot.errors import DataError
from farshot.evaluation.calibration import certain_in_words

MOST_CLASSES = 20
"""Of a confusion matrix that is shown as a table; of more, the most frequent confusions are listed."""

_MOST_CONFUSIONS = 20
_MOST_CARDS = 40
_MOST_SETS = 20  # of copies


def check(session: Session, run: Adaptation | None) -> str:
    """Everything about the adapted model's quality, and about copies among the pictures."""
    found = None
    if run is not None and run.estimate is not None:  # else answers of one with the same labels may be there
        found = left_out.read(session.workspace, run.stamp)
    measured = more_labels.read(session.workspace)
    return render(
        "check.html",
        run=run,
        most=MOST_CLASSES,
        matrix=None if found is None else _matrix(session, found),
        limits=[] if found is None else found.limits,
        chosen_limit=0 if found is None or run is None else _nearest(run, found),
        cell=None if found is None else _cell(session, found),
        doubts=[] if found is None else _doubts(session, found),
        compared=left_out.compare(session.workspace) if found is not None else None,
        more=measured,
        more_is_old=run and measured and measured.stamp != session.workspace.stamp(run.choice),
        classes=session.workspace.class_names,
        alike=None if session.workspace.groups() else hint(session.workspace.pictures),
        **_copies(session),
    )


def open_set(session: Session, run: Adaptation | None) -> str:
    """How well the model notices pictures of something else."""
    workspace = session.workspace
    found, ids = foreign.read(workspace), tuple(file.stem for file in foreign.files(workspace))
    why_not: str = ""
    stale: str = ""
    if run is not None:
        try:
            foreign.check_enough(workspace, run)
        except DataError as error:
            why_not = message(error)
        if found is not None and found.stamp != foreign.stamp_of(run):
            stale = Text("foreign.model_changed")
        elif found is not None and found.pictures != ids:
            stale = Text("foreign.pictures_changed")
    return render(
        "open_set.html",
        adapted=run is not None,
        found=found,
        stale=stale,
        why_not=why_not,
        pictures=len(ids),
        on_board=foreign.on_board(workspace),
    )


def groups(session: Session) -> str:
    """Which pictures belong together, and how a person can say so."""
    workspace, pattern = session.workspace, session.workspace.state.groups
    pictures = workspace.pictures
    return render(
        "groups.html",
        used=preview(pictures, pattern) if pattern else None,
        listed=preview(pictures, "") if any(one.group for one in pictures) else None,
        tried=preview(pictures, session.view.pattern) if session.view.pattern else None,
        suggested=suggestions(pictures),
        most=MOST_LETTERS,
    )


def _copies(session: Session) -> dict[str, Any]:
    """Copies among the pictures, as variables of the template."""
    workspace, order = session.workspace, places_of(session)
    found = copies.read(workspace)
    here = workspace.state.pictures
    sets = [] if found is None else copies.open_sets(workspace, found)
    looked = 0 if found is None else len(set(found.looked) & set(here))
    shown = [
        [
            {"id": one.id, "name": one.name, "label": one.label, "place": order.get(one.label or "", 0)}
            for one in pictures
        ]
        for pictures in sets[:_MOST_SETS]
    ]
    return {
        "pictures": len(here),
        "copies": shown,
        "more_copies": len(sets) - len(shown),
        "looked": looked,
        "not_looked": looked < len(here),
        "too_alike": found is not None and found.alike,
    }


def _matrix(session: Session, found: LeftOut) -> dict[str, Any]:
    """The confusion matrix; of many classes only its largest cells."""
    count = [[0] * len(found.classes) for _ in found.classes]
    for true, answered in zip(found.labels, found.answers, strict=True):
        count[true][answered] += 1
    wrong = [
        (pictures, true, answered)
        for true, row in enumerate(count)
        for answered, pictures in enumerate(row)
        if pictures and true != answered
    ]
    return {
        "names": found.classes,
        "count": count,
        "wrong": sorted(wrong, key=lambda one: -one[0])[:_MOST_CONFUSIONS],
        "chosen": session.view.cell,
    }


def _nearest(run: Adaptation, found: LeftOut) -> int:
    """Place of the limit that the model has."""
    wanted = run.choice.wanted if run.certainty is None else run.certainty.wanted
    return min(range(len(found.limits)), key=lambda place: abs(found.limits[place].wanted - wanted))


def _cell(session: Session, found: LeftOut) -> dict[str, Any] | None:
    """The pictures of the chosen cell."""
    cell = session.view.cell
    if cell is None or max(cell) >= len(found.classes):
        return None
    rows = found.cell(*cell)
    return {
        "label": found.classes[cell[0]],
        "answered": found.classes[cell[1]],
        "total": len(rows),
        "cards": _cards(session, found, [(row, cell[1]) for row in rows]),
    }


def _doubts(session: Session, found: LeftOut) -> list[dict[str, Any]]:
    """Labels that are worth a second look and that nobody has looked at yet."""
    here = _now(session)
    asked = [
        (one.row, one.suggested)
        for one in found.doubts
        if found.ids[one.row] not in session.view.kept
        and found.ids[one.row] in here
        and here[found.ids[one.row]].label == found.classes[found.labels[one.row]]
    ]
    return _cards(session, found, asked)


def _cards(session: Session, found: LeftOut, rows: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Pictures with their label and what a model that had not seen them said.

    Args:
        rows: of the pictures, with the index of the class that it said.
    """
    here, order = _now(session), places_of(session)
    names = session.workspace.class_names
    cards = []
    for row, answered in rows:
        id, name = found.ids[row], found.classes[answered]
        if id in here:
            cards.append(
                {
                    "id": id,
                    "name": here[id].name,
                    "label": here[id].label,
                    "label_place": order.get(here[id].label or "", 0),
                    "answer": name,
                    "answer_place": order.get(name, 0),
                    "certain": certain_in_words(
                        found.probabilities[row][answered], calibrated=True, digits=0
                    ),
                    "known": name in names,
                }
            )
    return cards[:_MOST_CARDS]


def _now(session: Session) -> dict[str, Picture]:
    return dict(session.workspace.state.pictures)
