"""The app in a real browser, the whole way on real pictures.

FARSHOT_SCREENSHOTS=docs writes the pictures of docs/app.md on the way.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from farshot import load
from farshot.images.reading import image_id
from tests import browsing
from tests.browsing import DESKTOP, PHONE, advanced, idle, open_page, ready, running_app, sent, tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

CLASSES = ("hat", "shoes")
STEPS = ("1. Pictures", "2. Train", "3. Check", "4. Download")
PATIENCE = 600
"""Seconds for a model to adapt and measure itself on a busy machine."""


def screenshot(page: Page, name: str) -> None:
    place = os.environ.get("FARSHOT_SCREENSHOTS")
    if place:
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        page.evaluate("window.scrollTo(0, 0)")
        page.evaluate(  # a person's folder has a shorter name than a test's
            """document.querySelectorAll('.fs-where').forEach((where) => {
                where.innerHTML = where.innerHTML.replace(/Saved in [^<]*[.]/, 'Saved in clothes.'); })"""
        )
        page.screenshot(path=Path(place) / f"app-{name}.png", full_page=True)


def accessible(page: Page, where: str) -> None:
    """Nothing serious for those who see, hear or move in other ways."""
    found = Axe().run(page).response["violations"]
    bad = [
        (v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert not bad, (where, bad)


def no_overlap(page: Page) -> None:
    """No page is wider than its window, and no two tiles lie over each other."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = page.evaluate(
        """[...document.querySelectorAll('.fs-tile')].map(t => t.getBoundingClientRect()).filter(b => b.width)
           .map(b => [b.left, b.top, b.right, b.bottom])"""
    )
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            across = min(one[2], other[2]) - max(one[0], other[0])
            down = min(one[3], other[3]) - max(one[1], other[1])
            assert min(across, down) <= 0.5


def test_the_whole_way_on_real_pictures(real_images: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    pictures = {name: sorted((real_images / "clothing" / name).iterdir()) for name in CLASSES}
    with running_app("--keep", str(kept)) as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)

        # two classes, pictures, labels with the keyboard
        page.fill("#classes textarea", f"{CLASSES[0]}\n{CLASSES[1]}: a pair of shoes")
        page.click("#name-classes")
        page.set_input_files("#drop input[data-pick=files]", [*pictures["hat"][:4], *pictures["shoes"][:4]])
        tiles = page.locator("#board .fs-tile")
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 8")
        page.locator("#board .fs-tile[tabindex='0']").focus()
        order = [tiles.nth(i).get_attribute("data-id") for i in range(8)]
        truth = {image_id(path): label for label, paths in pictures.items() for path in paths}
        for place, id in enumerate(order):
            assert page.evaluate("document.activeElement.dataset.id") == id, place
            page.keyboard.press("1" if truth[str(id)] == "hat" else "2")
        page.wait_for_function("document.querySelectorAll('#board .fs-none').length === 0")
        no_overlap(page)
        accessible(page, "pictures")
        screenshot(page, "pictures")

        # adapt
        tab(page, STEPS[1])
        advanced(page)
        page.click("#method input")
        page.get_by_role("option", name="atha", exact=True).click()
        page.click("#adapt-button")
        page.wait_for_selector("#progress progress")
        idle(page, PATIENCE)
        assert "Expected accuracy" in page.inner_text("#result")
        assert "(" in page.inner_text("#result .fs-big")  # with its interval
        accessible(page, "adapt")

        # new pictures: what are they, and why
        tab(page, STEPS[2])
        page.set_input_files(
            "#drop-new input[data-pick=files]", [*pictures["hat"][10:13], *pictures["shoes"][10:13]]
        )
        page.wait_for_function("document.querySelectorAll('#answers .fs-tile').length === 6", timeout=60_000)
        idle(page, 120)
        page.locator("#answers .fs-tile").nth(0).click()
        page.wait_for_selector("#detail article", timeout=60_000)
        assert page.locator("#detail img[alt*='head tokens moved']").count() >= 1
        no_overlap(page)
        accessible(page, "look")
        screenshot(page, "look")

        # correct two, adapt again
        for _ in range(2):
            chosen = page.locator("#answers .fs-tile").nth(0)
            chosen.click()
            id = str(chosen.get_attribute("data-id"))
            page.wait_for_selector(f"#detail article[data-picture='{id}']", timeout=60_000)
            page.locator("#detail [data-do=correct]").nth(CLASSES.index(truth[id])).click()
            page.wait_for_function(
                "id => !document.querySelector(`#answers .fs-tile[data-id='${id}']`)", arg=id, timeout=30_000
            )
        assert "with your corrections" in page.inner_text("#again")
        page.click("#again")
        page.wait_for_selector("#progress progress")
        idle(page, PATIENCE)
        tab(page, STEPS[1])
        assert "to 10 labelled pictures of 2 classes" in page.inner_text("#result")

        # a reload loses nothing
        page.reload()
        ready(page)
        watch.forget_ended_streams()
        assert page.locator("#board .fs-tile").count() == 14
        assert page.input_value("#classes textarea").splitlines()[1] == "shoes: a pair of shoes"
        tab(page, STEPS[2])
        assert page.locator("#answers .fs-tile").count() == 4

        # take away
        tab(page, STEPS[3])
        for name in ("model", "onnx", "report", "predictions"):
            with page.expect_download(timeout=180_000) as got:  # one press makes it and downloads it
                page.click(f"#take [data-do=make][data-value={name}]")
            got.value.save_as(tmp_path / got.value.suggested_filename)
            idle(page, 60)
        accessible(page, "take away")
        assert not watch.faults

        # what a stranger sees: nothing of it
        other = browser.new_page()
        for place in (address.partition("?")[0], page.url):
            other.goto(place)
            assert "has not opened the projects" in other.inner_text("body")

        # on a phone
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        for step, short in zip(STEPS, ("pictures", "train", "look", "download"), strict=True):
            tab(page, step)
            if short == "look":
                page.locator("#answers .fs-tile").nth(0).click()
                page.wait_for_selector("#detail article", timeout=60_000)
            no_overlap(page)
            accessible(page, f"{short} on a phone")
            if short == "pictures":
                screenshot(page, "phone-pictures")
        assert not watch.faults

    with zipfile.ZipFile(tmp_path / "adapted-model.zip") as archive:
        archive.extractall(tmp_path)
    with (tmp_path / "predictions.csv").open(encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] and not row["label"]]
    assert len(rows) == 4
    model = load(tmp_path / "adapted-model", device="cpu")
    asked = [path for name in CLASSES for path in pictures[name][10:13]]
    found = {image_id(path): p for path, p in zip(asked, model.predict_proba(asked), strict=True)}
    (workspace,) = [folder for folder in kept.iterdir() if (folder / "run.json").exists()]
    predictions = json.loads((workspace / "predictions.json").read_text())
    assert len(predictions) == 4
    for id, p in predictions.items():
        np.testing.assert_allclose(found[id], p, atol=1e-5)
        assert found[id].argmax() == np.argmax(p)


