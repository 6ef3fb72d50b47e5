"""Open a pool by name: a published one, a generated one such as the mini worlds, or any labelled images.

open_pool("eurosat", root=Path("data"))     data/eurosat/2750/...
open_pool("mini-crops")                     generated, no files needed
open_pool("steel=photos/steel")             a folder per class, a CSV, ...: anything that read_table reads
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from farshot import plugins
from farshot.data.listing import Finding, Listing, augmented_copies
from farshot.data.pool import GeneratedPool, Pool, pool_of
from farshot.data.published import BSCD_FSL, PUBLISHED, read_published
from farshot.data.readers import read_table
from farshot.data.table import ImageTable
from farshot.errors import DataError
from farshot.storage.paths import home

_NAME = re.compile(r"[\w.-]+")

_SHORT_NAMES = {"MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC", "AK", "SCC"}


def open_pool(
    name: str,
    *,
    root: Path | None = None,
    paths: Mapping[str, Path] | None = None,
    class_names: Mapping[str, Path] | None = None,
    images: int | None = None,
    level: int | None = None,
) -> Pool:
    """Open the pool of this name.

    Args:
        name: of a published pool or a mini world, or NAME=PATH, or a path.
        root: folder that holds the published pools in subfolders; by default $FARSHOT_DATA.
        paths: name -> folder, where a pool does not lie below root.
        class_names: name -> file with the words for prompts, for your own images; these may have the name
            of a published pool that is not one of BSCD-FSL.
        images: images per class of a mini world.
        level: depth of the class folders of your own images, as for `read_table`.

    Raises:
        DataError: no such pool, or one whose numbers would be wrong: what was found and how to fix it.
    """
    name, place = find_pool(name, root=root, paths=paths)
    words = {key.lower(): file for key, file in (class_names or {}).items()}
    own = name.lower() in words and place is not None and name not in BSCD_FSL
    if name.lower() in words and not own:
        raise DataError(f"The classes of the pool {name} have fixed names; leave out class names for it.")
    if place is None:
        return generated_pools()[name].open(images)
    if name in PUBLISHED and not own:
        return published_pool(name, read_published(name, place))
    table = read_table(place, class_names=words.get(name.lower()), level=level)
    pool = pool_of(name, table, place)
    for finding in suspicions(pool):
        if finding.fatal:
            raise DataError(f"{name}: {finding.what}. {finding.fix}")
    return pool


@cache
def generated_pools() -> dict[str, GeneratedPool]:
    """Pools that need no files, by name, of every installed package; the mini worlds are farshot's own.

    Warns:
        PluginWarning: the pools of a package cannot be imported, or one has a name that is taken.
    """
    found: dict[str, GeneratedPool] = {}
    for point in plugins.entries(plugins.POOLS):
        offered = plugins.load(point)
        if not isinstance(offered, Mapping):
            plugins.skip(
                point,
                f"The pools of the package {plugins.package(point)} are not used, because its entry point "
                f"{point.name!r} is not a mapping of names to pools.",
            )
            continue
        for name, pool in offered.items():
            if name.lower() in {*found, *PUBLISHED}:
                plugins.skip(
                    point,
                    f"The pool {name!r} of the package {plugins.package(point)} is not used, because another "
                    "pool has this name.",
                )
            else:
                found[name.lower()] = pool
    return found


def find_pool(
    spec: str, *, root: Path | None = None, paths: Mapping[str, Path] | None = None
) -> tuple[str, Path | None]:
    """Name and place of a pool; no place for a mini world.

    Raises:
        DataError: no such pool.
    """
    name, equals, path = spec.partition("=")
    lower = name.lower()
    if lower in PUBLISHED or lower in generated_pools():
        name = lower
    if equals:
        if not _NAME.fullmatch(name):
            raise DataError(f"A pool's name has letters, digits, '.', '-' and '_' only, not {name!r}.")
        return name, home(path)
    places = {key.lower(): place for key, place in (paths or {}).items()}
    if lower in places:
        return name, home(places[lower])
    if name in generated_pools():
        return name, None
    if name in PUBLISHED:
        return name, _below_root(name, root)
    if home(name).exists():
        place = home(name)
        return place.resolve().stem, place
    known = ", ".join([*PUBLISHED, *generated_pools()])
    raise DataError(f"There is no pool {name!r}; choose one of {known}, or give NAME=PATH.")


def data_root(root: Path | None = None) -> Path | None:
    """The folder of published pools: the one given, or $FARSHOT_DATA."""
    place = root or (Path(os.environ["FARSHOT_DATA"]) if os.environ.get("FARSHOT_DATA") else None)
    return home(place) if place else None


def published_pool(name: str, listing: Listing) -> Pool:
    """Make a pool of listed files; refuse files that would make numbers wrong.

    Raises:
        DataError: the first fatal finding.
    """
    for finding in listing.findings:
        if finding.fatal:
            raise DataError(f"{PUBLISHED[name].title} in {listing.root}: {finding.what}. {finding.fix}")
    codes = {label: code for code, label in enumerate(listing.classes)}
    ids = sorted(listing.files)
    table = ImageTable(
        tuple(listing.files[i][0] for i in ids),
        np.array([codes[listing.files[i][1]] for i in ids], dtype=np.int64),
        tuple(listing.classes),
        tuple(listing.classes.values()),
        tuple(listing.splits[i] for i in ids) if listing.splits else None,
        tuple(listing.groups[i] for i in ids) if listing.groups else None,
    )
    notes = tuple(finding.what for finding in listing.findings if finding.differs)
    return Pool(name, table, tuple(ids), listing.root, notes=notes)


def suspicions(pool: Pool) -> list[Finding]:
    """Look for known traps in images of any layout."""
    found = [*map(Finding, remarks(pool.table)), *augmented_copies(pool.ids)]
    short = [name for name in pool.table.names if name.upper() in _SHORT_NAMES]
    if len(short) > 1:
        found.append(
            Finding(
                f"classes are called {', '.join(short)} in prompts: worth two points less on ISIC",
                "Rename the classes in full, or use the pool's distributed layout.",
            )
        )
    several = [name for name in pool.table.classes if "|" in name]
    if several:
        found.append(
            Finding(
                f"the class {several[0]!r} joins several labels",
                "Keep images with exactly one label, as the protocol does for ChestX.",
                fatal=True,
            )
        )
    return found


def remarks(table: ImageTable, *, whole_split: bool = False) -> list[str]:
    """Notes on how a benchmark uses the folders, splits and groups of a table.

    Args:
        whole_split: tasks keep to the owner's split.
    """
    found = list(table.notes)
    if table.splits is not None and not whole_split:
        found.append(f"tasks draw from all splits ({', '.join(sorted(set(table.splits)))}) together")
    if table.groups is not None:
        found.append("no image of a group that is in the support set of a task is among its queries")
    return found


def _below_root(name: str, root: Path | None) -> Path:
    base = data_root(root)
    title = PUBLISHED[name].title
    if base is None:
        raise DataError(
            f"Where is {title}? Give --data-root, or --pool-path {name}=FOLDER, or set FARSHOT_DATA."
        )
    for candidate in (name, title, title.lower(), title.upper(), *PUBLISHED[name].places):
        if (base / candidate).exists():
            return base / candidate
    raise DataError(f"{base} has no folder {name}; put {title} there ({PUBLISHED[name].source}).")
