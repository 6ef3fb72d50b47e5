"""Images that a table names by URL: fetched once into the cache, and read from there.

`urls` in $FARSHOT_CACHE holds one file for each URL, called by the hash of the URL, and whole or not there,
so that a run that was stopped goes on. Without `downloading` nothing is fetched. A server is not trusted: its
answers are bounded in size and time, and it must not redirect to this computer or a private network
unless the table itself names that host.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farshot.data.found import Found
from farshot.data.text import first_line
from farshot.errors import DataError
from farshot.images.costs import MOST_BYTES
from farshot.images.member import Member, is_url
from farshot.images.reading import ImageSource
from farshot.sanitize import plain
from farshot.storage.atomic import check_writable, reason, replaced
from farshot.storage.paths import default_cache

if TYPE_CHECKING:
    import httpx

Bar = Callable[[], AbstractContextManager[Callable[[int, int], None]]]
"""Opens what shows how far the work is: a function of (pictures fetched or given up, all to be fetched)."""


@dataclass(frozen=True)
class FetchLimits:
    """What fetching one picture may cost.

    Attributes:
        bytes: of its file.
        seconds: in all.
        silence: seconds without a byte.
        redirects: that are followed.
        at_once: pictures that are fetched at a time.
    """

    bytes: int = MOST_BYTES
    seconds: float = 120.0
    silence: float = 20.0
    redirects: int = 5
    at_once: int = 8


@dataclass(frozen=True)
class _Allowed:
    bar: Bar | None
    limits: FetchLimits


_allowed: ContextVar[_Allowed | None] = ContextVar("allowed", default=None)


@contextmanager
def downloading(bar: Bar | None = None, limits: FetchLimits | None = None) -> Iterator[None]:
    """A context in which images that are not in the cache yet are fetched.

    Args:
        bar: shows the progress while there is something to fetch.
    """
    token = _allowed.set(_Allowed(bar, limits or FetchLimits()))
    try:
        yield
    finally:
        _allowed.reset(token)


class UrlImages:
    """The images of one table that are named by URL.

    Args:
        table: what messages call it.
    """

    def __init__(self, table: str | Path) -> None:
        self._table = str(table)
        self._where: dict[str, str] = {}

    def image(self, cell: Any, where: str) -> Member | None:
        """The image of a cell that holds a URL, to be fetched later; None for another cell.

        Args:
            where: the place of the cell, for messages.
        """
        if not isinstance(cell, str) or not is_url(cell.strip()):
            return None
        url = cell.strip()
        self._where.setdefault(url, where)
        return Member(url, _place(url))

    def fetched(self, found: Found) -> Found:
        """The same with its images in the cache, and a note on those that could not be fetched.

        Raises:
            DataError: as `fetch`.
        """
        images, note = self.fetch(found.images)
        return replace(found, images=images, notes=(*found.notes, note)) if note else found

    def fetch(self, sources: Sequence[ImageSource]) -> tuple[list[ImageSource], str]:
        """The same images in the cache, and how many could not be fetched, in words; these say why when they
        are read.

        Raises:
            DataError: images are to be fetched and that is not allowed, or the cache cannot be written.
        """
        missing = [url for url in self._where if not _place(url).is_file()]
        if not missing:
            return list(sources), ""
        allowed = _allowed.get()
        if allowed is None:
            what = "image is a URL that is" if len(missing) == 1 else "images are URLs that are"
            raise DataError(
                f"{self._where[missing[0]]}: {len(missing)} {what} not in the cache yet; download=True "
                "fetches them."
            )
        faults = _fetch_all(missing, allowed)
        if not faults:
            return list(sources), ""
        images = [
            replace(image, fault=self._fault(image.name, faults)) if isinstance(image, Member) else image
            for image in sources
        ]
        return images, f"{len(faults)} of {len(self._where)} images of {self._table} could not be downloaded"

    def _fault(self, url: str, faults: Mapping[str, str]) -> str | None:
        why = faults.get(url)
        return None if why is None else f"not downloaded ({self._where[url]}): {why}"


def from_cache(url: str) -> Member | None:
    """The image of a URL, if it was fetched before."""
    place = _place(url)
    return Member(url, place) if place.is_file() else None


def _place(url: str) -> Path:
    digest = hashlib.sha256(url.encode("utf-8", errors="surrogatepass")).hexdigest()
    return default_cache() / "urls" / digest[:2] / digest


def _fetch_all(urls: Sequence[str], allowed: _Allowed) -> dict[str, str]:
    """Fetch several at a time; returns why the others could not be, by URL."""
    import httpx

    check_writable(default_cache() / "urls", "set FARSHOT_CACHE to another folder")
    limits, stop = allowed.limits, threading.Event()
    faults: dict[str, str] = {}
    headers = {"User-Agent": "farshot", "Accept": "image/*,*/*;q=0.1", "Accept-Encoding": "identity"}
    waits = httpx.Timeout(min(limits.silence, limits.seconds))
    with (
        httpx.Client(headers=headers, timeout=waits, follow_redirects=False) as client,
        allowed.bar() if allowed.bar else nullcontext() as update,
        ThreadPoolExecutor(limits.at_once) as threads,
    ):
        try:
            jobs = {threads.submit(_fetch, client, url, limits, stop): url for url in urls}
            for done, job in enumerate(as_completed(jobs), 1):
                if (why := job.result()) is not None:
                    faults[jobs[job]] = why
                if update:
                    update(done, len(urls))
        except BaseException:  # Ctrl-C, or a full disk: what is under way is given up, what is there stays
            stop.set()
            threads.shutdown(wait=True, cancel_futures=True)
            raise
    return {url: faults[url] for url in urls if url in faults}


class _Refused(Exception):
    """Why an image is not fetched and the way out."""


def _too_large(limits: FetchLimits) -> _Refused:
    return _Refused(f"it is over {limits.bytes / 1e6:,.3g} MB; scale the image down or give a smaller one.")


def _fetch(client: httpx.Client, url: str, limits: FetchLimits, stop: threading.Event) -> str | None:
    """Fetch one image; returns why it cannot be, or None.

    Raises:
        DataError: the cache cannot be written.
    """
    import httpx

    try:
        _follow(client, url, limits, stop)
    except _Refused as error:
        return str(error)
    except httpx.TimeoutException:
        return f"the server did not answer for {limits.silence:g} s; try again later."
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return f"{plain(first_line(error)).rstrip('.')}; check the address and the connection."
    except OSError as error:
        raise DataError(
            f"{default_cache()} cannot be written ({reason(error)}); free some space or set FARSHOT_CACHE."
        ) from error
    return None


def _follow(client: httpx.Client, url: str, limits: FetchLimits, stop: threading.Event) -> None:
    """Ask for a URL, and for what it redirects to, until the image comes."""
    import httpx

    until = time.monotonic() + limits.seconds
    named = address = httpx.URL(url)
    for _ in range(limits.redirects + 1):
        same = (address.host, address.port) == (named.host, named.port)
        request = client.build_request("GET", address) if same else _to_public(client, address)
        answer = client.send(request, stream=True)
        try:
            if "location" in answer.headers and answer.status_code in (301, 302, 303, 307, 308):
                address = address.join(answer.headers["location"])
                if address.scheme not in ("http", "https"):
                    raise _Refused(f"it redirects to {plain(address.scheme)}:, not to http or https.")
                continue
            _check(answer, limits)
            _keep(answer, _place(url), limits, until, stop)
            return
        finally:
            answer.close()
    raise _Refused(f"it redirects more than {limits.redirects} times; give the last address.")


def _to_public(client: httpx.Client, address: httpx.URL) -> httpx.Request:
    """A request to a host that the table does not name, at an address that was looked up once and is public.

    Raises:
        _Refused: it is not, or there is none.
    """
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        found = [str(one[4][0]) for one in socket.getaddrinfo(address.host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise _Refused(
            f"it redirects to {plain(address.host)}, which is unknown ({reason(error)})."
        ) from None
    if not found or not all(map(is_public, found)):
        raise _Refused(
            f"it redirects to {plain(address.host)}, which is this computer or in a private network; write "
            "that address into the table if it is meant."
        )
    return client.build_request(
        "GET",
        address.copy_with(host=found[0]),
        headers={"Host": address.netloc.decode("ascii")},
        extensions={"sni_hostname": address.host},
    )


def is_public(host: str) -> bool:
    """Whether an IP address is one of the public network: not of this computer, a private network or a group
    of hosts.

    Raises:
        ValueError: it is no address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not (mapped or address).is_multicast


