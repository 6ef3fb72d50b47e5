"""The Label Studio that the user named: its labels, and the pictures of its tasks.

Nothing is fetched from any other address, and the token goes nowhere else: a task can name any URL, and
whoever writes tasks could otherwise have this computer ask its neighbours. Redirects are not followed.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from farshot.errors import DataError, SettingError
from farshot.images.untrusted import too_many_bytes
from farshot.sanitize import plain
from farshot.storage.json_text import parse_object
from farshot.web.address import LOOPBACK

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"
UPLOADS, LOCAL_FILES = "/data/upload/", "/data/local-files/"
"""The paths at which Label Studio has pictures."""

_PAGE = 100  # tasks
_MOST_PAGES = 1000
_PAGE_BYTES = 64 << 20
_HEADERS = {"accept-encoding": "identity", "user-agent": "farshot"}
_SECONDS = httpx.Timeout(30.0, connect=5.0)
_ANNOTATED = json.dumps(
    {
        "filters": {
            "conjunction": "and",
            "items": [
                {
                    "filter": "filter:tasks:total_annotations",
                    "operator": "greater",
                    "value": 0,
                    "type": "Number",
                }
            ],
        }
    }
)


@dataclass(frozen=True)
class _Place:
    """Scheme, host and port of a URL, and the path before Label Studio's own."""

    origin: tuple[str, str, int]
    path: str

    @classmethod
    def of(cls, url: str) -> _Place:
        """Raises ValueError for a URL that is none of HTTP."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ValueError("not http://HOST or https://HOST")
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        return cls((parts.scheme, parts.hostname.lower(), port), parts.path.rstrip("/"))


class Instance:
    """A Label Studio.

    Args:
        url: where it is.
        token: of a user: a legacy token, or a personal access token. Without it only pictures within the
            tasks can be read.
        file_bytes: most of a picture.

    Raises:
        SettingError: no URL of HTTP.
    """

    def __init__(self, url: str, token: str | None, file_bytes: int) -> None:
        try:
            self._place = _Place.of(url)
            if urlsplit(url).query or urlsplit(url).fragment:
                raise ValueError("more than an address")
        except ValueError as error:
            raise SettingError(
                f"--label-studio {plain(url, 80)!r} is no address of a Label Studio ({error}); write it as "
                "http://localhost:8080."
            ) from error
        self.url = url.rstrip("/")
        self._token, self._file_bytes = token, file_bytes
        self._access: str | None = None
        self._lock = threading.Lock()
        # a proxy would see the token, and none is needed for this computer
        is_near = self._place.origin[1] in {*LOOPBACK, "::1"}
        self._http = httpx.Client(
            timeout=_SECONDS, follow_redirects=False, trust_env=not is_near, headers=_HEADERS
        )

    def close(self) -> None:
        """End its connections."""
        self._http.close()

    # Pictures ----------------------------------------------------------------------------------------

    def picture(self, value: object) -> bytes:
        """The bytes of a task's picture.

        Args:
            value: as in the task's data: a data URL, or an address at this Label Studio.

        Raises:
            DataError: another address, or it cannot be fetched; the sentence follows the name of a task and a
                colon.
        """
        if not isinstance(value, str) or not value.strip():
            raise DataError("its data has no picture in this column; give it the address of one.")
        text = value.strip()
        if text[:5].lower() == "data:":
            return self._within(text)
        return self._got(self._address(text), self._file_bytes, picture=True)

    def _within(self, text: str) -> bytes:
        head, comma, body = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise DataError("its data URL has no base64; write data:image/png;base64,...")
        if len(body) > self._file_bytes * 4 // 3 + 4:
            raise too_many_bytes(self._file_bytes)
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise DataError("its base64 is damaged; encode the picture again.") from None

    def _address(self, text: str) -> str:
        """The address to fetch, which is one of a picture at this Label Studio."""
        shown = plain(text, 80)
        unsafe = DataError(f"its address {shown!r} is no plain path; write it as Label Studio does.")
        if not text.isprintable() or "\\" in text or " " in text.partition("?")[0]:
            raise unsafe
        try:
            parts = urlsplit(text)
            place = None if not parts.scheme and not parts.netloc else _Place.of(text).origin
        except ValueError:
            parts, place = urlsplit(""), ("", "", 0)
        if place not in (None, self._place.origin):
            raise DataError(
                f"its picture is at {shown!r}; farshot fetches pictures only from {self.url}: upload it "
                "there, or give its folder to Label Studio as local files."
            )
        path = parts.path.removeprefix(self._place.path) if self._place.path else parts.path
        if not path.startswith((UPLOADS, LOCAL_FILES)):
            raise DataError(
                f"its picture is at {shown!r}, but only {UPLOADS} and {LOCAL_FILES} of {self.url} have "
                "pictures; upload it there, or give its folder to Label Studio as local files."
            )
        decoded = unquote(unquote(f"{parts.path}?{parts.query}"))
        steps = decoded.replace("\\", "/").replace("=", "/").replace("&", "/").replace("?", "/").split("/")
        if ".." in steps or not decoded.isprintable():
            raise unsafe
        return f"{self.url}{path}" + (f"?{parts.query}" if parts.query else "")

    # Labels ------------------------------------------------------------------------------------------

    def configuration(self, project: int) -> str:
        """The labelling configuration of a project.

        Raises:
            DataError: it cannot be fetched.
        """
        found = self._json(f"/api/projects/{project}").get("label_config")
        if not isinstance(found, str):
            raise DataError(f"{self.url} has no labelling configuration for project {project}; set one up.")
        return found

    def annotated(self, project: int) -> Iterator[Mapping[str, Any]]:
        """The tasks of a project that have annotations, with them.

        Raises:
            DataError: they cannot be fetched.
        """
        seen = 0
        for page in range(1, _MOST_PAGES + 1):
            asked: dict[str, str | int] = {
                "project": project,
                "fields": "all",
                "page": page,
                "page_size": _PAGE,
                "query": _ANNOTATED,
            }
            found = self._json(f"/api/tasks?{httpx.QueryParams(asked)}")
            tasks, total = found.get("tasks"), found.get("total")
            if not isinstance(tasks, list) or not isinstance(total, int):
                raise DataError(f"{self.url} answers with no list of tasks; is it a Label Studio?")
            yield from (task for task in tasks if isinstance(task, dict) and isinstance(task.get("id"), int))
            seen += len(tasks)
            if seen >= total or not tasks:
                return
        raise DataError(
            f"Project {project} has over {_PAGE * _MOST_PAGES:,} labelled tasks, which is too many."
        )

    def _json(self, path: str) -> dict[str, Any]:
        data = self._got(self.url + path, _PAGE_BYTES, picture=False)
        try:
            return parse_object(data)
        except ValueError as error:
            raise DataError(f"{self.url} answers with no JSON ({error}); is it a Label Studio?") from error

    # Requests ----------------------------------------------------------------------------------------

    def _got(self, url: str, most: int, *, picture: bool) -> bytes:
        """What is at an address that was checked."""
        try:
            for again in (False, True):
                with self._http.stream("GET", url, headers=self._headers(again)) as response:
                    if response.status_code == 401 and not again and self._is_personal:
                        continue  # its short-lived access token has run out
                    self._check(response.status_code, picture)
                    return _bounded(response, most)
        except httpx.HTTPError as error:
            raise DataError(
                f"{self.url} cannot be asked ({plain(error) or type(error).__name__}); is Label Studio "
                "running there? --label-studio names its address."
            ) from error
        raise AssertionError("the second try always ends")

    def _check(self, status: int, picture: bool) -> None:
        if status == 200:
            return
        if status in (401, 403):
            more = (
                ", and let it serve local files (LOCAL_FILES_SERVING_ENABLED) if it is one" if picture else ""
            )
            raise DataError(
                f"{self.url} refuses ({status}); set {TOKEN_VARIABLE} to the token of a user who may see the "
                f"project{more}."
            )
        what = "its picture" if picture else "the project"
        if status == 404:
            raise DataError(f"{self.url} does not have {what} (404); check that it was not deleted.")
        if 300 <= status < 400:
            raise DataError(
                f"{self.url} sends farshot elsewhere for {what} ({status}), which is not followed; name the "
                "address that browsers show with --label-studio, and upload pictures of cloud storage."
            )
        raise DataError(f"{self.url} cannot give {what} ({status}); see its log.")

    @property
    def _is_personal(self) -> bool:
        """Whether the token is a personal access token, which buys access for minutes."""
        return self._token is not None and self._token.count(".") == 2

    def _headers(self, renew: bool) -> dict[str, str]:
        if self._token is None:
            raise DataError(f"{self.url} needs a token: set {TOKEN_VARIABLE} to that of a user.")
        if not self._is_personal:
            return {"authorization": f"Token {self._token}"}
        with self._lock:
            if self._access is None or renew:
                self._access = self._renewed()
            return {"authorization": f"Bearer {self._access}"}

    def _renewed(self) -> str:
        body = {"refresh": self._token}
        with self._http.stream("POST", f"{self.url}/api/token/refresh", json=body) as response:
            self._check(response.status_code, picture=False)
            try:
                found = parse_object(_bounded(response, _PAGE_BYTES)).get("access")
            except ValueError:
                found = None
        if not isinstance(found, str) or not (found.isascii() and found.isprintable()):
            raise DataError(f"{self.url} gives no access for the token; make a new personal access token.")
        return found


def _bounded(response: httpx.Response, most: int) -> bytes:
    """The body, which is not taken any further where it is too large."""
    found = bytearray()
    for chunk in response.iter_bytes(1 << 16):
        found += chunk
        if len(found) > most:
            raise too_many_bytes(most)
    return bytes(found)
