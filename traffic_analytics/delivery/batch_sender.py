"""Send batches to the target, and act on its replies.

| reply | action |
|---|---|
| accepted | acknowledge the events |
| refused, too large | halve the batch until the refused event is alone and becomes a dead letter; deliver all others |
| anything else | leave the events where they are, and send none of their data source for a while |
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Protocol, TypeVar

from traffic_analytics.delivery.target import Verdict, warn_of_quarantine

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from traffic_analytics.delivery.target import Reply, Target

_log = logging.getLogger(__name__)

MAX_BATCH_BYTES = 5_000_000
MIN_BATCH_BYTES = 50_000
MIN_GAP = 1 / 50
"""Time between two requests, in seconds; Tinybird allows 100 a second for each data source."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Time to the next attempt after the first failure and after many, in seconds."""
FIRST_WAIT_MISCONFIGURED, LONGEST_WAIT_MISCONFIGURED = 5.0, 60.0
"""The same if an operator has to correct the settings."""
LONGEST_RETRY_AFTER = 3600.0
"""Longest time that the target's Retry-After can postpone the next attempt, in seconds."""


class BatchEvent(Protocol):
    """An event that waits to be delivered, in the spool or in a worker's memory."""

    @property
    def event(self) -> bytes:
        """Return the event as JSON, without line breaks."""


E = TypeVar("E", bound=BatchEvent)
E_contra = TypeVar("E_contra", bound=BatchEvent, contravariant=True)


class BatchSource(Protocol[E_contra]):
    """The place where a batch's events wait."""

    def acknowledge(self, events: Sequence[E_contra]) -> None:
        """Remove events that the target has accepted."""

    def dead_letter(self, event: E_contra, reason: str) -> bool:
        """Make an event that the target refuses a dead letter; False if that failed and the event comes again."""

    def renew_lease(self) -> None:
        """Extend the lease of the batch's events."""


class BatchSender:
    """Send batches and act on the replies; for use by one thread."""

    def __init__(self, target: Target, *, monotonic: Callable[[], float], stopping: threading.Event) -> None:
        self._target = target
        self._monotonic = monotonic
        self._stopping = stopping
        # Data sources fail apart: a token or a limit may be wrong for one and right for another.
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._last_post = 0.0
        self.max_bytes = MAX_BATCH_BYTES
        self.delivered = 0
        self.quarantined = 0

    def resting(self) -> dict[str, float]:
        """Return the data sources that get no batches now, and for how many seconds more."""
        now = self._monotonic()
        return {name: until - now for name, until in self._not_before.items() if until > now}

    def deliver(self, data_source: str, events: Sequence[E], source: BatchSource[E]) -> bool:
        """Send events of one data source, halving refused batches; False if some of them still wait."""
        batches: list[Sequence[E]] = [events]
        while batches:
            self._keep_pace()
            if self._stopping.is_set():
                return False
            batch = batches.pop(0)
            if len(batch) < len(events):
                source.renew_lease()
            reply = self._target.post_batch(data_source, [each.event for each in batch])
            match reply.verdict:
                case Verdict.TAKEN:
                    self._record_success(data_source, batch, reply)
                    source.acknowledge(batch)
                case Verdict.REFUSED | Verdict.TOO_LARGE if len(batch) > 1:
                    half = len(batch) // 2
                    batches[:0] = [batch[:half], batch[half:]]
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    if source.dead_letter(batch[0], reply.reason):
                        _log.error("an event became a dead letter: %s", reply.reason, extra={"event": "EventSetAside"})
                case _:
                    self._back_off(data_source, reply)
                    return False
        return True

    def _record_success(self, data_source: str, events: Sequence[E], reply: Reply) -> None:
        self._failures.pop(data_source, None)
        self.max_bytes = min(2 * self.max_bytes, MAX_BATCH_BYTES)
        self.delivered += len(events)
        self.quarantined += reply.quarantined
        warn_of_quarantine(data_source, reply)

    def _back_off(self, data_source: str, reply: Reply) -> None:
        if not reply.status:
            # No response: the network may be too slow for a batch of this size.
            self.max_bytes = max(self.max_bytes // 2, MIN_BATCH_BYTES)
        failures = self._failures.get(data_source, 0)
        first, longest = FIRST_WAIT, LONGEST_WAIT
        if reply.verdict is Verdict.WRONG_SETUP:
            first, longest = FIRST_WAIT_MISCONFIGURED, LONGEST_WAIT_MISCONFIGURED
        # Jitter: several machines that lost the target together should not return together.
        wait = min(longest, first * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        if reply.retry_after is not None:
            wait = min(max(wait, reply.retry_after), LONGEST_RETRY_AFTER)
        self._failures[data_source] = failures + 1
        self._not_before[data_source] = self._monotonic() + wait
        if reply.verdict is Verdict.WRONG_SETUP:
            _log.error(
                self._target.WRONG_SETUP,
                f"{reply.reason} for {data_source}",
                extra={"event": "DeliveryMisconfigured", "data_source": data_source},
            )
        else:
            _log.warning(
                "%s accepts nothing for %s now: %s",
                self._target.NAME,
                data_source,
                reply.reason,
                extra={"event": "DeliveryDelayed", "wait": round(wait, 1)},
            )

    def _keep_pace(self) -> None:
        gap = self._last_post + MIN_GAP - self._monotonic()
        if gap > 0:
            self._stopping.wait(gap)
        self._last_post = self._monotonic()
