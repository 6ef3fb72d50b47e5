"""What `farshot adapt --from` keeps of an adapted model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farshot.errors import DataError, SettingError
from farshot.storage.paths import quoted

if TYPE_CHECKING:
    from farshot.data.table import ImageTable
    from farshot.images.options import ReadOptions

_KEPT = (
    *("method", "settings", "template", "class_names", "descriptions", "shots"),
    *("value_range", "bands", "page", "precision", "seed"),
)
"""Options of `adapt` that say what the earlier model says already."""

_FLAGS = {"settings": "--set", "value_range": "--range"}


@dataclass(frozen=True)
class Continued:
    """An adapted model's images and parameters.

    Attributes:
        table: the images that it was adapted to.
        calibrate: whether it was cross-validated.
        size: side of an image in pixels.
        options: how they are read.
    """

    table: ImageTable
    model: str
    method: str
    settings: Mapping[str, Any]
    template: str
    descriptions: Mapping[str, str]
    precision: str
    seed: int
    calibrate: bool
    size: int | None
    options: ReadOptions

    def names_of(self, table: ImageTable) -> tuple[str, ...]:
        """What prompts call the classes of another table: as before where they were known."""
        known = dict(zip(self.table.classes, self.table.names, strict=True))
        return tuple(
            known.get(label, name.replace("_", " "))
            for label, name in zip(table.classes, table.names, strict=True)
        )


def refuse_kept(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse options that --from keeps.

    Args:
        given: value of every option by name.
        defaults: what each is where it is not given.

    Raises:
        SettingError: names the option.
    """
    for name in _KEPT:
        if given[name] != defaults[name]:
            flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
            raise SettingError(
                f"--from keeps what the earlier model was adapted with: leave out {flag}, or leave out "
                "--from and list all images."
            )


def earlier(folder: Path) -> Continued:
    """Read an adapted model and find its images.

    Raises:
        DataError: images that were not files, or that have gone or changed.
    """
    from farshot.data.lookup import source_at
    from farshot.data.table import ImageTable
    from farshot.methods.registry import current_settings
    from farshot.storage.model_folder import read_folder, read_places, saved_options

    about, _ = read_folder(folder)
    places = read_places(folder)
    options = saved_options(folder, about)
    if not places or any(one["path"] is None for one in places):
        raise DataError(
            f"{folder} does not know where its images lie: they were not files, or it was saved by an "
            "earlier version; adapt again with all images."
        )
    classes = tuple(map(str, about["classes"]))
    groups = tuple(str(one["group"]) for one in places)
    table = ImageTable(
        tuple(source_at(one["path"]) or Path(one["path"]) for one in places),
        np.array([classes.index(one["label"]) for one in places], dtype=np.int64),
        classes,
        tuple(about["class_names"]),
        groups=groups if all(one["group"] is not None for one in places) else None,
    ).with_options(options)
    for row, identity in enumerate(about["support_ids"]):
        path = places[row]["path"]
        if source_at(path) is None or table.content(row) != identity:
            raise DataError(
                f"{folder} was adapted to {path}, which is no longer there or has changed; put it back, or "
                f"adapt again with all images: farshot adapt FOLDER ... --out {quoted(folder)}."
            )
    return Continued(
        table=table,
        model=about["base_model"],
        method=about["method"],
        settings=current_settings(about["method"], about["settings"]),
        template=about["template"],
        descriptions=about["descriptions"],
        precision=about["precision"],
        seed=int(about["seed"]),
        calibrate=about.get("calibrate") is True,
        size=about.get("preprocessing", {}).get("size"),
        options=options,
    )
