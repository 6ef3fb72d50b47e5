"""How fast `farshot serve` answers, and what it survives: the tables of docs/serve.md.

    python -m benchmarks.serve photos/
    python -m benchmarks.serve photos/ --parts soak restart replace --requests 10000

The folder holds a folder of pictures per class. `linear-probe` is adapted to five of each with `mini` and
with a ViT-B/16 of random weights; the others are sent. The service is a separate program on the same
computer, and the clients are threads that ask one after the other, so both share its processors.

latency   one client that sends 1 to 64 images a request
clients   1 to 64 clients that send one image a request, with batches across requests and without
soak      requests of eight clients, one of a hundred hostile: truncated, a header of gigapixels, 400
          megapixels of zeros, zips, other content types, giant and nested JSON, too many bytes. Each must be
          refused with a sentence, and memory must not grow
restart   the service is killed (SIGKILL) under load and started again: seconds from the start of the process
          to the first answer
replace   the model is replaced again and again under load: no request may fail
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from benchmarks.export import vit
from tests.hostile_images import images as hostile_images
from tests.serve_helpers import program

from farshot import FewShotClassifier
from farshot.data.readers import read_table

SIZES = (1, 2, 4, 8, 16, 32, 64)
PARTS = ("latency", "clients", "soak", "restart", "replace")
METHODS = ("linear-probe", "prototypes")
SHOTS = 5
SOAK_CLIENTS, HOSTILE_EVERY = 8, 100
_BOUNDARY = "farshot-benchmark"
_FORM = f"multipart/form-data; boundary={_BOUNDARY}"


@dataclass(frozen=True)
class Post:
    """A request.

    Attributes:
        kind: what is hostile about it; empty for an ordinary one.
        filler: bytes of one more header.
    """

    body: bytes
    content_type: str = _FORM
    images: int = 1
    kind: str = ""
    filler: int = 0


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        seconds: of each answered request.
        statuses: (kind, status) -> how many.
        faults: what should not be.
    """

    seconds: list[float] = field(default_factory=list)
    images: int = 0
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)


