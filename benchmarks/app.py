"""How long a person waits for the app, and how many clicks it takes.

    python -m benchmarks.app photos/hat photos/shoes

Two folders of pictures, one per class. A newcomer's way: from the command to the first prediction, with five
pictures of each class to learn from. Then from Train to the first prediction, with five of each labelled and
three of each asked about, Quick on. In a real browser, with the bundled mini CLIP. Medians of several runs,
smallest and largest in brackets.

The start is compared with that of a bare program that imports PyTorch and Gradio and serves a page of as many
components, in turn with it: the ratio says what farshot adds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page
from tests.browsing import DESKTOP, advanced, browser, idle, open_page, ready, running_app, tab

SHOTS, ASKED = 5, 3
FILE_WINDOW, FOLDER_WINDOW = 2, 3
"""Clicks in the system's window: on a file or folder, and its button; for a folder the browser asks again."""
METHODS = ("linear-probe", "atha")


_BARE = """
import os, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import torch
import gradio as gr
with gr.Blocks(analytics_enabled=False) as blocks:
    name = gr.Textbox(elem_id="first", interactive=False)
    with gr.Tabs():
        for step in range(4):
            with gr.Tab(str(step)):
                for number in range(int(sys.argv[1]) // 4):
                    (gr.HTML, gr.Button, gr.Markdown)[number % 3]("text")
    blocks.load(lambda: gr.update(value="ready", interactive=True), None, name)
blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
print(blocks.local_url, flush=True)
blocks.block_thread()
"""


def start(window: Browser, place: Path) -> tuple[float, float]:
    """Seconds from the command until a page appears in the browser that it opens, and until it is usable."""
    told = place / "address"
    told.unlink(missing_ok=True)
    script = place / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {told}.part && mv {told}.part {told}\n')
    script.chmod(0o700)
    begun = time.perf_counter()
    command = [str(Path(sys.executable).with_name("farshot")), "app"]
    with _program(command, {"BROWSER": f"{script} %s"}):
        while not told.exists():
            time.sleep(0.02)
        page = window.new_context(viewport=DESKTOP).new_page()  # type: ignore[arg-type]
        page.goto(told.read_text().strip())
        appeared = time.perf_counter() - begun
        ready(page)
        usable = time.perf_counter() - begun
        page.context.close()
    return appeared, usable


def bare_start(window: Browser, components: int) -> float:
    """Seconds from the command to a usable page of a program that does nothing."""
    begun = time.perf_counter()
    with _program([sys.executable, "-c", _BARE, str(components)], {}) as program:
        assert program.stdout is not None
        page = window.new_context(viewport=DESKTOP).new_page()  # type: ignore[arg-type]
        page.goto(program.stdout.readline().strip())
        page.wait_for_selector("#first textarea:not([disabled]), #first input:not([disabled])")
        usable = time.perf_counter() - begun
        page.context.close()
    return usable


@contextmanager
def _program(command: list[str], more: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as program:
        try:
            yield program
        finally:
            program.terminate()
            program.wait(30)


def components_of(address: str) -> int:
    """How many components the app's page has."""
    with urlopen(f"{address}config") as answer:
        return len(json.load(answer)["components"])


class Hand:
    """A person's clicks on a page.

    Attributes:
        clicks: how many there were; choosing files takes one on the page and those in the system's window.
    """

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, where: str) -> None:
        self.page.click(where)
        self.clicks += 1

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()
        self.clicks += 1

    def choose(self, where: str, path: Path) -> None:
        """A file or folder, with the button that opens the window for it."""
        with self.page.expect_file_chooser() as found:
            self.page.click(where)
        found.value.set_files(path)
        self.clicks += 1 + (FOLDER_WINDOW if path.is_dir() else FILE_WINDOW)


def newcomer(window: Browser, folders: list[Path]) -> tuple[int, list[float]]:
    """Teach two classes with a folder each and ask about one more picture.

    Returns:
        The clicks, and the seconds since the command when the page could be used, all pictures were there,
        the model was trained, and the prediction was shown.
    """
    begun, times = time.perf_counter(), []
    with running_app() as address:
        page, _ = open_page(window, address, DESKTOP)
        hand = Hand(page)
        times.append(time.perf_counter() - begun)
        for number, folder in enumerate(folders, 1):
            hand.choose("#drop label:has([data-pick=folder])", folder)
            _shown(page, "#board", SHOTS * number)
        times.append(time.perf_counter() - begun)
        hand.tab("2. Train")
        hand.click("#adapt-button")
        page.wait_for_function("document.querySelector('#result')?.innerText.includes('Trained with')")
        times.append(time.perf_counter() - begun)
        hand.tab("3. Check")
        hand.choose("#drop-new label:has([data-pick=files])", _pictures(folders[0].parent)[0])
        _shown(page, "#answers", 1)
        times.append(time.perf_counter() - begun)
        page.context.close()
    return hand.clicks, times


