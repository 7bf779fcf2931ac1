"""Recognise requests of this machine, where a loopback address is the only protection.

A page of any site can send requests to this machine. A form or a fetch of such a page names its own origin. The Host
header holds a name that an attacker has bound to 127.0.0.1. A proxy passes on requests of other machines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from traffic_analytics.runtime.env_values import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

_AUTHORITY = re.compile(r"(\[[^\]]+\]|[^:\[\]@]+)(:[0-9]*)?")
_OF_PROXIES = re.compile(
    r"forwarded|via|x-forwarded.*|x-original-.*|x-real-ip|x-client-ip|x-cluster-client-ip|cf-connecting-ip"
    r"|true-client-ip",
    re.IGNORECASE,
)


def names_this_machine(host: str, target: str) -> bool:
    """Return whether the Host header, and the request's target if it is a whole URL, name this machine."""
    return _is_this_machine(host) and (target.startswith("/") or target == "*" or is_url_of_this_machine(target))


def is_url_of_this_machine(url: str) -> bool:
    """Return whether a URL or an origin names this machine."""
    try:
        return _is_this_machine(urlsplit(url).netloc)
    except ValueError:
        return False


def has_passed_proxy(headers: Mapping[str, str]) -> bool:
    """Return whether a header shows a proxy; a proxy that adds none cannot be recognised."""
    return any(_OF_PROXIES.fullmatch(name) for name in headers)


def is_of_own_page(headers: Mapping[str, str]) -> bool:
    """Return whether no page of another origin sent the request.

    Browsers name the relation only to secure origins and loopback; elsewhere the origin is compared with the host.
    """
    relation = headers.get("Sec-Fetch-Site")
    if relation is not None:
        return relation in {"same-origin", "none"}
    origin = headers.get("Origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc in {headers.get("Host"), headers.get("X-Forwarded-Host")}
    except ValueError:
        return False


def _is_this_machine(authority: str) -> bool:
    parsed = _AUTHORITY.fullmatch(authority)
    return parsed is not None and is_loopback(parsed[1].strip("[]").lower())
