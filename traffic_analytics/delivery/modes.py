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
    """Send each event within its request; if the target does not accept it, store it in the spool."""

    def __init__(
        self,
        target: Target,
        spool: Spool,
        monotonic: Callable[[], float],
        on_circuit: Callable[[str, bool], None] | None = None,
    ) -> None:
        """Describe the delivery; `on_circuit` is called with a data source and whether its circuit has opened."""
        self._target = target
        self._spool = spool
        # Data sources fail apart: a token or a limit may be wrong for one and right for the other.
        self._circuits = {name: Circuit(spool, name, target.NAME, monotonic, on_circuit) for name in DATA_SOURCES}
        self._stalls = StallDetector(monotonic)

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Send an event now, or store it."""
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
            if reply.verdict not in (Verdict.REFUSED, Verdict.TOO_LARGE):  # the event's fault, not the target's
                circuit.record_failure(reply.reason)
        self._spool.append(data_source, event)
        return None


class UnspooledDelivery:
    """Send each event with its request's own token.

    Tokens are not stored, so no event can be sent later: one that Tinybird does not accept is lost, and its client gets
    an error.
    """

    def __init__(self, tinybird: Target) -> None:
        self._tinybird = tinybird

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply:
        """Send an event now. Raises UpstreamFailed."""
        reply = self._tinybird.post(data_source, event, token)
        if reply.verdict is not Verdict.TAKEN:
            raise UpstreamFailed(reply.reason)
        warn_of_quarantine(data_source, reply)
        return reply


class SpoolDelivery:
    """Store each event in the spool, from which the forwarder sends it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def accept(self, data_source: str, event: bytes, _token: str | None) -> None:
        """Store an event. Raises SpoolUnavailable."""
        self._spool.append(data_source, event)


class LoggedDelivery:
    """Log each event before its delivery, for developers."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Log an event, then deliver it."""
        _log.info("an event for %s", data_source, extra={"event": "EventAccepted", "payload": json.loads(event)})
        return self._delivery.accept(data_source, event, token)
