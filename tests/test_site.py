"""The documentation site: links as it has them, nothing fetched from elsewhere, every page in its place."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.site_hooks import outside_loads, plain_pipes, site_links

from tests.pages import is_there, serving

ROOT = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_links_to_the_notebook_lead_to_its_page_and_links_out_of_docs_become_paths():
    assert site_links("[t](tutorial.ipynb)", "index.md") == "[t](tutorial.md)"
    assert site_links("[t](../tutorial.ipynb#keep)", "api/data.md") == "[t](../tutorial.md#keep)"
    assert site_links("[t](tutorial.ipynb)", "tutorial.md") == "[t](tutorial.ipynb)"
    assert (
        site_links("[loop](../benchmarks/speed/plain_loop.py)", "a.md") == "`benchmarks/speed/plain_loop.py`"
    )
    for same in ("[a](method.md#b)", "![a](x.png)", "[a](https://arxiv.org/abs/1)", "[a](#b)", "x[1](a)"):
        assert site_links(same, "index.md") == same


def test_a_pipe_in_the_code_of_a_table_loses_its_stroke():
    assert plain_pipes("| `a\\|b` | c\\|d |") == "| `a|b` | c\\|d |"
    assert plain_pipes("`a\\|b` in a sentence") == "`a\\|b` in a sentence"


def test_what_a_page_would_fetch_is_found():
    assert outside_loads('<script src="https://a.b/c.js"></script>')
    assert outside_loads("<link rel=stylesheet href=//a.b/c.css>")
    assert outside_loads("@font-face { src: url(https://a.b/c.woff2) }")
    assert outside_loads('@import "https://a.b/c.css";')
    assert not outside_loads('<a href="https://arxiv.org">paper</a> <img src="a.png"> <script src="../a.js">')


def test_every_link_and_picture_of_the_pages_is_there():
    for page in ROOT.glob("docs/**/*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert is_there(page.parent / target), f"{page.name}: {target}"


def test_every_picture_has_words():
    for page in ROOT.glob("docs/**/*.md"):
        assert "![](" not in page.read_text(encoding="utf-8"), page.name


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The built site, and the address at which it is served."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    with serving(place) as (address, _):
        yield place, address


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no browser to look with")
def test_pages_fit_the_window_ask_nobody_else_and_can_be_searched(site: tuple[Path, str]):
    playwright = pytest.importorskip("playwright.sync_api")
    place, address = site
    pages = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.html"))
    assert {"index.html", "tutorial.html", "gallery.html", "api/model.html"} <= set(pages)
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for name in pages:
                page.goto(f"{address}/{name}")
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide in a window of {width}"
                broken = page.evaluate(
                    "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
                )
                assert not broken, name
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}/index.html")
        # typed as a person types: the page begins to listen with the first key
        page.click("input[name=query]")
        page.keyboard.type("align_tokens")
        page.wait_for_selector(".md-search-result__item")
        assert "model.html" in page.inner_html(".md-search-result__list")
        browser.close()
    assert all(url.startswith((address, "data:", "blob:")) for url in asked), {
        url for url in asked if not url.startswith(address)
    }
