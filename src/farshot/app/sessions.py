"""Sessions: each browser, identified by its cookie, has a workspace and at most one job."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from farshot.app.choices import LATER
from farshot.app.folders import DELETED, holds
from farshot.app.jobs import Job
from farshot.app.texts import Fault
from farshot.app.workspace import Setup, Workspace, foreign
from farshot.app.workspace.classes import NoSuchClass, folders_alike
from farshot.app.workspace.encoders import Report
from farshot.app.workspace.intake import Refused, Upload
from farshot.app.workspace.journal import read_json, write_json
from farshot.app.workspace.label_file import take_labels
from farshot.app.workspace.limits import Limits
from farshot.app.workspace.names import shown_name
from farshot.app.workspace.timing import Timed
from farshot.errors import DataError

COOKIE = "farshot_session"
MOST_SESSIONS = 40
_IDLE = 24 * 3600  # seconds after which a browser's pictures are forgotten where others need the room
_REST = 600  # seconds after which a project makes room in memory for others
_PATIENCE = 10  # seconds for a step of a job to end, before its session is deleted
_MOST_PAGES = 100  # open pages of one browser whose actions are numbered
SETTINGS = ".farshot-settings.json"
"""File of what is remembered for all projects of a folder: the base model that was chosen last."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass
class BoardView:
    """Which of a session's answers are shown, and what is tried.

    Attributes:
        answers_page: of the board of answers, from 0.
        answers_shown: which answers: "all", "sure", "unsure", or "none" for pictures of none of the classes.
        chosen: the picture whose answer is looked at.
        cell: true class and answer, by their index, whose pictures are shown; None for no cell.
        kept: pictures whose doubtful label was confirmed.
        suggested: picture -> why it should be labelled next.
        pattern: the pattern of groups that is tried; None for the one that is used.
    """

    answers_page: int = 0
    answers_shown: str = "all"
    chosen: str | None = None
    cell: tuple[int, int] | None = None
    kept: set[str] = field(default_factory=set)
    suggested: dict[str, str] = field(default_factory=dict)
    pattern: str | None = None


@dataclass(frozen=True)
class Note:
    """A message above the page.

    Attributes:
        text: one or two sentences, may be a `Text` and may be empty.
        refused: files that were not added.
        fault: whether something could not be done.
        undo: whether it is about something that can be taken back.
    """

    text: str = ""
    refused: tuple[Refused, ...] = ()
    fault: bool = False
    undo: bool = False


@dataclass(eq=False)
class Arrival:
    """A file that is being received: where it goes, and its bytes so far."""

    path: Path
    size: int = 0


