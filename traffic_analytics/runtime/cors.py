"""Build the CORS headers that let a script of any page send requests and read responses."""

from __future__ import annotations

import re

ALLOW_ORIGIN = ("access-control-allow-origin", "*")
"""Header of every response: no cookie is read, so any origin is allowed."""
REQUESTED_HEADERS = "Access-Control-Request-Headers"
"""Header of a preflight that names the headers which the page's request has."""
MAX_REQUESTED = 4096
"""Length of a list of requested headers that is read, in characters; a page has a few."""

_METHODS = "GET, POST, PUT, DELETE, OPTIONS"
_HEADERS = "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-site-uuid"
_MAX_AGE = "86400"
_NAMED = frozenset(_HEADERS.lower().split(", "))
_NAME = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+")  # a token of RFC 9110 without `*`, which would allow all names


def preflight_headers(requested: str | None) -> dict[str, str]:
    """Return the headers of a response to a preflight, which allow all headers that the browser asks for.

    Tracing tools add headers to every request of a page, such as `traceparent`; no header is read that a page may not
    send. Names that no header can have are left out.
    """
    names = [name.strip() for name in (requested or "").split(",")] if len(requested or "") <= MAX_REQUESTED else []
    further = dict.fromkeys(name for name in names if name.lower() not in _NAMED and _NAME.fullmatch(name))
    return {
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": ", ".join((_HEADERS, *further)),
        "access-control-max-age": _MAX_AGE,
        "vary": REQUESTED_HEADERS,
    }
