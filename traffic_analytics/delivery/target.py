"""Define what delivers events: the protocols, and the verdict on each request."""

from __future__ import annotations

import enum
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

DATA_SOURCES = ("analytics_events", "analytics_events_test")


NO_DATA_SOURCE = "none"
"""What is set aside is filed under this if it is no event."""


class Verdict(enum.Enum):
    """What became of events, as far as the sender must know."""

    TAKEN = enum.auto()
    LATER = enum.auto()  # nothing is wrong with them: Tinybird cannot take them now
    TOO_FAST = enum.auto()  # nor here: we sent too much of late
    WRONG_SETUP = enum.auto()  # nor here: our token, workspace or address is wrong
    TOO_LARGE = enum.auto()  # fewer at a time will go through
    REFUSED = enum.auto()  # at least one of them never goes through as it is


class Reply(NamedTuple):
    """Tinybird's answer. `reason` is fit for logs: it holds no client data and no token."""

    verdict: Verdict
    reason: str
    status: int = 0
    body: bytes = b"{}"
    successful: int = 0
    quarantined: int = 0
    retry_after: float | None = None


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


def count_events(events: Sequence[bytes]) -> int:
    """Count the events of a batch, of whose elements each may hold several, one a line."""
    return len(events) + sum(each.count(b"\n") for each in events)


def warn_of_quarantine(data_source: str, reply: Reply) -> None:
    """Say that Tinybird took rows but could not fit them into its table."""
    if reply.quarantined:
        _log.warning(
            "%d rows went to %s_quarantine: the data source's schema is not the one that Ghost ships",
            reply.quarantined,
            data_source,
            extra={"event": "RowsQuarantined", "rows": reply.quarantined, "data_source": data_source},
        )
