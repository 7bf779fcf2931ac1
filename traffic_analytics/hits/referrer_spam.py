"""Recognize referrer spam: hits that no visitor made, with a referrer for the operator to open."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from traffic_analytics.hits.referrer import host_of

if TYPE_CHECKING:
    from collections.abc import Set

    from traffic_analytics.hits.page_hit import ParsedReferrer

LONGEST_HOST = 253
"""Length of the longest host in the domain name system, in characters."""


class ReferrerSpam:
    """Hosts that spam refers to, subdomains included; of several that end a name, the longest decides."""

    def __init__(self, own: Set[str] = frozenset()) -> None:
        """List the hosts of the data file and of `own`, as browsers write them, but exempt those with `-` in `own`."""
        exempt = {entry.removeprefix("-") for entry in own if entry.startswith("-")}
        self._is_spam = dict.fromkeys(listed_hosts() | own, True) | dict.fromkeys(exempt, False)

    def lists(self, referrer: ParsedReferrer) -> bool:
        """Return whether the referrer's URL or source is a listed host."""
        url, source = referrer.url, referrer.source
        if url and self._has(host_of(url) or url.lower()):
            return True
        return bool(source and "." in source and self._has(source.lower()))

    def _has(self, host: str) -> bool:
        host = host[-LONGEST_HOST:].removesuffix(".")  # DNS ignores a final dot
        while host and host not in self._is_spam:
            host = host.partition(".")[2]
        return self._is_spam.get(host, False)


@cache
def listed_hosts() -> frozenset[str]:
    """Read the data file, which names its source and date; `make referrer-spam` renews it."""
    text = (files("traffic_analytics") / "data" / "referrer_spam.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))
