"""A real browser in front of a real app."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in _NAMES if (found := shutil.which(name))), None)
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextmanager
def running_app(*options: str) -> Iterator[str]:
    """The address of `farshot app` as a separate program."""
    with started_app(*options) as (_, address):
        yield address


@contextmanager
def started_app(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`farshot app` as a separate program, and its address."""
    command = [str(Path(sys.executable).with_name("farshot")), "app", "--no-browser", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        try:
            assert program.stdout is not None
            line = program.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found, line
            yield program, found.group()
        finally:
            program.terminate()
            program.wait(30)


@contextmanager
def browser(*options: str) -> Iterator[Browser]:
    """Chromium without a window, with these options in addition."""
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *options])


class Watch:
    """What a page did that it should not: errors, answers that are none, requests to others.

    Attributes:
        on_dialog: what is done with a question; by default it is a fault and answered with no.
    """

    def __init__(self, page: Page, own: str) -> None:
        self.faults: list[str] = []
        self.on_dialog: Callable[[Any], object] | None = None
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("dialog", self._dialog)
        page.on("request", lambda asked: self._asked(asked.url, own))
        page.on("response", lambda got: self._got(got.status, got.url))

    def forget_ended_streams(self) -> None:
        """After the page was loaded again: what it followed ended in the middle, which is no fault.

        Gradio's client aborts its streams before a page is left; newer browsers say so in other words.
        """
        ended = ("BodyStreamBuffer was aborted", "signal is aborted without reason", "Connection errored out")
        self.faults = [fault for fault in self.faults if not any(words in fault for words in ended)]

    def _dialog(self, dialog: Any) -> None:
        if self.on_dialog is not None:
            self.on_dialog(dialog)
            return
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _got(self, status: int, url: str) -> None:
        if status >= 400:
            self.faults.append(f"{status} {url}")

    def _asked(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            self.faults.append(f"asked {url}")


def open_page(browser: Browser, address: str, size: dict[str, int], **more: Any) -> tuple[Page, Watch]:
    """A page in a new session, ready to be used; of an app with projects, in the first project."""
    page = browser.new_context(viewport=size, accept_downloads=True, **more).new_page()  # type: ignore[arg-type]
    watch = Watch(page, address.partition("?")[0])
    page.goto(address)
    if "?token=" in address:
        page.wait_for_selector("#create")
        if page.locator(".projects .open").count():
            page.locator(".projects .open").first.click()
        else:
            page.fill("#create input", "Clothes")
            page.click("#create button")
    ready(page)
    return page, watch


def ready(page: Page) -> None:
    """Waits until the page can be used and shows what the person has."""
    page.wait_for_selector("#classes textarea:not([disabled])", timeout=60_000)
    page.wait_for_function(
        "document.querySelector('#board .fs-empty, #board .fs-tile') !== null", timeout=60_000
    )


def tab(page: Page, name: str) -> None:
    """Goes to a step; on a narrow screen it may lie behind the dots."""
    found = page.get_by_role("tab", name=name)
    if not found.is_visible():
        page.get_by_role("button", name="More tabs").click()
        found = page.get_by_role("button", name=name)
    found.click()
    page.wait_for_timeout(400)  # until the panel is drawn


def advanced(page: Page) -> None:
    """Opens what lies under Advanced, with the views of pictures left out."""
    if not page.locator("#method input").is_visible():
        page.click("#advanced button")
        page.wait_for_selector("#method input")
    page.check("#quick input")


def sent(page: Page) -> None:
    """Waits until all files have been sent."""
    page.wait_for_function(
        "document.querySelector('#drop .fs-sending p')"
        " && !document.querySelector('#drop .fs-sending progress')",
        timeout=120_000,
    )


def idle(page: Page, seconds: float) -> None:
    """Waits until no job is running."""
    start = time.monotonic()
    page.wait_for_timeout(300)
    while page.locator("#progress progress").count() and page.locator("#progress progress").is_visible():
        assert time.monotonic() - start < seconds, "the job did not end"
        page.wait_for_timeout(300)