def form(files: Sequence[bytes]) -> bytes:
    """A body with these files."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename='
    parts = [f'{head}"{number}.jpg"\r\n\r\n'.encode() + data + b"\r\n" for number, data in enumerate(files)]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def ask(url: str, posts: Iterator[Post], seen: Seen, go_on: Callable[[], bool], lock: threading.Lock) -> None:
    """One client: a request after the other on one connection, until `go_on` says no."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=600)
    while go_on():
        with lock:
            post = next(posts)
        begun = time.perf_counter()
        try:
            headers = {"content-type": post.content_type, "x-filler": "x" * post.filler}
            connection.request("POST", "/predict", post.body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            with lock:
                seen.faults.append(f"{post.kind or 'ordinary'}: {type(error).__name__}")
            connection.close()
            continue
        seconds = time.perf_counter() - begun
        with lock:
            _note(seen, post, answer.status, text, seconds)
    connection.close()


def _note(seen: Seen, post: Post, status: int, text: bytes, seconds: float) -> None:
    seen.statuses[post.kind, status] += 1
    told = json.loads(text) if text.startswith(b"{") else {"error": text.decode(errors="replace")}
    if post.kind:
        if not (400 <= status < 500 and str(told.get("error", "")).endswith(".")):
            seen.faults.append(f"{post.kind}: {status} {text[:100]!r}")
        return
    if status != 200 or len(told["images"]) != post.images or any("error" in one for one in told["images"]):
        seen.faults.append(f"ordinary: {status} {text[:100]!r}")
        return
    seen.seconds.append(seconds)
    seen.images += post.images
    seen.versions[told["version"]] += 1


def load(url: str, posts: Iterator[Post], clients: int, seconds: float) -> tuple[Seen, float]:
    """What so many clients saw in so many seconds, and how long it took; each asks at least once."""
    seen, lock, end = Seen(), threading.Lock(), time.perf_counter() + seconds
    begun = time.perf_counter()
    asked: set[int] = set()

    def go_on() -> bool:
        first = threading.get_ident() not in asked
        asked.add(threading.get_ident())
        return first or time.perf_counter() < end

    threads = [threading.Thread(target=ask, args=(url, posts, seen, go_on, lock)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen, time.perf_counter() - begun


def posts_of(files: Sequence[bytes], images: int) -> Iterator[Post]:
    """Requests of so many images each, over and over."""
    groups = [[files[(start + i) % len(files)] for i in range(images)] for start in range(0, len(files), 7)]
    return cycle([Post(form(group), images=images) for group in groups])


def milliseconds(seen: Seen) -> str:
    """p50, p95 and p99 as cells."""
    found = np.percentile(seen.seconds, (50, 95, 99)) if seen.seconds else [float("nan")] * 3
    return " | ".join(f"{1000 * value:.0f}" for value in found)


def measure(name: str, model: Path, files: Sequence[bytes], parts: Sequence[str], seconds: float) -> None:
    """The tables of latency and throughput of one model."""
    head = "requests | p50, ms | p95, ms | p99, ms | images/s |"
    rule = "---:|---:|---:|---:|---:|"
    warm = min(1.0, seconds)
    if "latency" in parts:
        print(f"\n{name}, one client\n\n| images a request | {head}\n|---:|{rule}")
        with program(model) as (_, url):
            load(url, posts_of(files, 1), 1, warm)
            for size in SIZES:
                seen, took = load(url, posts_of(files, size), 1, seconds)
                _check(seen)
                cells = f"{len(seen.seconds)} | {milliseconds(seen)} | {seen.images / took:.1f}"
                print(f"| {size} | {cells} |", flush=True)
    if "clients" in parts:
        print(f"\n{name}, one image a request\n\n| clients | batches | {head}\n|---:|---|{rule}")
        found: dict[tuple[int, str], str] = {}
        for words, options in (("across requests", ()), ("none", ("--batch-size", "1"))):
            with program(model, *options) as (_, url):
                load(url, posts_of(files, 1), 4, warm)
                for clients in SIZES:
                    seen, took = load(url, posts_of(files, 1), clients, seconds)
                    _check(seen)
                    found[clients, words] = (
                        f"{len(seen.seconds)} | {milliseconds(seen)} | {seen.images / took:.1f}"
                    )
        for (clients, words), cells in sorted(found.items()):
            print(f"| {clients} | {words} | {cells} |", flush=True)


def hostile_posts(jpeg: bytes) -> Iterator[Post]:
    """Requests that mean harm, each of another kind than the one before, over and over."""
    bad = [Post(form([jpeg[: len(jpeg) // 2]]), kind="half a JPEG")]
    bad += [Post(form([data]), kind=kind) for kind, _, data, _, taken in hostile_images() if not taken]
    bad += [
        Post(form([b"PK\x03\x04" + bytes(1000)]), kind="a zip"),
        Post(form([jpeg + bytes(31_000_000)]), kind="31 MB"),
        Post(form([bytes(1000)] * 65), kind="65 files"),
        Post(jpeg, "image/jpeg", kind="another content type"),
        Post(b"images=x", "application/x-www-form-urlencoded", kind="a form of words"),
        Post(form([jpeg])[:-500], kind="a form that breaks off"),
        Post(b"x" * 1_000_000, kind="no form at all"),
        Post(form([jpeg]), kind="a header of 100 KB", filler=100_000),
    ]
    for kind, text in (
        ("nested JSON", b'{"images": ' + b"[" * 2_000_000),
        ("JSON of 10 million values", b'{"images": [' + b"{}," * 10_000_000 + b"{}]}"),
        ("60 MB of JSON", b'{"images": ["' + b"A" * 60_000_000 + b'"]}'),
        ("101 MB of JSON", b'{"images": ["' + b"A" * 101_000_000 + b'"]}'),
        ("a long number", b'{"images": ["AAAA"], "reject": "' + b"1" * 1_000_000 + b'"}'),
    ):
        bad.append(Post(text, "application/json", kind=kind))
    return cycle(bad)


def soak(model: Path, files: Sequence[bytes], requests: int) -> None:
    """Play so many requests and print what became of them, and the memory on the way."""
    good, bad, lock, numbers = posts_of(files, 1), hostile_posts(files[0]), threading.Lock(), count(1)
    seen, memory, done = Seen(), list[float](), [0]

    def mixed() -> Iterator[Post]:
        for number in numbers:
            yield next(bad) if number % HOSTILE_EVERY == 0 else next(good)

    with program(model) as (process, url):
        about = psutil.Process(process.pid)

        def go_on() -> bool:
            with lock:
                done[0] += 1
                if done[0] % max(1, requests // 20) == 0:
                    memory.append(about.memory_info().rss / 1e6)
                return done[0] <= requests

        posts, begun = mixed(), time.perf_counter()
        threads = [
            threading.Thread(target=ask, args=(url, posts, seen, go_on, lock)) for _ in range(SOAK_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        alive = process.poll() is None
    refused = sum(number for (kind, _), number in seen.statuses.items() if kind)
    kinds = {kind for kind, _ in seen.statuses if kind}
    statuses = Counter[int]()
    for (kind, status), number in seen.statuses.items():
        if kind:
            statuses[status] += number
    print("\n| soak | |\n|---|---:|")
    for words, value in (
        ("requests", sum(seen.statuses.values())),
        ("answered with a prediction", len(seen.seconds)),
        (f"hostile, of {len(kinds)} kinds, refused with a sentence", refused),
        ("their statuses", ", ".join(f"{status}: {number}" for status, number in sorted(statuses.items()))),
        ("failed otherwise", len(seen.faults)),
        ("service still running", "yes" if alive else "no"),
        ("minutes", f"{took / 60:.1f}"),
        ("p50 / p99 of predictions, ms", " / ".join(milliseconds(seen).split(" | ")[::2])),
        ("memory after 5 %, 25 %, 50 %, 75 %, 100 %, MB", _quarters(memory)),
        ("largest, MB", f"{max(memory):.0f}"),
    ):
        print(f"| {words} | {value} |")
    for fault in seen.faults[:10]:
        print(f"    {fault}")


def _quarters(memory: Sequence[float]) -> str:
    places = (0, len(memory) // 4, len(memory) // 2, 3 * len(memory) // 4, len(memory) - 1)
    return ", ".join(f"{memory[place]:.0f}" for place in places)


def restart(model: Path, files: Sequence[bytes], runs: int) -> None:
    """Kill the service under load, and time the next start."""
    seconds = list[float]()
    for _ in range(runs + 1):
        begun = time.perf_counter()
        with program(model) as (process, url):
            _get(url, "/health")
            seconds.append(time.perf_counter() - begun)
            killer = threading.Timer(1.0, process.kill)
            killer.start()
            load(url, posts_of(files, 1), 4, 0.8)
            killer.join()
            process.wait(30)
    after = seconds[1:]
    print(
        f"\nFrom the start of the process to the first answer after a kill, {runs} times: median "
        f"{statistics.median(after):.1f} s [{min(after):.1f}, {max(after):.1f}]"
    )


def _get(url: str, path: str) -> bytes:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {text[:100]!r}")
    return text


def _version(url: str) -> str:
    return str(json.loads(_get(url, "/models"))["models"][0]["version"])


def replace(folder: Path, made: Sequence[FewShotClassifier], files: Sequence[bytes], times: int) -> None:
    """Replace the model under load; each new one must have answered before the next comes."""
    seen, lock, stop = Seen(), threading.Lock(), threading.Event()
    waits = list[float]()
    made[0].save(folder)
    with program(folder, "--reload-every", "0.2") as (_, url):
        arguments = (url, posts_of(files, 1), seen, lambda: not stop.is_set(), lock)
        threads = [threading.Thread(target=ask, args=arguments) for _ in range(SOAK_CLIENTS)]
        for thread in threads:
            thread.start()
        for number in range(1, times + 1):
            before = _version(url)
            made[number % 2].save(folder)
            saved = time.perf_counter()
            while _version(url) == before:
                if time.perf_counter() - saved > 120:
                    raise SystemExit("the model was not replaced within two minutes")
                time.sleep(0.02)
            waits.append(time.perf_counter() - saved)
        stop.set()
        for thread in threads:
            thread.join()
    print("\n| replaced under load | |\n|---|---:|")
    for words, value in (
        ("replacements", times),
        ("requests", sum(seen.statuses.values())),
        ("failed", len(seen.faults)),
        ("models that answered", len(seen.versions)),
        ("p50 / p99, ms", " / ".join(milliseconds(seen).split(" | ")[::2])),
        ("from a new folder to its first answers, median, s", f"{statistics.median(waits):.1f}"),
    ):
        print(f"| {words} | {value} |")


def _check(seen: Seen) -> None:
    if seen.faults:
        raise SystemExit(f"{len(seen.faults)} requests failed; the first: {seen.faults[0]}")


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("folder", type=Path, help="labelled pictures, more than five of each class")
    parser.add_argument("--models", nargs="+", default=["mini", "ViT-B/16"])
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row")
    parser.add_argument("--requests", type=int, default=10_000, help="of the soak")
    parser.add_argument(
        "--times", type=int, default=10, help="that the model is replaced, and half as often killed"
    )
    given = parser.parse_args()
    table = read_table(given.folder)
    chosen, rest = table.draw(SHOTS, seed=1)
    files = [Path(str(table.images[row])).read_bytes() for row in rest[:200]]
    cores, threads = os.cpu_count(), os.environ.get("OMP_NUM_THREADS", "as many")
    size = np.mean([len(data) for data in files])
    print(f"{cores} processor cores, {threads} threads; {len(files)} pictures of {size:,.0f} bytes")
    with tempfile.TemporaryDirectory() as place:
        for name in given.models:
            source = vit(Path(place) / "vit") if name == "ViT-B/16" else name
            folder = Path(place) / name.replace("/", "-")
            made = [FewShotClassifier(source, method).fit(table.subset(chosen)) for method in METHODS]
            made[0].save(folder)
            measure(name, folder, files, given.parts, given.seconds)
            if name != given.models[0]:
                continue
            if "soak" in given.parts:
                soak(folder, files, given.requests)
            if "restart" in given.parts:
                restart(folder, files, max(1, given.times // 2))
            if "replace" in given.parts:
                replace(folder, made, files, given.times)


if __name__ == "__main__":
    main()
