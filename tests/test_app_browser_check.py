"""Train and Check in a real browser, on real pictures; FARSHOT_SCREENSHOTS as for test_app_browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import browsing
from tests.browsing import DESKTOP, PHONE, idle, open_page, ready, running_app, sent, tab
from tests.test_app_browser import CLASSES, accessible, no_overlap, screenshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]


def test_a_model_is_checked_and_its_sure_answers_accepted(real_images: Path) -> None:
    with running_app() as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        page.fill("#classes textarea", "\n".join(CLASSES))
        page.click("#name-classes")
        page.wait_for_timeout(1500)
        files = {name: sorted((real_images / "clothing" / name).iterdir()) for name in CLASSES}
        for name in CLASSES:
            page.click("#into input")
            page.get_by_role("option", name=name, exact=True).click()
            page.set_input_files("#drop input[data-pick=files]", files[name][:6])
            sent(page)
            page.wait_for_timeout(1500)
        page.click("#into input")
        page.get_by_role("option", name="decide later").click()
        page.set_input_files(
            "#drop input[data-pick=files]", [path for name in CLASSES for path in files[name][6:9]]
        )
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 18")

        tab(page, "2. Train")
        page.wait_for_function("document.querySelector('#way').innerText.includes('Thorough (about ')")
        accessible(page, "train")
        page.click("#adapt-button")
        page.wait_for_function("document.title === '✓ farshot'", timeout=120_000)
        page.mouse.click(5, 5)
        assert page.title() == "farshot"
        idle(page, 120)
        screenshot(page, "train")

        # the confusion matrix leads to pictures
        tab(page, "3. Check")
        cell = page.locator("#check .fs-matrix button").first
        count = int(cell.inner_text())
        cell.click()
        page.wait_for_selector("#check .fs-found")
        assert page.locator("#check .fs-found .fs-card").count() == count

        # the limit: what is dragged to is said at once, and kept
        before = page.inner_text("#fs-limit-said")
        page.focus("#fs-limit")
        page.keyboard.press("End")
        assert page.inner_text("#fs-limit-said").startswith("99 %:")
        assert before.startswith("80 %:")
        page.wait_for_function("document.querySelector('#fs-limit').getAttribute('value') === '10'")
        page.keyboard.press("Home")
        page.wait_for_function("document.querySelector('#fs-limit').getAttribute('value') === '0'")
        assert page.inner_text("#fs-limit-said").startswith("50 %:")

        # all sure answers in one step, and back
        accept = page.locator("#answers [data-do=accept]")
        accept.wait_for()
        sure = int(accept.inner_text().split()[2])
        accept.click()
        page.wait_for_function(f"document.querySelectorAll('#answers .fs-tile').length === {6 - sure}")
        page.locator("#note [data-do=undo]").click()
        page.wait_for_function("document.querySelectorAll('#answers .fs-tile').length === 6")
        accessible(page, "check")
        screenshot(page, "check")
        tab(page, "4. Download")
        accessible(page, "download")
        screenshot(page, "download")

        kept = page.context.storage_state()
        for scheme in ("dark", "light"):
            narrow = browser.new_context(viewport=PHONE, color_scheme=scheme, storage_state=kept).new_page()
            narrow.goto(address)
            ready(narrow)
            tab(narrow, "2. Train")
            accessible(narrow, f"train, phone, {scheme}")
            screenshot(narrow, "phone-train")
            tab(narrow, "3. Check")
            narrow.wait_for_selector("#check .fs-matrix")
            accessible(narrow, f"check, phone, {scheme}")
            no_overlap(narrow)
            screenshot(narrow, "phone-check")
            tile = narrow.locator("#answers .fs-tile").first
            picture, words = tile.locator("img").bounding_box(), tile.locator(".fs-label").bounding_box()
            assert picture is not None
            assert words is not None
            assert words["x"] >= picture["x"] + picture["width"]
            assert picture["y"] < words["y"] + words["height"] / 2 < picture["y"] + picture["height"]
            tile.click()
            narrow.wait_for_selector("#detail article", timeout=60_000)
            narrow.wait_for_timeout(500)
            top = narrow.locator("#detail article").bounding_box()
            assert top is not None
            assert 0 <= top["y"] + 1 < 200
            tab(narrow, "4. Download")
            screenshot(narrow, "phone-download")
        assert watch.faults == []
