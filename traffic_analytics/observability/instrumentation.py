"""Metrics and traces wrap the parts that they watch; without them each part is used as it is, at no cost."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache, cached

from traffic_analytics.delivery.batch_sender import BatchSender
from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.hits import user_agent
from traffic_analytics.salts.cache import Salts
from traffic_analytics.wsgi import answer_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.trace import SpanProcessor

    from traffic_analytics.delivery.target import Delivery, Target
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.observability.span_export import Traces
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings
    from traffic_analytics.wsgi import Answer

CACHED_USER_AGENTS = 4096


class Instrumentation:
    """What watches an app: metrics, traces, both or, as a rule, neither; nothing of them is imported unless wanted."""

    def __init__(self, settings: Settings, span_processor: SpanProcessor | None = None) -> None:
        self.metrics = make_metrics(settings)
        self.traces = make_traces(settings, span_processor)

    def salts(self, store: SaltStore) -> Salts:
        """Put a cache before a store."""
        if self.traces is not None:
            store = self.traces.around_salts(store)
        return Salts(store) if self.metrics is None else self.metrics.salts(store)

    def target(self, target: Target, url: str | None = None, data_sources: Sequence[str] = DATA_SOURCES) -> Target:
        """Watch what takes events for these data sources; `url` is where it is reached over HTTP."""
        if self.traces is not None:
            target = self.traces.around_target(target, url)
        return target if self.metrics is None else self.metrics.target(target, data_sources)

    def delivery(self, delivery: Delivery) -> Delivery:
        """Watch what becomes of hits."""
        if self.traces is not None:
            delivery = self.traces.around_delivery(delivery)
        return delivery if self.metrics is None else self.metrics.delivery(delivery)

    def batches(self, target: Target, stopping: threading.Event) -> BatchSender:
        """Put together what sends batches to a target that is watched already."""
        if self.metrics is None:
            return BatchSender(target, monotonic=time.monotonic, stopping=stopping)
        return self.metrics.batches(target, stopping)

    def user_agents(self) -> Callable[[str], UserAgent]:
        """Put a cache before the parser of user agents."""
        remember = cached(LRUCache(CACHED_USER_AGENTS), lock=threading.Lock())
        if self.metrics is None:
            return remember(user_agent.parse)
        return self.metrics.user_agents(remember, user_agent.parse)

    def circuits(self) -> Callable[[str, bool], None] | None:
        """Return what is to be told when a circuit opens or closes."""
        return None if self.metrics is None else self.metrics.circuit_observer()

    def answer_error(self) -> Callable[[Exception], Answer]:
        """Return what answers a hit that came to an error."""
        return answer_to if self.metrics is None else self.metrics.answer_to

    def syncs(self, sync: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
        """Watch what becomes of Ghost's syncs."""
        return sync if self.metrics is None else self.metrics.syncs(sync)

    def messages(self) -> Callable[[int, int, int, bool], None]:
        """Return what a worker tells how many messages it received, holds, and set aside, and if any can come."""
        if self.metrics is None:
            return lambda _received, _held, _set_aside, _subscribed: None
        from traffic_analytics.observability.metrics import MessageMetrics  # noqa: PLC0415

        return MessageMetrics(self.metrics).show

    def requests(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Watch requests, around everything else."""
        return app if self.traces is None else self.traces.around_requests(app)


def make_metrics(settings: Settings) -> Metrics | None:
    """Count, or not."""
    if not settings.metrics:
        return None
    from traffic_analytics.observability.metrics import Metrics  # noqa: PLC0415

    return Metrics(time.monotonic)


def make_traces(settings: Settings, processor: SpanProcessor | None) -> Traces | None:
    """Trace, or not."""
    if settings.otel_traces_exporter == "none":
        return None
    from traffic_analytics.observability.span_export import Traces  # noqa: PLC0415

    traces = Traces(settings)
    if processor is not None:
        traces.start(processor)
    return traces
