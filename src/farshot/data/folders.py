"""Find the class folders of a folder, possibly within a folder per split.

The first that applies:

1. `{train,val,test}/<class>/`: the upper folders are splits. `<class>/{train,val,test}/`: the lower ones.
2. A class folder with pictures directly in it shows that the upper folders are the classes; pictures in its
   subfolders belong to it.
3. Pictures lie in subfolders only, and each class has one subfolder, or classes have subfolders of the same
   name (a camera, a date): the upper folders are the classes.
4. Otherwise either level may hold the classes, and the caller must choose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from farshot.data.files import files_in, image_files, subfolders
from farshot.data.found import Found, split_called
from farshot.data.names import in_class_order, nfc
from farshot.errors import DataError
from farshot.images.member import Member

_MOST_NAMED = 5


def from_folder(folder: Path, level: int | None = None) -> Found:
    """The pictures of a folder with a subfolder per class.

    Args:
        level: how many folders deep the class folders lie, from 1, not counting folders of splits; None
            decides as described above.

    Raises:
        DataError: no classes, a class without a picture, or folders that can be understood in two ways.
    """
    tops = subfolders(folder)
    if not tops:
        raise DataError(
            f"{folder} has no subfolders; put the images of each class in a subfolder of its name."
        )
    files: list[Path] = []
    for top in tops:
        inside = image_files(top)
        if not inside:
            raise DataError(f"The class folder {top} holds no image; add some or remove the folder.")
        files += inside
    found = from_places(folder, files, [path.relative_to(folder).parent.parts for path in files], level)
    return replace(found, notes=(*found.notes, *without_class(folder, len(files_in(folder)))))


def without_class(folder: Path, count: int) -> tuple[str, ...]:
    """A note on so many pictures directly in a folder of class folders, or in an archive of them."""
    if not count:
        return ()
    many = "1 picture" if count == 1 else f"{count} pictures"
    verbs = "has no class and is" if count == 1 else "have no class and are"
    return (f"{many} directly in {folder} {verbs} left out",)


def from_places(
    folder: Path, files: Sequence[Path | Member], places: Sequence[tuple[str, ...]], level: int | None = None
) -> Found:
    """The pictures of a folder or an archive, by the folders that each lies in.

    Args:
        places: the folders of each file within this one, at least one.
        level: as for `from_folder`.

    Raises:
        DataError: folders that can be understood in two ways.
    """
    splits, places = _take_splits(folder, places)
    labels, notes = _labels(folder, places, level)
    order = in_class_order(set(labels))
    rank = {name: number for number, name in enumerate(order)}
    rows = sorted(range(len(files)), key=lambda row: (rank[labels[row]], _sort_key(files[row])))
    alike = [name for name, count in Counter(map(nfc, order)).items() if count > 1]
    if alike:
        raise DataError(
            f"{folder} has two classes of one name, {alike[0]!r}, written in two Unicode forms; merge the "
            "folders."
        )
    return Found(
        [files[row] for row in rows],
        [nfc(labels[row]) for row in rows],
        list(map(nfc, order)),
        None if splits is None else [splits[row] for row in rows],
        notes=notes,
    )


def _sort_key(file: Path | Member) -> str:
    return file.as_posix() if isinstance(file, Path) else file.name


def _take_splits(
    folder: Path, places: Sequence[tuple[str, ...]]
) -> tuple[list[str] | None, list[tuple[str, ...]]]:
    """The split of each picture, and its path without the split's folder."""
    tops = {place[0] for place in places}
    named = {top for top in tops if split_called(top)}
    several = len({split_called(top) for top in named}) > 1
    within = [place for place in places if place[0] in named]
    deep = bool(within) and all(len(place) > 1 for place in within)
    if several and not deep and named == tops:
        loose = next(place[0] for place in within if len(place) == 1)
        raise DataError(
            f"{folder} holds the splits {', '.join(sorted(named))}, but pictures lie directly in "
            f"{folder / loose}; put those of each class in a subfolder of its name, or name the folder of "
            "a class otherwise."
        )
    if several and deep and named != tops:
        other = min(tops - named)
        raise DataError(
            f"{folder} holds the splits {', '.join(sorted(named))} and also the folder {other!r}, which is "
            "none; move it elsewhere."
        )
    if deep and named == tops:
        return [str(split_called(place[0])) for place in places], [place[1:] for place in places]
    if all(len(place) > 1 and split_called(place[1]) for place in places):
        below = [(place[0], *place[2:]) for place in places]
        return [str(split_called(place[1])) for place in places], below
    lower = [split_called(place[1]) if len(place) > 1 else None for place in places]
    if len(set(lower) - {None}) > 1:
        other = "/".join(places[lower.index(None)])
        raise DataError(
            f"{folder} holds the splits {' and '.join(sorted(set(filter(None, lower))))} within folders of "
            f"classes, but pictures lie in {folder / other}, which is none; move them into one."
        )
    return None, list(places)


def _labels(
    folder: Path, places: Sequence[tuple[str, ...]], level: int | None
) -> tuple[list[str], tuple[str, ...]]:
    """The class folder of each picture, and a note where others would be possible."""
    if level is not None:
        if level < 1:
            raise DataError(f"level counts from 1, the folders directly in {folder}; it cannot be {level}.")
        shallow = next((place for place in places if len(place) < level), None)
        if shallow is not None:
            raise DataError(
                f"{folder} has pictures in {'/'.join(shallow)}, which is not {level} folders deep; move "
                f"them, or choose a level of at most {len(shallow)}."
            )
        return [place[level - 1] for place in places], ()
    upper = [place[0] for place in places]
    nested = sorted({place[:2] for place in places if len(place) > 1})
    if not nested:
        return upper, ()
    below = defaultdict(set)
    for top, name in nested:
        below[top].add(name)
    names = [name for _, name in nested]
    all_deep = all(len(place) > 1 for place in places)
    one_each = all(len(found) == 1 for found in below.values())
    if all_deep and not one_each and len(set(names)) == len(names):
        raise DataError(
            f"{folder} has two levels of folders, and either may be the classes: {_some(sorted(set(upper)))} "
            f"(level 1) or {_some(in_class_order(names))} (level 2); choose one with level (--level), or "
            "list the pictures and their labels in a CSV."
        )
    return upper, (
        f"the classes are the folders directly in {folder} ({_some(in_class_order(set(upper)))}); pictures "
        f"in folders within them, such as {'/'.join(nested[0])}, belong to these",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
