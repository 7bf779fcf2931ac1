"""Sign sessions and share links with keys that are derived from the access key.

Nothing is stored: a new DASHBOARD_KEY ends all sessions and share links.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

SESSION_SECONDS = 14 * 86_400
"""Time for which a login is valid, in seconds."""
LONGEST_SHARE_DAYS = 3650
"""Longest time for which a share link is valid, in days."""


class Visitor(NamedTuple):
    """A reader of the dashboard: of all sites, or of the one `site` of a share link. `until` is in Unix seconds."""

    until: float
    site: str | None = None


class Sessions:
    """Check the access key, and sign and read sessions and share links."""

    def __init__(self, access_key: str) -> None:
        self._access_key = access_key.encode()
        self._sessions = _serializer(access_key, "dashboard session")
        self._shares = _serializer(access_key, "dashboard share link")

    def is_access_key(self, given: str) -> bool:
        """Return whether the key is right; the time does not depend on how much of it is right."""
        return compare_digest(given.strip().encode("utf-8", "replace"), self._access_key)

    def sign_session(self, now: float) -> str:
        """Return the value of a session's cookie."""
        return _text(self._sessions.dumps([int(now) + SESSION_SECONDS]))

    def read_session(self, cookie: str, now: float) -> Visitor | None:
        """Return the reader of a session that is valid at `now`."""
        match _load(self._sessions, cookie):
            case [int(until)] if now < until:
                return Visitor(until)
        return None

    def sign_share(self, site: str, until: float) -> str:
        """Return the secret part of a share link for one site."""
        return _text(self._shares.dumps([site, int(until)]))

    def read_share(self, link: str, now: float) -> Visitor | None:
        """Return the reader of a share link that is valid at `now`."""
        match _load(self._shares, link):
            case [str(site), int(until)] if now < until:
                return Visitor(until, site)
        return None


def _serializer(access_key: str, purpose: str) -> URLSafeSerializer:
    options = {"digest_method": sha256, "key_derivation": "hmac"}
    return URLSafeSerializer(access_key, salt=purpose, signer_kwargs=options)


def _load(serializer: URLSafeSerializer, text: str) -> object:
    try:
        return serializer.loads(text)
    except BadSignature:
        return None


def _text(signed: str | bytes) -> str:
    return signed if isinstance(signed, str) else signed.decode()
