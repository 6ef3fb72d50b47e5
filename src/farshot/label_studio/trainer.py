"""Adapts to the labels of a project, in a thread, and exchanges the model when it is ready.

Label Studio's webhooks only say that something has changed; the labels are those that it has when they are
asked for, so a lost webhook, a deleted annotation or a restart changes nothing. One adaptation runs at a
time, and predictions come from the model before until the new one is saved and tried.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from farshot.annotations.files import optional_text
from farshot.annotations.label_studio import choice, counted
from farshot.classifier import FewShotClassifier, load
from farshot.data.found import GROUP_COLUMN, SPLIT_COLUMN, split_called
from farshot.data.given import labelled_table
from farshot.errors import DataError, FarshotError, SettingError
from farshot.images.options import ReadOptions
from farshot.images.preprocess import prepare, wanted_side
from farshot.images.reading import read_picture
from farshot.label_studio.instance import Instance
from farshot.label_studio.labels import Control, control_of
from farshot.label_studio.options import METHOD, MODEL, Options
from farshot.label_studio.state import State, check_state, read_state, state_file, write_state
from farshot.label_studio.support import Example, found, kept_places, table_of, unnamed
from farshot.methods import create
from farshot.serve.bodies import Given
from farshot.serve.models import Version
from farshot.serve.pictures import Fault, Picture, Reading, read
from farshot.storage.model_folder import check_place, is_saved
from farshot.storage.paths import home

_LOG = logging.getLogger(__name__)
_MOST_TOLD = 3  # pictures that cannot be used


class Trainer:
    """The model of a project.

    Args:
        told: called with a sentence on each adaptation that begins, ends or fails.

    Attributes:
        version: the model that answers; None before the first adaptation.
        note: what it waits for, or why the last adaptation failed; None after one that succeeded.
        is_training: whether an adaptation runs.

    Raises:
        FarshotError: a folder that cannot be written, a model that cannot be loaded, an unknown method.
    """

    def __init__(self, options: Options, instance: Instance, told: Callable[[str], None]) -> None:
        self._options, self._instance, self._told = options, instance, told
        check_place(options.folder)
        self._start = self._loaded()
        self._state = read_state(options.folder, frozenset() if self._start is None else unnamed(self._start))
        check_state(state_file(options.folder))
        if options.project is not None and self._state.project not in (None, options.project):
            raise SettingError(
                f"{options.folder} belongs to project {self._state.project}, not {options.project}; name "
                "another folder for each project."
            )
        if options.project is not None:
            self._state = replace(self._state, project=options.project)
        if self._start is None:  # a state that was left where the folder was emptied
            self._state = State(self._state.project)
        self._kept = (
            [] if self._start is None else kept_places(self._start, self._state.pictures, options.folder)
        )
        self.version: Version | None = None if self._start is None else _tried(self._start)
        self._new = self._classifier()
        self.note: str | None = None
        self.is_training = False
        self._touched, self._left = set[int](), set[int]()  # since the last look; by it, too few to adapt to
        self._asked = self._forced = self._again = self._ended = False
        self._odd = list[str]()  # what was said of tasks without a certain label, split or group
        self._measured = list[str]()  # and of those of other splits than train
        self._next_look = 0.0  # monotonic seconds
        self._failed: dict[int, str] | None = None  # the labels to which adapting failed
        self._unused = dict[int, str]()  # those of pictures that the last adaptation could not use
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="farshot-adapt", daemon=True)

    # Of other threads --------------------------------------------------------------------------------

    @property
    def project(self) -> int | None:
        """The number of the project; None before one has connected."""
        return self._state.project

    def start(self) -> None:
        """Begin; labels that came while it did not run count."""
        self._thread.start()
        if self.project is not None and self._options.token is not None:
            self.look()

    def close(self) -> None:
        """End; an adaptation that runs is given up, and the model before it stays."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def connect(self, project: int) -> None:
        """Serve this project from now on; its labels are looked at, at most twice a minute.

        Label Studio connects again before it asks for predictions, so labels are found without webhooks.

        Raises:
            DataError: another project is served already.
        """
        with self._wake:
            if self.project is None:
                self._state = replace(self._state, project=project)
                write_state(self._options.folder, self._state)
            elif self.project != project:
                raise DataError(
                    f"{self._options.folder} belongs to project {self.project}, not {project}; run `farshot "
                    "label-studio` with another folder and --port for each project."
                )
            due = time.monotonic() >= self._next_look
        if due and self._options.token is not None:
            self.look()

    def touch(self, tasks: Iterable[int]) -> None:
        """Note that labels of these tasks may have changed."""
        with self._wake:
            self._touched.update(tasks)
            self._wake.notify()

    def look(self, *, forced: bool = False) -> None:
        """Look at the labels now.

        Args:
            forced: adapt to any new label, however few.
        """
        with self._wake:
            self._asked, self._forced = True, self._forced or forced
            self._wake.notify()

    # In its thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._is_due)
                if self._ended:
                    return
                forced, unasked = self._forced, not self._forced and not self._touched
                self._next_look = time.monotonic() + self._options.limits.look_seconds
                self._asked = self._forced = self._again = False
                self._touched, self._left = set(), set()
            try:
                self._look(forced, unasked)
            except _Ended:
                return
            except FarshotError as error:
                self._fail(str(error))
            except Exception as error:
                _LOG.exception("adapting failed")
                self._fail(f"An error in farshot itself ({type(error).__name__}: {error}).")
            finally:
                self.is_training = False

    def _is_due(self) -> bool:
        enough = len(self._touched | self._left) >= self._options.labels
        return self._ended or self._asked or bool(self._touched and (self._again or enough))

    def _fail(self, sentence: str) -> None:
        """The next label, whichever it is, starts another look."""
        if sentence != self.note:
            self._told(f"Not adapted: {sentence}")
        self.note, self._again = sentence, True

    def _look(self, forced: bool, unasked: bool) -> None:
        """Adapt if there are enough new labels.

        Args:
            unasked: neither a label nor a person is the reason, so that what failed with these labels is not
                tried again.
        """
        project = self.project
        assert project is not None
        control = control_of(self._instance.configuration(project), self._options.control)
        tasks = self._labelled(project, control)
        labels = {task: one.label for task, one in tasks.items()}
        changed = self._state.changed(labels)
        new = {task for task in changed if task not in self._unused or self._unused[task] != labels.get(task)}
        if not changed or (len(new) < self._options.labels and not forced):
            self._left = new
            self.note = f"{len(new)} of {self._options.labels} new labels."
            return
        if unasked and labels == self._failed:
            return
        self._failed = labels
        control.check_knows(one.label for one in self._kept)
        classes = {*labels.values(), *(one.label for one in self._kept)}
        if len(classes) < 2:
            self._fail(
                f"All labels so far are {', '.join(classes) or 'gone'}; label pictures of another class."
            )
            return
        self.is_training = True
        self._told(
            f"Adapting to {len(labels)} labels of project {project}, {len(changed)} of them new or changed."
        )
        made, used = self._adapted(tasks, control)
        pictures = unnamed(made)
        # before the model, which is refused if nobody knows that its pictures are those of tasks
        write_state(self._options.folder, replace(self._state, pictures=self._state.pictures | pictures))
        made.save(self._options.folder)
        version = _tried(made)
        self._state = State(project, {task: labels[task] for task in used}, pictures)
        self._unused = {task: label for task, label in labels.items() if task not in used}
        write_state(self._options.folder, self._state)
        self.version, self.note, self._failed = version, None, None
        self._told(f"{version_name(version)} now answers, adapted to {len(made.support_ids_)} pictures.")

    def _labelled(self, project: int, control: Control) -> dict[int, Example]:
        """The labelled tasks by number."""
        tasks, odd, measured = dict[int, Example](), list[str](), list[str]()
        for task in self._instance.annotated(project):
            data, given, where = task.get("data"), task.get("annotations"), f"task {task['id']}"
            annotation = counted(given) if isinstance(given, list) else None
            try:
                label = None if annotation is None else choice(annotation, control.name)
                if label is None or label not in control.classes or not isinstance(data, Mapping):
                    continue
                split = optional_text(data.get(SPLIT_COLUMN), "its data", SPLIT_COLUMN)
                group = optional_text(data.get(GROUP_COLUMN), "its data", GROUP_COLUMN)
            except DataError as error:
                odd.append(f"{where}: {error}")
                continue
            if split is not None and split_called(split) != "train":
                measured.append(f"{where}: {split}.")
            else:
                tasks[task["id"]] = Example(data.get(control.column), label, group)
        if measured != self._measured:
            self._tell_some("are not learned from, since their split is not train", measured)
        self._measured = measured
        if odd != self._odd:
            self._tell_some("have no certain label, split or group", odd)
        self._odd = odd
        return tasks

    def _adapted(self, tasks: Mapping[int, Example], control: Control) -> tuple[FewShotClassifier, set[int]]:
        """A new model, and the tasks whose pictures it could use."""
        sample = [replace(one, image=b"") for one in [*self._kept, *tasks.values()]]
        name, size = self._new.input_reading(table_of(sample, control.classes))
        options = ReadOptions() if self._start is None else self._start.read_options_
        reading = Reading(name, size, options)
        examples = found(self._kept, options, self._options.folder)
        pixels = [
            prepare(read_picture(one.image, options, wanted=wanted_side(name, size)).image, name, size)
            for one in examples
        ]
        used = set[int]()
        faults, held, known = list[str](), 0, dict[bytes, tuple[int, str]]()
        for task, one in tasks.items():
            self._check_ended()
            picture = self._picture(task, one.image, reading)
            if isinstance(picture, Fault):
                faults.append(f"{picture.name}: {picture.sentence}")
                continue
            other, word = known.setdefault(hashlib.sha256(picture.data).digest(), (task, one.label))
            if word != one.label:
                raise DataError(
                    f"Tasks {other} and {task} show one picture, but are labelled {word!r} and "
                    f"{one.label!r}; correct one of them."
                )
            held += len(picture.data)
            if held > self._options.limits.labelled_bytes:
                raise DataError(
                    f"The labelled pictures are over {self._options.limits.labelled_bytes // 1_000_000:,} "
                    "MB; scale them down, or adapt with `farshot adapt` to files."
                )
            used.add(task)
            examples.append(replace(one, image=picture.data))
            pixels.append(picture.pixels)
        self._tell_some("cannot be used", faults)
        if len({one.label for one in examples}) < 2:
            raise DataError(
                f"Pictures of two classes are needed, and only {len(examples)} of {len(tasks)} labelled ones "
                f"can be used{f' (the first, {faults[0]})' if faults else ''}."
            )
        table = table_of(examples, control.classes).with_options(options).with_pixels(pixels, name, size)
        made = self._new.with_method(str(self._new.method), self._new.settings)
        made.set_params(progress=lambda _done, _all: self._check_ended())
        try:
            made.fit(table)
        except DataError as error:
            if not made.calibrate:
                raise
            self._told(f"Note: probabilities are not calibrated yet, so predictions have no score. {error}")
            made.set_params(calibrate=False).fit(table)
        return made.set_params(progress=None, calibrate=self._new.calibrate), used

    def _picture(self, task: int, value: object, reading: Reading) -> Picture | Fault:
        try:
            data = self._instance.picture(value)
        except DataError as error:
            return Fault(f"task {task}", str(error))
        return read(Given(f"task {task}", data), reading, self._options.limits.pictures)

    def _loaded(self) -> FewShotClassifier | None:
        options = self._options
        if not is_saved(home(options.folder)):
            return None
        return load(options.folder, model=options.model, device=options.device)

    def _classifier(self) -> FewShotClassifier:
        """A classifier that is not fitted, with the parameters of every adaptation; its encoder is loaded."""
        options, before = self._options, self._start
        method = options.method or (METHOD if before is None else str(before.method))
        settings = options.settings if before is None or options.method else before.settings
        kind = create(method, settings).kind
        if kind == "transductive":
            raise SettingError(
                f"{method} is transductive: its predictions depend on the pictures that are asked together, "
                "which Label Studio chooses; take another --method, such as linear-probe."
            )
        if before is None:
            made = FewShotClassifier(
                options.model or MODEL,
                method,
                settings=settings,
                calibrate=kind == "features",
                device=options.device,
            )
        else:
            made = before.with_method(method, settings)
            made.set_params(class_names=None, calibrate=kind == "features")
        made.input_reading(labelled_table([b"", b""], ["a", "b"])[0])  # loads the encoder
        return made

    def _tell_some(self, what: str, sentences: list[str]) -> None:
        if sentences:
            more = f" and {len(sentences) - _MOST_TOLD} more" if len(sentences) > _MOST_TOLD else ""
            self._told(f"{len(sentences)} labelled tasks {what}: {' '.join(sentences[:_MOST_TOLD])}{more}")

    def _check_ended(self) -> None:
        if self._ended:
            raise _Ended


class _Ended(Exception):
    """The backend ends while it adapts."""


def version_name(version: Version) -> str:
    """What Label Studio calls a model."""
    return f"farshot-{version.id[:12]}"


def _tried(classifier: FewShotClassifier) -> Version:
    """The model, after it has predicted an image, so that the first request finds everything ready."""
    version = Version(classifier)
    size = version.reading.size
    version.predict([Picture("a trial", b"a trial", np.full((size, size, 3), 128, dtype=np.uint8), ())])
    return version
