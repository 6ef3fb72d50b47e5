"""Actions of the page on a session; each returns a message."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

from farshot.app.check_actions import ACTIONS, start_open_set
from farshot.app.choices import by_way
from farshot.app.jobs import Job
from farshot.app.sessions import Note, Session
from farshot.app.texts import Fault, Text, message
from farshot.app.workspace.classes import ClassWords, one_line
from farshot.app.workspace.downloads import DOWNLOADS, prepare
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.run import adapt, last_run, predict
from farshot.app.workspace.state import Workspace
from farshot.app.workspace.suggest import suggest
from farshot.app.workspace.timing import counts_of, time_of
from farshot.errors import FarshotError
from farshot.methods.catalogue import THOROUGH

_MOST_IDS = 5000
_MOST_ACTIONS = 1000
_PATIENCE = 10  # seconds for a step of training to end
UNDO, REDO = "undo", "redo"
_UNDOABLE = ("remove", "accept", "only")  # their messages have a button


def act_in_order(session: Session, encoders: Encoders, told: object) -> int:
    """Handle what a page sends: actions with running numbers, of which those done before are left out.

    What cannot be done becomes the session's message, and the others go on.

    Args:
        told: {"page": any name of the page, "first": number of the first action, "acts": [...]}, each as
            `act` takes it.

    Returns:
        The session's version after them.

    Raises:
        DataError: it is nothing of the kind.
    """
    if not isinstance(told, dict):
        raise Fault("page.unknown")
    page, first, acts = told.get("page"), told.get("first"), told.get("acts")
    if not (isinstance(page, str) and isinstance(first, int) and isinstance(acts, list)):
        raise Fault("page.unknown")
    if len(page) > 64 or len(acts) > _MOST_ACTIONS:
        raise Fault("page.unknown")
    with session.acting:
        notes, waiting = [], {picture.id for picture in session.workspace.unlabelled}
        for number, one in enumerate(acts, first):
            if not session.heard(page, number):
                continue
            try:
                text = act(session, encoders, one if isinstance(one, dict) else {})
                notes.append(Note(text, undo=isinstance(one, dict) and one.get("do") in _UNDOABLE))
            except FarshotError as error:
                notes.append(Note(message(error), fault=True))
        if notes:  # of several, a fault is what has to be read
            session.note = next((note for note in reversed(notes) if note.fault), notes[-1])
            session.changed()
        if any(picture.id not in waiting for picture in session.workspace.unlabelled):
            with suppress(FarshotError):  # the page tells of a damaged file
                ask(session, encoders)  # about pictures that lost their label
        return session.version


def act(session: Session, encoders: Encoders, told: Mapping[str, Any]) -> str:
    """Handle one click or key on a board.

    Args:
        told: `do`, what is done; `ids`, with which pictures, as the person saw them; `value`, a class by its
            name or "", a page, a download; `next`, the picture that has the focus afterwards.

    Raises:
        FarshotError: one sentence on why it cannot be done.
    """
    do, value, ids = _checked(told)
    workspace, view = session.workspace, session.view
    if do == "page":
        view.answers_page = int(value) if value.isdigit() else 0
    elif do == "answers":
        view.answers_shown, view.answers_page = value, 0
    elif do == "show":
        view.chosen = ids[0] if ids else None
        session.stop_timing(_PATIENCE)  # the explanation needs what computes
    elif do in ("label", "correct"):
        name = _class(workspace, value)
        if not ids:
            raise Fault("act.choose_first")
        workspace.label(ids, name)
        for id in ids:
            view.suggested.pop(id, None)
        if do == "correct":
            view.chosen = _next(workspace, told) or view.chosen
    elif do == "remove":
        if not ids:
            raise Fault("act.choose_to_remove")
        workspace.remove(ids)
        return Text("act.removed", n=len(ids))
    elif do == UNDO:
        return Text("act.undone", what=workspace.undo())
    elif do == REDO:
        return Text("act.redone", what=workspace.redo())
    elif do in ACTIONS:
        return ACTIONS[do](session, encoders, value, ids)
    elif do == "no-class":
        raise Fault("act.no_class")
    elif do == "make":
        if value not in DOWNLOADS:
            raise Fault("act.no_file")
        session.start(_making(session, encoders, value))
    else:
        raise Fault("page.asked_unknown")
    return ""


def received(session: Session, encoders: Encoders) -> None:
    """Say what has arrived since the last time; a model, if there is one, predicts new pictures at once."""
    new, refused = session.arrived()
    labelled = session.labels_said()
    alike = session.alike()
    strange = session.foreign_arrived()
    if not session.busy:  # else they are asked about once that has ended
        ask(session, encoders)
    if strange and not (new or labelled):
        session.note = Note(Text("act.foreign_new", n=strange), refused)
        if not session.busy:
            start_open_set(session, encoders)
        return
    if new or refused or labelled:
        same = any(one.same_as for one in refused)
        count: list[str] = [Text("act.new", n=new)] if new or not (refused or labelled) else []
        undo = bool(same or labelled) and session.workspace.undoable is not None
        session.note = Note(_together([*count, *alike, *labelled]), refused, undo=undo)


def _together(said: list[str]) -> str:
    """Sentences one after the other."""
    return reduce(lambda first, second: Text("act.both", first=first, second=second), said) if said else ""


def name_classes(session: Session, text: str, given: str) -> None:
    """Set the classes from text: one per line, words for the prompt after a colon.

    The colon in the name of a class that is there already is part of the name.

    Args:
        given: the text that was edited (`classes_as_text`).

    Raises:
        DataError: the classes are others by now, whose removal nobody asked for, or cannot be used.
    """
    with session.acting:
        now = classes_as_text(session.workspace)
        if now not in (given, text.strip()):
            raise Fault("act.classes_edited")
        known = sorted(session.workspace.class_names, key=len, reverse=True)
        lines = [line for line in map(one_line, text.splitlines()) if line]
        session.workspace.name_classes([_words_of(line, known) for line in lines])


def _words_of(line: str, known: Sequence[str]) -> ClassWords:
    """The class that a line names.

    Args:
        known: names of classes that are there, the longest first.
    """
    for name in known:
        start, rest = line[: len(name)], line[len(name) :]
        if start.casefold() == name.casefold() and rest[:1] in ("", ":"):
            return ClassWords(start, rest[1:].strip())
    new, _, words = line.partition(":")
    return ClassWords(new.strip(), words.strip())


def rename_class(session: Session, old: str | None, new: str) -> str:
    """Give a class another name."""
    if not old:
        raise Fault("act.choose_class")
    session.workspace.rename_class(old, new)
    return Text("act.renamed", old=old, new=new.strip())


def classes_as_text(workspace: Workspace) -> str:
    """The same, written out."""
    return "\n".join(
        f"{one.name}: {one.description}" if one.description else one.name for one in workspace.classes
    )


def start_timing(session: Session, encoders: Encoders, here: Collection[str]) -> Job | None:
    """Begin to find out how long the thorough way takes, in the background.

    Args:
        here: models that are on this computer; another one is not downloaded to be timed.

    Returns:
        The job; None where the time is known, cannot be known yet, or something else is computed.
    """
    workspace = session.workspace
    choice = by_way(workspace.choice, THOROUGH)
    if session.busy or choice.model not in here or len(counts_of(workspace)) < 2:
        return None
    if thorough_seconds(session) is not None:
        return None
    return session.time(lambda report: time_of(workspace, encoders, choice, report))


def thorough_seconds(session: Session) -> float | None:
    """How long the thorough way takes; None where that is not known."""
    workspace, timed = session.workspace, session.timed
    if timed is None:
        return None
    return timed.seconds_for(by_way(workspace.choice, THOROUGH), counts_of(workspace))


def start_adapting(session: Session, encoders: Encoders) -> Job:
    """Start a job that adapts, predicts and cross-validates."""
    session.workspace.support()  # what is missing is said at once
    return session.start(lambda report: adapt(session.workspace, encoders, report))


def ask(session: Session, encoders: Encoders) -> bool:
    """Start predicting pictures without a prediction, if there is a model; returns whether there are some."""
    run = last_run(session.workspace)
    if run is None or all(picture.id in run.predictions for picture in session.workspace.unlabelled):
        return False
    try:
        session.start(lambda report: predict(session.workspace, encoders, report))
    except Fault:  # another page was faster; whoever follows its job asks once that has ended
        return False
    return True


def start_suggesting(session: Session, encoders: Encoders) -> Job:
    """Start choosing pictures to label next."""

    def work(report: Report) -> None:
        session.view.suggested = suggest(session.workspace, encoders, report)
        session.view.answers_page = 0

    return session.start(work)


def _making(session: Session, encoders: Encoders, name: str) -> Callable[[Report], object]:
    def work(report: Report) -> None:
        report(Text("job.making", file=DOWNLOADS[name].file), 0, 0)
        prepare(session.workspace, encoders, name, report)

    return work


def _checked(told: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Check a value from the page, which may be anything."""
    do, value, ids = told.get("do"), told.get("value", ""), told.get("ids", [])
    fine = isinstance(do, str) and isinstance(value, str) and isinstance(ids, list)
    if not fine or len(ids) > _MOST_IDS or not all(isinstance(id, str) for id in ids):
        raise Fault("page.unknown")
    return do, value, list(ids)  # type: ignore[return-value]


def _next(workspace: Workspace, told: Mapping[str, Any]) -> str | None:
    """The picture that has the focus after a label, whose explanation is shown; None where there is none."""
    id = told.get("next")
    return id if isinstance(id, str) and any(picture.id == id for picture in workspace.pictures) else None


def _class(workspace: Workspace, value: str) -> str | None:
    """The class of this name, which a page may have shown for long; None for an empty value."""
    if value and value not in workspace.class_names:
        raise Fault("act.classes_changed")
    return value or None
