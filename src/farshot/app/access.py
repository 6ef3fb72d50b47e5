"""Who may see the projects: browsers that have a cookie of this folder of projects.

Every user of a computer reaches its loopback address. The address that the app prints carries a secret,
which is exchanged for a cookie. Secrets end with the app that made them; cookies are signed with the folder's
key, so that a page that is open, or a bookmark, works after the app was started again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable

from farshot.web.address import url_of

_NONCE, _SIGNATURE = 16, 16  # bytes


class Access:
    """Check secrets and cookies.

    Args:
        key: of the folder of projects.
        has: whether there is a project of this name.

    Attributes:
        cookie: name of the cookie; another folder's has another name, since cookies ignore ports.
    """

    def __init__(self, key: bytes, has: Callable[[str], bool]) -> None:
        self.has = has
        self.cookie = f"farshot_{hashlib.sha256(key).hexdigest()[:12]}"
        self._key = key
        self._secret = secrets.token_urlsafe(32)

    def address(self, host: str, port: int) -> str:
        """The address with the secret."""
        return f"{url_of(host, port)}/?token={self._secret}"

    def opens(self, secret: str) -> bool:
        """Whether this is the secret."""
        return hmac.compare_digest(secret.encode(), self._secret.encode())

    def new_cookie(self) -> str:
        """Create a cookie that `holds`."""
        nonce = secrets.token_bytes(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._signed(nonce)).decode().rstrip("=")

    def holds(self, cookie: str | None) -> bool:
        """Whether a cookie was made with this folder's key."""
        try:
            found = base64.urlsafe_b64decode((cookie or "") + "=")
        except ValueError:
            return False
        nonce, signature = found[:_NONCE], found[_NONCE:]
        return len(nonce) == _NONCE and hmac.compare_digest(signature, self._signed(nonce))

    def _signed(self, nonce: bytes) -> bytes:
        return hmac.digest(self._key, nonce, "sha256")[:_SIGNATURE]
