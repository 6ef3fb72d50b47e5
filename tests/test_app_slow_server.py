"""The page in front of a slow server: what a person does in the meantime is neither lost nor done to other
pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests import browsing
from tests.browsing import DESKTOP, open_page, running_app
from tests.workspaces import CLASSES, drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

SLOW = """delays => {
    const send = window.fetch;
    window.fetch = async (address, more) => {
        const posted = (more?.method ?? 'GET') === 'POST';
        if (posted) await new Promise((go) => setTimeout(go, delays.shift() ?? 0));
        return send(address, more);
    };
}"""
"""Each further POST of the page waits for so many milliseconds first."""

LOST = """what => {
    const send = window.fetch;
    window.fetch = async (address, more) => {
        const lost = (more?.method ?? 'GET') === 'POST' ? what.shift() : undefined;
        if (lost === 'request') throw new TypeError('no network');
        const answer = await send(address, more);
        if (lost === 'answer') throw new TypeError('no network');
        return answer;
    };
}"""
"""The next POSTs of the page do not reach the server, or their answers not the page."""


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Browser]]:
    with running_app() as address, browsing.browser() as browser:
        yield address, browser


@pytest.fixture
def page(served: tuple[str, Browser], tmp_path: Path) -> Page:
    """Two classes, and four pictures of each without a label."""
    page, _ = open_page(served[1], served[0], DESKTOP)
    page.fill("#classes textarea", "\n".join(CLASSES))
    page.click("#name-classes")
    page.wait_for_timeout(500)
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for file, (_, data) in zip(files, drawn(4), strict=True):
        file.write_bytes(data)
    page.set_input_files("#drop input[data-pick=files]", files)
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 8")
    page.wait_for_selector("#board .fs-class:nth-of-type(3)")
    return page


def labels(page: Page) -> list[str]:
    """What the server has, as a page that is loaded again shows it."""
    page.reload()
    browsing.ready(page)
    return page.locator("#board .fs-tile .fs-label").all_inner_texts()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.dataset.id"))


def until(page: Page, what: Callable[[], bool], seconds: float = 30) -> bool:
    for _ in range(int(seconds * 10)):
        if what():
            return True
        page.wait_for_timeout(100)
    return False


def test_the_last_label_of_a_picture_counts_though_an_earlier_one_is_slower(page: Page) -> None:
    page.evaluate(SLOW, [1500, 0])
    page.locator("#board .fs-tile").nth(0).focus()
    page.keyboard.press("1")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("2")
    page.wait_for_timeout(3000)
    assert CLASSES[1] in labels(page)[0]


def test_no_label_is_lost_where_requests_are_slow_and_uneven(page: Page) -> None:
    page.evaluate(SLOW, [700, 0, 900, 0, 300, 600, 0, 800, 0, 500, 0, 900] * 3)
    page.locator("#board .fs-tile").nth(0).focus()
    for place in range(8):
        page.keyboard.press("12"[place % 2])
        page.wait_for_timeout(150)
    done = "document.querySelectorAll('#board .fs-tile .fs-none').length === 0"
    assert until(page, lambda: bool(page.evaluate(done)))
    for place, text in enumerate(labels(page)):
        assert CLASSES[place % 2] in text


def test_a_label_is_sent_again_until_the_server_has_it(page: Page) -> None:
    """Answers and requests that are lost."""
    page.evaluate(LOST, ["request", "answer", "request", "answer"])
    page.locator("#board .fs-tile").nth(0).focus()
    page.keyboard.press("1")
    page.keyboard.press("2")
    status = page.locator("#fs-outbox")
    status.wait_for(state="visible")
    assert "does not answer" in status.inner_text()
    page.wait_for_function(
        "document.querySelectorAll('#board .fs-tile .fs-none').length === 6", timeout=30_000
    )
    assert not status.is_visible()
    found = labels(page)
    assert (CLASSES[0] in found[0], CLASSES[1] in found[1]) == (True, True)


def test_the_page_asks_before_what_was_not_sent_is_lost(page: Page) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.type))  # browsing.Watch dismisses it
    page.evaluate(LOST, ["request"] * 3)
    page.locator("#board .fs-tile").nth(0).focus()
    page.keyboard.press("1")
    page.locator("#fs-outbox").wait_for(state="visible")
    page.evaluate("setTimeout(() => location.reload(), 0)")
    assert until(page, lambda: bool(asked))
    assert asked == ["beforeunload"]
    page.wait_for_function(
        "document.querySelectorAll('#board .fs-tile .fs-none').length === 7", timeout=30_000
    )
    assert CLASSES[0] in labels(page)[0]
    assert asked == ["beforeunload"]  # now nothing is lost


def test_a_redraw_does_not_move_the_focus_from_where_the_person_went(page: Page) -> None:
    page.evaluate(SLOW, [800])
    tiles = page.locator("#board .fs-tile")
    ids = [tiles.nth(place).get_attribute("data-id") for place in range(8)]
    tiles.nth(0).focus()
    page.keyboard.press("1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == ids[3]
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 7")
    page.wait_for_timeout(300)
    assert focused(page) == ids[3]


def test_pictures_stay_chosen_while_the_board_is_drawn_again(page: Page) -> None:
    page.evaluate(SLOW, [800])
    tiles = page.locator("#board .fs-tile")
    tiles.nth(0).focus()
    page.keyboard.press("1")
    tiles.nth(4).click()
    tiles.nth(6).click()
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 7")
    page.wait_for_timeout(300)
    page.locator("#board .fs-class").nth(1).click()
    page.wait_for_function("document.querySelectorAll('#board .fs-tile .fs-none').length === 5")
    found = labels(page)
    assert [CLASSES[1] in text for text in found] == [place in (4, 6) for place in range(8)]


def test_a_key_during_a_redraw_labels_the_picture_that_had_the_focus(page: Page) -> None:
    """In a list that gets shorter with every label."""
    tiles = page.locator("#board .fs-tile")
    ids = [tiles.nth(place).get_attribute("data-id") for place in range(8)]
    page.locator("#board [data-filter=none]").click()
    page.wait_for_selector("#board [data-filter=none][aria-pressed=true]")
    page.evaluate(SLOW, [400, 100, 900, 0, 300, 700] * 4)
    tiles.nth(0).focus()
    for place in range(7):
        assert focused(page) == ids[place]
        page.keyboard.press("12"[place % 2])
        page.wait_for_timeout(250)
    assert until(page, lambda: tiles.count() == 1)
    assert focused(page) == ids[7]
    page.locator("#board [data-filter=all]").click()
    page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 8")
    for place, text in enumerate(labels(page)[:7]):
        assert CLASSES[place % 2] in text
