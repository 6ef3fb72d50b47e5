"""Pictures, classes and labels of a workspace, kept on disk.

    state.json         pictures, classes, chosen model and method
    pictures/          the picture files, by content
    thumbnails/        small copies that are shown
    adapted/           the adapted model, as FewShotClassifier saves it
    run.json           what is known of it
    predictions.json   its predictions for the unlabelled pictures

Every change is written before the call returns, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from farshot.app.workspace.classes import MOST_CLASSES, MOST_LETTERS, ClassWords, check, cleaned, one_line
from farshot.app.workspace.intake import UNFINISHED, Refused, Upload, take_in
from farshot.app.workspace.limits import Limits
from farshot.data.given import labelled_table
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.images.reading import read_image
from farshot.sanitize import plain
from farshot.storage.atomic import replaced
from farshot.storage.json_text import read_object
from farshot.storage.paths import home

T = TypeVar("T")
FORMAT = 1
_THUMBNAIL = 192  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        id: content hash.
        name: what the person calls it, cleaned.
        file: name of its file in the folder of pictures.
        label: its class; None while it has none.
    """

    id: str
    name: str
    file: str
    label: str | None = None


@dataclass(frozen=True)
class Setup:
    """What to adapt and how.

    Attributes:
        model: base model, as `load_encoder` takes it.
        method: one of `farshot methods`.
        quick: without views of the support images, where the method has them.
    """

    model: str = "mini"
    method: str = "linear-probe"
    quick: bool = False


