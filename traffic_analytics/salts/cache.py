"""One random salt per site and UTC day, the same for every process, and gone after the day."""

from __future__ import annotations

import logging
import threading
from datetime import date
from typing import TYPE_CHECKING

from cachetools import LRUCache

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.runtime.single_flight import SingleFlight

if TYPE_CHECKING:
    from datetime import date

    from traffic_analytics.salts.store import SaltStore

_log = logging.getLogger(__name__)

CACHED_SITES = 20_000
PATIENCE = 5.0
"""Seconds that a thread waits for another that asks for the same salt; no store takes as long."""


class Salts:
    """A store behind an in-process cache, so that most hits touch no file and no network.

    A cached salt serves for its whole day, also while the store is away; the Sweeper drops it after the day.
    """

    def __init__(self, store: SaltStore) -> None:
        self._store = store
        self._cache: LRUCache[tuple[str, date], str] = LRUCache(CACHED_SITES)
        self._lock = threading.Lock()
        self._flights: SingleFlight[str] = SingleFlight()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day. Raises SaltUnavailable."""
        key = (site_uuid, day)
        with self._lock:
            salt = self._cache.get(key)
        if salt is None:
            try:
                salt, _ = self._flights.share(key, lambda: self._ask(key), PATIENCE)
            except TimeoutError:
                raise SaltUnavailable("another thread has asked for it, in vain so far") from None
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
        """Find out whether the store can be used. Raises SaltUnavailable."""
        self._store.check()

    def _ask(self, key: tuple[str, date]) -> str:
        with self._lock:
            salt = self._cache.get(key)  # another flight may have landed since the caller looked
        if salt is None:
            salt = self._store.get_or_create(*key)
            with self._lock:
                self._cache[key] = salt
        return salt
