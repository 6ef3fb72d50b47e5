"""Parts of the page that bring their scripts along."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from farshot.app import view

STATIC = Path(__file__).parent / "static"


def board(name: str, *scripts: str, visible: bool = True) -> gr.HTML:
    """A component with tiles and buttons. Their clicks and keys go to the server by themselves; then the
    board of all pictures asks with 'act' for the page to be drawn.

    Args:
        scripts: that handle them.
    """
    return gr.HTML(
        "",
        js_on_load="".join(map(script, ("outbox.js", *scripts))),
        elem_id=name,
        visible=visible,
        apply_default_css=False,
    )


def drop(hint: str, name: str, into: str = "", kind: str = "") -> gr.HTML:
    """A box for uploading pictures; `view.drop_box` has the arguments."""
    return gr.HTML(
        view.drop_box(hint, into, kind),
        js_on_load=script("uploads.js") + script("drop.js"),
        elem_id=name,
        apply_default_css=False,
        leads=name == "drop",
        taken=0,  # changes when pictures were looked at
    )


def shown(html: str) -> Any:
    """Update of a component; an empty one is hidden."""
    return gr.update(value=html, visible=bool(html))


@cache
def script(name: str) -> str:
    """The text of a script."""
    return (STATIC / name).read_text(encoding="utf-8")
