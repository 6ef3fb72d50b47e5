"""The methods, one file each; the registry knows them by name.

    from farshot.methods import create
    method = create("atha", {"steps": 50})

Importing this package imports no method, so that `farshot methods` starts without torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farshot.methods.base import Adapted, Method
    from farshot.methods.registry import available, create, current_settings, register

__all__ = ["Adapted", "Method", "available", "create", "current_settings", "register"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from farshot.methods import base, registry

    return getattr(base if name in ("Adapted", "Method") else registry, name)