def _check(answer: httpx.Response, limits: FetchLimits) -> None:
    """Refuse an answer by its header.

    Raises:
        _Refused: with the reason.
    """
    if answer.status_code != 200:
        words = f"{answer.status_code} {plain(answer.reason_phrase)}".strip()
        raise _Refused(f"the server answered {words}; check the address.")
    kind = plain(answer.headers.get("content-type", "").partition(";")[0].strip().lower())
    if kind and not kind.startswith("image/") and not kind.endswith(("/octet-stream", "/dicom")):
        raise _Refused(f"the server sent {kind}, not an image; give the address of the image itself.")
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.bytes:
        raise _too_large(limits)


def _keep(
    answer: httpx.Response, place: Path, limits: FetchLimits, until: float, stop: threading.Event
) -> None:
    """Write the body to the cache, whole or not at all.

    Raises:
        _Refused: it is too large, comes too slowly, or is no image.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with replaced(place) as staging, staging.open("wb") as file:
        for piece in answer.iter_bytes():
            if stop.is_set():
                raise _Refused("it was stopped.")
            if time.monotonic() > until:
                raise _Refused(f"it took longer than {limits.seconds:g} s; try again later.")
            if file.tell() + len(piece) > limits.bytes:
                raise _too_large(limits)
            file.write(piece)
        if not file.tell():
            raise _Refused("the server sent nothing; check the address.")
