"""Count the responses to queries by their origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traffic_analytics.errors import AnalyticsError
from traffic_analytics.observability.metric_wrappers import Lookups
from traffic_analytics.statistics.gateway import STALE

if TYPE_CHECKING:
    from collections.abc import Callable

    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.statistics.gateway import PipesApi
    from traffic_analytics.tinybird.pipes import Reply
    from traffic_analytics.wsgi import Answer


class StatisticsCounter:
    """Count cached responses, those of the target, and stale ones returned while the target fails."""

    def __init__(self, metrics: Metrics) -> None:
        self._stale, self._failed, self._refused, hit, miss = (
            metrics.answers.labels(result) for result in ("stale", "failed", "refused", "hit", "miss")
        )
        self._lookups = Lookups(hit, miss)

    def count_answers(
        self, answer: Callable[[str, str, str | None], Answer]
    ) -> Callable[[str, str, str | None], Answer]:
        """Return `answer` with its responses counted."""

        def answer_and_count(file: str, query: str, authorization: str | None) -> Answer:
            self._lookups.begin()
            try:
                response = answer(file, query, authorization)
            except AnalyticsError:
                self._refused.inc()
                raise
            if response.status != 200:
                self._failed.inc()
            elif any(name == STALE for name, _ in response.headers):
                self._stale.inc()
            else:
                self._lookups.count()
            return response

        return answer_and_count

    def note_requests(self, pipes: PipesApi) -> PipesApi:
        """Return `pipes`; a request of it marks the current response of its thread as a miss."""
        return _NotedPipes(pipes, self._lookups)


class _NotedPipes:
    def __init__(self, pipes: PipesApi, lookups: Lookups) -> None:
        self._get = lookups.note_fetches(pipes.get)

    def get(self, path: str, token: str) -> Reply:
        """Query the target."""
        return self._get(path, token)
