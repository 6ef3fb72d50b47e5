"""Labelling on the board in a real browser: large view, choosing many, search, keys, camera.

FARSHOT_SCREENSHOTS=docs writes the pictures of docs/app.md on the way.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests import browsing
from tests.browsing import DESKTOP, PHONE, advanced, idle, open_page, running_app, sent, tab
from tests.workspaces import CLASSES, drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(browsing.CHROMIUM is None, reason="there is no Chromium on this machine"),
]

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Chromium's camera that is none, and its consent."""


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Browser]]:
    with running_app() as address, browsing.browser(*CAMERA) as browser:
        yield address, browser


def brought(page: Page, folder: Path, count: int = 4) -> list[str]:
    """Two classes, and so many pictures of each without a label, called 0.png and so on; their ids."""
    page.fill("#classes textarea", "\n".join(CLASSES))
    page.click("#name-classes")
    page.wait_for_timeout(500)
    files = [folder / f"{number}.png" for number in range(2 * count)]
    for file, (_, data) in zip(files, drawn(count), strict=True):
        file.write_bytes(data)
    for file in files:  # one by one, so that their order is known
        page.set_input_files("#drop input[data-pick=files]", file)
        sent(page)
    page.wait_for_function(
        "count => document.querySelectorAll('#board .fs-tile .fs-none').length === count", arg=2 * count
    )
    page.wait_for_selector("#board [data-do=label]:nth-of-type(3)")
    return [str(tile.get_attribute("data-id")) for tile in page.locator("#board .fs-tile").all()]


@pytest.fixture
def page(served: tuple[str, Browser], tmp_path: Path) -> Iterator[Page]:
    """A session with four pictures of each class; at the end nothing was wrong with the page."""
    page, watch = open_page(served[1], served[0], DESKTOP)
    page.ids = brought(page, tmp_path)  # type: ignore[attr-defined]
    yield page
    assert not watch.faults
    page.context.close()


def ids(page: Page) -> list[str]:
    return page.ids  # type: ignore[attr-defined, no-any-return]


def tile(page: Page, number: int) -> Any:
    return page.locator(f"#board .fs-tile[data-id='{ids(page)[number]}']")


def chosen(page: Page) -> list[int]:
    pressed = page.locator("#board .fs-tile[aria-pressed=true]").all()
    return sorted(ids(page).index(str(one.get_attribute("data-id"))) for one in pressed)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.dataset.id"))


def labelled(page: Page, wanted: list[int | None]) -> None:
    """Waits until the pictures have these classes, in the order in which they were brought."""
    texts = [CLASSES[one] if one is not None else "no class" for one in wanted]
    page.wait_for_function(
        """([ids, texts]) => ids.every((id, i) => {
            const found = document.querySelector(`#board .fs-tile[data-id='${id}'] .fs-label`);
            return found && found.textContent.endsWith(texts[i]);
        })""",
        arg=[ids(page), texts],
    )


def shown(page: Page) -> list[str]:
    return page.locator("#board .fs-tile .fs-name").all_inner_texts()


def accessible(page: Page, where: str) -> None:
    """Nothing serious, in light and in dark."""
    for dark in (False, True):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        page.wait_for_timeout(500)  # until the colours have changed
        found = Axe().run(page).response["violations"]
        bad = [
            (v["id"], [n["target"] for n in v["nodes"]][:3])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert not bad, (where, dark, bad)
    page.evaluate("document.body.classList.remove('dark')")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), where


def screenshot(page: Page, name: str) -> None:
    if place := os.environ.get("FARSHOT_SCREENSHOTS"):
        page.screenshot(path=Path(place) / f"app-{name}.png")


# The large view --------------------------------------------------------------------------------------------


def open_large(page: Page, number: int) -> None:
    tile(page, number).focus()
    page.keyboard.press("Enter")
    seen(page, number)


def seen(page: Page, number: int) -> None:
    """Waits until the large view shows this picture, and not the one before."""
    page.wait_for_function(
        """id => { const image = document.querySelector('.fs-large[open] .fs-stage img');
            return image && image.src.endsWith(id) && image.complete && image.naturalWidth > 0
                && getComputedStyle(image).visibility === 'visible'; }""",
        arg=ids(page)[number],
    )


