"""The registry of methods: each by its name, and how one is made from a name and settings.

A module of this package that registers a method is found by itself. Third parties register theirs by the
entry point group "farshot.methods", or by running the decorator. Methods are imported when one is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any, TypeVar

from farshot import plugins
from farshot.errors import SettingError
from farshot.methods.base import Method
from farshot.methods.values import RETIRED
from farshot.sanitize import short

_PACKAGE = "farshot.methods"

REGISTERED: dict[str, type[Method]] = {}
"""The methods registered so far by name, also those of packages that were imported; changed by `register`."""

M = TypeVar("M", bound=type[Method])


def register(method: M) -> M:
    """Registers a method under its name; for use as a decorator.

    Raises:
        SettingError: another method has this name. A class that is defined again, as in a notebook, replaces
            itself.
    """
    if not method.__module__.startswith(f"{_PACKAGE}."):
        _load_built_in()  # whose names are taken
    known = REGISTERED.get(method.name)
    if known is not None and _place(known) != _place(method):
        raise SettingError(
            f"The method {method.name!r} of {_place(method)} cannot be registered: {_place(known)} has this "
            "name already; choose another name."
        )
    REGISTERED[method.name] = method
    return method


def available(pattern: str = "*") -> dict[str, type[Method]]:
    """The registered methods whose name matches a wildcard, by name; imports all of them.

    Warns:
        PluginWarning: a package's methods cannot be imported; the others can be used.
    """
    _load_built_in()
    for point in plugins.entries(plugins.METHODS):
        plugins.load(point)
    return {name: REGISTERED[name] for name in sorted(REGISTERED) if fnmatch(name, pattern)}


def find(name: str) -> type[Method]:
    """The method of this name.

    Raises:
        SettingError: there is none, or its package cannot be imported.
    """
    _load_built_in()
    methods = REGISTERED if name in REGISTERED else available()
    if name in methods:
        return methods[name]
    broken = plugins.why_broken(plugins.METHODS, name)
    if broken:
        raise SettingError(broken)
    raise SettingError(f"There is no method {short(name)}; choose one of: {', '.join(methods)}.")


def create(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """A method by name; values may be strings, as they come from `--set name=value`.

    Raises:
        SettingError: unknown method, unknown setting, or a value that does not fit; names the choices.
    """
    return find(name).from_settings(settings or {})


def package_of(method: type[Method]) -> str:
    """What to install for a method: a package, "farshot" for its own; or the module that defines it."""
    module = method.__module__.partition(".")[0]
    if module == "farshot":
        return module
    for point in plugins.entries(plugins.METHODS):
        if point.module.partition(".")[0] == module and point.dist is not None:
            return point.dist.name
    return method.__module__


def current_settings(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings that an earlier version stored: removed settings that had no effect are dropped.

    Raises:
        SettingError: one that is gone did something.
    """
    for name, neutral in RETIRED.items():
        if settings.get(name, neutral) != neutral:
            raise SettingError(
                f"{method} was used with {name}={settings[name]}, a setting that this farshot no longer "
                "has; use farshot 0.1."
            )
    kept = {name: value for name, value in settings.items() if name not in RETIRED}
    return find(method).stored_settings(kept)


def _load_built_in() -> None:
    package = importlib.import_module(_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{_PACKAGE}.{module.name}")


def _place(method: type[Method]) -> str:
    return f"{method.__module__}.{method.__qualname__}"
