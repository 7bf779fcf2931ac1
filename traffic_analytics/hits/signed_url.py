"""A signed URL was made by somebody who knows the secret, a short while ago."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

from ada_url import URLSearchParams

from traffic_analytics.errors import UnsignedUrl

MAX_AGE = 300.0
"""Seconds for which a signature is good."""
MAX_AHEAD = 5.0
"""Seconds by which the signer's clock may be ahead of ours."""


def verify(target: str, secret: bytes, now: float) -> None:
    """Check the signature of a request target (path and query, as it arrived in the request line).

    `now` is in Unix seconds. Raises UnsignedUrl with the messages that Ghost(Pro)'s router knows. The time is checked
    before the signature, so a URL that is both late and wrong is reported as late.
    """
    path, _, query = target.partition("?")
    # WSGI servers hand bytes over as Latin-1; the signer signed what a browser reads, which is UTF-8.
    params = URLSearchParams(query.encode("latin-1", "replace").decode("utf-8", "replace"))
    given = _value(params, "hmac")
    if not given:
        raise UnsignedUrl("HMAC parameter not found")
    signed_at = _value(params, "t")
    if not signed_at:
        raise UnsignedUrl("Timestamp (t) parameter not found")
    if not (signed_at.isascii() and signed_at.isdigit()) or len(signed_at) > 15:
        raise UnsignedUrl("Invalid timestamp")
    age = now - int(signed_at)
    if not -MAX_AHEAD <= age <= MAX_AGE:
        raise UnsignedUrl("Timestamp is not within the allowed range")
    params.delete("hmac")
    if not hmac.compare_digest(given.encode(), sign(f"{path}?{params}", secret)):
        raise UnsignedUrl("HMAC validation failed")


def _value(params: URLSearchParams, name: str) -> str | None:
    try:
        return params.get(name)
    except UnicodeDecodeError:  # %FF and the like, which browsers read as the replacement character
        return "\N{REPLACEMENT CHARACTER}"


def sign(url: str, secret: bytes) -> bytes:
    """Sign a path and query; SHA-1 leaves 20 bytes, so the base64url form ends in one `=`."""
    return urlsafe_b64encode(hmac.digest(secret, url.encode(), "sha1"))
