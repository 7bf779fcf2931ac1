"""Define the protocols of delivery: delivery modes, targets, and a target's reply."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

DATA_SOURCES = ("analytics_events", "analytics_events_test")
NO_DATA_SOURCE = "none"
"""Data source of dead letters that are no events."""


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


class Delivery(Protocol):
    """A way of delivering accepted events."""

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event, or store it for delivery; return the target's reply if there is one already.

        Raises UpstreamFailed or SpoolUnavailable if the event can be neither delivered nor stored.
        """


class Target(Protocol):
    """A service that accepts events: Tinybird, or Pub/Sub on the way to it."""

    NAME: str
    """Name in logs."""
    WRONG_SETUP: str
    """Log message for an operator if the settings are wrong; `%s` is the reason."""

    def post(self, data_source: str, event: bytes, token: str | None = None) -> Reply:
        """Send one event while a browser waits."""

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
