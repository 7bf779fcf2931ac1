"""Verify URLs that are signed with a shared secret and carry their time of signing."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

from ada_url import URLSearchParams

from traffic_analytics.errors import UnsignedUrl

MAX_AGE = 300.0
"""Lifetime of a signature, in seconds."""
MAX_CLOCK_SKEW = 5.0
"""Time by which the signer's clock may be ahead, in seconds."""


def verify(target: str, secret: bytes, now: float) -> None:
    """Check the signature of a request target (path and query, as it arrived in the request line).

    `now` is in Unix seconds. Raises UnsignedUrl with the messages that Ghost(Pro)'s router expects. The time is
    checked before the signature, so a URL with two faults is reported as expired.
    """
    path, _, query = target.partition("?")
    # WSGI servers decode bytes as Latin-1; the signer signed the text as browsers decode it, from UTF-8.
    params = URLSearchParams(query.encode("latin-1", "replace").decode("utf-8", "replace"))
    signature = _value(params, "hmac")
    if not signature:
        raise UnsignedUrl("HMAC parameter not found")
    signed_at = _value(params, "t")
    if not signed_at:
        raise UnsignedUrl("Timestamp (t) parameter not found")
    if not (signed_at.isascii() and signed_at.isdigit()) or len(signed_at) > 15:
        raise UnsignedUrl("Invalid timestamp")
    age = now - int(signed_at)
    if not -MAX_CLOCK_SKEW <= age <= MAX_AGE:
        raise UnsignedUrl("Timestamp is not within the allowed range")
    params.delete("hmac")
    if not hmac.compare_digest(signature.encode(), sign(f"{path}?{params}", secret)):
        raise UnsignedUrl("HMAC validation failed")


def _value(params: URLSearchParams, name: str) -> str | None:
    try:
        return params.get(name)
    except UnicodeDecodeError:  # an invalid sequence such as %FF, which browsers replace as well
        return "\N{REPLACEMENT CHARACTER}"


def sign(url: str, secret: bytes) -> bytes:
    """Sign a path and query with HMAC-SHA-1; the base64url form of its 20 bytes ends in one `=`."""
    return urlsafe_b64encode(hmac.digest(secret, url.encode(), "sha1"))
