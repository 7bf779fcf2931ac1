"""Whether hits can be taken is found out by writing, so it is not found out again for everybody who asks."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

GOOD_FOR = timedelta(seconds=1)
"""How long stores that could be used are taken to be usable."""


def once(check: Callable[[], None]) -> Callable[[], None]:
    """Ask until the answer was good once. What all machines share, by its absence, must not put all out of service."""
    was_good = threading.Event()

    def check_once() -> None:
        if not was_good.is_set():
            check()
            was_good.set()

    return check_once


class Readiness:
    """Asks each store whether it can be used; the route is public, and each question costs a write to the disk."""

    def __init__(self, checks: list[Callable[[], None]], clock: Callable[[], datetime]) -> None:
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._found_good: datetime | None = None

    def check(self) -> None:
        """Raise what a store raises that cannot be used."""
        with self._lock:
            now = self._clock()
            if self._found_good is not None and timedelta(0) <= now - self._found_good < GOOD_FOR:
                return
            for check in self._checks:
                check()
            self._found_good = now
