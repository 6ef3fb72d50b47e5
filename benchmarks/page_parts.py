"""Parts of a page of the docs that different commands write."""

from __future__ import annotations

from pathlib import Path


def replace_part(page: Path, name: str, text: str) -> None:
    """Replace what is between the marks of a part; a page without them gets the part at its end.

    Args:
        name: of the part.
        text: Markdown.
    """
    begin, end = f"<!-- part: {name} -->", f"<!-- end: {name} -->"
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else "\n"
    if not found and before and not before.endswith("\n\n"):
        before = before.rstrip("\n") + "\n\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}", encoding="utf-8")
