"""What can be done where the model is checked; each returns a message.

All take the session, what computes, and what the page sent: a value and ids of pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from farshot.app.sessions import Session
from farshot.app.workspace import copies, foreign, more_labels
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.groups import preview
from farshot.app.workspace.left_out import WANTED
from farshot.app.workspace.run import Adaptation, last_run, set_limit
from farshot.errors import DataError

_UNKNOWN = "The page sent something that is not known; load it again."


def sure_answers(session: Session, run: Adaptation) -> dict[str, str]:
    """Picture without a class -> the class that the model is sure of, where the picture is not unlike the
    labelled ones."""
    names = session.workspace.class_names
    asked = [(picture.id, run.answer(picture.id)) for picture in session.workspace.unlabelled]
    return {
        id: answer.name
        for id, answer in asked
        if answer is not None and answer.sure and not answer.unlike and answer.name in names
    }


def mark_of(answers: dict[str, str]) -> str:
    """A short text that changes with the answers."""
    return hashlib.sha256(json.dumps(sorted(answers.items())).encode()).hexdigest()[:16]


def accept(session: Session, _encoders: Encoders, value: str, _ids: Sequence[str]) -> str:
    """Make the sure answers labels, as one change.

    Args:
        value: the mark of the answers that the person saw.

    Raises:
        DataError: they are others by now.
    """
    run = last_run(session.workspace)
    answers = {} if run is None else sure_answers(session, run)
    if not answers or mark_of(answers) != value:
        raise DataError("The sure answers have changed; look at them again before you accept them.")
    changed = session.workspace.label_each(answers)
    session.view.answers_page = 0
    return f"{changed} answer{'s are' if changed != 1 else ' is'} now labels."


def keep_label(session: Session, _encoders: Encoders, _value: str, ids: Sequence[str]) -> str:
    """Confirm labels that were in doubt."""
    session.view.kept.update(session.workspace.picture(id).id for id in ids)
    return ""


def limit(session: Session, encoders: Encoders, value: str, _ids: Sequence[str]) -> str:
    """Start giving the model the limit below which it is not sure.

    Args:
        value: the wanted share of right answers.

    Raises:
        DataError: no such share, or something else is being done.
    """
    found = {str(one): one for one in WANTED}
    if value not in found:
        raise DataError(_UNKNOWN)
    workspace = session.workspace
    session.start(lambda report: set_limit(workspace, encoders, found[value], report))
    return ""


def measure_more(session: Session, encoders: Encoders, _value: str, _ids: Sequence[str]) -> str:
    """Start measuring whether more labels would help."""
    if last_run(session.workspace) is None:
        raise DataError("Train a model first; then more labels can be compared with those that there are.")
    session.start(lambda report: more_labels.measure(session.workspace, encoders, report))
    return ""


def show_cell(session: Session, _encoders: Encoders, value: str, _ids: Sequence[str]) -> str:
    """Show the pictures of a cell of the confusion matrix; of none for an empty value."""
    true, _, answered = value.partition("-")
    if len(value) > 20 or (value and not (true.isdecimal() and answered.isdecimal())):
        raise DataError(_UNKNOWN)
    session.view.cell = (int(true), int(answered)) if value else None
    return ""


def start_open_set(session: Session, encoders: Encoders, _value: str = "", _ids: Sequence[str] = ()) -> str:
    """Start testing the model with pictures of something else.

    Raises:
        DataError: there is no model, or too few labelled pictures.
    """
    run = last_run(session.workspace)
    if run is None:
        raise DataError("Train a model first; then it can be tested with pictures of something else.")
    foreign.check_enough(session.workspace, run)
    session.start(lambda report: foreign.measure(session.workspace, encoders, report))
    return ""


def forget_foreign(session: Session, _encoders: Encoders, _value: str, _ids: Sequence[str]) -> str:
    """Remove the pictures of something else."""
    foreign.forget(session.workspace)
    return "The pictures that show none of your classes are removed."


def try_groups(session: Session, _encoders: Encoders, value: str, _ids: Sequence[str]) -> str:
    """Show what a pattern of groups would do."""
    preview(session.workspace.pictures, value)
    session.view.pattern = value
    return ""


def set_groups(session: Session, _encoders: Encoders, value: str, _ids: Sequence[str]) -> str:
    """Keep pictures together by a pattern, or no longer where it is empty."""
    session.workspace.group_by(value)
    session.view.pattern = None
    if not value:
        return "Pictures are no longer kept together by their names."
    return "Pictures of one group are kept together from now on. Train again to measure the model so."


def look_for_copies(session: Session, encoders: Encoders, _value: str, _ids: Sequence[str]) -> str:
    """Start looking for copies among all pictures."""
    session.start(lambda report: copies.look(session.workspace, encoders, report))
    return ""


def keep_one(session: Session, _encoders: Encoders, _value: str, ids: Sequence[str]) -> str:
    """Remove the other copies of a picture."""
    count = copies.keep_one(session.workspace, "".join(ids[:1]))
    return f"{count} cop{'y is' if count == 1 else 'ies are'} removed."


def keep_all(session: Session, _encoders: Encoders, _value: str, ids: Sequence[str]) -> str:
    """Keep all copies of a picture."""
    copies.keep_all(session.workspace, ids)
    return ""


ACTIONS: dict[str, Callable[[Session, Encoders, str, Sequence[str]], str]] = {
    "accept": accept,
    "keep": keep_label,
    "limit": limit,
    "more": measure_more,
    "cell": show_cell,
    "open-set": start_open_set,
    "forget-foreign": forget_foreign,
    "try-groups": try_groups,
    "groups": set_groups,
    "copies": look_for_copies,
    "only": keep_one,
    "both": keep_all,
}
"""What a page asks for -> what is done."""
