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
"""Failures in a row after which hits no longer wait for Tinybird."""


LOOK_AGAIN = 1.0
"""Seconds between looks at whether the forwarder got through."""


STALLED_AFTER = 1.0
"""Seconds for which a hit waits for Tinybird until others no longer follow it."""


class Circuit:
    """Remembers that the target does not take a data source's events, so that no browser waits to find out again.

    While it is open every hit goes to the spool, and the forwarder, which tries what waits there with one request at a
    time, is the probe: as soon as one of its batches is taken the circuit closes.
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
        self._failures = 0
        self._opened: float | None = None
        self._next_look = 0.0

    def closed(self) -> bool:
        """Whether a hit should try the target itself."""
        if self._opened is None:
            return True
        with self._lock:
            now = self._monotonic()
            if self._opened is None or now < self._next_look:
                return self._opened is None
            self._next_look = now + LOOK_AGAIN
            if not self._spool.delivered_since(self._data_source, self._opened):
                return False
            self._opened, self._failures = None, 0
            self._tell(is_open=False)
        _log.info("%s takes events again", self._target_name, extra={"event": "CircuitClosed"})
        return True

    def succeeded(self) -> None:
        """Note that the target took an event."""
        self._failures = 0

    def failed(self, reason: str) -> None:
        """Note that the target did not take an event, for no fault of the event."""
        with self._lock:
            self._failures += 1
            if self._failures < FAILURES_TO_OPEN or self._opened is not None:
                return
            self._opened = self._monotonic()
            self._next_look = self._opened + LOOK_AGAIN
            self._tell(is_open=True)
        _log.error(
            "events go to the spool until %s takes them: %s",
            self._target_name,
            reason,
            extra={"event": "CircuitOpened"},
        )

    def _tell(self, *, is_open: bool) -> None:
        if self._on_change is not None:
            self._on_change(self._data_source, is_open)


class StallDetector:
    """The hits of this process that wait for the target; it tells a stall before there are failures to count.

    Without it all threads would come to wait one after the other, and the hits behind them would wait first for a
    thread and then for the target, which is longer than a browser has patience. While one hit waits too long, and for a
    moment after it has, others go to the spool.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}  # by thread, the longest waiting first
        self._stalled_until = 0.0

    def moves(self) -> bool:
        """Whether nobody has waited too long of late."""
        with self._lock:
            now = self._monotonic()
            oldest = next(iter(self._since.values()), now)
            return now - oldest < STALLED_AFTER and now >= self._stalled_until

    def __enter__(self) -> None:
        with self._lock:
            self._since[threading.get_ident()] = self._monotonic()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            now = self._monotonic()
            if now - self._since.pop(threading.get_ident()) >= STALLED_AFTER:
                self._stalled_until = now + STALLED_AFTER
