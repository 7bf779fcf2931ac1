"""The forwarder carries events from the spool to Tinybird: one batch at a time, from one process of the machine."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from traffic_analytics.delivery import warn_of_quarantine
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.tinybird import Reply, Tinybird, Verdict

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from traffic_analytics.file_lock import FileLock
    from traffic_analytics.spool import Claim, Spool, Spooled

_log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 5_000_000
MIN_BATCH_BYTES = 50_000
MIN_GAP = 1 / 50
"""Seconds between requests; Tinybird allows 100 a second for each data source."""
TAKE_OVER = 0.5
"""Seconds between tries to become the forwarder."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
FIRST_WAIT_FOR_PEOPLE, LONGEST_WAIT_FOR_PEOPLE = 5.0, 60.0
LONGEST_RETRY_AFTER = 3600.0
COMPLAIN_EVERY = 60.0
REPORT_EVERY = 60.0


class Forwarder:
    """Claims, posts, and acknowledges what Tinybird took."""

    def __init__(
        self,
        spool: Spool,
        tinybird: Tinybird,
        lock: FileLock,
        *,
        batch_size: int,
        flush_interval: float,
        monotonic: Callable[[], float],
        clock: Callable[[], float],
        stopping: threading.Event,
    ) -> None:
        self._spool = spool
        self._tinybird = tinybird
        self._lock = lock
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._monotonic = monotonic
        self._clock = clock
        self._stopping = stopping
        self._leading = False
        # Each data source rests by itself: a token or a limit may be wrong for one and right for another.
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._max_bytes = MAX_BATCH_BYTES
        self._last_post = 0.0
        self._last_complaint = -COMPLAIN_EVERY
        self._next_report = 0.0
        self._delivered = 0
        self._quarantined = 0
        self._unacknowledged: Sequence[Spooled] = ()

    def tick(self) -> float:
        """Send one batch, if it is our turn and time; returns how many seconds may pass until the next call."""
        try:
            if not self._lead():
                return TAKE_OVER
            if self._unacknowledged:
                # Tinybird has these, but the file could not be told: before anything else, lest they be sent again.
                self._acknowledge(self._unacknowledged)
            self._report()
            return self._send_one_batch()
        except (SpoolUnavailable, OSError) as error:
            self._leading = False  # so that a claim which could not be released is, once the file can be used again
            self._complain("the spool cannot be used: %s", error, event="SpoolUnavailable")
            return TAKE_OVER

    def _lead(self) -> bool:
        if not self._leading and self._lock.try_acquire():
            # Whoever held claims is gone, or the lock would not be ours.
            self._spool.release_all()
            self._leading = True
        return self._leading

    def _send_one_batch(self) -> float:
        now = self._monotonic()
        resting = {name: until - now for name, until in self._not_before.items() if until > now}
        claim = self._spool.claim(self._batch_size, self._max_bytes, now, without=frozenset(resting))
        if claim is None:
            self._spool.shrink()
            return min(self._flush_interval, *resting.values()) if resting else self._flush_interval
        try:
            taken = self._deliver(claim)
        finally:
            self._spool.release(claim)
        # What came meanwhile may fill a batch by the time that the next is due; what was there before is due now.
        return 0.0 if claim.more or not taken else self._flush_interval

    def _deliver(self, claim: Claim) -> bool:
        """Post a claim's events, narrowing down to the guilty where Tinybird refuses; False if it takes none now."""
        work: list[list[Spooled]] = [claim.events]
        while work and not self._stopping.is_set():
            part = work.pop(0)
            self._keep_pace()
            if len(part) < len(claim.events):
                self._spool.renew(claim, self._monotonic())
            reply = self._tinybird.post_batch(claim.data_source, [each.event for each in part])
            match reply.verdict:
                case Verdict.TAKEN:
                    self._taken(claim.data_source, part, reply)
                case Verdict.REFUSED | Verdict.TOO_LARGE if len(part) > 1:
                    half = len(part) // 2
                    work[:0] = [part[:half], part[half:]]
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    self._spool.set_aside(part[0], reply.reason)
                    _log.error("an event was set aside: %s", reply.reason, extra={"event": "EventSetAside"})
                case _:
                    self._back_off(claim.data_source, reply)
                    return False
        return True

    def _taken(self, data_source: str, events: Sequence[Spooled], reply: Reply) -> None:
        self._failures.pop(data_source, None)
        self._max_bytes = min(2 * self._max_bytes, MAX_BATCH_BYTES)
        self._delivered += len(events)
        self._quarantined += reply.quarantined
        warn_of_quarantine(data_source, reply)
        self._unacknowledged = events
        self._acknowledge(events)

    def _acknowledge(self, events: Sequence[Spooled]) -> None:
        self._spool.acknowledge(events, self._monotonic())
        self._unacknowledged = ()

    def _back_off(self, data_source: str, reply: Reply) -> None:
        if not reply.status:
            # Perhaps the way there is too slow for so much at once.
            self._max_bytes = max(self._max_bytes // 2, MIN_BATCH_BYTES)
        failures = self._failures.get(data_source, 0)
        first, longest = FIRST_WAIT, LONGEST_WAIT
        if reply.verdict is Verdict.WRONG_SETUP:
            first, longest = FIRST_WAIT_FOR_PEOPLE, LONGEST_WAIT_FOR_PEOPLE
        # Jitter: several machines that lost Tinybird together should not come back together.
        wait = min(longest, first * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        if reply.retry_after is not None:
            wait = min(max(wait, reply.retry_after), LONGEST_RETRY_AFTER)
        self._failures[data_source] = failures + 1
        self._not_before[data_source] = self._monotonic() + wait
        if reply.verdict is Verdict.WRONG_SETUP:
            self._complain(
                "Tinybird answers %s: is TINYBIRD_TRACKER_TOKEN right, and PROXY_TARGET its region? Events are kept.",
                f"{reply.reason} for {data_source}",
                event="DeliveryMisconfigured",
            )
        else:
            _log.warning(
                "Tinybird takes nothing for %s now: %s",
                data_source,
                reply.reason,
                extra={"event": "DeliveryDelayed", "wait": round(wait, 1)},
            )

    def _keep_pace(self) -> None:
        gap = self._last_post + MIN_GAP - self._monotonic()
        if gap > 0:
            self._stopping.wait(gap)
        self._last_post = self._monotonic()

    def _complain(self, message: str, detail: object, *, event: str) -> None:
        now = self._monotonic()
        if now - self._last_complaint >= COMPLAIN_EVERY:
            self._last_complaint = now
            _log.error(message, detail, extra={"event": event})

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
                "set_aside": backlog.set_aside,
                "megabytes": round(backlog.bytes_used / 1e6, 1),
                "delivered": self._delivered,
                "quarantined": self._quarantined,
            },
        )
