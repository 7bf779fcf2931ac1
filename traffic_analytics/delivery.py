"""An event is delivered within the request that brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traffic_analytics.tinybird import Taken, Tinybird


class DirectDelivery:
    """Forwards each event at once and answers with what Tinybird says."""

    def __init__(self, tinybird: Tinybird) -> None:
        self._tinybird = tinybird

    def accept(self, data_source: str, event: bytes, token: str | None) -> Taken:
        """Deliver one event. Raises UpstreamFailed."""
        return self._tinybird.post(data_source, event, token)
