"""The list of methods as `farshot methods` shows it, without importing any of farshot's own.

catalogue.json holds the facts of farshot's own methods; `python -m farshot.methods.catalogue` writes it again
after a method was added or changed, and a test compares the two. Methods of other packages are imported.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from farshot import plugins
from farshot.methods.values import written

FAST, THOROUGH = "linear-probe", "atha"
"""The methods that are taken where none is named: one that takes seconds, and one that fine-tunes where there
is time for it."""

REFERENCE = "CLIP ViT-B/16, 5 classes, 5 images each"
"""The task whose trained parameters are counted."""

_FILE = Path(__file__).with_name("catalogue.json")


def catalogue(pattern: str = "*") -> dict[str, dict[str, Any]]:
    """Facts of each method whose name matches a wildcard, by name: see `describe`.

    Warns:
        PluginWarning: a method of another package cannot be used.
    """
    found = dict(_listed())
    if plugins.entries(plugins.METHODS):
        from farshot.methods.registry import available, package_of  # imports torch

        for name, method in available().items():
            if name not in found:
                try:
                    found[name] = describe(method)
                except Exception as error:  # a foreign class may raise anything
                    warnings.warn(
                        f"The method {name!r} of {package_of(method)} cannot be listed "
                        f"({type(error).__name__}: {error}).",
                        plugins.PluginWarning,
                        stacklevel=2,
                    )
    return {name: found[name] for name in sorted(found) if fnmatch(name, pattern)}


def present_label(label: str, method: str, revision: int, settings: Mapping[str, Any]) -> str:
    """The label of stored results, which was that of the defaults of their time: the method's plain name is
    kept for the present defaults."""
    about = _listed().get(method, {})
    if about.get("revision") != revision:
        return label
    default: dict[str, Any] = about["settings"]
    if settings == default:
        return method
    changed = [f"{name}={written(value)}" for name, value in settings.items() if value != default.get(name)]
    return f"{method}[{','.join(changed)}]" if label == method and changed else label


@cache
def _listed() -> dict[str, dict[str, Any]]:
    """Facts of farshot's own methods."""
    found: dict[str, dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def describe(method: Any) -> dict[str, Any]:
    """Kind, doc, plain, reference, revision, trained parameters and default settings of a method class."""
    from farshot.methods.size import trained_parameters

    made = method()
    return {
        "kind": made.kind,
        "doc": method.doc,
        "plain": method.plain,
        "reference": method.reference,
        "revision": made.revision,
        "trained_parameters": trained_parameters(made),
        "settings": made.settings(),
    }


def own_methods() -> dict[str, dict[str, Any]]:
    """Facts of farshot's own methods, from the methods themselves."""
    from farshot.methods.registry import available

    return {
        name: describe(method)
        for name, method in available().items()
        if method.__module__.startswith("farshot.methods.")
    }


if __name__ == "__main__":
    _FILE.write_text(json.dumps(own_methods(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
