"""Deliver accepted events: directly, directly without a spool, or through the spool."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from traffic_analytics.delivery.circuit import Circuit, StallDetector
from traffic_analytics.delivery.target import DATA_SOURCES, Verdict, warn_of_quarantine
from traffic_analytics.errors import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.delivery.target import Delivery, Reply, Target

_log = logging.getLogger(__name__)


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
        self._stalls = StallDetector(monotonic)

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event now, or keep it."""
        circuit = self._circuits[data_source]
        if circuit.is_closed() and not self._stalls.is_stalled():
            with self._stalls:
                reply = self._target.post(data_source, event, token)
            if reply.verdict is Verdict.TAKEN:
                circuit.record_success()
                warn_of_quarantine(data_source, reply)
                return reply
            _log.warning(
                "an event goes to the spool: %s",
                reply.reason,
                extra={"event": "EventSpooled", "data_source": data_source},
            )
            if reply.verdict not in (Verdict.REFUSED, Verdict.TOO_LARGE):  # those are about the event, not the target
                circuit.record_failure(reply.reason)
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


class LoggedDelivery:
    """Logs each event before it is delivered, so that a developer sees what enrichment made of a hit."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Show an event, then deliver it."""
        _log.info("an event for %s", data_source, extra={"event": "EventAccepted", "payload": json.loads(event)})
        return self._delivery.accept(data_source, event, token)