def test_a_job_can_be_stopped_and_a_reload_finds_it_running(real_images: Path) -> None:
    with running_app() as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        page.set_input_files("#drop input[data-pick=folder]", real_images / "rsscn7" / "Forest")
        page.wait_for_selector("#board .fs-tile", timeout=60_000)
        page.set_input_files("#drop input[data-pick=folder]", real_images / "rsscn7" / "Grass")
        page.wait_for_function("document.querySelectorAll('#board .fs-class').length === 3", timeout=60_000)
        sent(page)  # else the page would ask before it is left
        assert page.input_value("#classes textarea").splitlines() == ["Forest", "Grass"]
        tab(page, STEPS[1])
        page.click("#adapt-button")
        page.wait_for_selector("#progress progress")
        page.reload()
        ready(page)
        watch.faults.clear()  # the reload broke off what the page was being told
        page.wait_for_selector("#progress progress", timeout=30_000)
        page.click("#stop")
        idle(page, 60)
        assert "Stopped" in page.inner_text("#note")
        assert not watch.faults


def test_pictures_and_zips_can_be_dropped(real_images: Path, tmp_path: Path) -> None:
    chosen = {name: sorted((real_images / "clothing" / name).iterdir())[:2] for name in CLASSES}
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name, paths in chosen.items():
            for path in paths:
                archive.write(path, f"photos/{name}/{path.name}")
        archive.writestr("photos/hat/notes.txt", "not a picture")
    loose = sorted((real_images / "clothing" / "dress").iterdir())[0]
    with running_app() as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        files = [
            [path.name, base64.b64encode(path.read_bytes()).decode()]
            for path in (loose, tmp_path / "photos.zip")
        ]
        dropped = page.evaluate_handle(
            """files => {
                const data = new DataTransfer();
                for (const [name, text] of files)
                    data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
                return data;
            }""",
            files,
        )
        page.dispatch_event("#drop .fs-drop", "drop", {"dataTransfer": dropped})
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 5", timeout=60_000)
        assert sorted(page.input_value("#classes textarea").splitlines()) == ["hat", "shoes"]
        assert page.locator("#board .fs-none").count() == 1
        assert "notes.txt" in page.inner_text("#note")
        assert not watch.faults


def test_suggestions_lead_the_board(real_images: Path) -> None:
    with running_app() as address, browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        pictures = sorted((real_images / "neu_steel").rglob("*.jpg"))[::40][:8]
        page.set_input_files("#drop input[data-pick=files]", pictures)
        page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 8", timeout=60_000)
        page.click("#suggest")
        page.wait_for_selector("#board .fs-suggested", timeout=60_000)
        idle(page, 60)
        first = page.locator("#board .fs-tile").nth(0)
        assert "fs-suggested" in str(first.get_attribute("class"))
        assert page.locator("#board .fs-suggested .fs-reason").count() == 4
        assert not watch.faults
