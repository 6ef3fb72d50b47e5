"""Pictures, classes and what is chosen, as values that are written and read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from farshot.app.workspace.classes import ClassWords

T = TypeVar("T")
WANTED_RIGHT = 0.8
"""Share of the given answers that should be right. Four of five: few labelled pictures can show no more."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        id: content hash.
        name: what the person calls it, cleaned.
        file: name of its file in the folder of pictures.
        label: its class; None while it has none.
        folder: the folders that it came in, joined with "/"; empty for none.
        group: what it was taken of (a patient, a plant), as a table of labels said; None where none did.
    """

    id: str
    name: str
    file: str
    label: str | None = None
    folder: str = ""
    group: str | None = None


@dataclass(frozen=True)
class Setup:
    """What to adapt and how.

    Attributes:
        model: base model, as `load_encoder` takes it.
        method: one of `farshot methods`.
        quick: without views of the support images, where the method has them.
        wanted: share of the answers that should be right; below the probability that this takes, the model is
            not sure. It changes nothing else.
    """

    model: str = "mini"
    method: str = "linear-probe"
    quick: bool = False
    wanted: float = WANTED_RIGHT


@dataclass(frozen=True)
class State:
    """All that a person decides; every change makes another.

    Attributes:
        pictures: by id, in the order they came.
        classes: in the order they were named.
        choice: of model and method.
        groups: regular expression that finds a picture's group in its folder and name; empty for none.
        renamed: every renaming of classes so far, old name -> new name: a model keeps the names that it was
            trained with.
    """

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    classes: tuple[ClassWords, ...] = ()
    choice: Setup = field(default_factory=Setup)
    groups: str = ""
    renamed: tuple[Mapping[str, str], ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes."""
        return tuple(words.name for words in self.classes)

    def names_now(self, names: Iterable[str], known: int) -> tuple[str, ...]:
        """What classes are called now.

        Args:
            names: after the first `known` renamings.
        """
        for step in self.renamed[known:]:
            names = [step.get(name, name) for name in names]
        return tuple(names)

    def changed(
        self,
        pictures: Mapping[str, Picture | None],
        classes: tuple[ClassWords, ...] | None = None,
        choice: Setup | None = None,
        groups: str | None = None,
        renamed: Mapping[str, str] | None = None,
    ) -> State:
        """Another state.

        Args:
            pictures: those that are new or changed; None for those that are removed.
            classes, choice, groups: None where they stay.
            renamed: old name -> new name, of classes that get another.
        """
        after = dict(self.pictures)
        _apply(after, pictures)
        return State(
            after,
            self.classes if classes is None else classes,
            self.choice if choice is None else choice,
            self.groups if groups is None else groups,
            (*self.renamed, renamed) if renamed else self.renamed,
        )

    def written(self) -> dict[str, Any]:
        """Whole, as JSON."""
        return {
            "pictures": [asdict(picture) for picture in self.pictures.values()],
            "classes": [asdict(words) for words in self.classes],
            "choice": asdict(self.choice),
            "groups": self.groups,
            "renamed": [dict(names) for names in self.renamed],
        }

    def difference(self, before: State, ids: Iterable[str]) -> dict[str, Any]:
        """What has changed, as JSON.

        Args:
            ids: of the pictures that may have.
        """
        now = {id: self.pictures.get(id) for id in ids}
        change: dict[str, Any] = {"pictures": {id: one and asdict(one) for id, one in now.items()}}
        if self.classes != before.classes:
            change["classes"] = [asdict(words) for words in self.classes]
        if self.choice != before.choice:
            change["choice"] = asdict(self.choice)
        if self.groups != before.groups:
            change["groups"] = self.groups
        if self.renamed != before.renamed:
            change["renamed"] = [dict(names) for names in self.renamed]
        return change

    @staticmethod
    def read(whole: Mapping[str, Any], changes: Iterable[Mapping[str, Any]]) -> State:
        """From what `written` and then `difference` gave; KeyError, TypeError or AttributeError where they
        did not."""
        pictures = {one["id"]: _of_texts(Picture, one) for one in whole["pictures"]}
        earlier = {"groups": "", "renamed": []}  # versions that did not have them
        latest = {name: whole[name] for name in ("classes", "choice")} | {
            name: whole.get(name, nothing) for name, nothing in earlier.items()
        }
        for change in changes:
            told = {id: one and _of_texts(Picture, one) for id, one in change["pictures"].items()}
            _apply(pictures, told)
            latest |= {name: change[name] for name in latest if name in change}
        state = State(
            pictures,
            tuple(_of_texts(ClassWords, words) for words in latest["classes"]),
            Setup(**latest["choice"]),
            latest["groups"],
            tuple(latest["renamed"]),
        )
        unknown = {p.label for p in pictures.values()} - {None, *state.class_names}
        if unknown:
            raise TypeError(f"no class is called {min(map(str, unknown))!r}")
        if not isinstance(state.choice.model, str) or not isinstance(state.choice.method, str):
            raise TypeError("model and method are no names")
        if not isinstance(state.choice.wanted, float) or not 0 < state.choice.wanted < 1:
            raise TypeError("the wanted share is none")
        if not isinstance(state.groups, str):
            raise TypeError("the pattern of groups is no text")
        if not all(isinstance(name, str) for step in state.renamed for pair in step.items() for name in pair):
            raise TypeError("a class was renamed to what is no text")
        return state

    def ordered(self, order: Iterable[str]) -> State:
        """With these pictures first, in this order, and the others after them."""
        first = {id: self.pictures[id] for id in order if id in self.pictures}
        return replace(self, pictures={**first, **self.pictures})


def _apply(pictures: dict[str, Picture], changes: Mapping[str, Picture | None]) -> None:
    """Change pictures in place; None removes one."""
    for id, picture in changes.items():
        if picture is None:
            pictures.pop(id, None)
        else:
            pictures[id] = picture


def _of_texts(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass whose fields are text or, by default, None; TypeError where a value is neither."""
    found = kind(**values)
    for name, value in vars(found).items():
        if not isinstance(value, str) and (value is not None or name not in ("label", "group")):
            raise TypeError(f"{str(value)[:40]!r} is no {name}")
    return found
