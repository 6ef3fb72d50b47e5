"""How long a person waits for the app: until its page can be used, and from Adapt to the first prediction.

    python -m benchmarks.app photos/hat photos/shoes

Two folders of pictures, one per class: five of each are labelled, three of each are asked about. In a real
browser, the bundled mini CLIP, Quick on. Medians of several runs, smallest and largest in brackets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser, Page
from tests.browsing import DESKTOP, advanced, browser, idle, open_page, running_app, tab

SHOTS, ASKED = 5, 3
METHODS = ("linear-probe", "atha")


def start(window: Browser) -> float:
    """Seconds from the command to a page that can be used."""
    begun = time.perf_counter()
    with running_app() as address:
        open_page(window, address, DESKTOP)
        return time.perf_counter() - begun


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


def told(seconds: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(seconds):.1f} [{min(seconds):.1f}, {max(seconds):.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    given = parser.parse_args()
    with browser() as window:
        starts = [start(window) for _ in range(given.runs)]
        print(f"from `farshot app` to a usable page, s: {told(starts)}")
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
