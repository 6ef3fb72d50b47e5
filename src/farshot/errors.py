"""Errors that users can fix.

Every refusal of farshot is one of these: one clear sentence that names the path, row or option, and the way
out. The command line prints the sentence and ends with exit code 2; from Python it is an ordinary exception.
"""

from __future__ import annotations

from farshot.sanitize import visible


class FarshotError(Exception):
    """An error that the user can fix; its text is the whole message.

    Args:
        text: control characters in it, such as in a name in a foreign file, are escaped: it stays one line.
        lines: it is a list of several lines, which are kept.
    """

    def __init__(self, text: str = "", *, lines: bool = False) -> None:
        super().__init__(visible(text, lines=lines))


class DataError(FarshotError, ValueError):
    """Images, labels or tables that cannot be used as they are."""


class ModelError(FarshotError):
    """A checkpoint or saved folder that cannot be loaded or does not fit."""


class SettingError(FarshotError, ValueError):
    """A setting with an unknown name or a value outside its range."""
