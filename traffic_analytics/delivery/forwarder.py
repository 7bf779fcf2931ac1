"""Forward events from the spool to the target, a batch at a time, from one process of the machine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from traffic_analytics.errors import SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traffic_analytics.delivery.batch_sender import BatchSender
    from traffic_analytics.delivery.spool import Claim, Spool, SpooledEvent
    from traffic_analytics.runtime.file_lock import FileLock

_log = logging.getLogger(__name__)

TAKE_OVER = 0.5
"""Time between two attempts to become the forwarder, in seconds."""
REPORT_EVERY = 60.0
"""Time between two log records of the backlog, in seconds."""


class Forwarder:
    """Claim events of the spool, have them sent, and acknowledge them; the BatchSource of the batches."""

    def __init__(
        self,
        spool: Spool,
        batches: BatchSender,
        lock: FileLock,
        *,
        batch_size: int,
        flush_interval: float,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._spool = spool
        self._batches = batches
        self._lock = lock
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._monotonic = monotonic
        self._clock = clock
        self._is_leader = False
        self._next_report = 0.0
        self._claim: Claim | None = None
        self._unacknowledged: Sequence[SpooledEvent] = ()

    def tick(self) -> float:
        """Send one batch if this process is the forwarder; return the seconds until the next call is due."""
        try:
            if not self._lead():
                return TAKE_OVER
            if self._unacknowledged:
                # The target has these, but the file could not be written; unacknowledged they would be sent again.
                self.acknowledge(self._unacknowledged)
            self._report()
            return self._send_one_batch()
        except (SpoolUnavailable, OSError) as error:
            self._is_leader = False  # becoming it again releases the claims that could not be released
            _log.error("the spool cannot be used: %s", error, extra={"event": "SpoolUnavailable"})
            return TAKE_OVER

    def _lead(self) -> bool:
        if not self._is_leader and self._lock.try_acquire():
            # The lock proves that the process which made the claims has ended.
            self._spool.release_all()
            self._is_leader = True
        return self._is_leader

    def _send_one_batch(self) -> float:
        resting = self._batches.resting()
        claim = self._spool.claim(
            self._batch_size, self._batches.max_bytes, self._monotonic(), without=frozenset(resting)
        )
        if claim is None:
            self._spool.shrink()
            return min(self._flush_interval, *resting.values()) if resting else self._flush_interval
        self._claim = claim
        try:
            is_settled = self._batches.deliver(claim.data_source, claim.events, self)
        finally:
            self._spool.release(claim)
        # Events that arrived meanwhile may fill a batch by the flush interval; earlier ones are due now.
        return 0.0 if claim.more or not is_settled else self._flush_interval

    def acknowledge(self, events: Sequence[SpooledEvent]) -> None:
        """Remove events that were accepted; they are kept in memory until the file can be written."""
        self._unacknowledged = events
        self._spool.acknowledge(events, self._monotonic())
        self._unacknowledged = ()

    def dead_letter(self, event: SpooledEvent, reason: str) -> bool:
        """Move an event to the dead letters."""
        self._spool.dead_letter(event, reason)
        return True

    def renew_lease(self) -> None:
        """Renew the lease of the claim that is being delivered."""
        if self._claim is not None:
            self._spool.renew(self._claim, self._monotonic())

    def _report(self) -> None:
        now = self._monotonic()
        if now < self._next_report:
            return
        self._next_report = now + REPORT_EVERY
        backlog = self._spool.backlog()
        if not backlog.waiting:
            return
        _log.info(
            "%d events wait in the spool",
            backlog.waiting,
            extra={
                "event": "SpoolBacklog",
                "waiting": backlog.waiting,
                "oldest_seconds": round(self._clock() - (backlog.oldest or self._clock())),
                "set_aside": backlog.dead_letters,
                "megabytes": round(backlog.bytes_used / 1e6, 1),
                "delivered": self._batches.delivered,
                "quarantined": self._batches.quarantined,
            },
        )
