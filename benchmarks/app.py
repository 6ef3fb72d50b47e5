"""How long a person waits for the app: until its page can be used, and from Adapt to the first prediction.

    python -m benchmarks.app photos/hat photos/shoes

Two folders of pictures, one per class: five of each are labelled, three of each are asked about. In a real
browser, the bundled mini CLIP, Quick on. Medians of several runs, smallest and largest in brackets.

The start is compared with that of a bare program that imports PyTorch and Gradio and serves a page of as many
components, in turn with it: the ratio says what farshot adds.
"""

from __future__ import annotations

import argparse
import json
import os
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


def prepare(page: Page, folders: list[Path]) -> None:
    """Labelled pictures of every class, and some without a label."""
    page.fill("#classes textarea", "\n".join(one.name for one in folders))
    page.click("#name-classes")
    page.wait_for_timeout(1000)
    for folder in folders:
        page.click("#into input")
        page.get_by_role("option", name=folder.name, exact=True).click()
        _send(page, sorted(folder.iterdir())[:SHOTS])
    page.click("#into input")
    page.get_by_role("option", name="decide later").click()
    _send(page, [path for folder in folders for path in sorted(folder.iterdir())[SHOTS : SHOTS + ASKED]])


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


def _send(page: Page, paths: list[Path]) -> None:
    before = page.locator("#board .fs-tile").count()
    page.set_input_files("#drop input[data-pick=files]", paths)
    page.wait_for_function(
        "wanted => document.querySelectorAll('#board .fs-tile').length === wanted", arg=before + len(paths)
    )


if __name__ == "__main__":
    main()
