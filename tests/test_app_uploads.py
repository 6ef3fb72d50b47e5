"""Pictures on their way into the app, in a real browser: what fails, joins others, is dropped elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from tests import browsing
from tests.browsing import DESKTOP, open_page, running_app, tab
from tests.workspaces import CLASSES, drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

UPLOAD = "**/farshot/upload*"


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Browser]]:
    with running_app() as address, browsing.browser() as browser:
        yield address, browser


@pytest.fixture
def page(served: tuple[str, Browser]) -> Page:
    return open_page(served[1], served[0], DESKTOP)[0]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(8)]
    for file, (_, data) in zip(found, drawn(4), strict=True):
        file.write_bytes(data)
    return found


def choose(page: Page, files: list[Path]) -> None:
    page.set_input_files("#drop input[data-pick=files]", files)


def shown(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => document.querySelectorAll('#board .fs-tile').length === count", arg=count, timeout=30_000
    )


def sending(page: Page) -> str:
    return page.inner_text("#drop .fs-sending")


def test_what_failed_is_counted_as_failed_and_can_be_sent_again(page: Page, files: list[Path]) -> None:
    page.route(UPLOAD, lambda route: route.abort() if "3.png" in route.request.url else route.continue_())
    choose(page, [*files[:4], Path(__file__)])
    again = page.locator("#drop .fs-sending button")
    again.wait_for()
    shown(page, 3)
    text = sending(page)
    assert "5 files sent: 3 new, 1 refused, 1 failed" in text
    assert "3.png: the app did not answer." in text
    assert "test_app_uploads.py: " in text
    page.unroute(UPLOAD)
    again.focus()
    page.keyboard.press("Enter")
    shown(page, 4)
    assert "5 files sent: 4 new, 1 refused." in sending(page)
    assert again.count() == 0


def test_a_dead_server_is_told(page: Page, files: list[Path]) -> None:
    page.route(UPLOAD, lambda route: route.abort())
    choose(page, files[:2])
    page.wait_for_selector("#drop .fs-sending button")
    assert "Nothing was sent: the app did not answer." in sending(page)
    assert "ooking at them" not in sending(page)
    page.unroute(UPLOAD)
    page.click("#drop .fs-sending button")
    shown(page, 2)


def test_a_second_selection_joins_the_first_and_a_reload_shows_what_arrived(
    page: Page, files: list[Path]
) -> None:
    held: list[Route] = []
    page.route(
        UPLOAD, lambda route: held.append(route) if "2.png" in route.request.url else route.continue_()
    )
    choose(page, files[:4])
    choose(page, files[4:])
    shown(page, 7)
    assert "7 of 8 files sent: 7 new" in sending(page)
    assert page.locator("#drop .fs-sending progress").get_attribute("value") == "7"
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.type))
    page.evaluate("setTimeout(() => location.reload(), 0)")
    page.wait_for_timeout(500)
    assert asked == ["beforeunload"]  # and browsing.Watch stays on the page
    held[0].abort()
    page.unroute(UPLOAD)
    shown(page, 8)  # it was sent again by itself; Gradio may have loaded the page again for its connection
    other = page.context.new_page()
    other.goto(page.url)
    browsing.ready(other)
    shown(other, 8)
    assert asked == ["beforeunload"]


def test_pictures_are_shown_though_the_event_that_draws_them_is_lost(page: Page, files: list[Path]) -> None:
    lost: list[str] = []

    def lose(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.fulfill(json={"event_id": "nobody knows it"})

    page.route("**/gradio_api/queue/join*", lose)
    choose(page, files[:1])
    shown(page, 1)
    assert lost


def test_a_reload_in_the_middle_shows_what_arrived(page: Page, files: list[Path]) -> None:
    page.route(UPLOAD, lambda route: None if "7.png" in route.request.url else route.continue_())
    choose(page, files)
    page.wait_for_function(
        "document.querySelector('#drop .fs-sending').innerText.includes('7 of 8 files sent')", timeout=30_000
    )
    page.context.new_page().goto(page.url)  # the same person, while the first page still waits
    other = page.context.pages[1]
    browsing.ready(other)
    shown(other, 7)


def dropped(page: Page, file: Path) -> Any:
    return page.evaluate_handle(
        """([name, text]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name));
            return data;
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )


