"""Recognize the operator's own visits, by address or path, so that they are not counted."""

from __future__ import annotations

import re
from fnmatch import translate
from ipaddress import IPv4Network, IPv6Address
from typing import TYPE_CHECKING

from traffic_analytics.hits.outcomes import IGNORED_ADDRESS, IGNORED_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv6Network

    from traffic_analytics.hits.outcomes import Counted


class OwnVisits:
    """Networks and paths whose hits are ignored. No address is stored."""

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network], paths: Sequence[str]) -> None:
        """Ignore hits from `networks` and on `paths`, which are globs."""
        masks = [(isinstance(each, IPv4Network), int(each.netmask), int(each.network_address)) for each in networks]
        self._networks_4 = [(mask, network) for is_4, mask, network in masks if is_4]
        self._networks_6 = [(mask, network) for is_4, mask, network in masks if not is_4]
        self._has_networks = bool(masks)
        self._path = re.compile("|".join(translate(path) for path in paths)) if paths else None

    def find(self, address: str, pathname: str) -> Counted | None:
        """Return what an own visit counts as; None for any other visit. The address is in its one spelling."""
        if self._has_networks and self._is_own(address):
            return IGNORED_ADDRESS
        if self._path is not None and self._path.match(pathname):
            return IGNORED_PATH
        return None

    def _is_own(self, address: str) -> bool:
        try:
            if ":" in address:
                number, networks = int(IPv6Address(address)), self._networks_6
            else:  # four times as fast as ipaddress
                number, networks = int.from_bytes(map(int, address.split("."))), self._networks_4
        except ValueError:  # no address: the peer of a Unix socket
            return False
        return any(number & mask == network for mask, network in networks)
