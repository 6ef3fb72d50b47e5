"""Render a session as HTML; all names are escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farshot.app.check_actions import mark_of, sure_answers
from farshot.app.jobs import Job
from farshot.app.sessions import Note, Session
from farshot.app.workspace.downloads import DOWNLOADS, is_ready
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.run import Adaptation, Answer, explain, last_run
from farshot.explain.figure import panels
from farshot.explain.html import common, environment
from farshot.explain.page import described, glance
from farshot.explain.style import places
from farshot.explain.subject import OWN
from farshot.model.catalogue import toy_note

PER_PAGE = 60
_KINDS = {"all": "all", "unsure": "not sure", "none": "none of these?", "sure": "sure"}


def board(session: Session) -> str:
    """What is above the tiles of all pictures (`farshot.app.tiles`): filters, classes, undo."""
    version = session.version  # before anything is read that may change
    workspace, run = session.workspace, current(session)
    return render(
        "board.html",
        version=version,
        run=f"{run.stamp} {len(run.predictions)}" if run is not None else "",
        undoable=workspace.undoable,
        redoable=workspace.redoable,
        total=len(workspace.pictures),
        unlabelled=len(workspace.unlabelled),
        classes=_classes(session, places_of(session)),
    )


def dialogs() -> str:
    """Large view, camera and list of keys, which the page opens."""
    return render("dialogs.html")


def answers(session: Session, run: Adaptation | None) -> str:
    """Pictures without a class and their predictions, the least certain first."""
    view = session.view
    asked = [(picture, run.answer(picture.id)) for picture in session.workspace.unlabelled] if run else []
    known = [(picture, answer) for picture, answer in asked if answer is not None]
    kinds = {
        "all": known,
        "unsure": [pair for pair in known if pair[1].sure is False and not pair[1].unlike],
        "none": [pair for pair in known if pair[1].unlike],
        "sure": [pair for pair in known if pair[1].sure and not pair[1].unlike],
    }
    filters = [
        {"value": name, "name": words, "count": len(kinds[name])}
        for name, words in _KINDS.items()
        if kinds[name] or name in ("all", view.answers_shown)
    ]
    known = list(kinds.get(view.answers_shown, known))
    sure = {} if run is None else sure_answers(session, run)
    order = {id: place for place, id in enumerate(view.suggested)}
    known.sort(key=lambda pair: (order.get(pair[0].id, len(order)), _margin(pair[1])))
    view.answers_page, pages, part = _page(known, view.answers_page)
    tiles = [
        {
            "id": picture.id,
            "name": picture.name,
            "said": _said(answer),
            "sure": answer.sure,
            "place": run.classes.index(answer.name) if run is not None else 0,
            "unlike": answer.unlike,
            "reason": view.suggested.get(picture.id),
        }
        for picture, answer in part
    ]
    return render(
        "answers.html",
        adapted=run is not None,
        total=len(asked),
        asking=sum(answer is None for _, answer in asked),
        filters=filters,
        shown=view.answers_shown if view.answers_shown in kinds else "all",
        sure=len(sure),
        mark=mark_of(sure),
        right=run.certainty.right if run is not None and run.certainty is not None else None,
        tiles=tiles,
        chosen=view.chosen,
        page=view.answers_page,
        pages=pages,
    )


def detail(session: Session, run: Adaptation | None, encoders: Encoders) -> str:
    """The explanation of the prediction for the chosen picture."""
    chosen = session.view.chosen
    here = chosen is not None and any(picture.id == chosen for picture in session.workspace.pictures)
    answer = run.answer(chosen) if run is not None and chosen is not None and here else None
    if answer is None or chosen is None:
        return render("detail.html", shown=None)
    found = explain(session.workspace, encoders, chosen)
    picture = session.workspace.picture(chosen)
    return render(
        "detail.html",
        shown=described(found, panels(found)),
        glance=glance(found),
        picture=picture.id,
        name=picture.name,
        label=picture.label,
        answer=answer,
        classes=_classes(session, places_of(session)),
        origin=OWN,
        moves=bool(found.moved),
    )


def waiting(session: Session) -> str:
    """Shown instead of `detail` while something else is computed."""
    text = "Why it says so can be seen once the work above has ended." if session.view.chosen else ""
    return note(Note(text))


def result(session: Session, run: Adaptation | None) -> str:
    """Facts about the adapted model."""
    stale = run is not None and run.stamp != session.workspace.stamp()
    toy = "" if run is None else toy_note(run.choice.model)
    return render("result.html", run=run, stale=stale, toy=toy)


def where(project: str | None, saved: str) -> str:
    """Which project this is and where it is saved; without one, that nothing is kept.

    Args:
        saved: where, in words.
    """
    return render("where.html", project=project, where=saved)


def take_away(session: Session, run: Adaptation | None, *, of_project: bool = False) -> str:
    """The list of downloads, prepared or not."""
    rows = [
        {"name": name, "file": one.file, "about": one.about, "made": is_ready(session.workspace, name)}
        for name, one in DOWNLOADS.items()
    ]
    return render("take.html", adapted=run is not None, rows=rows, of_project=of_project, **_labels(session))


def _labels(session: Session) -> dict[str, bool]:
    """Whether there are pictures to list, and groups of them."""
    workspace = session.workspace
    return {"labels": bool(workspace.pictures), "groups": bool(workspace.groups())}


def note(said: Note, *, undoable: bool = False) -> str:
    """A message above the page; empty without one."""
    if not said.text and not said.refused:
        return ""
    undo = said.undo and undoable
    return render("note.html", text=said.text, refused=said.refused, fault=said.fault, undo=undo)


def progress(job: Job | None) -> str:
    """The progress of a job."""
    return render("progress.html", job=job)


def drop_box(hint: str, into: str = "", kind: str = "") -> str:
    """The box for uploading pictures.

    Args:
        into: selector of the field that holds the class of what is added; empty without one.
        kind: of the uploads; "foreign" for pictures that show none of the classes, empty for all others.
    """
    return render("drop.html", hint=hint, into=into, kind=kind)


def current(session: Session) -> Adaptation | None:
    """The session's adapted model, if any."""
    return last_run(session.workspace)


def render(template: str, **words: Any) -> str:
    """A template with these variables and those of all pages."""
    return environment("farshot.app").get_template(template).render(**{**common(), **words})


def _classes(session: Session, order: Mapping[str, int]) -> list[Mapping[str, Any]]:
    counts = session.workspace.counts
    return [{"name": name, "count": count, "place": order[name]} for name, count in counts.items()]


def places_of(session: Session) -> dict[str, int]:
    """Class -> its place, which gives its letter and colour: the model's, so that they are those of its
    explanations and report."""
    run = current(session)
    return places(session.workspace.class_names, run.classes if run is not None else ())


def _page(items: list[Any], page: int) -> tuple[int, int, list[Any]]:
    """The nearest page that there is, how many there are, and what is on it."""
    pages = max(1, -(-len(items) // PER_PAGE))
    page = min(max(page, 0), pages - 1)
    return page, pages, items[page * PER_PAGE : (page + 1) * PER_PAGE]


def _margin(answer: Answer) -> float:
    """How far the most probable class is above the next."""
    return answer.ranked[0][1] - answer.ranked[1][1]


def _said(answer: Answer) -> str:
    if answer.unlike:
        return f"none of these? Nearest: {answer.name}"
    certain = f"{answer.name} {answer.certain()}"
    return f"not sure: {certain}?" if answer.sure is False else certain
