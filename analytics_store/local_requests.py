"""Refuse requests of web pages to a store without tokens, where an address on this machine is the only protection."""

from flask import Request

from analytics_store.errors import ForbiddenError
from traffic_analytics.runtime.local_requests import is_url_of_this_machine, names_this_machine

SECURE = "set STORE_ADMIN_TOKEN, or use an address such as localhost or 127.0.0.1"


def require_local(request: Request) -> None:
    """Raise ForbiddenError unless the request names this machine, and comes from no page of another."""
    if not names_this_machine(request.headers.get("Host", ""), request.environ.get("RAW_URI", "/")):
        raise ForbiddenError(f"without tokens the Host must be this machine: {SECURE}")
    origin = request.headers.get("Origin")
    # A browser names no origin when a foreign page embeds a URL or links to it.
    foreign = (
        request.headers.get("Sec-Fetch-Site") == "cross-site" if origin is None else not is_url_of_this_machine(origin)
    )
    if foreign:
        raise ForbiddenError(f"without tokens no page of another host may send requests: {SECURE}")
