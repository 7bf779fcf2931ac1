"""Limit the number of sites that get their first salt, so that invented sites fill neither salts, store nor disk."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from cachetools import LRUCache

from traffic_analytics.errors import TooManyNewSites

if TYPE_CHECKING:
    from collections.abc import Callable, Set
    from datetime import datetime

PERIOD = timedelta(hours=1)
"""Time for which new sites are counted."""
KNOWN_FOR = timedelta(days=7)
"""Time for which a file of salts lists a site after the day of its last salt."""
REMEMBERED_SITES = 20_000
"""Sites that a process remembers, so that they are not new on the next day."""


def admit_all(_site_uuid: str) -> None:
    """Do nothing: the default of salt stores."""


class NewSites:
    """Counts the new sites of this process.

    A store calls `admit` before it creates the salt of a site that it does not know. Sites that this process has served
    before are not new either: at midnight all sites need a salt at once.
    """

    def __init__(self, limit: int, clock: Callable[[], datetime], *, allowed: Set[str] = frozenset()) -> None:
        """Limit new sites to `limit` in each period; `allowed` sites are never new."""
        self._limit = limit
        self._clock = clock
        self._allowed = allowed
        self._lock = threading.Lock()
        self._remembered: LRUCache[str, None] = LRUCache(REMEMBERED_SITES)
        self._began: datetime | None = None
        self._count = 0

    def remember(self, site_uuid: str) -> None:
        """Note that a site has a salt."""
        with self._lock:
            self._remembered[site_uuid] = None

    def admit(self, site_uuid: str) -> None:
        """Count a site if it is new. Raises TooManyNewSites."""
        if site_uuid in self._allowed:
            return
        with self._lock:
            if site_uuid in self._remembered:
                return
            now = self._clock()
            if self._began is None or not timedelta(0) <= now - self._began < PERIOD:
                self._began, self._count = now, 0
            if self._count >= self._limit:
                message = f"more than {self._limit} within an hour; see MAX_NEW_SITES_PER_HOUR"
                raise TooManyNewSites(message, (self._began + PERIOD - now).total_seconds())
            self._count += 1
            self._remembered[site_uuid] = None
