"""The forwarder carries events from the spool to where they go: a batch at a time, from one process of the machine."""

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
"""Seconds between tries to become the forwarder."""
REPORT_EVERY = 60.0


class Forwarder:
    """Claims, has delivered, and acknowledges what was taken; the place where a batch's events wait is the spool."""

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
        self._leading = False
        self._next_report = 0.0
        self._claim: Claim | None = None
        self._unacknowledged: Sequence[SpooledEvent] = ()

    def tick(self) -> float:
        """Send one batch, if it is our turn and time; returns how many seconds may pass until the next call."""
        try:
            if not self._lead():
                return TAKE_OVER
            if self._unacknowledged:
                # Tinybird has these, but the file could not be told: before anything else, lest they be sent again.
                self.acknowledge(self._unacknowledged)
            self._report()
            return self._send_one_batch()
        except (SpoolUnavailable, OSError) as error:
            self._leading = False  # so that a claim which could not be released is, once the file can be used again
            _log.error("the spool cannot be used: %s", error, extra={"event": "SpoolUnavailable"})
            return TAKE_OVER

    def _lead(self) -> bool:
        if not self._leading and self._lock.try_acquire():
            # Whoever held claims is gone, or the lock would not be ours.
            self._spool.release_all()
            self._leading = True
        return self._leading

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
            taken = self._batches.deliver(claim.data_source, claim.events, self)
        finally:
            self._spool.release(claim)
        # What came meanwhile may fill a batch by the time that the next is due; what was there before is due now.
        return 0.0 if claim.more or not taken else self._flush_interval

    def acknowledge(self, events: Sequence[SpooledEvent]) -> None:
        """Let go of events that were taken; as long as the file cannot be told, they are remembered here."""
        self._unacknowledged = events
        self._spool.acknowledge(events, self._monotonic())
        self._unacknowledged = ()

    def dead_letter(self, event: SpooledEvent, reason: str) -> bool:
        """Take an event out of the way, for an operator to look at."""
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
