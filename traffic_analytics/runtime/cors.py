"""Name the CORS headers that let a script of any page read responses."""

from __future__ import annotations

ALLOW_ORIGIN = ("access-control-allow-origin", "*")
"""Header of every response: no cookie is read, so any origin is allowed."""

PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-site-uuid",
    "access-control-max-age": "86400",
}
"""Headers of a response to a preflight."""
