"""The page: four steps and their event handlers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from farshot.app import actions, view
from farshot.app.check_view import check, groups, open_set
from farshot.app.choices import KINDS, LATER, ways
from farshot.app.elements import board, drop, shown
from farshot.app.get_model import GetModel
from farshot.app.html import script
from farshot.app.models import ModelChoice
from farshot.app.projects import Projects
from farshot.app.routes import FOREIGN
from farshot.app.sessions import Note, Session, Sessions
from farshot.app.texts import Text, marking, message, text
from farshot.app.train_tab import TrainTab
from farshot.app.who import project_of, session_of, speak_as, token_of
from farshot.app.workspace.encoders import Encoders
from farshot.app.workspace.run import Adaptation
from farshot.errors import FarshotError
from farshot.methods import available

_TICK = 0.25  # seconds between two looks at a job


class Page:
    """Build the page and connect it to sessions. All public methods but `build` handle events of Gradio: they
    return or yield updates of the components that `_connect` names.

    Args:
        sessions, encoders: whose pictures, and what computes.
        models: the base models to choose from, the first by default.
        projects: where sessions are projects.
        saved, downloads: where they are saved, in words, and whether people may download models to there.
    """

    def __init__(
        self,
        sessions: Sessions,
        encoders: Encoders,
        models: Sequence[ModelChoice],
        projects: Projects | None = None,
        saved: str = "",
        downloads: bool = False,
    ) -> None:
        self.sessions, self.encoders, self.projects, self.saved = sessions, encoders, projects, saved
        self.models = {str(one.title): one for one in models}
        self.methods = {name: kind for name, kind in available().items() if kind.kind in KINDS}
        self.train = TrainTab(self.models, self.methods)
        self.get = GetModel(self.train, encoders, sessions, projects, self._session) if downloads else None

    def build(self) -> gr.Blocks:
        """The page, with keys in place of texts (`farshot.app.translated`)."""
        with marking(), gr.Blocks(title="farshot", analytics_enabled=False) as blocks:
            gr.HTML(view.head(), js_on_load=script("steps.js") + script("watch.js"))
            self.where = gr.HTML("", elem_id="where", apply_default_css=False)
            self.note = board("note", "board.js", visible=False)
            gr.HTML(
                view.dialogs(),
                js_on_load=script("large.js") + script("dialogs.js"),
                elem_id="dialogs",
                apply_default_css=False,
            )
            self.progress = gr.HTML("", elem_id="progress", visible=False)
            self.stop = gr.Button(text("page.stop"), visible=False, elem_id="stop")
            with gr.Tabs():
                with gr.Tab(text("tab.pictures"), id="pictures"):
                    self._pictures()
                with gr.Tab(text("tab.train"), id="adapt") as self.train_tab:
                    self.train.build(self.get.build if self.get else None)
                with gr.Tab(text("tab.check"), id="look"):
                    self._check()
                with gr.Tab(text("tab.download"), id="take"):
                    self.take = board("take", "board.js", "take.js")
            self._connect(blocks)
        return blocks

    # What is on it -----------------------------------------------------------------------------------

    def _pictures(self) -> None:
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self.classes = gr.Textbox(
                    label=text("pictures.classes"),
                    lines=4,
                    max_lines=12,
                    info=text("pictures.classes_info"),
                    elem_id="classes",
                    interactive=False,  # until it shows what there is: what is typed before would be lost
                )
                # the classes as this page has had them last; with lines, since one alone would join them
                self.given = gr.Textbox(visible=False, lines=4)
                self.name_them = gr.Button(text("pictures.save_classes"), size="sm", elem_id="name-classes")
                with gr.Accordion(text("pictures.rename_class"), open=False, elem_id="rename-class"):
                    self.renamed = gr.Dropdown([], label=text("pictures.class"), elem_id="renamed")
                    self.new_name = gr.Textbox(label=text("pictures.new_name"), elem_id="new-name")
                    self.rename = gr.Button(text("rename"), size="sm", elem_id="rename")
                self.into = gr.Dropdown(
                    [(text("pictures.later"), LATER)],
                    value=LATER,
                    label=text("pictures.into"),
                    elem_id="into",
                    interactive=True,
                )
                self.drop = drop("drop.hint", "drop", "#into input")
                self.suggest = gr.Button(text("pictures.suggest"), elem_id="suggest")
            with gr.Column(scale=5, min_width=300):
                self.board = board("board", "tile.js", "window.js", "drag.js", "label.js")

    def _check(self) -> None:
        self.drop_new = drop("drop.hint_new", "drop-new")
        with gr.Row():
            self.again = gr.Button(text("check.again"), variant="primary", elem_id="again")
            self.suggest_next = gr.Button(text("pictures.suggest"), elem_id="suggest-next")
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                self.answers = board("answers", "board.js")
            with gr.Column(scale=4, min_width=300):
                self.detail = board("detail", "board.js")
        self.check = board("check", "buttons.js", "check.js")
        with gr.Accordion(text("foreign.title"), open=False, elem_id="open-set"):
            self.drop_foreign = drop("foreign.hint", "drop-foreign", kind=FOREIGN)
            self.open_set = board("open-set-found", "buttons.js")
        with gr.Accordion(text("groups.title"), open=False, elem_id="groups"):
            self.groups = board("groups-found", "buttons.js")

    # What happens ------------------------------------------------------------------------------------

    def _connect(self, blocks: gr.Blocks) -> None:
        drawn = [
            self.note,
            self.stop,
            self.board,
            self.answers,
            self.detail,
            self.train.result,
            self.take,
            self.into,
            self.again,
            self.train.train,
            self.renamed,
            self.check,
            self.open_set,
            self.groups,
        ]
        self._drawn = len(drawn)
        chosen, about = self.train.chosen, self.train.about
        forms = [self.classes, *chosen, *about, self.where, self.given]
        words = [self.classes, self.given]
        follow = {"fn": self.follow, "outputs": [self.progress, *drawn], "show_progress": "hidden"}
        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "multiple",
        }

        def on(
            listener: Callable[..., Any],
            fn: Callable[..., Any],
            inputs: Any = None,
            more: Any = (),
            in_turn: bool = False,
        ) -> None:
            """An event, then the job it began, in turn: the last action is drawn last."""
            one = {"concurrency_limit": 1, "concurrency_id": "act"} if in_turn else {}
            listener(fn, inputs, [*drawn, *more], **quiet, **one).then(**follow, api_visibility="private")

        on(blocks.load, self.load, more=forms)
        for box in (self.drop, self.drop_new, self.drop_foreign):
            on(box.received, self.receive, self.given, [*words, box])
        for one in (self.board, self.take):
            on(one.act, self.act, self.given, words, in_turn=True)
        on(self.name_them.click, self.name_classes, words, words)
        on(
            self.rename.click,
            self.rename_class,
            [self.renamed, self.new_name],
            [*words, self.new_name],
        )
        on(self.train.train.click, self.start_adapting, chosen)
        on(self.again.click, self.start_adapting, chosen)
        on(self.suggest.click, self.start_suggesting)
        on(self.suggest_next.click, self.start_suggesting)
        for one in chosen:
            on(one.input, self.choose, chosen, about)
        timed = {"outputs": self.train.way, **quiet}
        self.train_tab.select(self.show_time, None, **timed)
        self.train.model.input(self.show_time, None, **timed)
        if self.get is not None:
            self.get.connect(self.train_tab)
        self.stop.click(self.stop_job, None, None, **quiet)

    def load(self, request: gr.Request) -> list[Any]:
        """Show the project as it is; a page was opened."""
        session = self._session(request)
        choice = self.train.offered(session.workspace.choice)
        session.workspace.choose(choice)
        shown = [*self.train.shown(choice), *self.train.sentences(choice)]
        session.note = Note()
        actions.received(session, self.encoders)  # what came before the page was loaded again
        project = None if self.projects is None else self.projects.name(project_of(request))
        where = view.where(project, self.saved)
        given = actions.classes_as_text(session.workspace)
        words = gr.update(value=given, interactive=True)
        return [*self._draw(session, changed=True), words, *shown, where, given]

    def receive(self, given: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        """Files have arrived; more may follow."""
        session = self._session(request)
        told = event._data if isinstance(event._data, dict) else {}
        if told.get("last"):
            self._try(session, lambda: actions.received(session, self.encoders))
        return [*self._with_words(session, given), gr.HTML(taken=time.monotonic())]

    def act(self, given: str, event: gr.EventData, request: gr.Request) -> list[Any]:
        """Something was done (`actions.act_in_order`), and the page is to show it."""
        told = event._data if isinstance(event._data, dict) else {}
        if told.get("do") == "forget" and self.projects is None:
            self.sessions.forget(token_of(request))
            session = self._session(request)
            session.note = Note(Text("page.forgotten"))
            session.changed()
        else:
            session = self._session(request)
        return self._with_words(session, given)

    def name_classes(self, text: str, given: str, request: gr.Request) -> list[Any]:
        """Replace the classes by those of the text field, one a line.

        Args:
            given: the classes as the page has had them last.
        """
        session = self._session(request)
        is_done = self._try(session, lambda: actions.name_classes(session, text, given))
        # what cannot be used stays as it was typed
        return self._with_words(session, given, also_same=is_done)

    def rename_class(self, old: str | None, new: str, request: gr.Request) -> list[Any]:
        """Give a class another name; None where none was chosen, which is refused on the page."""
        session = self._session(request)
        is_done = self._try(session, lambda: actions.rename_class(session, old, new))
        words = [actions.classes_as_text(session.workspace)] * 2 if is_done else [gr.skip()] * 2
        return [*self._draw(session, changed=is_done), *words, "" if is_done else gr.skip()]

    def _with_words(self, session: Session, given: str, *, also_same: bool = False) -> list[Any]:
        """The new state, and the classes for their text field where they are not those that the page has;
        what is being typed stays.

        Args:
            given: the classes as the page has had them last.
            also_same: write them in any case.
        """
        now = actions.classes_as_text(session.workspace)
        words = [now] * 2 if also_same or now != given else [gr.skip()] * 2
        return [*self._draw(session, changed=now != given), *words]

    def choose(self, title: str, way: str, method: str, quick: bool, request: gr.Request) -> list[Any]:
        """Keep what was chosen in the step that trains: a model by its title, way, method and "Quick"."""
        session = self._session(request)
        choice = self.train.setup(session.workspace.choice, title, way, method, quick)
        if choice.model != session.workspace.choice.model:
            self.sessions.remember(choice.model)
        session.workspace.choose(choice)
        return [*self._draw(session), *self.train.sentences(choice)]

    def start_adapting(
        self, title: str, way: str, method: str, quick: bool, request: gr.Request
    ) -> list[Any]:
        """Begin to train with what the page shows; `follow` shows how far it is."""
        session = self._session(request)
        # what the page shows when it is clicked
        session.workspace.choose(self.train.setup(session.workspace.choice, title, way, method, quick))
        return self._done(session, lambda: actions.start_adapting(session, self.encoders))

    def show_time(self, request: gr.Request) -> Any:
        """Say how long the thorough way takes, once that is known."""
        session = self._session(request)
        timing = actions.start_timing(session, self.encoders, self.train.here())
        while timing is not None and timing.running:
            timing.wait(_TICK)
        return gr.update(choices=ways(actions.thorough_seconds(session)))

    def start_suggesting(self, request: gr.Request) -> list[Any]:
        """Begin to find out which pictures to label next; `follow` shows how far it is."""
        session = self._session(request)
        return self._done(session, lambda: actions.start_suggesting(session, self.encoders))

    def stop_job(self, request: gr.Request) -> None:
        """Ask the job to stop; `follow` shows when it has."""
        job = self._session(request).job
        if job is not None:
            job.stop()

    def follow(self, request: gr.Request) -> Iterator[list[Any]]:
        """Yield the progress of the session's job until it ends; several pages may follow it."""
        session = self._session(request)
        job, nothing = session.job, [gr.skip()] * self._drawn
        if job is None or (not job.running and job.told):
            yield [shown(""), *nothing]
            return
        seen = view.current(session)
        while job.running:
            now = view.current(session)
            # a model can be looked at while it is still being measured
            drawn = nothing if _same_run(now, seen) else self._draw(session)
            yield [shown(view.progress(job)), *drawn]
            seen = now
            job.wait(_TICK)
            speak_as(request)  # Gradio may go on in another thread
        job.told = True
        said = job.error or (Text("page.stopped") if job.stopped else "")
        more = not said and not session.busy and actions.ask(session, self.encoders)
        session.note = Note(said, fault=True) if job.error else Note(said) if said else session.note
        yield [shown(""), *self._draw(session)]
        if more:  # pictures that came while the model was being made
            yield from self.follow(request)

    def _done(self, session: Session, what: Callable[[], Any]) -> list[Any]:
        """Run an action and draw the new state; an error is shown as one sentence."""
        self._try(session, what)
        return self._draw(session)

    def _try(self, session: Session, what: Callable[[], Any]) -> bool:
        """Run an action, whose message becomes the session's; returns whether it was done."""
        session.note = Note()
        try:
            said = what()
        except FarshotError as error:
            session.note = Note(message(error), fault=True)
            return False
        if isinstance(said, str):
            session.note = Note(said)
        return True

    def _draw(self, session: Session, *, changed: bool = False) -> list[Any]:
        """Updates of all components, in the order of `drawn`.

        Args:
            changed: the classes are not those that the page has, so that a chosen one may be gone.
        """
        run = view.current(session)
        names, running = session.workspace.class_names, session.busy
        stale = run is not None and run.stamp != session.workspace.stamp()
        again = text("check.again_corrected" if stale else "check.again")
        # while something is computed, pictures are not explained: the page must not wait for it
        why = view.waiting(session) if self.encoders.busy else view.detail(session, run, self.encoders)
        return [
            shown(view.note(session.note, undoable=session.workspace.undoable is not None)),
            gr.update(visible=running),
            view.board(session),
            view.answers(session, run),
            why,
            view.result(session, run),
            view.take_away(session, run, of_project=self.projects is not None),
            gr.update(
                choices=[(text("pictures.later"), LATER), *names], **({"value": LATER} if changed else {})
            ),
            gr.update(value=again, interactive=not running and run is not None),
            gr.update(interactive=not running),
            gr.update(choices=list(names), **({"value": None} if changed else {})),
            check(session, run),
            open_set(session, run),
            groups(session),
        ]

    # Who and what ------------------------------------------------------------------------------------

    def _session(self, request: gr.Request) -> Session:
        """Whose page a request comes from; from now on texts are in its language."""
        speak_as(request)
        return session_of(self.sessions, request, of_project=self.projects is not None)


def _same_run(one: Adaptation | None, other: Adaptation | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.stamp, one.seconds, len(one.predictions)) == (
        other.stamp,
        other.seconds,
        len(other.predictions),
    )