def prepare(page: Page, folders: list[Path]) -> None:
    """Labelled pictures of every class, and some without a label."""
    page.fill("#classes textarea", "\n".join(one.name for one in folders))
    page.click("#name-classes")
    page.wait_for_timeout(1000)
    for folder in folders:
        page.click("#into input")
        page.get_by_role("option", name=folder.name, exact=True).click()
        _send(page, _pictures(folder)[:SHOTS])
    page.click("#into input")
    page.get_by_role("option", name="decide later").click()
    _send(page, [path for folder in folders for path in _pictures(folder)[SHOTS : SHOTS + ASKED]])


def adapt(page: Page, method: str) -> tuple[float, float]:
    """Seconds from Adapt to the first prediction on the page, and to the end of the cross-validation."""
    tab(page, "2. Train")
    advanced(page)
    page.click("#method input")
    page.get_by_role("option", name=method, exact=True).click()
    page.wait_for_timeout(1000)
    begun = time.perf_counter()
    page.click("#adapt-button")
    page.wait_for_function(
        "method => document.querySelector('#result')?.innerText.includes(`Trained with ${method} `)"
        " && !document.querySelector('#result .fs-stale')",
        arg=method,
        timeout=600_000,
    )
    first = time.perf_counter() - begun
    idle(page, 900)
    return first, time.perf_counter() - begun


def told(values: list[float], digits: int = 1) -> str:
    """Median, smallest and largest."""
    return " ".join(
        (
            f"{statistics.median(values):.{digits}f}",
            f"[{min(values):.{digits}f}, {max(values):.{digits}f}]",
        )
    )


def print_newcomer(window: Browser, folders: list[Path], runs: int) -> None:
    """A newcomer's way, with a folder for each class that holds as many pictures as are learned from."""
    with tempfile.TemporaryDirectory() as place:
        own = [Path(place) / folder.name for folder in folders]
        for folder, copy in zip(folders, own, strict=True):
            copy.mkdir()
            for path in _pictures(folder)[:SHOTS]:
                shutil.copy(path, copy)
        shutil.copy(_pictures(folders[0])[SHOTS], place)
        found = [newcomer(window, own) for _ in range(runs)]
    clicks = {number for number, _ in found}
    print(f"from `farshot app` to the first prediction: {' or '.join(map(str, sorted(clicks)))} clicks")
    print("| since the command | s |\n|---|---:|")
    names = (
        "the page can be used",
        "the pictures are there",
        "the model is trained",
        "the prediction is shown",
    )
    for name, seconds in zip(names, zip(*(times for _, times in found), strict=True), strict=True):
        print(f"| {name} | {told(list(seconds))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="two; none with --only-start")
    parser.add_argument("--only-start", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    given = parser.parse_args()
    if not given.only_start and len(given.folders) != 2:
        parser.error("give two folders of pictures, or --only-start")
    with browser() as window:
        with running_app() as address:
            components = components_of(f"{address.rstrip('/')}/")
        with tempfile.TemporaryDirectory() as place:
            bare, starts = [], []
            for _ in range(given.runs):
                bare.append(bare_start(window, components))
                starts.append(start(window, Path(place)))
        appeared, usable = (list(column) for column in zip(*starts, strict=True))
        print(f"from `farshot app` to a page, s: {told(appeared)}; to a usable page, s: {told(usable)}")
        print(f"a bare program with {components} components, s: {told(bare)}")
        ratios = [ours / theirs for ours, theirs in zip(usable, bare, strict=True)]
        print(f"ratio: {told(ratios, 2)}")
        if given.only_start:
            return
        print_newcomer(window, given.folders, given.runs)
        print(
            "| method | to the first prediction, s | to the end of the cross-validation, s |\n|---|---:|---:|"
        )
        with running_app() as address:
            page, _ = open_page(window, address, DESKTOP)
            prepare(page, given.folders)
            for method in given.methods:
                times = []
                for _ in range(given.runs):
                    adapt(page, "zero-shot")  # so that the same method is adapted again
                    times.append(adapt(page, method))
                first, end = zip(*times, strict=True)
                print(f"| `{method}` | {told(list(first))} | {told(list(end))} |", flush=True)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _send(page: Page, paths: list[Path]) -> None:
    before = page.locator("#board .fs-tile").count()
    page.set_input_files("#drop input[data-pick=files]", paths)
    _shown(page, "#board", before + len(paths))


def _shown(page: Page, where: str, count: int) -> None:
    """Waits until so many pictures are there."""
    page.wait_for_function(
        "([where, count]) => document.querySelectorAll(`${where} .fs-tile`).length === count",
        arg=[where, count],
        timeout=120_000,
    )


if __name__ == "__main__":
    main()
