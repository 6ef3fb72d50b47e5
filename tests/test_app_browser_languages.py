"""The app in a real browser that asks for German or Spanish."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests import browsing
from tests.browsing import DESKTOP, PHONE, Watch, idle, ready, running_app, sent, tab
from tests.test_app_browser import accessible, no_overlap, screenshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

STEPS = ("1. Bilder", "2. Trainieren", "3. Prüfen", "4. Herunterladen")
ENGLISH_PARTS = "body [lang=en], #advanced .prose"
"""What stays English: panels of explanations, and what methods say about themselves."""

ENGLISH_WORDS = re.compile(
    r"\b(the|your|you|with|and|of|are|is|it|this|picture|pictures|class|label)\b", re.I
)


def english(page: Page) -> list[str]:
    """What the page shows, or tells a screen reader, that is English."""
    found: list[str] = page.evaluate(
        """(parts) => {
            const shown = [];
            const walk = document.createTreeWalker(document.body, 5);  // elements and texts
            for (let node = walk.nextNode(); node; node = walk.nextNode()) {
                const element = node.nodeType === 3 ? node.parentElement : node;
                if (element.closest(`script, style, ${parts}`) || !element.checkVisibility()) continue;
                if (node.nodeType === 3) shown.push(node.textContent.trim());
                else for (const name of ['aria-label', 'placeholder', 'title', 'alt', 'aria-valuetext'])
                    shown.push(element.getAttribute(name) ?? '');
            }
            return shown.filter((text) => /[a-z]/i.test(text));
        }""",
        ENGLISH_PARTS,
    )
    names = re.compile(r"image und label|image y label|/\S+")  # columns of a CSV file, folders
    return [words for words in found if ENGLISH_WORDS.search(names.sub("", words))]


def test_the_whole_way_in_german(real_images: Path, tmp_path: Path) -> None:
    pictures = {name: sorted((real_images / "clothing" / name).iterdir()) for name in ("hat", "shoes")}
    with running_app("--keep", str(tmp_path / "kept")) as address, browsing.browser() as browser:
        page = browser.new_context(viewport=DESKTOP, locale="de-DE").new_page()  # type: ignore[arg-type]
        watch = Watch(page, address.partition("?")[0])
        page.goto(address)
        page.wait_for_selector("#create")
        assert page.evaluate("document.documentElement.lang") == "de"
        assert english(page) == []
        accessible(page, "projects")
        page.fill("#create input", "Kleidung")
        page.click("#create button")
        ready(page)
        assert page.evaluate("document.documentElement.lang") == "de"
        assert page.input_value("[data-language]") == "de"
        assert english(page) == []

        # name classes, upload, label
        page.fill("#classes textarea", "Hut: a hat\nSchuhe: a pair of shoes")
        page.click("#name-classes")
        files = [*pictures["hat"][:4], *pictures["shoes"][:4]]
        page.set_input_files("#drop input[data-pick=files]", files)
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 8")
        sent(page)
        assert "8 Dateien gesendet: 8 neu." in page.inner_text("#drop .fs-sending")
        page.locator("#board .fs-tile[tabindex='0']").focus()
        for place in range(8):
            page.keyboard.press("1" if place < 4 else "2")
        page.wait_for_function("document.querySelectorAll('#board .fs-none').length === 0")
        page.get_by_role("button", name="Rückgängig: die Klasse „Schuhe“ von 1 Bild").wait_for()
        assert english(page) == []
        no_overlap(page)
        accessible(page, "pictures")
        screenshot(page, "german-pictures")
        page.keyboard.press("?")
        page.get_by_role("heading", name="Tasten").wait_for()
        assert english(page) == []
        page.keyboard.press("Escape")

        # train, check
        tab(page, STEPS[1])
        page.click("#advanced button")
        page.click("#adapt-button")
        page.wait_for_selector("#result .fs-big", timeout=120_000)
        idle(page, 120)
        assert "Erwartete Genauigkeit bei neuen Bildern" in page.inner_text("#result")
        assert english(page) == []
        accessible(page, "train")
        tab(page, STEPS[2])
        (tmp_path / "notes.zip").write_bytes(b"PK\x05\x06" + bytes(18))
        page.set_input_files(
            "#drop-new input[data-pick=files]", [*pictures["hat"][10:13], tmp_path / "notes.zip"]
        )
        page.wait_for_function("document.querySelectorAll('#answers .fs-tile').length === 3", timeout=60_000)
        idle(page, 120)
        assert "in der ZIP-Datei ist kein Bild" in page.inner_text("#note")
        page.locator("#answers .fs-tile").nth(0).click()
        page.wait_for_selector("#detail article", timeout=60_000)
        assert english(page) == []
        accessible(page, "check")
        tab(page, STEPS[3])
        assert english(page) == []

        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        for step in STEPS:
            tab(page, step)
            no_overlap(page)
            accessible(page, f"{step} on a phone")
        assert not watch.faults

        # another language is a choice that stays
        page.select_option("[data-language]", "es")
        page.wait_for_function("document.documentElement.lang === 'es'")
        ready(page)
        assert page.get_by_role("tab", name="1. Imágenes").count() == 1
        page.goto(address)
        page.wait_for_selector("#create")
        assert page.evaluate("document.documentElement.lang") == "es"
        assert "1" in page.inner_text(".projects .soft") and "con etiqueta" in page.inner_text(
            ".projects .soft"
        )


def test_the_first_page_in_spanish(tmp_path: Path) -> None:
    with running_app("--keep", str(tmp_path / "kept")) as address, browsing.browser() as browser:
        page = browser.new_context(viewport=PHONE, locale="es-MX").new_page()  # type: ignore[arg-type]
        watch = Watch(page, address.partition("?")[0])
        page.goto(address)
        page.get_by_role("heading", name="Proyecto nuevo").wait_for()
        assert page.evaluate("document.documentElement.lang") == "es"
        assert english(page) == []
        no_overlap(page)
        accessible(page, "projects in Spanish")
        page.fill("#create input", "  ")
        page.click("#create button")
        page.get_by_text("Dé un nombre al proyecto.").wait_for()
        assert [fault for fault in watch.faults if "400" not in fault] == []
        page.select_option("[data-language]", "en")
        page.get_by_role("heading", name="New project").wait_for()
        assert len(english(page)) >= 3  # it is found where there is some
