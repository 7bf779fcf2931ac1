"""Authenticate Ghost's sync by its key, also from the raw head of a request before its body has arrived."""

from __future__ import annotations

import hmac
import re

from traffic_analytics.runtime.authorization import bearer_token

SYNC_PATH = "/api/v1/tinybird-sync"

_SLASHES = re.compile(rb"/{2,}")
_AUTHORIZATION = re.compile(rb"\r\nauthorization[ \t]*:([^\r\n]*)", re.IGNORECASE)


class SyncKey:
    """The key that Ghost and this service share; `prefix` is the path below which the route exists too."""

    def __init__(self, key: str, prefix: str) -> None:
        self._key = key.encode()
        paths = (SYNC_PATH, prefix + SYNC_PATH)
        self._request_lines = tuple(f"POST {path}{end}".encode() for path in paths for end in (" ", "?", "/ ", "/?"))

    def matches(self, authorization: str) -> bool:
        """Return whether an Authorization header holds the key; the time does not depend on how much is right."""
        token = bearer_token(authorization)
        return token is not None and hmac.compare_digest(token.encode("latin-1", "replace"), self._key)

    def admits(self, head: bytes) -> bool:
        """Return whether a request line and headers are those of a sync with the key."""
        if not _SLASHES.sub(b"/", head.partition(b"\r\n")[0]).startswith(self._request_lines):
            return False
        authorization = _AUTHORIZATION.search(head)
        return authorization is not None and self.matches(authorization[1].decode("latin-1"))
