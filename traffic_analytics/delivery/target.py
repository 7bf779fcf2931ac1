"""Define the protocols of delivery: delivery modes, targets, and a target's reply."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger(__name__)

DATA_SOURCES = ("analytics_events", "analytics_events_test")
NO_DATA_SOURCE = "none"
"""Data source of dead letters that are no events."""
RECEIVED = b'{"message":"Page hit event received"}'
"""Response body of a hit that Tinybird has not answered itself."""


class Verdict(enum.Enum):
    """The outcome of a request, as far as it decides what happens to its events."""

    TAKEN = enum.auto()
    LATER = enum.auto()  # the target cannot accept events now
    TOO_FAST = enum.auto()  # too many requests were sent
    WRONG_SETUP = enum.auto()  # the token, workspace or URL of this service is wrong
    TOO_LARGE = enum.auto()  # a smaller batch can be accepted
    REFUSED = enum.auto()  # at least one event can never be accepted


class Reply(NamedTuple):
    """A target's reply. `reason` may be logged: it holds no client data and no token."""

    verdict: Verdict
    reason: str
    status: int = 0
    body: bytes = b"{}"
    successful: int = 0
    quarantined: int = 0
    retry_after: float | None = None


Outcome: TypeAlias = Reply | None
"""Outcome of an accepted event: the target's reply to it, or None if it is stored for delivery."""


class PendingEvent(Protocol):
    """An event on its way to the target or to the spool."""

    def on_ready(self, callback: Callable[[], object]) -> None:
        """Call `callback` once the outcome is known. The call may do the work for this event and for others."""

    def wait(self) -> Outcome | Exception:
        """Wait for the outcome and return it: UpstreamFailed or SpoolUnavailable if the event is lost."""


class Delivery(Protocol):
    """A way of delivering accepted events."""

    def submit(self, data_source: str, event: bytes, token: str | None) -> PendingEvent:
        """Begin to deliver an event, or to store it for delivery; the caller awaits the outcome in any case."""


class Target(Protocol):
    """A service that accepts events: Tinybird, or Pub/Sub on the way to it."""

    NAME: str
    """Name in logs."""
    WRONG_SETUP: str
    """Log message for an operator if the settings are wrong; `%s` is the reason."""

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        """Send events while their browsers wait."""

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events while no browser waits; an element may hold several, see `count_events`."""


def count_events(events: Sequence[bytes]) -> int:
    """Count the events of a batch; an element may hold several, one a line."""
    return len(events) + sum(each.count(b"\n") for each in events)


def warn_of_quarantine(data_source: str, reply: Reply) -> None:
    """Log that Tinybird quarantined rows, which it accepted but could not fit into its table."""
    if reply.quarantined:
        _log.warning(
            "%d rows went to %s_quarantine: the data source's schema is not the one that Ghost ships",
            reply.quarantined,
            data_source,
            extra={"event": "RowsQuarantined", "rows": reply.quarantined, "data_source": data_source},
        )
