"""The program's standard streams: what is printed for programs is whole in every encoding, and a reader that
has gone ends the program without a word.

JSON is ASCII where the stream is not UTF-8. Tab- and comma-separated values, Markdown and LaTeX, which know
no escapes, are UTF-8 always.
A stream that is closed from the start (`>&-`) takes everything and keeps nothing.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import io
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from farshot.sanitize import cell

EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE, which shells report for other programs whose reader has gone."""


class ReaderGone(Exception):
    """The other end of a pipe is closed; an OSError on its way past typer, which would end with 1."""


def prepare() -> None:
    """Makes the streams fit for names that they cannot show, and opens those that are closed."""
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    setattr(Console, "on_broken_pipe", _raise_again)  # noqa: B010  # typer has its own consoles


def _open_closed() -> None:
    """Closed streams become the null device: else the next file that is opened would take their number, and
    what a library prints would go into it."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _raise_again(console: Console) -> None:
    """In place of rich's own way, which ends the program with 1. Called while the error is handled."""
    console._buffer.clear()
    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def is_broken_pipe(error: BaseException) -> bool:
    """Whether an error says that nobody reads any more."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def silence() -> None:
    """What could not be written must not be tried again when the program ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def write_json(value: Any) -> None:
    """Write JSON that is valid in any encoding of the standard stream."""
    sys.stdout.write(json_text(value) + "\n")


def json_text(value: Any) -> str:
    """JSON that is valid in any encoding of the standard stream."""
    return json.dumps(value, indent=2, ensure_ascii=not _is_utf8(sys.stdout))


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Comma-separated values; no cell is a formula."""
    text = io.StringIO()
    safe = ([cell(value) if isinstance(value, str) else value for value in row] for row in rows)
    csv.writer(text, lineterminator="\n").writerows(safe)
    return text.getvalue()


def encoded(text: str) -> bytes:
    """UTF-8; what is not Unicode, as in names of files, is escaped with a backslash."""
    return text.encode("utf-8", errors="backslashreplace")


def flush() -> None:
    """Show what was written to who reads it."""
    sys.stdout.flush()


def write_data(text: str) -> None:
    """Text for programs on the standard stream, in UTF-8; what is not Unicode, as in names of files, is
    escaped with a backslash."""
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None or _is_utf8(sys.stdout):
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    raw.write(encoded(text))
    raw.flush()


def _is_utf8(stream: Any) -> bool:
    try:
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except (AttributeError, LookupError):
        return False
