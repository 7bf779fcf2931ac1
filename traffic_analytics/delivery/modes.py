"""Deliver accepted events: directly, directly without a spool, or through the spool."""

from __future__ import annotations

import json
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from traffic_analytics.delivery.circuit import STALLED_AFTER, Circuit, StallDetector
from traffic_analytics.delivery.target import DATA_SOURCES, RECEIVED, Outcome, Verdict, warn_of_quarantine
from traffic_analytics.errors import SpoolUnavailable, UpstreamFailed
from traffic_analytics.runtime.joiner import Joiner

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.delivery.target import Delivery, PendingEvent, Reply, Target

_log = logging.getLogger(__name__)

POSTS = 5
"""Largest number of posts of one data source and token in flight, per process."""
POSTS_PER_SECOND = 50
"""Posts that all worker processes together start while others are in flight, per second.

Tinybird allows 100 for each data source, and the forwarder sends at most 50.
"""
PACED_FOR = 60.0
"""Time after a 429 in which posts keep that pace even if none is in flight, in seconds."""
MAX_EVENTS = 500
"""Size of the largest post, in events."""
MAX_BYTES = 1_000_000
"""Size of the largest post, in bytes; browsers wait for it."""
TOKENS = 100
"""Number of data sources and tokens whose posts are joined at a time, if events travel with tokens of requests."""
HALVING_TIMEOUT = 4.0
"""Time from which on a refused batch is not halved any further, in seconds."""


class Pace(NamedTuple):
    """Number of posts of one data source that are in flight, and the time from one start to the next, in seconds."""

    places: int
    gap: float


def make_pace(workers: int) -> Pace:
    """Return the pace of each of so many worker processes: all together start POSTS_PER_SECOND under load."""
    return Pace(POSTS, workers / POSTS_PER_SECOND)


class DirectDelivery:
    """Send each event within its request; if the target does not accept it, store it in the spool.

    Events that arrive while posts are in flight are sent together.
    """

    def __init__(
        self,
        target: Target,
        spool: Spool,
        pace: Pace,
        monotonic: Callable[[], float],
        on_circuit: Callable[[str, bool], None] | None = None,
    ) -> None:
        """Describe the delivery; `on_circuit` is called with a data source and whether its circuit has opened."""
        self._target = target
        self._spool = spool
        # Data sources fail apart: a token or a limit may be wrong for one and right for the other.
        self._circuits = {name: Circuit(spool, name, target.NAME, monotonic, on_circuit) for name in DATA_SOURCES}
        self._stalls = StallDetector(monotonic)
        self._posts = {name: _join_posts(partial(self._deliver, name), pace, monotonic) for name in DATA_SOURCES}

    def submit(self, data_source: str, event: bytes, _token: str | None) -> PendingEvent:
        """Begin to send an event, or to store it. Raises SpoolUnavailable."""
        if self._circuits[data_source].is_closed() and not self._stalls.is_stalled():
            return self._posts[data_source].submit(event)
        return self._spool.submit(data_source, event)

    def _deliver(self, data_source: str, events: list[bytes]) -> list[Outcome | Exception]:
        circuit = self._circuits[data_source]
        # They may have waited for their turn.
        if not circuit.is_open and not self._stalls.is_stalled():
            with self._stalls:
                reply = self._target.post(data_source, events)
            if reply.verdict is Verdict.TAKEN:
                circuit.record_success()
                warn_of_quarantine(data_source, reply)
                return _replies_to_each(reply, len(events))
            if reply.verdict is Verdict.TOO_FAST:
                self._posts[data_source].pace_for(PACED_FOR)
            _log.warning(
                "an event goes to the spool: %s",
                reply.reason,
                extra={"event": "EventSpooled", "data_source": data_source, "events": len(events)},
            )
            if reply.verdict not in (Verdict.REFUSED, Verdict.TOO_LARGE):  # an event's fault, not the target's
                circuit.record_failure(reply.reason)
        try:
            self._spool.append(data_source, *events)
        except SpoolUnavailable as error:
            return [error] * len(events)
        return [None] * len(events)


