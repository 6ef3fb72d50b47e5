"""Who may ask a server on the loopback: no page on the web under another host name (DNS rebinding), and no
page of another address, be it on another port of this computer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

ANSWER_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every answer, besides the content security policy."""

WRONG_HOST = "This name is not served here."
WRONG_PAGE = "Pages of other addresses are not served."


def is_served(host: str, hosts: Collection[str]) -> bool:
    """Whether a Host header names one of these hosts; any port will do, and no hosts allow every name."""
    return not hosts or _without_port(host) in hosts


def cookie_of(header: str | None, name: str) -> str | None:
    """The value of a cookie; None where there is none.

    Args:
        header: Cookie header, with those of other programs on this computer, which may hold any characters.
    """
    pairs = (pair.partition("=") for pair in (header or "").split(";"))
    return {key.strip(): value.strip() for key, _, value in pairs}.get(name)


def from_our_page(
    method: str, path: str, headers: Mapping[str, str], pages: Collection[str] = ("/",)
) -> bool:
    """Whether a person, a program or our own page asks: browsers say where a request comes from.

    Args:
        headers: by names in lower case.
        pages: paths that a link on another page may lead to.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in ("same-origin", "none"):
        return True
    if site is not None:
        # a link on another page may be followed to our first page, which tells that page nothing
        return method == "GET" and path in pages and headers.get("sec-fetch-dest") == "document"
    return origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name.lower() if colon and port.isdigit() else host.lower()
