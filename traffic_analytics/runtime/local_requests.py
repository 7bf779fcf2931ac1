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
_OF_PROXIES = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip")


def is_local(headers: Mapping[str, str]) -> bool:
    """Return whether the request names this machine and passed no proxy, as far as its headers show."""
    authority = _AUTHORITY.fullmatch(headers.get("Host", ""))
    if authority is None or not is_loopback(authority[1].strip("[]").lower()):
        return False
    return is_of_own_page(headers) and not any(name in headers for name in _OF_PROXIES)


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