def test_pictures_are_labelled_in_the_large_view(page: Page) -> None:
    open_large(page, 0)
    assert "large/" in str(page.get_attribute(".fs-stage img", "src"))
    page.keyboard.press("1")
    seen(page, 1)
    page.keyboard.press("2")
    seen(page, 2)
    page.locator(".fs-large [data-do=label]").nth(0).click()
    seen(page, 3)
    labelled(page, [0, 1, 0, None, None, None, None, None])
    page.keyboard.press("ArrowLeft")
    seen(page, 2)
    page.keyboard.press("Backspace")
    seen(page, 3)
    page.keyboard.press("End")
    seen(page, 7)
    page.keyboard.press("2")  # there is no next one
    labelled(page, [0, 1, None, None, None, None, None, 1])
    assert page.inner_text(".fs-large [data-class]").endswith(CLASSES[1])
    assert page.locator(".fs-large [data-large=next]").is_disabled()
    page.keyboard.press("Control+z")
    labelled(page, [0, 1, None, None, None, None, None, None])
    page.keyboard.press("Home")
    seen(page, 0)
    page.keyboard.press("Delete")
    seen(page, 1)
    page.keyboard.press("Escape")
    assert page.locator(".fs-large[open]").count() == 0
    assert focused(page) == ids(page)[1]


def test_a_picture_that_is_not_seen_yet_gets_no_label(page: Page) -> None:
    open_large(page, 0)
    held: list[Any] = []
    page.route("**/farshot/large/*", lambda route: held.append(route))
    page.keyboard.press("PageDown")
    page.keyboard.press("PageDown")  # the neighbour is loaded ahead, this one is not
    page.wait_for_timeout(500)
    assert page.evaluate("getComputedStyle(document.querySelector('.fs-stage img')).visibility") == "hidden"
    page.keyboard.press("1")
    for one in held:
        one.continue_()
    page.unroute("**/farshot/large/*")
    seen(page, 2)
    page.keyboard.press("2")
    labelled(page, [None, None, 1, None, None, None, None, None])


def test_the_large_view_enlarges_and_moves(page: Page) -> None:
    def box() -> dict[str, float]:
        return page.evaluate(  # type: ignore[no-any-return]
            "document.querySelector('.fs-stage img').getBoundingClientRect().toJSON()"
        )

    open_large(page, 0)
    whole = box()
    page.keyboard.press("+")
    assert box()["width"] == pytest.approx(1.25 * whole["width"], rel=0.01)
    before = box()
    page.keyboard.press("ArrowRight")
    assert box()["left"] == pytest.approx(before["left"] - 80, abs=1)
    seen(page, 0)  # the arrow did not go to the next one
    page.keyboard.press("-")
    assert box() == whole
    middle = page.locator(".fs-stage").bounding_box()
    assert middle is not None
    x, y = middle["x"] + middle["width"] / 4, middle["y"] + middle["height"] / 4
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    page.wait_for_function("document.querySelector('[data-zoom]').textContent === '125 %'")
    now = box()  # the point below the pointer stays
    assert (x - now["left"]) / now["width"] == pytest.approx((x - whole["left"]) / whole["width"], abs=0.01)
    page.mouse.down()
    page.mouse.move(x - 40, y - 30, steps=4)
    page.mouse.up()
    assert (box()["left"], box()["top"]) == pytest.approx((now["left"] - 40, now["top"] - 30), abs=1)
    page.keyboard.press("0")
    assert box() == whole
    labelled(page, [None] * 8)
    page.keyboard.press("+")
    page.keyboard.press("PageDown")
    seen(page, 1)
    assert box() == whole


def test_the_large_view_follows_a_filter_that_gets_shorter(page: Page) -> None:
    page.locator("#board [data-filter=none]").click()
    page.locator("#board .fs-open >> nth=2").click()
    seen(page, 2)
    for number in (2, 3, 4):
        seen(page, number)
        page.keyboard.press("1")
    seen(page, 5)
    page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 5")
    page.keyboard.press("ArrowLeft")
    seen(page, 1)
    page.click(".fs-large [data-large=close]")
    page.wait_for_function("id => document.activeElement.dataset.id === id", arg=ids(page)[1])


# Choosing --------------------------------------------------------------------------------------------------


def test_clicks_choose_one_or_a_range_and_one_action_labels_them(page: Page) -> None:
    tile(page, 1).click()
    tile(page, 4).click(modifiers=["Shift"])
    tile(page, 6).click()
    tile(page, 2).click()
    assert chosen(page) == [1, 3, 4, 6]
    assert page.inner_text("#board [data-said]") == "4 chosen"
    page.locator("#board [data-do=label]").nth(1).click()
    labelled(page, [None, 1, None, 1, 1, None, 1, None])
    assert chosen(page) == []
    page.keyboard.press("Control+z")
    labelled(page, [None] * 8)
    page.keyboard.press("Control+Shift+z")
    labelled(page, [None, 1, None, 1, 1, None, 1, None])