class Workspace:
    """A person's pictures and labels.

    Args:
        folder: made where it does not exist.
        limits: of what is taken in.
        choice: of model and method, until the person chooses.

    Raises:
        DataError: the folder's state is damaged, or was written by a newer farshot.
    """

    def __init__(self, folder: Path, limits: Limits | None = None, choice: Setup | None = None) -> None:
        self.folder, self.limits = home(folder), limits or Limits()
        folder = self.folder
        self._lock = threading.RLock()  # labels change while a model is being adapted
        self._pictures: dict[str, Picture] = {}
        self._classes: tuple[ClassWords, ...] = ()
        self._choice = choice or Setup()
        for name in ("pictures", "thumbnails"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for left in (folder / "pictures").glob(f"{UNFINISHED}*"):  # by a program that was ended
            left.unlink(missing_ok=True)
        if self._state.exists():
            self._load()

    # What there is -----------------------------------------------------------------------------------

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures in the order they came."""
        with self._lock:
            return tuple(self._pictures.values())

    @property
    def classes(self) -> tuple[ClassWords, ...]:
        """The classes in the order they were named."""
        return self._classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(words.name for words in self._classes)

    @property
    def choice(self) -> Setup:
        """The chosen model and method."""
        return self._choice

    @property
    def counts(self) -> dict[str, int]:
        """Class -> number of pictures with that label."""
        found = dict.fromkeys(self.class_names, 0)
        for picture in self.pictures:
            if picture.label is not None:
                found[picture.label] += 1
        return found

    @property
    def unlabelled(self) -> tuple[Picture, ...]:
        """Pictures without a label, which a model predicts."""
        return tuple(picture for picture in self.pictures if picture.label is None)

    @property
    def adapted(self) -> Path:
        """Folder of the adapted model."""
        return self.folder / "adapted"

    def picture(self, id: str) -> Picture:
        """The picture of this id.

        Raises:
            DataError: there is none.
        """
        with self._lock:
            if id not in self._pictures:
                raise DataError("This picture is not here any more; load the page again.")
            return self._pictures[id]

    def path(self, picture: Picture) -> Path:
        """Its file."""
        return self.folder / "pictures" / picture.file

    def thumbnail(self, id: str) -> Path:
        """A small JPEG of a picture, made when it is first asked for."""
        picture = self.picture(id)
        place = self.folder / "thumbnails" / f"{picture.id}.jpg"
        if not place.exists():
            small = read_image(self.path(picture))
            small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
            with replaced(place) as staging:
                small.save(staging, "JPEG", quality=85)
        return place

    def support(self) -> ImageTable:
        """The labelled pictures as a table; its classes are those with a picture.

        Raises:
            DataError: there are not two classes with a picture each.
        """
        labelled = [picture for picture in self.pictures if picture.label is not None]
        if len({picture.label for picture in labelled}) < 2:
            raise DataError("Give pictures to at least two classes first: a model learns to tell them apart.")
        table, _ = labelled_table([self.path(p) for p in labelled], [str(p.label) for p in labelled])
        # a picture's id is its content hash: what is known is not computed again
        return replace(table, _ids={row: picture.id for row, picture in enumerate(labelled)})

    def table(self, pictures: Sequence[Picture]) -> ImageTable:
        """Pictures without labels as a table."""
        ids = {row: picture.id for row, picture in enumerate(pictures)}
        return ImageTable(tuple(self.path(picture) for picture in pictures), None, (), (), _ids=ids)

    def descriptions(self) -> dict[str, str]:
        """Class -> words in place of its name, for those that have some."""
        return {words.name: words.description for words in self._classes if words.description}

    def stamp(self) -> str:
        """Hash of all that an adapted model depends on: another stamp means that adapting again would change
        it."""
        with self._lock:
            labels = sorted((p.id, p.label) for p in self.pictures if p.label is not None)
            words = json.dumps([labels, self.descriptions(), asdict(self._choice)], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:16]

    # Changes -----------------------------------------------------------------------------------------

    def take(
        self, uploads: Sequence[Upload], label: str | None = None
    ) -> tuple[list[Picture], list[Refused]]:
        """Takes pictures in.

        Args:
            label: class of all of them; by default the folder that a picture came in is its class.

        Returns:
            The new pictures, and what was not taken with the reason.
        """
        with self._lock:
            if label is not None:
                self._known(label)
            taken, refused = take_in(uploads, self.folder / "pictures", self.limits, self._pictures.keys())
            new = []
            for one in taken:
                picture = Picture(one.id, one.name, one.path.name, label or self._class_of(one.folder))
                self._pictures[one.id] = picture
                new.append(picture)
            self._save()
            return new, refused

    def name_classes(self, wanted: Sequence[ClassWords]) -> None:
        """Set the classes and their order; other capitals or another description are the same class.

        A class that has pictures stays: which new name would be its own cannot be known from a list.
        `rename_class` says so.

        Raises:
            DataError: an empty, overlong or repeated name; too many classes; a class with pictures is
                missing. Nothing is changed.
        """
        classes = tuple(cleaned(words) for words in wanted)
        check(classes)
        with self._lock:
            spelled = {words.name.casefold(): words.name for words in classes}
            for name, count in self.counts.items():
                if count and name.casefold() not in spelled:
                    pictures = f"{count} picture{'s' if count > 1 else ''}"
                    raise DataError(
                        f"{name!r} is missing from the list and has {pictures}. Give it another name with "
                        "Rename, or its pictures another class first; nothing was changed."
                    )
            self._relabel(lambda name: spelled[name.casefold()])
            self._classes = classes
            self._save()

    def rename_class(self, old: str, new: str) -> None:
        """Give a class another name; its pictures, its place and its description go along.

        Raises:
            DataError: no such class, or a name that is empty, overlong or another class's.
        """
        with self._lock:
            self._known(old)
            classes = tuple(
                cleaned(replace(words, name=new)) if words.name == old else words for words in self._classes
            )
            check(classes)
            name = classes[self.class_names.index(old)].name
            self._relabel(lambda label: name if label == old else label)
            self._classes = classes
            self._save()

    def _relabel(self, new: Callable[[str], str]) -> None:
        """Change the names of all labels."""
        for id, picture in self._pictures.items():
            if picture.label is not None:
                self._pictures[id] = replace(picture, label=new(picture.label))

    def label(self, ids: Iterable[str], name: str | None) -> None:
        """Gives pictures a class; None takes it away.

        Raises:
            DataError: no such class, or no such picture.
        """
        with self._lock:
            if name is not None:
                self._known(name)
            chosen = [self.picture(id) for id in ids]
            for picture in chosen:
                self._pictures[picture.id] = replace(picture, label=name)
            self._save()

    def remove(self, ids: Iterable[str]) -> None:
        """Delete pictures and their files."""
        with self._lock:
            chosen = [self.picture(id) for id in ids]
            for picture in chosen:
                del self._pictures[picture.id]
            self._save()
            for picture in chosen:
                self.path(picture).unlink(missing_ok=True)
                (self.folder / "thumbnails" / f"{picture.id}.jpg").unlink(missing_ok=True)

    def choose(self, choice: Setup) -> None:
        """Set model and method."""
        with self._lock:
            self._choice = choice
            self._save()

    def _known(self, name: str) -> None:
        if name not in self.class_names:
            raise DataError(f"There is no class {name!r}; name it first.")

    def _class_of(self, folder: str | None) -> str | None:
        """The class that a folder's name proposes, made where it is new and there is room for it."""
        name = plain(one_line((folder or "").replace("_", " ")), MOST_LETTERS["name"])
        if not name:
            return None
        known = {words.name.casefold(): words.name for words in self._classes}
        if name.casefold() in known:
            return known[name.casefold()]
        if len(self._classes) == MOST_CLASSES:
            return None
        self._classes = (*self._classes, ClassWords(name))
        return name

    # On disk -----------------------------------------------------------------------------------------

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def _save(self) -> None:
        write_json(
            self._state,
            {
                "format": FORMAT,
                "pictures": [asdict(picture) for picture in self._pictures.values()],
                "classes": [asdict(words) for words in self._classes],
                "choice": asdict(self._choice),
            },
        )

    def _load(self) -> None:
        found = read_json(self._state)
        try:
            if found.get("format", 0) > FORMAT:
                raise DataError(f"{self.folder} was written by a newer farshot; update farshot to read it.")
            self._classes = tuple(_of_texts(ClassWords, words) for words in found["classes"])
            self._choice = Setup(**found["choice"])
            pictures = [_of_texts(Picture, picture) for picture in found["pictures"]]
            unknown = {p.label for p in pictures} - {None, *self.class_names}
            if unknown:
                raise TypeError(f"no class is called {min(map(str, unknown))!r}")
            if not isinstance(self._choice.model, str) or not isinstance(self._choice.method, str):
                raise TypeError("model and method are no names")
        except (KeyError, TypeError) as error:
            raise DataError(f"{self._state} is damaged ({error}); remove {self.folder}.") from error
        # a file that somebody took away is no picture any more
        self._pictures = {picture.id: picture for picture in pictures if self.path(picture).is_file()}


def _of_texts(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass whose fields are text or, by default, None; TypeError where a value is neither."""
    found = kind(**values)
    for name, value in vars(found).items():
        if not isinstance(value, str) and (value is not None or name != "label"):
            raise TypeError(f"{str(value)[:40]!r} is no {name}")
    return found


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    try:
        with replaced(path) as staging:
            staging.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); free some space.") from error


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        DataError: it is no such file.
    """
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); remove {path.parent}.") from error
