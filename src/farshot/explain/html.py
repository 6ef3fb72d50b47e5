"""Self-contained HTML pages: one file, no script, nothing fetched, and names escaped.

Everything is escaped; names are in <bdi>, so that marks of direction end with the name; a content security
policy forbids scripts and requests even if something slipped through.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from importlib.metadata import version
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from farshot.evaluation.calibration import certain_in_words
from farshot.explain.style import edge, letter
from farshot.sanitize import plain

_QUALITY = 88  # of JPEGs: letters on patches stay sharp


@cache
def environment(*packages: str) -> Environment:
    """Templates of these packages, the first that has one; those of farshot.explain come last."""
    loaders = [PackageLoader(package, "templates") for package in (*packages, "farshot.explain")]
    made = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(plain=plain, data_uri=data_uri, points=points, bdi=bdi, certain=certain_in_words)
    return made


def common() -> dict[str, Any]:
    """Variables of all templates."""
    return {"version": version("farshot"), "edge": edge, "letter": letter}


def bdi(name: object) -> Markup:
    """A name in running text, isolated so that its direction does not affect the text."""
    return Markup("<bdi>{}</bdi>").format(str(name))


def points(share: float, digits: int = 1) -> str:
    """A share in per cent; "-" for what is not a number."""
    return "-" if share != share else f"{100 * share:.{digits}f}"


def data_uri(picture: Image.Image) -> str:
    """A picture as part of the page."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
