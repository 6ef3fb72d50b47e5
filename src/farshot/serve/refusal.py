"""How a request is refused: a status and one sentence, as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        sentence: what is wrong and the way out.
        headers: of the response, such as retry-after.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, dict(headers or {})

    def response(self) -> JSONResponse:
        """The response that says so."""
        return JSONResponse({"error": self.sentence}, self.status, self.headers)


def busy(seconds: int, what: str) -> Refusal:
    """The refusal of a request for which there is no room now.

    Args:
        seconds: after which there may be room.
        what: there is too much of.
    """
    sentence = f"The service has as {what} as it takes at once; send it again in {seconds} s."
    return Refusal(429, sentence, {"retry-after": str(seconds)})
