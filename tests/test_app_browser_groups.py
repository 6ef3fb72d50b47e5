"""Groups, copies, pictures of something else, explanations and downloads in a real browser, on real pictures;
FARSHOT_SCREENSHOTS as for test_app_browser."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests import browsing
from tests.browsing import DESKTOP, PHONE, idle, open_page, ready, running_app, sent, tab
from tests.test_app_browser import CLASSES, accessible, no_overlap, screenshot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]


def photographs(real_images: Path, place: Path) -> Path:
    """A zip with a folder per class: twelve photographs of each, called as two of each of six things; and one
    of them again, smaller."""
    with zipfile.ZipFile(place, "w") as archive:
        for name in CLASSES:
            files = sorted((real_images / "clothing" / name).iterdir())[:12]
            for number, file in enumerate(files):
                archive.write(file, f"clothes/{name}/{name}{number // 2}_{number % 2}.jpg")
            with Image.open(files[0]) as image:
                image.resize((image.width // 2, image.height // 2)).save(place.with_suffix(".jpg"))
        archive.write(place.with_suffix(".jpg"), f"clothes/{CLASSES[-1]}/copy.jpg")
    return place


def test_the_model_is_checked_with_groups_and_pictures_of_something_else(
    real_images: Path, tmp_path: Path
) -> None:
    packed = photographs(real_images, tmp_path / "clothes.zip")
    with running_app() as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        page.set_input_files("#drop input[data-pick=files]", packed)
        sent(page)
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 25")
        more = sorted((real_images / "clothing" / CLASSES[0]).iterdir())[12:15]
        page.set_input_files("#drop input[data-pick=files]", more)
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 28")
        tab(page, "2. Train")
        page.click("#adapt-button")
        page.wait_for_function("document.title === '✓ farshot'", timeout=120_000)
        idle(page, 120)

        # a near copy is listed, one of the two removed, and that taken back
        tab(page, "3. Check")
        assert "suggest that several pictures show one thing" in page.inner_text("#check")
        assert page.locator("#check .fs-same figure").count() == 2
        page.get_by_role("button", name="Keep only copy.jpg").click()
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 27")
        page.locator("#note [data-do=undo]").click()
        page.wait_for_selector("#check .fs-same figure")

        # what is typed stays while other things are drawn; a preview, then use
        page.click("#groups > button")
        page.fill("#fs-pattern", r"[a-z]+\d+(?=_)")
        page.locator("#answers .fs-tile").first.click()
        page.wait_for_selector("#detail article")
        assert page.input_value("#fs-pattern") == r"[a-z]+\d+(?=_)"
        page.keyboard.press("Tab")
        page.locator("#groups-found").get_by_role("button", name="Preview").click()
        page.wait_for_selector("#groups-found [data-do=groups]")
        assert "12 groups, for example" in page.inner_text("#groups-found [role=status]")
        accessible(page, "groups")
        screenshot(page, "groups")
        page.locator("#groups-found").get_by_role("button", name="Keep these together").click()
        page.wait_for_function("document.querySelector('#groups-found .fs-gain') !== null")
        assert "suggest that several" not in page.inner_text("#check")

        # one sentence and one overlay; the rest on demand
        detail = page.locator("#detail")
        assert "to the model" in detail.inner_text()
        assert "not why it is right" in detail.inner_text()
        assert detail.locator(".glance img").is_visible()
        assert not detail.locator(".panels").is_visible()
        detail.locator("summary").click()
        assert detail.locator(".panels").is_visible()

        # pictures of something else are measured as soon as they are there
        page.click("#open-set > button")
        steel = sorted((real_images / "neu_steel").glob("*/*"))[:12]
        page.set_input_files("#drop-foreign input[data-pick=files]", steel)
        page.wait_for_selector("#open-set-found .fs-facts", timeout=60_000)
        assert "Of 12 pictures that show none of your classes" in page.inner_text("#open-set-found")
        assert "12 new" in page.inner_text("#drop-foreign")
        assert "12 new" not in page.inner_text("#drop")
        assert page.locator("#board .fs-tile").count() == 28
        accessible(page, "open set")
        screenshot(page, "open-set")

        # one press makes a file and downloads it
        tab(page, "4. Download")
        for name, file in (("model", "adapted-model.zip"), ("report", "report.html")):
            with page.expect_download(timeout=60_000) as got:
                page.locator(f"#take [data-do=make][data-value={name}]").click()
            assert got.value.suggested_filename == file
            idle(page, 60)
        with page.expect_download() as got:
            page.get_by_role("link", name="Download labels.csv").click()
        assert "group" in Path(got.value.path()).read_text("utf-8-sig").splitlines()[0]
        accessible(page, "download")
        screenshot(page, "one-click")

        kept = page.context.storage_state()
        for scheme in ("dark", "light"):
            narrow = browser.new_context(viewport=PHONE, color_scheme=scheme, storage_state=kept).new_page()
            narrow.goto(address)
            ready(narrow)
            tab(narrow, "3. Check")
            narrow.locator("#answers .fs-tile").first.click()
            narrow.wait_for_selector("#detail .glance img", timeout=60_000)
            for part in ("#open-set", "#groups"):
                narrow.locator(f"{part} > button").click()
            narrow.wait_for_selector("#fs-pattern")
            accessible(narrow, f"check, phone, {scheme}")
            no_overlap(narrow)
            screenshot(narrow, f"phone-groups-{scheme}")
            narrow.locator("#groups-found [data-do=try-groups]").first.scroll_into_view_if_needed()
        assert watch.faults == []
