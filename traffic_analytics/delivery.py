"""An accepted event is delivered now or later, and never given up."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Protocol

from traffic_analytics.errors import UpstreamFailed
from traffic_analytics.page_hit import DATA_SOURCES
from traffic_analytics.tinybird import Reply, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traffic_analytics.spool import Spool

_log = logging.getLogger(__name__)

FAILURES_TO_OPEN = 5
"""Failures in a row after which hits no longer wait for Tinybird."""
LOOK_AGAIN = 1.0
"""Seconds between looks at whether the forwarder got through."""
STALLED_AFTER = 1.0
"""Seconds for which a hit waits for Tinybird until others no longer follow it."""


def count_events(events: Sequence[bytes]) -> int:
    """Count the events of a batch, of whose elements each may hold several, one a line."""
    return len(events) + sum(each.count(b"\n") for each in events)


class Delivery(Protocol):
    """Where accepted events go."""

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event or see that it will be; the target's answer if it is known already.

        Raises UpstreamFailed or SpoolUnavailable if nothing can be promised.
        """


class Target(Protocol):
    """What takes events: Tinybird, or Pub/Sub on the way there."""

    NAME: str
    """What logs call it."""
    WRONG_SETUP: str
    """What an operator is told who has set it up wrongly; `%s` is what it answers."""

    def post(self, data_source: str, event: bytes, token: str | None = None) -> Reply:
        """Send one event while a browser waits for it."""

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events for which nobody waits; see `count_events` for what an element may hold."""


class DirectDelivery:
    """Forwards each event within its request; what the target does not take goes to the spool."""

    def __init__(
        self,
        target: Target,
        spool: Spool,
        monotonic: Callable[[], float],
        on_circuit: Callable[[str, bool], None] | None = None,
    ) -> None:
        """Put the parts together; `on_circuit` is told the data source whose circuit has opened (True) or closed."""
        self._target = target
        self._spool = spool
        # Each data source has its own: a token or a limit may be wrong for one and right for the other.
        self._circuits = {name: Circuit(spool, name, target.NAME, monotonic, on_circuit) for name in DATA_SOURCES}
        self._queue = Queue(monotonic)

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event now, or keep it."""
        circuit = self._circuits[data_source]
        if circuit.closed() and self._queue.moves():
            with self._queue:
                reply = self._target.post(data_source, event, token)
            if reply.verdict is Verdict.TAKEN:
                circuit.succeeded()
                warn_of_quarantine(data_source, reply)
                return reply
            _log.warning("an event goes to the spool: %s", reply.reason, extra={"event": "EventSpooled"})
            if reply.verdict not in (Verdict.REFUSED, Verdict.TOO_LARGE):  # those are about the event, not the target
                circuit.failed(reply.reason)
        self._spool.append(data_source, event)
        return None


class UnspooledDelivery:
    """Forwards each event with the token that its request brought.

    Tokens are not stored, so there is nothing to send an event with later: what Tinybird does not take is lost, and the
    sender is told.
    """

    def __init__(self, tinybird: Target) -> None:
        self._tinybird = tinybird

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply:
        """Deliver an event now or never."""
        reply = self._tinybird.post(data_source, event, token)
        if reply.verdict is not Verdict.TAKEN:
            raise UpstreamFailed(reply.reason)
        warn_of_quarantine(data_source, reply)
        return reply


class SpoolDelivery:
    """Keeps each event at once and leaves the sending to the forwarder."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def accept(self, data_source: str, event: bytes, _token: str | None) -> None:
        """Keep an event."""
        self._spool.append(data_source, event)


class ShownDelivery:
    """Logs each event before it is delivered, so that a developer sees what enrichment made of a hit."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Show an event, then deliver it."""
        _log.info("an event for %s", data_source, extra={"event": "EventAccepted", "payload": json.loads(event)})
        return self._delivery.accept(data_source, event, token)


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


class Queue:
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


def warn_of_quarantine(data_source: str, reply: Reply) -> None:
    """Say that Tinybird took rows but could not fit them into its table."""
    if reply.quarantined:
        _log.warning(
            "%d rows went to %s_quarantine: the data source's schema is not the one that Ghost ships",
            reply.quarantined,
            data_source,
            extra={"event": "RowsQuarantined", "rows": reply.quarantined},
        )