def test_keys_choose_all_or_a_range(page: Page) -> None:
    tile(page, 2).focus()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == [2, 3, 4]
    page.keyboard.press("Escape")
    assert chosen(page) == []
    page.keyboard.press("Control+a")
    assert chosen(page) == list(range(8))
    page.keyboard.press("1")
    labelled(page, [0] * 8)
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.wait_for_selector("#board .fs-empty")
    page.click("#note [data-do=undo]")
    labelled(page, [0] * 8)
    page.fill("#board [data-search]", "0.png")
    page.keyboard.press("Control+a")  # of the text
    assert chosen(page) == []


def test_dragging_chooses_what_is_in_the_rectangle(page: Page) -> None:
    first, last = tile(page, 1).bounding_box(), tile(page, 2).bounding_box()
    page.mouse.move(first["x"] + 30, first["y"] + 30)
    page.mouse.down()
    page.mouse.move(last["x"] + 60, last["y"] + 90, steps=5)
    page.wait_for_timeout(100)
    assert page.locator(".fs-frame").is_visible()
    page.mouse.up()
    assert chosen(page) == [1, 2]
    assert not page.locator(".fs-frame").is_visible()
    tile(page, 7).click()
    page.keyboard.press("2")
    labelled(page, [None, 1, 1, None, None, None, None, 1])


def test_pictures_out_of_sight_are_not_labelled(page: Page) -> None:
    tile(page, 0).click()
    tile(page, 5).click()
    page.fill("#board [data-search]", "5.PNG")
    assert shown(page) == ["5.png"]
    page.locator("#board [data-do=label]").nth(0).click()
    labelled_now = [None] * 5 + [0] + [None] * 2
    page.fill("#board [data-search]", "")
    labelled(page, labelled_now)


def test_the_board_is_sorted_and_searched(page: Page) -> None:
    for number, value in ((0, 1), (3, 0), (5, 1), (6, 0)):
        tile(page, number).focus()
        page.keyboard.press(str(value + 1))
    labelled(page, [1, None, None, 0, None, 1, 0, None])
    page.select_option("#board [data-sort]", "class")
    assert shown(page) == [f"{n}.png" for n in (3, 6, 0, 5, 1, 2, 4, 7)]
    page.fill("#board [data-search]", CLASSES[1][:3].upper())
    assert shown(page) == ["0.png", "5.png"]
    page.fill("#board [data-search]", "zebra")
    assert page.get_by_text("No picture here").is_visible()
    page.fill("#board [data-search]", "")
    page.select_option("#board [data-sort]", "name")
    assert shown(page) == [f"{n}.png" for n in range(8)]
    assert page.locator("#board [value=sure]").is_disabled()
    tab(page, "2. Train")
    page.click("#adapt-button")
    page.wait_for_selector("#progress progress")
    idle(page, 120)
    tab(page, "1. Pictures")
    page.wait_for_function("!document.querySelector('#board [value=sure]').disabled")
    page.select_option("#board [data-sort]", "sure")
    order = [int(name.removesuffix(".png")) for name in shown(page)]
    assert sorted(order[:4]) == [1, 2, 4, 7]  # those with a prediction first
    margins = {row[0]: row[3] for row in page.evaluate("fetch('farshot/tiles').then(a => a.json())")["tiles"]}
    found = [margins[ids(page)[number]] for number in order[:4]]
    assert found == sorted(found)
    assert order[4:] == [0, 3, 5, 6]


def test_labels_are_given_while_a_model_is_adapted(page: Page) -> None:
    for number in (0, 1, 2, 4, 5, 6):
        tile(page, number).focus()
        page.keyboard.press("1" if number < 4 else "2")
    labelled(page, [0, 0, 0, None, 1, 1, 1, None])
    tab(page, "2. Train")
    advanced(page)
    page.click("#method input")
    page.get_by_role("option", name="atha", exact=True).click()
    page.click("#adapt-button")
    page.wait_for_selector("#progress progress")
    tab(page, "1. Pictures")
    tile(page, 3).focus()
    page.keyboard.press("1")
    labelled(page, [0, 0, 0, 0, 1, 1, 1, None])
    page.keyboard.press("Control+z")
    labelled(page, [0, 0, 0, None, 1, 1, 1, None])
    assert page.locator("#progress progress").is_visible()
    page.click("#stop")
    idle(page, 120)


# Keys, camera, clipboard, tables -------------------------------------------------------------------------


