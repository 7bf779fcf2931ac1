"""Delete the salts of past days."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.salts.store import GRACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from traffic_analytics.runtime.file_lock import FileLock
    from traffic_analytics.salts.cache import Salts

_log = logging.getLogger(__name__)


SWEEP_EVERY = 20.0
"""Longest time between two checks of the clock, in seconds."""


class Sweeper:
    """Delete the salts of past days soon after midnight UTC, with or without hits.

    At that moment every process drops them from its cache. Only the process that holds the lock sweeps the store,
    unless `deletes` is False. A failed sweep is repeated at the next tick. Each machine that shares a store sweeps it,
    and the later ones find nothing.
    """

    def __init__(
        self, salts: Salts, clock: Callable[[], datetime], lock: FileLock | None, *, deletes: bool = True
    ) -> None:
        self._salts = salts
        self._clock = clock
        self._lock = lock
        self._deletes = deletes
        self._swept: date | None = None

    def tick(self) -> float:
        """Sweep if a new day has started; return the seconds until the next call is due."""
        now = self._clock().astimezone(UTC) - GRACE
        day = now.date()
        if day != self._swept:
            self._sweep(day)
        next_day = datetime.combine(day + timedelta(days=1), time(), UTC)
        return min(SWEEP_EVERY, (next_day - now).total_seconds())

    def _sweep(self, day: date) -> None:
        self._salts.forget_cached_before(day)
        if not self._deletes:
            self._swept = day
            return
        if self._lock is not None and not self._lock.try_acquire():
            return
        try:
            count = self._salts.forget_before(day)
        except SaltUnavailable as error:
            _log.error("past salts could not be deleted: %s", error, extra={"event": "SaltCleanupFailed"})
            return
        self._swept = day
        if count:
            _log.info("deleted %d salts of past days", count, extra={"event": "SaltCleanupCompleted", "count": count})
