"""Download models for the page: one at a time, once for all who ask for it, outside the turns to compute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from farshot.app.jobs import Job
from farshot.app.models import ModelChoice, of_offer
from farshot.app.offers import Offer
from farshot.app.sessions import Session, Sessions
from farshot.app.workspace.encoders import Report
from farshot.errors import DataError, FarshotError
from farshot.model.find import load_encoder
from farshot.storage.hub import watched


class Fetches:
    """The download that is running, and how the last one ended.

    Args:
        sessions: which remember the model that was chosen last.
        arrived: called with a model once it is here and was read.

    Attributes:
        job: the last download; None before the first.
        offer: what it brings.
    """

    def __init__(self, sessions: Sessions, arrived: Callable[[ModelChoice], object]) -> None:
        self._sessions, self._arrived = sessions, arrived
        self.job: Job | None = None
        self.offer: Offer | None = None
        self._waiting: list[Session] = []
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether a model is being downloaded."""
        return self.job is not None and self.job.running

    def start(self, offer: Offer, session: Session) -> Job:
        """Begin a download, or join the one of the same model; it becomes the session's model at the end.

        Raises:
            DataError: another model is being downloaded.
        """
        with self._lock:
            if self.running and self.job is not None and self.offer is not None:
                if self.offer.model != offer.model:
                    raise DataError(f"{self.offer.title} is being downloaded; wait for it, or stop it.")
                self._waiting.append(session)
                return self.job
            self.offer, self._waiting = offer, [session]
            self.job = Job(lambda report: self._bring(offer, report))
            return self.job

    def _bring(self, offer: Offer, report: Report) -> None:
        report("asking the hub", 0, 0)
        with watched(lambda done, total: report("downloading", done, total)):
            load_encoder(offer.model)  # what arrived is read, so that a damaged file is found now
        report("done", 0, 0)
        with self._lock:
            self._arrived(of_offer(offer))
            self._sessions.remember(offer.model)
            for session in self._waiting:
                with suppress(FarshotError):  # it was deleted meanwhile
                    session.workspace.choose(replace(session.workspace.choice, model=offer.model))
                    session.changed()
            self._waiting = []
