"""What becomes of a batch is what Tinybird answers to it, wherever its events wait meanwhile.

| answer | what is done |
|---|---|
| taken | acknowledged |
| refused, too large | halved until the guilty event is alone, which is set aside; the others go through |
| anything else | nothing: the events stay where they are, and their data source rests for a while |
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
"""Seconds between requests; Tinybird allows 100 a second for each data source."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
FIRST_WAIT_FOR_PEOPLE, LONGEST_WAIT_FOR_PEOPLE = 5.0, 60.0
LONGEST_RETRY_AFTER = 3600.0


class Waiting(Protocol):
    """An event that waits to be delivered."""

    @property
    def event(self) -> bytes:
        """The event as JSON, without line breaks."""


E = TypeVar("E", bound=Waiting)
E_contra = TypeVar("E_contra", bound=Waiting, contravariant=True)


class BatchSource(Protocol[E_contra]):
    """Where events wait, and what is done there with those that need not wait any longer."""

    def acknowledge(self, events: Sequence[E_contra]) -> None:
        """Let go of events that Tinybird has."""

    def dead_letter(self, event: E_contra, reason: str) -> bool:
        """Take an event out of the way that never goes through, with the reason; False if only for a while."""

    def renew_lease(self) -> None:
        """Keep others from these events for another while, as this takes longer."""


class BatchSender:
    """Sends batches and does with them what the answers ask for; used by one thread."""

    def __init__(self, target: Target, *, monotonic: Callable[[], float], stopping: threading.Event) -> None:
        self._target = target
        self._monotonic = monotonic
        self._stopping = stopping
        # Each data source rests by itself: a token or a limit may be wrong for one and right for another.
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._last_post = 0.0
        self.max_bytes = MAX_BATCH_BYTES
        self.delivered = 0
        self.quarantined = 0

    def resting(self) -> dict[str, float]:
        """Return the data sources that are left alone now, and for how many seconds more."""
        now = self._monotonic()
        return {name: until - now for name, until in self._not_before.items() if until > now}

    def deliver(self, data_source: str, events: Sequence[E], place: BatchSource[E]) -> bool:
        """Send events of one data source, narrowing down to the guilty; False if not all are settled."""
        work: list[Sequence[E]] = [events]
        while work:
            self._keep_pace()
            if self._stopping.is_set():
                return False
            part = work.pop(0)
            if len(part) < len(events):
                place.renew_lease()
            reply = self._target.post_batch(data_source, [each.event for each in part])
            match reply.verdict:
                case Verdict.TAKEN:
                    self._taken(data_source, part, reply)
                    place.acknowledge(part)
                case Verdict.REFUSED | Verdict.TOO_LARGE if len(part) > 1:
                    half = len(part) // 2
                    work[:0] = [part[:half], part[half:]]
                case Verdict.REFUSED | Verdict.TOO_LARGE:
                    if place.dead_letter(part[0], reply.reason):
                        _log.error("an event was set aside: %s", reply.reason, extra={"event": "EventSetAside"})
                case _:
                    self._back_off(data_source, reply)
                    return False
        return True

    def _taken(self, data_source: str, events: Sequence[E], reply: Reply) -> None:
        self._failures.pop(data_source, None)
        self.max_bytes = min(2 * self.max_bytes, MAX_BATCH_BYTES)
        self.delivered += len(events)
        self.quarantined += reply.quarantined
        warn_of_quarantine(data_source, reply)

    def _back_off(self, data_source: str, reply: Reply) -> None:
        if not reply.status:
            # Perhaps the way there is too slow for so much at once.
            self.max_bytes = max(self.max_bytes // 2, MIN_BATCH_BYTES)
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
            _log.error(
                self._target.WRONG_SETUP,
                f"{reply.reason} for {data_source}",
                extra={"event": "DeliveryMisconfigured", "data_source": data_source},
            )
        else:
            _log.warning(
                "%s takes nothing for %s now: %s",
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
