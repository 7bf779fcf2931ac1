"""Refuse requests of web pages to a store without tokens, where an address on this machine is the only protection.

A page of any site can send requests to this machine. A form or a fetch of such a page names its own origin. The Host
header holds a name that an attacker has bound to 127.0.0.1.
"""

import re
from urllib.parse import urlsplit

from flask import Request

from analytics_store.errors import ForbiddenError
from traffic_analytics.runtime.env_values import is_loopback

_AUTHORITY = re.compile(r"(\[[^\]]+\]|[^:\[\]@]+)(:[0-9]*)?")
SECURE = "set STORE_ADMIN_TOKEN, or use an address such as localhost or 127.0.0.1"


def require_local(request: Request) -> None:
    """Raise ForbiddenError unless the request names this machine, and comes from no page of another."""
    if not _is_local(request.headers.get("Host", "")):
        raise ForbiddenError(f"without tokens the Host must be this machine: {SECURE}")
    target = request.environ.get("RAW_URI", "/")
    if not target.startswith("/") and target != "*" and not _is_local(_authority(target)):
        raise ForbiddenError(f"without tokens the URL must name this machine: {SECURE}")
    origin = request.headers.get("Origin")
    # A browser names no origin when a foreign page embeds a URL or links to it.
    foreign = (
        request.headers.get("Sec-Fetch-Site") == "cross-site" if origin is None else not _is_local(_authority(origin))
    )
    if foreign:
        raise ForbiddenError(f"without tokens no page of another host may send requests: {SECURE}")


def _authority(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _is_local(authority: str) -> bool:
    parsed = _AUTHORITY.fullmatch(authority)
    return parsed is not None and is_loopback(parsed[1].strip("[]").lower())
