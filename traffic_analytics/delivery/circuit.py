"""Stop sending hits to a target that fails or stalls."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.delivery.spool import Spool

_log = logging.getLogger(__name__)

FAILURES_TO_OPEN = 5
"""Failures in a row after which the circuit opens."""
CHECK_EVERY = 1.0
"""Time between two checks of an open circuit, in seconds."""
STALLED_AFTER = 1.0
"""Wait of one hit for the target from which on the target counts as stalled, in seconds."""


class Circuit:
    """Track whether the target accepts a data source's events, so that hits do not wait for one that fails.

    While the circuit is open every hit goes to the spool. The forwarder is the probe: the circuit closes once the
    target has accepted one of its batches.
    """

    def __init__(
        self,
        spool: Spool,
        data_source: str,
        target_name: str,
        monotonic: Callable[[], float],
        on_change: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._spool = spool
        self._data_source = data_source
        self._target_name = target_name
        self._monotonic = monotonic
        self._on_change = on_change
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._failures = 0
        self._opened: float | None = None
        self._next_check = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether hits go to the spool, as far as the last check has found."""
        return self._opened is not None

    def is_closed(self) -> bool:
        """Return whether a hit should be sent to the target. Raises SpoolUnavailable."""
        if self._opened is None:
            return True
        # Reading the spool can wait for its file; only one thread does it, and holds up no other.
        if not self._checking.acquire(blocking=False):
            return False
        try:
            return self._check()
        finally:
            self._checking.release()

    def record_success(self) -> None:
        """Record that the target accepted an event."""
        self._failures = 0

    def record_failure(self, reason: str) -> None:
        """Record that the target did not accept an event, for a reason that is not the event's."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES_TO_OPEN or self._opened is not None:
                return
            now = self._monotonic()
            self._next_check = now + CHECK_EVERY
            self._opened = now
            self._notify(is_open=True)
        _log.error(
            "events go to the spool until %s accepts them: %s",
            self._target_name,
            reason,
            extra={"event": "CircuitOpened"},
        )

    def _check(self) -> bool:
        """Close the circuit if the forwarder got through; holds `_checking`."""
        opened, now = self._opened, self._monotonic()
        if opened is None or now < self._next_check:
            return opened is None
        self._next_check = now + CHECK_EVERY
        if not self._spool.delivered_since(self._data_source, opened):
            return False
        with self._lock:
            self._opened, self._failures = None, 0
            self._notify(is_open=False)
        _log.info("%s accepts events again", self._target_name, extra={"event": "CircuitClosed"})
        return True

    def _notify(self, *, is_open: bool) -> None:
        if self._on_change is not None:
            self._on_change(self._data_source, is_open)


class StallDetector:
    """Detect that the target has stalled, before there are failures to count: a context manager for each request.

    Without it all threads would wait one after the other. Later hits would wait for a thread and then for the target,
    which exceeds a browser's timeout. Once one hit has waited for STALLED_AFTER, all other hits of this process go
    to the spool. They do so until STALLED_AFTER after that hit has ended.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._started: dict[int, float] = {}  # by thread, the longest waiting first
        self._stalled_until = 0.0

    def is_stalled(self) -> bool:
        """Return whether a hit waits too long, or did a moment ago."""
        with self._lock:
            now = self._monotonic()
            oldest = next(iter(self._started.values()), now)
            return now - oldest >= STALLED_AFTER or now < self._stalled_until

    def __enter__(self) -> None:
        with self._lock:
            self._started[threading.get_ident()] = self._monotonic()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            now = self._monotonic()
            if now - self._started.pop(threading.get_ident()) >= STALLED_AFTER:
                self._stalled_until = now + STALLED_AFTER
