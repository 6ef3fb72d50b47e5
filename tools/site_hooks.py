"""What the documentation site needs beyond ProperDocs, which calls these functions by their names: the
tutorial as a page, links that lead out of docs/, and a refusal of pages that would fetch anything from
elsewhere."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path

from properdocs.config.defaults import ProperDocsConfig
from properdocs.exceptions import PluginError
from properdocs.structure.files import File, Files
from properdocs.structure.pages import Page

sys.path.insert(
    0, str(Path(__file__).parents[1])
)  # the program `properdocs` does not look into its own folder

from tools.notebook import as_markdown, read

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
# tags that load what they name as soon as a page is opened; a link that a reader clicks is no such tag
_LOADS = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|link)\b[^>]*?"
    r"\b(?:src|srcset|href|data)=[\"']?(?:https?:)?//[^>]*>",
    re.IGNORECASE,
)
_STYLE_LOADS = re.compile(r"(?:url\(|@import\s*)[\"']?\s*(?:https?:)?//[^)\s;]*", re.IGNORECASE)


def on_config(config: ProperDocsConfig) -> None:
    """Adds a menu of versions where mike, which sets this variable, builds one of several."""
    if "MIKE_DOCS_VERSION" in os.environ:
        config.extra["version"] = {"provider": "mike"}


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Every notebook becomes a page of its name; the notebook itself stays for those who want to run it."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            stem = file.src_uri.removesuffix(".ipynb")
            markdown, pictures = as_markdown(read(Path(config.docs_dir, file.src_uri)), Path(stem).name)
            files.append(File.generated(config, f"{stem}.md", content=markdown))
            for name, picture in pictures.items():
                place = posixpath.join(posixpath.dirname(stem), name)
                files.append(File.generated(config, place, content=picture))
    return files


def on_page_markdown(markdown: str, page: Page, config: ProperDocsConfig, files: Files) -> str:
    """Links and tables as the site has them."""
    return plain_pipes(site_links(markdown, page.file.src_uri))


def plain_pipes(markdown: str) -> str:
    """In code within a table a pipe is `\\|` on GitHub, while Python-Markdown would show the stroke."""
    rows = re.compile(r"^\|.*$", re.MULTILINE)
    code = re.compile(r"`[^`\n]*`")
    return rows.sub(lambda row: code.sub(lambda c: c[0].replace("\\|", "|"), row[0]), markdown)


def site_links(markdown: str, page: str) -> str:
    """Links to a notebook lead to its page, and files outside docs/, which the site does not have, become
    their path; links of a notebook's page to the notebook stay."""
    folder = posixpath.dirname(page)

    def written(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        if ":" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("../"):
            return f"`{path[3:]}`"
        if path.endswith(".ipynb") and path.removesuffix(".ipynb") != page.removesuffix(".md"):
            return f"[{text}]({target.removesuffix('.ipynb')}.md{anchor})"
        return link[0]

    return _LINK.sub(written, markdown)


def on_post_build(config: ProperDocsConfig) -> None:
    """Refuses a site that would ask other machines for anything."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css", ".svg") and (found := outside_loads(path.read_text("utf-8"))):
            raise PluginError(f"{path.relative_to(config.site_dir)} fetches from elsewhere: {found[0][:200]}")


def outside_loads(text: str) -> list[str]:
    """What a page or style sheet would fetch from elsewhere when it is opened."""
    tags = [tag for tag in _LOADS.findall(text) if 'rel="canonical"' not in tag]
    return tags + _STYLE_LOADS.findall(text)
