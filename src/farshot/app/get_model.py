"""The list of encoders to download, with one button each, within the step that trains."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from farshot.app.fetching import Fetches
from farshot.app.html import render, script
from farshot.app.models import MINI, ModelChoice
from farshot.app.offers import OFFERS, how_long, measured
from farshot.app.projects import Projects
from farshot.app.sessions import Session, Sessions
from farshot.app.texts import Text, message, text
from farshot.app.train_tab import TrainTab
from farshot.app.who import speak_as
from farshot.app.workspace.encoders import Encoders
from farshot.errors import FarshotError
from farshot.model.device import check_device

_TICK = 0.5  # seconds between two looks at a download
_MB = 1e6


class GetModel:
    """The list, and the download that is running. `show`, `download` and `stop_download` handle events of
    Gradio.

    Args:
        train: the step that it is part of; models that arrive are added to its list.
        encoders: what computes.
        sessions, projects: which remember the model, and may choose it.
        session_of: the session of an event.
    """

    def __init__(
        self,
        train: TrainTab,
        encoders: Encoders,
        sessions: Sessions,
        projects: Projects | None,
        session_of: Callable[[gr.Request], Session],
    ) -> None:
        self.train, self.encoders, self.projects, self._session = train, encoders, projects, session_of
        self.fetches = Fetches(sessions, self._arrived)
        self._per_operation: float | None = None
        self._measuring = threading.Lock()

    def build(self) -> None:
        """The components."""
        only_mini = all(one.name == MINI.name for one in self.train.models.values())
        self.status = gr.HTML("", elem_id="getting", visible=False)
        self.stop = gr.Button(text("fetch.stop"), visible=False, size="sm", elem_id="stop-getting")
        with gr.Accordion(text("offer.title"), open=only_mini, elem_id="get-model"):
            self.list = gr.HTML(
                "",  # until the step is shown
                js_on_load=script("get_model.js"),
                elem_id="offers",
                apply_default_css=False,
            )

    def connect(self, tab: gr.Tab) -> None:
        """Connect them.

        Args:
            tab: the step; once it is shown, the times are found out.
        """
        drawn = [self.status, self.stop, self.list, self.train.model, self.train.about_model]
        quiet: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "trigger_mode": "multiple",
        }
        tab.select(self.show, None, drawn, **quiet)
        self.list.act(self.download, None, drawn, **quiet)
        self.stop.click(self.stop_download, None, None, **quiet)

    def show(self, request: gr.Request) -> Iterator[list[Any]]:
        """The list, with times once they are known, and the download that is running."""
        speak_as(request)
        yield [gr.skip(), gr.skip(), self._list(), gr.skip(), gr.skip()]
        if self._per_operation is None and not self.encoders.busy:
            with self._measuring, self.encoders.turn():
                if self._per_operation is None:
                    self._per_operation = measured(check_device(self.encoders.device))
        speak_as(request)  # Gradio may go on in another thread
        yield [gr.skip(), gr.skip(), self._list(), gr.skip(), gr.skip()]
        if self.fetches.running:
            yield from self._follow(request)

    def download(self, event: gr.EventData, request: gr.Request) -> Iterator[list[Any]]:
        """Begin to download the model whose button was clicked, and follow it to its end."""
        told = event._data if isinstance(event._data, dict) else {}
        offer = next((one for one in OFFERS if one.model == told.get("model")), None)
        if offer is None:
            return
        try:
            self.fetches.start(offer, self._session(request))
        except FarshotError as error:
            yield [_said(message(error), fault=True), *[gr.skip()] * 4]
        yield from self._follow(request)

    def _follow(self, request: gr.Request) -> Iterator[list[Any]]:
        job, offer = self.fetches.job, self.fetches.offer
        speak_as(request)
        if job is None or offer is None:
            return
        while job.running:
            html = render(
                "getting.html", title=offer.title, job=job, done=job.done / _MB, total=job.total / _MB
            )
            yield [gr.update(value=html, visible=True), gr.update(visible=True), *[gr.skip()] * 3]
            job.wait(_TICK)
            speak_as(request)  # Gradio may go on in another thread
        if job.error:
            said = _said(Text("fetch.failed", title=offer.title, why=job.error), fault=True)
        elif job.stopped:
            said = _said(Text("fetch.stopped", title=offer.title))
        else:
            said = _said(Text("fetch.arrived", title=offer.title))
        choice = self._session(request).workspace.choice
        about = self.train.about_chosen(choice)
        yield [said, gr.update(visible=False), self._list(), self.train.listed(choice), about]

    def stop_download(self) -> None:
        """Ask the download to stop; `download` shows when it has."""
        if self.fetches.job is not None:
            self.fetches.job.stop()

    def _arrived(self, model: ModelChoice) -> None:
        self.train.add(model)
        if self.projects is not None:
            self.projects.offer(model.name)

    def _list(self) -> str:
        here = self.train.here()
        rate = self._per_operation
        rows = [
            {
                "offer": one,
                "here": one.model in here,
                "time": None if rate is None else how_long(one, rate),
            }
            for one in OFFERS
        ]
        return render("offers.html", rows=rows)


def _said(said: str, *, fault: bool = False) -> Any:
    html = render("note.html", text=said, refused=(), fault=fault, undo=False)
    return gr.update(value=html, visible=True)
