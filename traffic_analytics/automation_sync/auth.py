"""Only who brings the key may send rows, and a request's head tells it before the body has come."""

from __future__ import annotations

import hmac
import re

SYNC_PATH = "/api/v1/tinybird-sync"

_AUTHORIZATION = re.compile(rb"\r\nauthorization[ \t]*:([^\r\n]*)", re.IGNORECASE)
_BEARER = re.compile(rb"[ \t]*bearer[ \t]+([^ \t]+)[ \t]*", re.IGNORECASE)


class SyncKey:
    """The key that Ghost and this service share; `prefix` is the path below which we answer too."""

    def __init__(self, key: str, prefix: str) -> None:
        self._key = key.encode()
        paths = (SYNC_PATH, prefix + SYNC_PATH)
        self._lines = tuple(f"POST {path}{end}".encode() for path in paths for end in (" ", "?", "/ ", "/?"))

    def is_in(self, authorization: bytes) -> bool:
        """Whether an Authorization header brings the key; takes the same time for any wrong one."""
        given = _BEARER.fullmatch(authorization)
        return given is not None and hmac.compare_digest(given[1], self._key)

    def opens(self, head: bytes) -> bool:
        """Whether these are the request line and headers of somebody who sends rows and brings the key."""
        if not head.startswith(self._lines):
            return False
        authorization = _AUTHORIZATION.search(head)
        return authorization is not None and self.is_in(authorization[1])
