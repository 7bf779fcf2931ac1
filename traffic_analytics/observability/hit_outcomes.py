"""Count each hit once, by its outcome and the rule that decided it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traffic_analytics.hits.outcomes import ALL, counted_as
from traffic_analytics.observability.metric_wrappers import OTHER, by_data_source

if TYPE_CHECKING:
    from traffic_analytics.observability.metrics import Metrics


class HitCounter:
    """Count hits; an `OnOutcome` of hits.outcomes."""

    def __init__(self, metrics: Metrics) -> None:
        self._hits = {each: metrics.hits.labels(*each) for each in ALL}
        self._spooled = by_data_source(metrics.spooled.labels)

    def __call__(
        self,
        outcome: str,
        data_source: str = "",
        error: Exception | None = None,
        *,
        rule: str = "",
        site: str = "",  # noqa: ARG002
    ) -> None:
        """Count one hit; no site becomes a label."""
        if outcome == "spooled":
            (self._spooled.get(data_source) or self._spooled[OTHER]).inc()
        self._hits[counted_as(outcome, error, rule)].inc()
