"""Cache salts in the process, so that most hits use no file and no network."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cachetools import FIFOCache

if TYPE_CHECKING:
    from datetime import date

    from traffic_analytics.salts.new_sites import NewSites
    from traffic_analytics.salts.store import SaltStore

CACHED_SITES = 20_000
"""Size of the cache, in salts."""


class Salts:
    """A salt store behind an in-process cache.

    A cached salt is used for its whole day, also while the store is unavailable; the Sweeper drops it after the day.
    """

    def __init__(self, store: SaltStore, new_sites: NewSites | None = None) -> None:
        self._store = store
        self._new_sites = new_sites
        self._cache: FIFOCache[tuple[str, date], str] = FIFOCache(CACHED_SITES)
        self._lock = threading.Lock()  # for changes; a look-up needs none

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day. Raises SaltUnavailable."""
        key = (site_uuid, day)
        try:
            return self._cache[key]
        except KeyError:
            salt = self._store.get_or_create(site_uuid, day)
        if self._new_sites is not None:
            self._new_sites.remember(site_uuid)
        with self._lock:
            self._cache[key] = salt
        return salt

    def forget_cached_before(self, day: date) -> None:
        """Drop the salts of earlier days from this process's memory."""
        with self._lock:
            for key in [key for key in self._cache if key[1] < day]:
                del self._cache[key]

    def forget_before(self, day: date) -> int:
        """Delete the salts of earlier days from the store. Raises SaltUnavailable."""
        return self._store.forget_before(day)

    def check(self) -> None:
        """Check that the store can be used. Raises SaltUnavailable."""
        self._store.check()
