"""Projects of the app in a real browser: resumed elsewhere, exported and imported, watched from two tabs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests import browsing
from tests.browsing import DESKTOP, PHONE, advanced, open_page, ready, started_app, tab
from tests.test_app_browser import accessible, screenshot
from tests.workspaces import CLASSES, drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]


def labelled(page: Page, folder: Path, count: int = 2) -> None:
    """Name two classes, and add so many pictures of each with its class."""
    page.fill("#classes textarea", "\n".join(CLASSES))
    page.click("#name-classes")
    page.wait_for_selector("#rename-class")
    folder.mkdir(exist_ok=True)
    files = []
    for number, (_, data) in enumerate(drawn(count)):
        files.append(folder / f"{number}.png")
        files[-1].write_bytes(data)
    page.set_input_files("#drop input[data-pick=files]", files)
    page.wait_for_function(f"document.querySelectorAll('#board .fs-tile').length === {2 * count}")
    page.wait_for_selector("#board .fs-class:nth-of-type(3)")
    ids = [tile.get_attribute("data-id") for tile in page.locator("#board .fs-tile").all()]
    names = page.locator("#board .fs-tile .fs-name").all_inner_texts()
    for id, name in zip(ids, names, strict=True):
        page.locator(f"#board .fs-tile[data-id='{id}']").focus()
        page.keyboard.press("1" if int(name.partition(".")[0]) < count else "2")
    page.wait_for_function("document.querySelectorAll('#board .fs-none').length === 0")


def labels(page: Page) -> list[str]:
    """Name and class of every picture."""
    told = zip(
        page.locator("#board .fs-tile .fs-name").all_inner_texts(),
        page.locator("#board .fs-tile .fs-label").all_inner_texts(),
        strict=True,
    )
    return sorted(map(" ".join, told))


def test_a_project_is_resumed_in_another_browser_exported_deleted_and_imported(tmp_path: Path) -> None:
    with started_app("--keep", str(tmp_path / "kept")) as (_, address), browsing.browser() as browser:
        page, watch = open_page(browser, address, DESKTOP)
        assert "token" not in page.url
        labelled(page, tmp_path / "pictures")
        before = labels(page)
        assert f"Saved in {tmp_path / 'kept'}" in page.inner_text("#where")
        page.context.close()
        assert not watch.faults

        page, watch = open_page(browser, address, PHONE)
        assert labels(page) == before
        page.keyboard.press("Tab")
        page.locator("#board .fs-tile").first.focus()
        page.keyboard.press("0")
        page.wait_for_selector("#board .fs-none")
        page.keyboard.press("Control+z")
        page.wait_for_selector("#board .fs-none", state="detached")
        page.keyboard.press("Control+Shift+Z")
        page.wait_for_selector("#board .fs-none")
        page.click("#board [data-do=undo]")
        page.wait_for_selector("#board .fs-none", state="detached")

        page.click("#where a")
        page.wait_for_selector(".projects")
        watch.faults.clear()  # leaving the page broke off what it was being told
        accessible(page, "projects on a phone")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        accessible(page, "projects")
        if "FARSHOT_SCREENSHOTS" in os.environ:  # a test's folder means nothing to readers
            shown = [str(tmp_path / "kept"), "plants"]
            page.evaluate(
                "([is, as]) => document.body.innerHTML = document.body.innerHTML.replace(is, as)", shown
            )
            page.set_viewport_size({"width": 1280, "height": 520})
            screenshot(page, "projects")
            page.reload()
            page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        page.click("[data-do=rename]")
        page.fill(".rename input", "Hats <b>&</b> shoes")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Hats <b>&</b> shoes")
        with page.expect_download() as got:
            page.click("text=Export")
        file = tmp_path / got.value.suggested_filename
        got.value.save_as(file)
        assert file.name == "Hats _b_&__b_ shoes.zip"

        asked: list[str] = []
        watch.on_dialog = lambda dialog: (asked.append(dialog.message), dialog.dismiss())
        page.click("[data-do=delete]")
        page.wait_for_timeout(300)
        assert "with its 4 pictures" in asked[0]
        assert page.locator(".projects li").count() == 1  # it was asked, and the answer was no
        watch.on_dialog = lambda dialog: dialog.accept()
        page.click("[data-do=delete]")
        page.wait_for_selector("text=There are none yet")

        page.set_input_files("#import input", file)
        page.click("#import button")
        ready(page)
        assert labels(page) == before
        assert page.input_value("#classes textarea").splitlines() == list(CLASSES)
        assert "Hats <b>&</b> shoes" in page.inner_text("#where")
        assert not watch.faults


def test_a_key_gives_the_class_that_its_page_shows(tmp_path: Path) -> None:
    with started_app("--keep", str(tmp_path / "kept")) as (_, address), browsing.browser() as browser:
        first, _ = open_page(browser, address, DESKTOP)
        labelled(first, tmp_path / "pictures", 1)
        second = first.context.new_page()
        second.goto(first.url)
        ready(second)
        second.wait_for_selector("#board .fs-class:nth-of-type(3)")
        first.bring_to_front()
        first.fill("#classes textarea", "\n".join(reversed(CLASSES)))
        first.click("#name-classes")
        first.wait_for_function(
            f"document.querySelector('#board .fs-class').dataset.value === {CLASSES[1]!r}", timeout=20_000
        )
        second.bring_to_front()
        assert second.locator("#board .fs-class bdi").first.inner_text() == CLASSES[0]
        for number, key in enumerate("12"):
            second.locator("#board .fs-tile").nth(number).focus()
            second.keyboard.press(key)
        # drawn with the new order
        second.wait_for_function(
            f"document.querySelector('#board .fs-class').dataset.value === {CLASSES[1]!r}", timeout=20_000
        )
        assert second.locator("#board .fs-tile .fs-label bdi").all_inner_texts() == list(CLASSES)
        second.locator("#board .fs-tile").first.focus()
        second.keyboard.press("7")
        second.get_by_text("There is no class with this number.").wait_for()
        assert second.locator("#board .fs-tile .fs-label bdi").all_inner_texts() == list(CLASSES)
        # the list that the first page adds to meanwhile
        first.bring_to_front()
        both = "\n".join(reversed(CLASSES))
        first.fill("#classes textarea", f"{both}: some words\nthird")
        first.click("#name-classes")
        first.wait_for_selector("#board .fs-class:nth-of-type(4)")
        second.bring_to_front()
        assert second.input_value("#classes textarea") == both
        second.fill("#classes textarea", f"{both}\nother")
        second.click("#name-classes")
        second.get_by_text("The classes were changed on another page").wait_for()
        assert second.input_value("#classes textarea") == f"{both}: some words\nthird"
        second.fill("#classes textarea", f"{both}: some words\nthird\nother")
        second.click("#name-classes")
        second.wait_for_selector("#board .fs-class:nth-of-type(5)")
        assert second.input_value("#classes textarea") == f"{both}: some words\nthird\nother"


def test_a_second_tab_follows_a_job_and_a_killed_app_leaves_no_progress(tmp_path: Path) -> None:
    keep = ("--keep", str(tmp_path / "kept"))
    with browsing.browser() as browser:
        with started_app(*keep) as (program, address):
            first, _ = open_page(browser, address, DESKTOP)
            labelled(first, tmp_path / "pictures", 3)
            second = first.context.new_page()
            second.goto(first.url)
            ready(second)
            tab(second, "2. Train")
            tab(first, "2. Train")
            advanced(first)
            first.click("#method input")
            first.get_by_role("option", name="atha", exact=True).click()
            first.click("#adapt-button")
            second.wait_for_selector("#progress progress", timeout=20_000)
            assert second.locator("#adapt-button").is_disabled()
            assert second.locator("#stop").is_visible()
            os.kill(program.pid, signal.SIGKILL)
            program.wait(30)
        for page in (first, second):
            page.bring_to_front()
            page.wait_for_selector("#progress progress", state="detached", timeout=30_000)
        port = first.url.split(":")[2].partition("/")[0]
        with started_app(*keep, "--port", port):
            for page in (first, second):
                page.bring_to_front()
                page.wait_for_function("!document.querySelector('#adapt-button')?.disabled", timeout=60_000)
                ready(page)
                assert page.locator("#progress progress").count() == 0
                assert page.locator("#board .fs-tile").count() == 6
                assert page.locator("#board .fs-none").count() == 0
