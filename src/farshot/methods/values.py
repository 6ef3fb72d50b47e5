"""Values of settings: text from a command line or JSON from a file, read as the type that a setting declares.

A setting may have any type that pydantic can read: `bool`, `int`, `float`, `str`, `Literal`, `X | None`,
`tuple[int, ...]`, an enumeration and more.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from farshot.errors import SettingError
from farshot.sanitize import short

RETIRED: dict[str, Any] = {"first_block": 0, "settle": 0.0}
"""Settings of version 0.1 that are gone, and the value at which they did nothing."""

_LORA = {"encoder": "both", "position": "all", "params": "qkv"}
ADDED: dict[str, dict[str, Any]] = {
    "clip-lora": _LORA,
    "limo": _LORA,
    "coop": {"class_specific": False},
    "tip-adapter": {"augment": 0},
    "tip-adapter-f": {"augment": 0},
    "clap": {"augment": 0},
}
"""Method -> settings that came after results were stored, and the value at which they do nothing: with it
a run is the same as before."""


def with_added(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a stored run, with those that came later."""
    return _added(method, settings) | dict(settings)


def without_added(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were before others came, where these do nothing."""
    neutral = _added(method, settings)
    return {name: v for name, v in settings.items() if name not in neutral or v != neutral[name]}


def _added(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    base = settings.get("base")
    return ADDED.get(base if isinstance(base, str) else method, {})


def setting_types(method: type) -> dict[str, Any]:
    """The declared type of each setting of a method.

    Raises:
        SettingError: an annotation cannot be read, such as one imported for type checkers alone.
    """
    try:
        hints = typing.get_type_hints(method, include_extras=True)
    except (NameError, TypeError) as error:
        raise SettingError(
            f"The settings of {method.__module__}.{method.__name__} have a type that cannot be read "
            f"({error}); import it where the method is defined."
        ) from error
    return {field.name: hints[field.name] for field in dataclasses.fields(method)}


@functools.cache
def literal_settings(method: type) -> dict[str, tuple[Any, ...]]:
    """The choices of each setting that is declared with `Literal`; None is one where it is allowed."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, kind in setting_types(method).items():
        optional = typing.get_origin(kind) in (types.UnionType, typing.Union)
        members = typing.get_args(kind) if optional else (kind,)
        if all(member is type(None) or typing.get_origin(member) is Literal for member in members):
            choices = [None if member is type(None) else typing.get_args(member) for member in members]
            found[name] = tuple(one for choice in choices for one in (choice or (None,)))
    return found


def read_settings(method: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, each read as its type.

    Args:
        method: the method's class.

    Raises:
        SettingError: an unknown setting, or a value that does not fit; names the choices.
    """
    kinds, values = setting_types(method), {}
    for name, value in settings.items():
        if name not in kinds:
            choices = ", ".join(kinds) or "it has none"
            raise SettingError(
                f"The method {method.name} has no setting {short(name)}; its settings are: {choices}."
            )
        values[name] = read_value(method.name, name, value, kinds[name])
    return values


def read_value(method: str, setting: str, value: Any, kind: Any) -> Any:
    """A value as the setting's type.

    Args:
        kind: as `setting_types` gives it.

    Raises:
        SettingError: the value does not fit; names the setting and what it takes.
    """
    try:
        return _read(value, kind)
    except (ValueError, TypeError):
        raise SettingError(
            f"The setting {setting} of {method} must be {_words(kind)}, not {short(value)}."
        ) from None


def json_value(value: Any) -> Any:
    """A setting's value as JSON keeps it: a tuple becomes a list."""
    if value is None or isinstance(value, bool | int | float) or type(value) is str:
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def written(value: Any) -> str:
    """A setting's value as text, as in `atha[variant=released]` or after `--set`."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(json_value(value), separators=(",", ":"))


def _read(value: Any, kind: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(value, typing.get_args(kind))
    if origin is Literal:
        found = [choice for choice in typing.get_args(kind) if _same(choice, value)]
        return found[0] if found else _fail()
    if kind in _READERS:
        if isinstance(value, bool) and kind in (int, float):
            raise ValueError
        return _READERS[kind](value)
    return _read_other(value, kind)


def _read_union(value: Any, kinds: tuple[Any, ...]) -> Any:
    if type(None) in kinds and (
        value is None or (isinstance(value, str) and value.lower() in ("none", "null"))
    ):
        return None
    for kind in kinds:
        try:
            if kind is not type(None):
                return _read(value, kind)
        except (ValueError, TypeError):
            continue
    raise ValueError


def _read_other(value: Any, kind: Any) -> Any:
    """By pydantic: the value itself, or text as JSON, or text with commas as a list."""
    from pydantic import TypeAdapter

    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValueError:
        if not isinstance(value, str):
            raise
    try:
        return adapter.validate_json(value)
    except ValueError:
        return adapter.validate_python([part.strip() for part in value.split(",")])


def _read_bool(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return words[str(value).lower()] if str(value).lower() in words else _fail()


def _read_float(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:  # of a whole number
        _fail()
    return number if math.isfinite(number) else _fail()


def _read_int(value: Any) -> int:
    number = _read_float(value)
    return int(number) if number == int(number) else _fail()


def _read_str(value: Any) -> str:
    return str(value)


_READERS: dict[Any, Callable[[Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
}
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def _words(kind: Any) -> str:
    """What a type takes, in words."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        kinds = sorted(typing.get_args(kind), key=lambda member: member is type(None))
        return " or ".join("none" if member is type(None) else _words(member) for member in kinds)
    if origin is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    return _WORDS.get(kind) or f"of the type {getattr(kind, '__name__', kind) if origin is None else kind}"


def _same(choice: Any, value: Any) -> bool:
    """Whether a value is this choice, or text that says it."""
    if isinstance(value, str):
        return written(choice) == value
    return type(choice) is type(value) and bool(choice == value)


def _fail() -> Any:
    raise ValueError