class Session:
    """The session of one browser.

    Attributes:
        workspace: its pictures and labels.
        job: the last one.
        jobs: how many were begun.
        timing: a job that finds out how long training would take, and gives way to any other.
        timed: what it found; None while that is not known.
        view: what of it is shown.
        note: the message above it.
        version: larger after every action, also after a restart; tells a page whether it is drawn.
    """

    def __init__(self, folder: Path, limits: Limits, choice: Setup) -> None:
        folder.mkdir(
            mode=0o700, parents=True, exist_ok=True
        )  # pictures of patients, say: for their owner alone
        self.workspace = Workspace(folder, limits, choice)
        self.incoming = folder / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)  # left behind by a program that was ended
        self.job: Job | None = None
        self.jobs = 0
        self.timing: Job | None = None
        self.timed: Timed | None = None
        self.view = BoardView()
        self.note = Note()
        self.version = 0
        self.used = time.monotonic()
        self._ended = False
        self.acting = threading.RLock()  # one action after the other
        self._heard: OrderedDict[str, int] = OrderedDict()
        self._arriving: set[Arrival] = set()
        self._new, self._refused = 0, list[Refused]()  # since the page was told
        self._alike = dict[str, None]()
        self._foreign = 0  # new pictures that show none of the classes, likewise
        self._taking_foreign = threading.Lock()
        self._labels_said = list[str]()  # of tables of labels, likewise
        self._lock = threading.Lock()

    def start(self, work: Callable[[Report], object]) -> Job:
        """Begins a job.

        Raises:
            DataError: another is running.
        """

        def told(report: Report) -> None:
            try:
                with self.workspace.read_by_job():
                    work(report)
            finally:
                self.changed()
                self._delete_if_ended()

        with self._lock:
            if self.busy:
                raise Fault("act.one_at_a_time")
            self.stop_timing(0)
            self.job, self.jobs = Job(told), self.jobs + 1
            return self.job

    def time(self, work: Callable[[Report], Timed]) -> Job:
        """Begin a job in the background that finds out how long training would take; return the one that is
        running where there is one."""

        def noted(report: Report) -> None:
            try:
                with self.workspace.read_by_job():
                    self.timed = work(report)
            finally:
                self._delete_if_ended()

        with self._lock:
            if self.timing is None or not self.timing.running:
                self.timing = Job(noted)
            return self.timing

    def stop_timing(self, seconds: float) -> None:
        """Stop finding out how long training would take; wait so long for its step to end."""
        if self.timing is not None:
            self.timing.stop()
            self.timing.wait(seconds)

    def stop(self, seconds: float) -> None:
        """Stop what is computed; wait so long for its step to end."""
        for job in (self.job, self.timing):
            if job is not None:
                job.stop()
        for job in (self.job, self.timing):
            if job is not None:
                job.wait(seconds)

    def end(self) -> None:
        """Delete the folder now, and once more when a job that is still running has ended."""
        self._ended = True
        self._delete_if_ended()

    def _delete_if_ended(self) -> None:
        if self._ended:
            shutil.rmtree(self.workspace.folder, ignore_errors=True)

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self.job is not None and self.job.running

    def changed(self) -> int:
        """Note that what is shown has changed; returns the new version."""
        self.version = max(self.version + 1, time.time_ns() // 1000)
        return self.version

    def heard(self, page: str, number: int) -> bool:
        """Whether an action of a page is new; it counts as heard from now on."""
        if number <= self._heard.get(page, 0):
            return False
        self._heard[page] = number
        self._heard.move_to_end(page)
        while len(self._heard) > _MOST_PAGES:
            self._heard.popitem(last=False)
        return True

    # Uploads -----------------------------------------------------------------------------------------

    @contextmanager
    def arrival(self) -> Iterator[Arrival]:
        """A place for an upload, which is removed at the end."""
        self.incoming.mkdir(exist_ok=True)
        one = Arrival(self.incoming / secrets.token_hex(16))
        with self._lock:
            self._arriving.add(one)
        try:
            yield one
        finally:
            with self._lock:
                self._arriving.discard(one)
            one.path.unlink(missing_ok=True)

    @property
    def bytes_arriving(self) -> int:
        """Bytes of uploads that were not processed yet."""
        with self._lock:
            return sum(one.size for one in self._arriving)

    def refuse(self, refused: Refused) -> None:
        """Note that a file was refused."""
        with self._lock:
            self._refused.append(refused)

    def take(self, upload: Upload, label: str = "") -> tuple[int, list[Refused]]:
        """Store an upload; returns the number of new pictures, and what was not added.

        Args:
            label: the class of all of it; empty, or as the page names it, where none is chosen. With a class
                that is not here any more it is refused.
        """
        chosen = label if label in self.workspace.class_names or label not in ("", LATER) else None
        try:
            taken, refused = self.workspace.take([upload], chosen)
        except NoSuchClass as error:
            taken, refused = [], [Refused(shown_name(upload.name), error.text)]
        came = {*upload.folders, *(one.folder for one in taken)} - {""}
        alike = folders_alike(came) if taken and chosen is None else []
        with self._lock:
            self._new += len(taken)
            self._refused += refused
            self._alike |= dict.fromkeys(alike)
        self.changed()
        return len(taken), refused

    def take_foreign(self, upload: Upload) -> tuple[int, list[Refused]]:
        """Store an upload that shows none of the classes; returns as `take`."""
        with self._taking_foreign:
            new, refused = foreign.take(self.workspace, [upload])
        with self._lock:
            self._foreign += new
            self._refused += refused
        self.changed()
        return new, refused

    def foreign_arrived(self) -> int:
        """The number of new pictures that show none of the classes, since the last call."""
        with self._lock:
            new, self._foreign = self._foreign, 0
            return new

    def take_labels(self, upload: Upload) -> str:
        """Label pictures as an uploaded table says; returns how many, in words.

        Raises:
            DataError: it cannot be used; nothing is changed.
        """
        said = take_labels(self.workspace, upload.path, shown_name(upload.name))
        with self._lock:
            self._labels_said.append(said)
        self.changed()
        return said

    def labels_said(self) -> list[str]:
        """What tables of labels changed since the last call."""
        with self._lock:
            said, self._labels_said = self._labels_said, []
            return said

    def alike(self) -> list[str]:
        """Which folders of different names became one class, in sentences, since the last call."""
        with self._lock:
            said, self._alike = [*self._alike], {}
            return said

    def arrived(self) -> tuple[int, tuple[Refused, ...]]:
        """The number of new pictures and what was not added, since the last call."""
        with self._lock:
            new, refused = self._new, tuple(self._refused)
            self._new, self._refused = 0, []
            return new, refused


class Sessions:
    """All sessions: of browsers, or of projects that several browsers open.

    Args:
        root: folder that holds theirs; names in it do not tell browsers' cookies.
        limits: of what each takes in.
        choice: of model and method, until somebody chooses.
        keep: files stay; else those of browsers that were not used for a day are deleted where MOST_SESSIONS
            browsers leave no room for another one.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits | None = None,
        choice: Setup | None = None,
        *,
        keep: bool = False,
    ) -> None:
        self.root, self.limits, self.choice = root, limits or Limits(), choice or Setup()
        self.keep = keep
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def get(self, token: str) -> Session:
        """Return the session of a browser's cookie; create it if there is none.

        Raises:
            DataError: no more browsers are served.
        """
        with self._lock:
            return self._opened(_name_of(token))

    def project(self, id: str) -> Session:
        """Return the session of a project.

        Raises:
            DataError: there is no such project, or too many are in use.
        """
        with self._lock:
            if not self.has(id):
                raise Fault("session.gone")
            return self._opened(id)

    def has(self, id: str) -> bool:
        """Whether there is a project of this id."""
        return holds(self.root, id)

    def open_project(self, id: str) -> Session | None:
        """The session of a project that is in use; None where it is not."""
        with self._lock:
            return self._open.get(id)

    def remember(self, model: str) -> None:
        """Begin new projects with this base model from now on, also after a restart."""
        if self.keep:
            self.choice = replace(self.choice, model=model)
            with suppress(DataError):  # the disk is full: it is only for the next project
                write_json(self.root / SETTINGS, {"format": 1, "model": model})

    def forget(self, token: str) -> None:
        """Delete a browser's session with all files."""
        self.delete(_name_of(token))

    def delete(self, id: str) -> None:
        """Delete a session with all files.

        Raises:
            DataError: its folder cannot be moved away; it is unchanged.
        """
        session = self.open_project(id)
        if session is not None:  # first, so that nothing is written to the folder afterwards
            session.stop(_PATIENCE)
        with self._lock:
            session = self._open.get(id)
            place = self.root / id if session is None else session.workspace.folder
            gone = self.root / f"{DELETED}{secrets.token_hex(16)}"
            try:
                with suppress(FileNotFoundError):
                    place.replace(gone)  # at once, so that no half of it is ever listed
            except OSError as error:
                raise Fault("session.not_deleted", place=place, why=error.strerror) from error
            self._open.pop(id, None)
        if session is not None:
            session.end()
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        """Delete for good what was removed in the sessions; called when the app ends."""
        with self._lock:
            for session in self._open.values():
                session.workspace.forget_removed()

    def _opened(self, name: str) -> Session:
        if name not in self._open:
            if self.keep:  # closed only: their files stay
                self._forget_idle(_IDLE)
            if len(self._open) >= MOST_SESSIONS:
                self._forget_idle(_REST if self.keep else _IDLE)
            if len(self._open) >= MOST_SESSIONS:
                raise Fault("session.full")
            # a browser that begins again gets another folder: a job may still end in the one before
            place = self.root / (name if self.keep else secrets.token_hex(16))
            self._open[name] = Session(place, self.limits, self.choice)
        self._open[name].used = time.monotonic()
        return self._open[name]

    def _forget_idle(self, seconds: float) -> None:
        now = time.monotonic()
        for name, session in list(self._open.items()):
            if now - session.used > seconds and not session.busy and not session.bytes_arriving:
                del self._open[name]
                if self.keep:
                    session.workspace.forget_removed()  # nobody can take that back any more
                else:
                    session.end()


def last_model(folder: Path) -> str | None:
    """The base model that was chosen last in any project of a folder; None where that is not known."""
    with suppress(DataError):
        name = read_json(folder / SETTINGS).get("model")
        return name if isinstance(name, str) else None
    return None


def _name_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def new_token() -> str:
    """Create a cookie that cannot be guessed."""
    return secrets.token_urlsafe(32)


def is_token(value: str | None) -> bool:
    """Whether a cookie has the form of ours."""
    return value is not None and _TOKEN.fullmatch(value) is not None