def test_the_list_of_keys_keeps_the_focus_and_gives_it_back(page: Page) -> None:
    tile(page, 3).focus()
    page.keyboard.press("?")
    page.wait_for_selector(".fs-keys[open]")
    for _ in range(4):
        page.keyboard.press("Tab")
        inside = "document.activeElement === document.body || !!document.activeElement.closest('.fs-keys')"
        assert page.evaluate(inside)
    page.keyboard.press("1")  # is for nothing behind the list
    page.keyboard.press("Escape")
    assert focused(page) == ids(page)[3]
    labelled(page, [None] * 8)
    page.locator("#board [data-keys]").click()
    page.wait_for_selector(".fs-keys[open]")
    page.click(".fs-keys [data-close]")
    assert page.evaluate("document.activeElement.matches('[data-keys]')")
    open_large(page, 2)
    page.keyboard.press("?")
    page.keyboard.press("Escape")
    seen(page, 2)  # only the list was closed


def test_the_camera_takes_pictures(page: Page) -> None:
    page.click("#into input")
    page.get_by_role("option", name=CLASSES[1], exact=True).click()
    page.click("#drop [data-camera]")
    page.wait_for_selector(".fs-camera [data-shoot]:enabled")
    page.wait_for_timeout(500)
    page.click(".fs-camera [data-shoot]")
    page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 9")
    assert "1 picture taken" in page.inner_text(".fs-camera [data-said]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('.fs-camera video').srcObject === null")
    last = page.locator("#board .fs-tile").nth(8)
    assert last.locator(".fs-name").inner_text().startswith("camera-")
    assert CLASSES[1] in last.locator(".fs-label").inner_text()


def test_without_a_camera_one_sentence_says_so(page: Page) -> None:
    for script, words in (
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject({ name: 'NotFoundError' })",
            "no camera",
        ),
        ("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })", "loopback or an https"),
    ):
        page.evaluate(f"() => {{ {script}; }}")
        page.click("#drop [data-camera]")
        assert page.get_by_text(words).is_visible()
        assert page.locator(".fs-camera [data-shoot]").is_disabled()
        page.click(".fs-camera [data-close]")


def test_a_picture_is_pasted(page: Page) -> None:
    data = base64.b64encode(drawn(1, start=4000)[0][1]).decode()
    paste = """([text, where]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
        data.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
        const event = new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
        document.querySelector(where).dispatchEvent(event);
    }"""
    page.evaluate(paste, [data, "body"])
    page.wait_for_function("document.querySelectorAll('#board .fs-tile').length === 9")
    assert shown(page)[8].startswith("pasted-")
    assert shown(page)[8].endswith(".png")


def test_a_table_of_labels_comes_after_the_pictures_that_it_is_about(page: Page, tmp_path: Path) -> None:
    (tmp_path / "new.png").write_bytes(drawn(1, start=4000)[0][1])
    (tmp_path / "a.csv").write_text(f"path,label\nnew.png,{CLASSES[0]}\n3.png,{CLASSES[1]}\ngone.png,x\n")
    page.set_input_files("#drop input[data-pick=files]", [tmp_path / "a.csv", tmp_path / "new.png"])
    labelled(page, [None, None, None, 1, None, None, None, None])
    assert CLASSES[0] in page.locator("#board .fs-tile").nth(8).inner_text()
    page.wait_for_selector("#note [data-do=undo]")
    assert "2 labels set, 1 name unknown: gone.png" in page.inner_text("#note")
    page.click("#note [data-do=undo]")
    labelled(page, [None] * 8)
    with page.expect_download() as got:
        page.click("#board a[download]")
    assert got.value.suggested_filename == "labels.csv"


# Everybody, every width ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["wide", "phone"])
def test_everything_is_accessible_and_the_class_bar_stays_in_sight(
    served: tuple[str, Browser], tmp_path: Path, size: dict[str, int]
) -> None:
    page, watch = open_page(served[1], served[0], size)
    page.ids = brought(page, tmp_path, 16)  # type: ignore[attr-defined]
    tile(page, 0).focus()
    page.keyboard.press("1")
    tile(page, 5).click()
    name = "wide" if size is DESKTOP else "phone"
    accessible(page, f"board, {name}")
    tile(page, 31).focus()
    bar = page.locator("#board [data-do=label]").first.bounding_box()
    assert bar is not None
    assert 0 <= bar["y"] < 200
    for number in (31, 12):  # what has the focus is not below the bar
        tile(page, number).focus()
        box, covered = tile(page, number).bounding_box(), page.locator(".fs-sticky").bounding_box()
        assert covered["y"] + covered["height"] <= box["y"] + 1
    page.keyboard.press("Enter")
    seen(page, 12)
    accessible(page, f"large view, {name}")
    screenshot(page, f"large-{name}")
    page.keyboard.press("?")
    accessible(page, f"keys, {name}")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.click("#drop [data-camera]")
    page.wait_for_selector(".fs-camera [data-shoot]:enabled")
    accessible(page, f"camera, {name}")
    page.keyboard.press("Escape")
    assert not watch.faults
    page.context.close()
