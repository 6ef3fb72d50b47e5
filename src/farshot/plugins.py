"""Packages that extend farshot through entry points: methods, pools and checkpoints.

A package that cannot be imported causes one warning; the rest of farshot works without it. The entry points
of farshot itself come first, so that no other package can replace what they name.
"""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

METHODS = "farshot.methods"
"""Each entry point names a module that registers methods."""

POOLS = "farshot.pools"
"""Each entry point names a mapping from pool names to GeneratedPool."""

ENCODERS = "farshot.encoders"
"""Each entry point has the name of a checkpoint and names a function that returns its folder."""


@runtime_checkable
class Point(Protocol):
    """An entry point. Where importlib_metadata is imported, its class takes the place of Python's."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def module(self) -> str: ...

    @property
    def dist(self) -> Any: ...

    def load(self) -> Any:
        """What it names."""
        ...


BROKEN: dict[Point, str] = {}
"""Entry points that are not used, and why; each is tried once."""


class PluginWarning(UserWarning):
    """Something that another package offers cannot be used."""


def entries(group: str) -> list[Point]:
    """The entry points of a group, farshot's own first, then by package and name."""
    return sorted(
        entry_points(group=group), key=lambda point: (package(point) != "farshot", package(point), point.name)
    )


def package(point: Point) -> str:
    """The name of the package that an entry point belongs to."""
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]


def load(point: Point) -> Any:
    """The object that an entry point names, or None with one warning if it cannot be imported.

    Warns:
        PluginWarning: names the package and the error.
    """
    if point in BROKEN:
        return None
    try:
        return point.load()
    except Exception as error:  # a foreign module may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        kind = point.group.removeprefix("farshot.").removesuffix("s")
        skip(
            point,
            f"The {kind} {point.name!r} of the package {package(point)} cannot be used ({reason}); update or "
            "uninstall the package.",
        )
        return None


def skip(point: Point, sentence: str) -> None:
    """Record why an entry point is not used, and warn once."""
    if point not in BROKEN:
        BROKEN[point] = sentence
        warnings.warn(sentence, PluginWarning, stacklevel=3)


def why_broken(group: str, name: str) -> str | None:
    """Why an entry point of this name cannot be used; None if nothing is wrong with it."""
    found = (why for point, why in BROKEN.items() if (point.group, point.name) == (group, name))
    return next(found, None)
