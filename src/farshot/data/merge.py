"""Several labelled tables as one: a person who labels in rounds has a folder of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from farshot.data.names import ClassNames, in_class_order, names_in_prompts
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.sanitize import short


def merged(tables: Sequence[ImageTable], names: Sequence[str], class_names: ClassNames = None) -> ImageTable:
    """All images of several tables, with the classes of all.

    An image without a group, in a table without groups, is a group by itself where another table has groups.

    Args:
        names: what to call each table in an error.
        class_names: what prompts call the classes; by default as in the tables.

    Raises:
        DataError: some have splits and others none; or two tables call a class differently in prompts.
    """
    if len(tables) == 1 and class_names is None:
        return tables[0]
    with_splits = [table.splits is not None for table in tables]
    if any(with_splits) and not all(with_splits):
        raise DataError(
            f"{names[with_splits.index(True)]} has splits and {names[with_splits.index(False)]} has none; "
            "give all of them splits, or none."
        )
    classes = in_class_order({name for table in tables for name in table.classes})
    called: dict[str, str] = {}
    for table, where in zip(tables, names, strict=True):
        for label, name in zip(table.classes, table.names, strict=True):
            if called.setdefault(label, name) != name and class_names is None:
                raise DataError(
                    f"{where} calls the class {short(label)} {short(name)} in prompts and another table "
                    f"{short(called[label])}; give --class-names."
                )
    labels = []
    groups: list[str] = []
    taken = {group for table in tables for group in table.groups or ()}
    unused = (name for number in count() if (name := f"alone {number}") not in taken)
    for table in tables:
        assert table.labels is not None
        code = np.array([classes.index(name) for name in table.classes], dtype=np.int64)
        labels.append(code[table.labels])
        groups += table.groups or [next(unused) for _ in range(len(table))]
    first = tables[0]
    return replace(
        first,
        images=tuple(image for table in tables for image in table.images),
        labels=np.concatenate(labels),
        classes=tuple(classes),
        names=names_in_prompts(
            {label: called[label] for label in classes} if class_names is None else class_names,
            classes,
            names[0],
        ),
        splits=tuple(s for table in tables for s in table.splits or ()) if all(with_splits) else None,
        groups=tuple(groups) if any(table.groups is not None for table in tables) else None,
        notes=tuple(dict.fromkeys(note for table in tables for note in table.notes)),
        _ids={},
        _contents={},
    )
