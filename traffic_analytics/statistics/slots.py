"""Limit the queries that wait for the target at the same time, so that threads remain for hits."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REST = 1.0
"""Time for which a slot of the unverified share stays closed after a query that failed, in seconds."""


class Slots:
    """Grant slots to queries; those with unverified tokens get few of them.

    Invented tokens cost their sender nothing. The share keeps most slots for verified tokens; the rest after a failure
    limits the queries that reach the target, even if it refuses them within a millisecond.
    """

    def __init__(self, total: int, *, unverified: int, monotonic: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._free = total
        self._free_unverified = unverified
        self._rest_until: deque[float] = deque()
        self._monotonic = monotonic

    def acquire(self, *, is_verified: bool) -> bool:
        """Return whether the query got a slot."""
        with self._lock:
            now = self._monotonic()
            while self._rest_until and self._rest_until[0] <= now:
                self._rest_until.popleft()
                self._free_unverified += 1
            if not self._free or not (is_verified or self._free_unverified):
                return False
            self._free -= 1
            if not is_verified:
                self._free_unverified -= 1
            return True

    def release(self, *, is_verified: bool, has_failed: bool) -> None:
        """Return a slot."""
        with self._lock:
            self._free += 1
            if is_verified:
                return
            if has_failed:
                self._rest_until.append(self._monotonic() + REST)
            else:
                self._free_unverified += 1
