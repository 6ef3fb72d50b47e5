"""Check a pool before it is used: layout, counts, classes, known traps, and every image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from farshot.data.listing import Finding
from farshot.data.pool import Pool, pool_of
from farshot.data.pools import published_pool, suspicions
from farshot.data.published import PUBLISHED, read_published
from farshot.data.readers import read_table
from farshot.errors import DataError
from farshot.images.reading import UnreadableImage
from farshot.storage.paths import quoted

_THREADS = 4
_LARGE = 512  # pixels; beyond it, decoding an image costs more than a small model's pass over it
_MOST_LISTED = 5


def check_pool(
    name: str,
    path: Path,
    *,
    quick: bool = False,
    level: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Pool | None, list[Finding]]:
    """Return the pool, or None if it must be refused, and the findings.

    Args:
        name: of a published pool, or any name for your own images.
        quick: do not decode every image.
        level: depth of the class folders of your own images, as for `read_table`.
    """
    findings: list[Finding] = []
    pool = None
    try:
        if name in PUBLISHED:
            listing = read_published(name, path)
            findings += listing.findings
            if not any(finding.fatal for finding in findings):
                pool = published_pool(name, listing)
        else:
            pool = pool_of(name, read_table(path, level=level), path)
            findings += suspicions(pool)
    except DataError as error:
        return None, [*findings, Finding(str(error), fatal=True)]
    if pool is not None:
        findings += _large_images(pool)
        if not quick:
            findings += _every_image(pool, progress)
        if min(pool.sizes) < 20:
            small = pool.table.classes[pool.sizes.index(min(pool.sizes))]
            findings.append(
                Finding(
                    f"the class {small} has {min(pool.sizes)} images; 5 shots and 15 queries need 20",
                    f"Use --shots and --queries that add up to at most {min(pool.sizes)}.",
                )
            )
    return (None if any(finding.fatal for finding in findings) else pool), findings


def _large_images(pool: Pool) -> list[Finding]:
    first = pool.table.images[0]
    if not isinstance(first, str | Path):
        return []
    try:
        with Image.open(first) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return []  # reading every image will say so
    if min(width, height) <= _LARGE:
        return []
    prepared = f"{pool.name}={pool.root}" if pool.root else pool.name
    return [
        Finding(
            f"images are {width}x{height} pixels, slow to decode in every task",
            f"Run `farshot data prepare {quoted(prepared)}` once; the benchmark then reads small ones.",
        )
    ]


def _every_image(pool: Pool, progress: Callable[[int, int], None] | None) -> list[Finding]:
    """Find images that cannot be read, and copies: one picture in several files, of one class or of two."""
    table, count = pool.table, len(pool.table)
    unreadable: list[str] = []
    alike: dict[str, list[int]] = defaultdict(list)
    assert table.labels is not None

    def look(row: int) -> tuple[int, str | None, str | None]:
        try:
            return row, table.content(row), None
        except UnreadableImage as error:
            return row, None, str(error)

    with ThreadPoolExecutor(_THREADS) as threads:
        for done, (row, content, fault) in enumerate(threads.map(look, range(count)), start=1):
            if fault is not None:
                unreadable.append(fault)
            if content is not None:
                alike[content].append(row)
            if progress:
                progress(done, count)
    found = []
    if unreadable:
        more = f" and {len(unreadable) - _MOST_LISTED} more" if len(unreadable) > _MOST_LISTED else ""
        found.append(
            Finding(
                f"{len(unreadable)} of {count} images cannot be read: "
                f"{' '.join(unreadable[:_MOST_LISTED])}{more}",
                "Fetch these files again.",
                fatal=True,
            )
        )
    copies = [rows for rows in alike.values() if len(rows) > 1]
    torn = [rows for rows in copies if len(set(table.labels[rows].tolist())) > 1]
    copied = [rows for rows in copies if len(set(table.labels[rows].tolist())) == 1]
    if torn:
        found.append(
            Finding(
                f"{len(torn)} pictures are in several classes: {_listed(pool, torn, labels=True)}",
                "Keep each picture under one class, or leave it out.",
                differs=not pool.near,
                contradicts=pool.near,
            )
        )
    if copied:
        found.append(
            Finding(
                f"{len(copied)} pictures occur more than once in their class: {_listed(pool, copied)}",
                "Remove the copies; no task holds two of them, and no copy is measured on.",
                copies=True,
            )
        )
    if pool.near:
        found += _near_copies(pool)
    return found


def _near_copies(pool: Pool) -> list[Finding]:
    """Pictures that occur again in another size, compression, brightness or orientation."""
    contents = pool.table.contents()
    sets: dict[int, list[int]] = defaultdict(list)
    for row, number in pool.copies.items():
        sets[number].append(row)
    near = [rows for rows in sets.values() if len({contents[row] for row in rows}) > 1]
    if not near:
        return []
    return [
        Finding(
            f"{len(near)} pictures occur again in another size, compression, brightness or orientation: "
            f"{_listed(pool, near, labels=True)}",
            "Remove the copies; no task holds two of them.",
            copies=True,
        )
    ]


def _listed(pool: Pool, copies: Sequence[Sequence[int]], *, labels: bool = False) -> str:
    """The names of the first pictures' files, with their classes if requested."""
    codes = pool.table.labels
    assert codes is not None

    def name(row: int) -> str:
        return f"{pool.ids[row]} ({pool.table.classes[codes[row]]})" if labels else pool.ids[row]

    shown = "; ".join(" = ".join(map(name, sorted(rows))) for rows in copies[:_MOST_LISTED])
    return shown + (f"; and {len(copies) - _MOST_LISTED} more" if len(copies) > _MOST_LISTED else "")
