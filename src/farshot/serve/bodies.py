"""What a request asks: images as multipart files or as base64 in JSON, and options, read within limits.

Nothing is written to disk. Bytes are counted as they come: a body that is too large is refused before it
is all there, and the bodies of all running requests together are bounded.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from farshot.images.untrusted import in_megabytes
from farshot.sanitize import plain
from farshot.serve.options import Limits
from farshot.serve.refusal import Refusal, busy
from farshot.storage.json_text import parse_object

OPTIONS = ("reject", "coverage", "explain")
_MOST_MARKS = 10_000  # commas and brackets of a JSON: each may become an object of many times its bytes
_MOST_WORD = 1000  # bytes of a form's field that is no file
_RETRY_S = 2


@dataclass(frozen=True)
class Given:
    """An image as it came.

    Attributes:
        name: fit for display.
        data: its bytes.
        fault: why there are none.
    """

    name: str
    data: bytes
    fault: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a request asks.

    Attributes:
        images: at least one.
        reject, coverage: as of farshot.classifier.answers.Question.
        explain: whether to draw what the model looked at.
    """

    images: tuple[Given, ...]
    reject: float | None = None
    coverage: float | None = None
    explain: bool = False


class Bodies:
    """Reads the bodies of requests.

    Args:
        executor: runs what would keep other requests waiting.
    """

    def __init__(self, limits: Limits, executor: Executor) -> None:
        self._limits, self._executor, self._budget = limits, executor, _Budget(limits.held_bytes)

    @asynccontextmanager
    async def asked(self, request: Request) -> AsyncIterator[Asked]:
        """What a request asks; its bytes count as held until the context is left.

        Raises:
            Refusal: 400 for a body or option that cannot be read, 408 for a slow one, 413 for too much,
                415 for another kind, 429 where too much is held already.
        """
        held = _Held(self._budget, self._limits.request_bytes)
        try:
            length = request.headers.get("content-length")
            if length is not None:
                if not length.isdigit():
                    raise Refusal(
                        400, "The header Content-Length is no number; leave it to your HTTP client."
                    )
                held.grow_to(int(length))
            try:
                async with asyncio.timeout(self._limits.body_seconds):
                    asked = await self._read(request, held)
            except TimeoutError:
                raise Refusal(
                    408, f"The body did not arrive within {self._limits.body_seconds:g} s; send fewer images."
                ) from None
            except ClientDisconnect:
                raise Refusal(400, "The transfer broke off; send it again.") from None
            yield asked
        finally:
            held.release()

    async def _read(self, request: Request, held: _Held) -> Asked:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        words: dict[str, Any] = dict(_once(request.query_params.multi_items(), "query"))
        if kind == "multipart/form-data":
            images, more = await self._form(request, held)
        elif kind == "application/json":
            body = b"".join([chunk async for chunk in held.counted(request)])
            loop = asyncio.get_running_loop()
            images, more = await loop.run_in_executor(self._executor, _json, body)
        else:
            raise Refusal(
                415,
                f"A body of the type {plain(kind, 60) or 'unknown'!r} is not taken; send "
                "multipart/form-data with files, as `curl -F images=@a.jpg` does, or application/json.",
            )
        if twice := sorted(words.keys() & more.keys()):
            raise Refusal(400, f"The option {twice[0]} is in the address and in the body; give it once.")
        words |= more
        if not images:
            raise Refusal(400, "There is no image in the request; send at least one.")
        explain = _flag("explain", words.get("explain", False))
        most = self._limits.explained if explain else self._limits.files
        if len(images) > most:
            raise _too_many(most, explain)
        return Asked(tuple(images), _share("reject", words), _share("coverage", words), explain)

    async def _form(self, request: Request, held: _Held) -> tuple[list[Given], dict[str, Any]]:
        parser = MultiPartParser(
            request.headers,
            held.counted(request),
            max_files=self._limits.files,
            max_fields=len(OPTIONS) + 1,
            max_part_size=_MOST_WORD,
        )
        parser.spool_max_size = self._limits.request_bytes + 1  # files stay in memory
        try:
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:
            said = error.message if isinstance(error, MultiPartException) else "Invalid multipart data"
            if said.startswith("Too many files"):
                raise _too_many(self._limits.files, False) from None
            raise Refusal(
                400, f"The form cannot be read ({said.rstrip('.')}); send it as `curl -F images=@a.jpg` does."
            ) from None
        try:
            images, words = list[Given](), list[tuple[str, str]]()
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    images.append(Given(_called(value.filename, len(images)), value.file.read()))
                else:
                    words.append((name, value))
            return images, _once(words, "form")
        finally:
            await form.close()