def test_a_drop_anywhere_on_the_page_is_an_upload(page: Page, files: list[Path]) -> None:
    assert page.evaluate(
        """data => !document.querySelector('.fs-head h1').dispatchEvent(
            new DragEvent('dragover', {dataTransfer: data, bubbles: true, cancelable: true}))""",
        dropped(page, files[0]),
    )  # else the browser would open the file
    page.dispatch_event(".fs-head h1", "drop", {"dataTransfer": dropped(page, files[0])})
    shown(page, 1)
    tab(page, "2. Train")
    page.dispatch_event("#result", "drop", {"dataTransfer": dropped(page, files[1])})
    tab(page, "1. Pictures")
    shown(page, 2)
    tab(page, "3. Check")
    page.wait_for_selector("#drop-new .fs-drop")
    page.dispatch_event(".fs-head h1", "drop", {"dataTransfer": dropped(page, files[2])})
    tab(page, "1. Pictures")
    shown(page, 3)


def test_a_picture_added_again_with_a_class_gets_it_and_the_page_offers_to_undo(
    page: Page, files: list[Path]
) -> None:
    page.fill("#classes textarea", "\n".join(CLASSES))
    page.click("#name-classes")
    choose(page, files[:2])
    shown(page, 2)
    page.click("#into input")
    page.get_by_role("option", name=CLASSES[1], exact=True).click()
    choose(page, files[:1])
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 1")
    assert "is now" in page.inner_text("#note")
    page.click("#note [data-do=undo]")
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 2")


def test_a_removal_can_be_undone_from_a_message_that_is_seen(page: Page, files: list[Path]) -> None:
    choose(page, files)
    shown(page, 8)
    page.fill("#classes textarea", "\n".join(CLASSES))
    page.click("#name-classes")
    order = [tile.get_attribute("data-id") for tile in page.locator("#board .fs-tile").all()]
    page.set_viewport_size({"width": 390, "height": 500})
    last = page.locator("#board .fs-tile").nth(7)
    last.focus()
    page.keyboard.press("Delete")
    shown(page, 7)
    page.wait_for_selector("#note [data-do=undo]")
    seen = page.evaluate(
        """() => { const box = document.querySelector('#note [data-do=undo]').getBoundingClientRect();
            return box.top >= 0 && box.bottom <= window.innerHeight; }"""
    )
    assert seen
    page.click("#note [data-do=undo]")
    shown(page, 8)
    assert [tile.get_attribute("data-id") for tile in page.locator("#board .fs-tile").all()] == order
    page.locator("#board .fs-tile").nth(2).focus()
    page.keyboard.press("1")
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 7")
    page.keyboard.press("Control+z")
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 8")


def test_back_goes_to_the_step_before_and_not_away(page: Page) -> None:
    address = page.url
    for name in ("2. Train", "3. Check"):
        tab(page, name)
    for name in ("2. Train", "1. Pictures"):
        page.go_back()
        page.wait_for_timeout(400)
        assert page.url == address
        assert page.get_by_role("tab", name=name).get_attribute("aria-selected") == "true"
    page.go_forward()
    page.wait_for_timeout(400)
    assert page.get_by_role("tab", name="2. Train").get_attribute("aria-selected") == "true"


def test_a_button_can_be_read_as_soon_as_it_can_be_used(page: Page) -> None:
    tab(page, "2. Train")
    found = page.evaluate(
        """() => { const button = document.querySelector('#adapt-button');
            button.disabled = true; getComputedStyle(button).opacity;
            button.disabled = false; const style = getComputedStyle(button);
            return [style.transitionDuration, style.opacity]; }"""
    )
    assert found == ["0s", "1"]
