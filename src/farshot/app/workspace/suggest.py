"""Which pictures to label next."""

from __future__ import annotations

from farshot.app.texts import Fault, Text
from farshot.app.workspace.encoders import Encoders, Report
from farshot.app.workspace.run import Answer, adapted_model, last_run
from farshot.app.workspace.state import Workspace
from farshot.pick import Choice, pick_first, pick_next

PER_CLASS = 2  # pictures proposed at a time, for each class


def suggest(workspace: Workspace, encoders: Encoders, report: Report) -> dict[str, str]:
    """Picture -> the reason to label it next, most useful first.

    Before there is an adapted model: typical pictures that differ. After: those it is unsure of.

    Raises:
        DataError: nothing is left to label.
    """
    waiting = workspace.unlabelled
    if not waiting:
        raise Fault("act.all_labelled")
    table = workspace.table(waiting)
    ways = max(2, len(workspace.classes))
    count = min(PER_CLASS * ways, len(waiting))
    with encoders.turn(report) as report:
        report(Text("job.looking"), 0, 0)
        run = last_run(workspace)
        if run is not None:
            choice = pick_next(adapted_model(workspace, run, encoders), table, count)
        else:
            encoder = encoders.get(workspace.choice.model)
            names = workspace.class_names if len(workspace.class_names) >= 2 else None
            choice = pick_first(encoder, table, PER_CLASS, class_names=names, ways=ways)
    ids = [waiting[int(row)].id for row in choice.rows]
    return {
        id: _reason(choice, place, None if run is None else run.answer(id)) for place, id in enumerate(ids)
    }


def _reason(choice: Choice, place: int, answer: Answer | None) -> str:
    """The reason as a text of the catalogue, where that has it; else as the choice gives it, in English.

    Args:
        answer: of the model that is unsure; None where there is none.
    """
    alike = 1 + len(choice.alike[place])
    looks = [Text("why.typical", n=alike), Text("why.cover", n=alike)]
    found = [*looks, *(Text("why.filled", why=why) for why in looks)]
    between = choice.reasons[place]
    if answer is not None:  # with the present names of the classes, where the choice has those of the model
        (first, _), (second, _) = answer.ranked[:2]
        certain, less = answer.certain(0), answer.certain(1)
        between = Text("why.between", first=first, second=second, certain=certain, less=less)
    return next((text for text in found if text == choice.reasons[place]), between)
