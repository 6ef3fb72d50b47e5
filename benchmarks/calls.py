"""System calls that change the disk, as strace prints them (benchmarks/killed.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

CHANGING = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "truncate"),
    *("ftruncate", "fallocate", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "copy_file_range"),
    *("sendfile", "utimensat"),
)
"""System calls that may change the disk."""

_RANDOM = re.compile(r"(?<=\.farshot-)[0-9a-f]{8}|(?<=/\.tmp)[A-Za-z0-9]{6}$")  # ours, safetensors'


@dataclass(frozen=True)
class Call:
    """A system call that changes a watched place.

    Attributes:
        name: of the call.
        number: how many of this name its thread made, this one included.
        text: its arguments.
    """

    name: str
    number: int
    text: str

    @property
    def places(self) -> list[str]:
        """What it changes, without the random part of a temporary name."""
        return [
            _RANDOM.sub("", place) for place in re.findall(r'["<](/[^">]*)', self.text.rpartition(" = ")[0])
        ]

    def like(self, other: Call) -> bool:
        """Whether both change the same place, apart from the random part of a temporary name."""
        return self.name == other.name and self.places == other.places

    @property
    def kind(self) -> str:
        """The same for calls on places whose names differ in numbers only, such as the images of a folder."""
        return re.sub(r"[0-9]+", "0", " ".join((self.name, *self.places)))


def spread(calls: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly spaced, the first and the last among them."""
    if len(calls) <= most:
        return list(calls)
    if most < 2:
        return list(calls[:most])
    return [calls[round(i * (len(calls) - 1) / (most - 1))] for i in range(most)]


def of_each_kind(calls: Sequence[Call], most: int) -> list[Call]:
    """At most so many calls of each kind, in their order."""
    kinds: dict[str, list[int]] = {}
    for place, call in enumerate(calls):
        kinds.setdefault(call.kind, []).append(place)
    kept = {place for places in kinds.values() for place in spread(places, most)}
    return [call for place, call in enumerate(calls) if place in kept]