class _Budget:
    """The bytes that all requests together hold; used by one event loop, so it needs no lock."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0

    def take(self, size: int) -> None:
        """Hold more bytes; those of a single request always fit."""
        if self._held and self._held + size > self._most:
            raise busy(_RETRY_S, "many bytes of images")
        self._held += size

    def give_back(self, size: int) -> None:
        """Hold so many less."""
        self._held -= size


class _Held:
    """The bytes that one request holds."""

    def __init__(self, budget: _Budget, most: int) -> None:
        self._budget, self._most, self._size = budget, most, 0

    def grow_to(self, size: int) -> None:
        """Hold so many bytes in all."""
        if size > self._most:
            raise Refusal(
                413, f"The request is over {in_megabytes(self._most)}; send the images in several requests."
            )
        if size > self._size:
            self._budget.take(size - self._size)
            self._size = size

    async def counted(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The body in pieces."""
        come = 0
        async for chunk in request.stream():
            come += len(chunk)
            self.grow_to(come)
            yield chunk

    def release(self) -> None:
        """Hold nothing more."""
        self._budget.give_back(self._size)
        self._size = 0


def _json(body: bytes) -> tuple[list[Given], dict[str, Any]]:
    """Images and options of a JSON body."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_MARKS:
        raise Refusal(
            413, "The JSON has more values than any request needs; send the images in several requests."
        )
    try:
        found = parse_object(body)
    except ValueError as error:
        said = str(error).splitlines()[0][:200]
        raise Refusal(
            400, f"The JSON cannot be read ({plain(said)}); send an object with a list `images`."
        ) from None
    images = found.pop("images", None)
    if not isinstance(images, list):
        raise Refusal(
            400, 'The JSON has no list `images`; send {"images": [{"name": "a.jpg", "data": "BASE64"}]}.'
        )
    return [_decoded(image, number) for number, image in enumerate(images)], _once(
        list(found.items()), "JSON"
    )


def _decoded(image: Any, number: int) -> Given:
    """One image of a JSON body: base64, or an object with `data` and perhaps `name`."""
    if isinstance(image, str):
        image = {"data": image}
    if (
        not isinstance(image, dict)
        or not isinstance(image.get("data"), str)
        or image.keys() - {"name", "data"}
    ):
        raise Refusal(
            400,
            f"Image {number + 1} of the JSON is neither base64 nor an object with `data` (base64) and "
            "`name`; "
            'send {"name": "a.jpg", "data": "BASE64"}.',
        )
    name, data = _called(image.get("name"), number), image["data"]
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        return Given(name, base64.b64decode("".join(data.split()), validate=True))
    except (binascii.Error, ValueError):
        return Given(name, b"", "its base64 is damaged; encode the file again.")


def _called(name: object, number: int) -> str:
    """The name of an image, fit for display."""
    return (plain(name[:_MOST_WORD]) if isinstance(name, str) else "") or f"image {number + 1}"


def _once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """Options by name.

    Raises:
        Refusal: an unknown one, or one that is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in OPTIONS:
            raise Refusal(
                400,
                f"There is no option {_short(name)!r} (in the {where}); there are {', '.join(OPTIONS)}, "
                "and images are sent as files.",
            )
        if name in found:
            raise Refusal(400, f"The option {name} is given twice (in the {where}); give it once.")
        found[name] = value
    return found


def _share(name: str, words: Mapping[str, Any]) -> float | None:
    """The number that an option has; None where it is not given."""
    value = words.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, bool) or len(str(value)) > _MOST_WORD:
            raise ValueError
        return float(value)
    except (ValueError, TypeError, OverflowError):
        raise Refusal(400, f"The option {name} must be a number, not {_short(value)!r}.") from None


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "false", "0"):
        return str(value).lower() in ("true", "1")
    raise Refusal(400, f"The option {name} must be true or false, not {_short(value)!r}.")


def _short(value: object) -> str:
    """A foreign value in a sentence; only its beginning is looked at."""
    return plain(str(value)[:_MOST_WORD], 60)


def _too_many(most: int, explain: bool) -> Refusal:
    what = "images with explanations" if explain else "images"
    return Refusal(413, f"A request may have at most {most} {what}; send them in several requests.")