class UnspooledDelivery:
    """Send each event with its request's own token.

    Tokens are not stored, so no event can be sent later: one that Tinybird does not accept is lost, and its client gets
    an error. Events that arrive while posts with the same token are in flight are sent together.
    """

    def __init__(self, tinybird: Target, pace: Pace, monotonic: Callable[[], float]) -> None:
        self._tinybird = tinybird
        self._pace = pace
        self._monotonic = monotonic
        # Bounded, since a client can name any token. A joiner that is dropped still settles its events.
        self._posts: LRUCache[tuple[str, str | None], Joiner[bytes, Outcome | Exception]] = LRUCache(TOKENS)
        self._lock = threading.Lock()

    def submit(self, data_source: str, event: bytes, token: str | None) -> PendingEvent:
        """Begin to send an event."""
        return self._joiner(data_source, token).submit(event)

    def _joiner(self, data_source: str, token: str | None) -> Joiner[bytes, Outcome | Exception]:
        with self._lock:
            joiner = self._posts.get((data_source, token))
            if joiner is None:
                joiner = _join_posts(partial(self._deliver, data_source, token), self._pace, self._monotonic)
                self._posts[data_source, token] = joiner
            return joiner

    def _deliver(self, data_source: str, token: str | None, events: list[bytes]) -> list[Outcome | Exception]:
        """Post events; halve a refused batch until each refused event is alone, or until a post fails."""
        give_up = self._monotonic() + HALVING_TIMEOUT
        batches, outcomes = [events], list[Outcome | Exception]()
        while batches:
            batch = batches.pop()
            reply = self._tinybird.post(data_source, batch, token)
            if reply.verdict is Verdict.TAKEN:
                warn_of_quarantine(data_source, reply)
                outcomes += _replies_to_each(reply, len(batch))
                continue
            is_refused = reply.verdict in (Verdict.REFUSED, Verdict.TOO_LARGE)
            if is_refused and len(batch) > 1 and self._monotonic() < give_up:
                half = len(batch) // 2
                batches += [batch[half:], batch[:half]]
            else:
                failed = len(batch)
                if not is_refused:  # the rest would fail as well, and its browsers wait
                    failed = len(events) - len(outcomes)
                    batches.clear()
                if reply.verdict is Verdict.TOO_FAST:
                    self._joiner(data_source, token).pace_for(PACED_FOR)
                outcomes += [UpstreamFailed(reply.reason) for _ in range(failed)]
        return outcomes


def _join_posts(
    post: Callable[[list[bytes]], list[Outcome | Exception]], pace: Pace, monotonic: Callable[[], float]
) -> Joiner[bytes, Outcome | Exception]:
    return Joiner(
        post,
        places=pace.places,
        gap=pace.gap,
        patience=STALLED_AFTER,
        max_items=MAX_EVENTS,
        max_size=MAX_BYTES,
        size_of=len,
        monotonic=monotonic,
    )


def _replies_to_each(reply: Reply, events: int) -> list[Outcome | Exception]:
    """Return the reply to each event of a batch, as if it had been alone."""
    if events > 1:
        body = RECEIVED  # true of each, if the counts do not tell the rows apart
        if reply.quarantined == 0 and reply.successful == events:
            body = b'{"successful_rows":1,"quarantined_rows":0}'
        elif reply.quarantined == events:
            body = b'{"successful_rows":0,"quarantined_rows":1}'
        reply = reply._replace(body=body)
    return [reply] * events


class SpoolDelivery:
    """Store each event in the spool, from which the forwarder sends it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def submit(self, data_source: str, event: bytes, _token: str | None) -> PendingEvent:
        """Begin to store an event."""
        return self._spool.submit(data_source, event)


class LoggedDelivery:
    """Log each event before its delivery, for developers."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def submit(self, data_source: str, event: bytes, token: str | None) -> PendingEvent:
        """Log an event, then begin to deliver it."""
        _log.info("an event for %s", data_source, extra={"event": "EventAccepted", "payload": json.loads(event)})
        return self._delivery.submit(data_source, event, token)
