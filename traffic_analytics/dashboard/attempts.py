"""Limit how often this process compares access keys."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_FAILURES = 10
"""Number of wrong keys within WINDOW after which no key is compared."""
WINDOW = 60.0
"""Time for which a wrong key counts, in seconds."""


class Attempts:
    """Count wrong keys of all clients together: their addresses are not stored."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)

    def wait(self) -> float:
        """Return the seconds until a key may be compared, 0 if now."""
        with self._lock:
            if len(self._failures) < MOST_FAILURES:
                return 0.0
            return max(0.0, self._failures[0] + WINDOW - self._monotonic())

    def note_failure(self) -> None:
        """Count a wrong key."""
        with self._lock:
            self._failures.append(self._monotonic())
