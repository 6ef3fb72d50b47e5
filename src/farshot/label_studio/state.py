"""What the ML backend remembers between runs: its project, and the labels that the model was adapted to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from farshot.errors import DataError
from farshot.storage.atomic import check_file, reason, whole_file
from farshot.storage.json_text import read_object
from farshot.storage.paths import home

FORMAT = 1
_WAY = "name another folder"


@dataclass(frozen=True)
class State:
    """What is remembered.

    Attributes:
        project: number of the project; None before one has connected.
        labels: task -> its label, of the tasks that the model was adapted to.
        pictures: identities of their pictures (farshot.images.identity).
    """

    project: int | None = None
    labels: dict[int, str] = field(default_factory=dict)
    pictures: frozenset[str] = frozenset()

    def changed(self, now: dict[int, str]) -> set[int]:
        """The tasks whose label is new, another or gone."""
        return {task for task in {*self.labels, *now} if self.labels.get(task) != now.get(task)}


def state_file(folder: Path) -> Path:
    """Where the state of a model's folder is: next to it, since the folder holds an adapted model alone."""
    place = home(folder).absolute()
    return place.with_name(f"{place.name}.label-studio.json")


def read_state(folder: Path, unnamed: frozenset[str] = frozenset()) -> State:
    """Read the state of a model's folder; that of a new one where there is none.

    Args:
        unnamed: identities of the model's pictures that are no files. They count as those of tasks where an
            earlier version, which kept no identities, adapted the model.

    Raises:
        DataError: the file is damaged.
    """
    file = state_file(folder)
    if not file.is_file():
        return State()
    try:
        found = read_object(file)
        if found.get("format") != FORMAT:
            raise ValueError(f"it has the format {found.get('format')!r:.20}")
        project, labels = found.get("project"), found.get("labels")
        if not (project is None or type(project) is int) or not isinstance(labels, dict):
            raise ValueError("it has no project or no labels")
        if not all(isinstance(label, str) for label in labels.values()):
            raise ValueError("a label is no word")
        pictures = found.get("pictures", sorted(unnamed) if labels else [])
        if not isinstance(pictures, list) or not all(isinstance(one, str) for one in pictures):
            raise ValueError("its pictures are no list of words")
        return State(project, {int(task): label for task, label in labels.items()}, frozenset(pictures))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} is damaged ({reason(error)}); put back a copy, or {_WAY}, for which all labels are new."
        ) from error


def write_state(folder: Path, state: State) -> None:
    """Write the state, completely or not at all.

    Raises:
        DataError: the place is taken by something else or cannot be written.
    """
    with whole_file(state_file(folder), check_state, _WAY) as new:
        content = {"format": FORMAT, **asdict(state), "pictures": sorted(state.pictures)}
        new.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_state(file: Path) -> None:
    """Refuse a place that is taken by anything but a state."""
    check_file(file, "a list of labels of `farshot label-studio`", _is_ours, _WAY)


def _is_ours(file: Path) -> bool:
    try:
        return {"format", "project", "labels"} <= read_object(file).keys()
    except ValueError:
        return False
