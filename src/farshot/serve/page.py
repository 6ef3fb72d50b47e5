"""The page at /docs: the OpenAPI description as plain HTML, which asks nobody for anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farshot.explain.html import common, environment
from farshot.images.untrusted import in_megabytes
from farshot.serve.options import Limits


def docs_page(schema: Mapping[str, Any], limits: Limits) -> str:
    """All routes, what is sent and what comes back."""
    page = environment("farshot.serve").get_template("docs.html")
    return page.render(
        **common(),
        title="farshot serve",
        schema=schema,
        routes=[
            (path, verb.upper(), about)
            for path, verbs in schema["paths"].items()
            for verb, about in verbs.items()
        ],
        limits={
            "images in a request": limits.files,
            "with explanations": limits.explained,
            "an image": f"{in_megabytes(limits.file_bytes)}, {limits.pixels / 1_000_000:g} megapixels",
            "a request": in_megabytes(limits.request_bytes),
            "images in the service at once": limits.queue,
        },
        name_of=_name_of,
    )


def _name_of(schema: Mapping[str, Any]) -> str:
    """The type of a value, in a word."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_name_of, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_name_of(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_name_of(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type", "any"))
