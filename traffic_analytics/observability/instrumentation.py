"""Wrap parts of the app in metrics and traces; a feature that is off is not imported and wraps nothing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from cachetools import FIFOCache

from traffic_analytics.delivery.batch_sender import BatchSender
from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.hits import user_agent
from traffic_analytics.hits.outcomes import ignore_outcome
from traffic_analytics.observability.hit_outcomes import HitCounter
from traffic_analytics.observability.metric_wrappers import (
    MeteredBatchSender,
    MeteredSalts,
    MeteredSync,
    MeteredTarget,
    cache_lookups,
)
from traffic_analytics.salts.cache import Salts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.trace import SpanProcessor

    from traffic_analytics.delivery.target import Target
    from traffic_analytics.hits.outcomes import OnOutcome
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.observability.span_export import Traces
    from traffic_analytics.salts.new_sites import NewSites
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings
    from traffic_analytics.wsgi import Answer

CACHED_USER_AGENTS = 4096
"""Capacity of the cache of parsed user agents, in entries."""


class Instrumentation:
    """Hold an app's metrics and traces, and wrap its parts with them. Both are None unless configured."""

    def __init__(self, settings: Settings, span_processor: SpanProcessor | None = None) -> None:
        self.metrics = make_metrics(settings)
        self.traces = make_traces(settings, span_processor)

    def make_salts(self, store: SaltStore, new_sites: NewSites | None = None) -> Salts:
        """Put a cache before a store, and observe both."""
        if self.traces is not None:
            store = self.traces.wrap_salt_store(store)
        if self.metrics is None:
            return Salts(store, new_sites)
        return MeteredSalts(store, cache_lookups(self.metrics, "salts"), new_sites)

    def wrap_target(self, target: Target, url: str | None = None, data_sources: Sequence[str] = DATA_SOURCES) -> Target:
        """Observe a target and these data sources of it; `url` is its address if it is reached over HTTP."""
        if self.traces is not None:
            target = self.traces.wrap_target(target, url)
        if self.metrics is not None:
            target = MeteredTarget(target, self.metrics, time.monotonic, data_sources)
        return target

    def make_batch_sender(self, target: Target, stopping: threading.Event) -> BatchSender:
        """Make a sender of batches to a target that is wrapped already."""
        if self.metrics is None:
            return BatchSender(target, monotonic=time.monotonic, stopping=stopping)
        return MeteredBatchSender(target, self.metrics, time.monotonic, stopping)

    def make_user_agent_parser(self, more_bots: tuple[str, ...] = ()) -> Callable[[str], UserAgent]:
        """Put a cache before the parser of user agents, and count its look-ups; `more_bots` are those of EXTRA_BOTS."""

        def parse(text: str) -> UserAgent:
            return user_agent.parse(text, more_bots)

        if self.metrics is None:
            return cache_user_agents(parse)
        lookups = cache_lookups(self.metrics, "user_agents")
        return lookups.count_lookups(cache_user_agents(lookups.note_fetches(parse)))

    def make_outcome_callback(self, *more: OnOutcome) -> OnOutcome:
        """Return the callback that counts and traces the outcome of each hit, and calls `more`."""
        callbacks = [*more]
        if self.metrics is not None:
            callbacks.append(HitCounter(self.metrics))
        if self.traces is not None:
            from traffic_analytics.observability.tracing import record_outcome  # noqa: PLC0415

            callbacks.append(record_outcome)
        if len(callbacks) < 2:
            return callbacks[0] if callbacks else ignore_outcome

        def call_all(
            outcome: str, data_source: str = "", error: Exception | None = None, *, rule: str = "", site: str = ""
        ) -> None:
            for callback in callbacks:
                callback(outcome, data_source, error, rule=rule, site=site)

        return call_all

    def make_circuit_callback(self) -> Callable[[str, bool], None] | None:
        """Return the callback that shows that a data source's circuit has opened or closed."""
        if self.metrics is None:
            return None
        circuits = self.metrics.circuits
        gauges = {name: circuits.labels(name) for name in DATA_SOURCES}  # shown as closed until it opens
        return lambda data_source, is_open: gauges[data_source].set(is_open)

    def make_messages_callback(self) -> Callable[[int, int, int, bool], None]:
        """Return the callback for a worker's messages: received, outstanding, dead letters, subscribed or not."""
        if self.metrics is None:
            return lambda _received, _outstanding, _dead_letters, _is_subscribed: None
        from traffic_analytics.observability.metrics import MessageMetrics  # noqa: PLC0415

        return MessageMetrics(self.metrics).update

    def wrap_sync(self, sync: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
        """Count the responses to Ghost's syncs."""
        return sync if self.metrics is None else MeteredSync(sync, self.metrics)

    def wrap_app(
        self, app: Callable[..., Iterable[bytes]], routes: Iterable[tuple[str, str]]
    ) -> Callable[..., Iterable[bytes]]:
        """Trace requests to these routes, each a method and a path; the outermost wrapper."""
        return app if self.traces is None else self.traces.wrap_app(app, routes)


def cache_user_agents(parse: Callable[[str], UserAgent]) -> Callable[[str], UserAgent]:
    """Put a cache before a parser of user agents."""
    parsed: FIFOCache[str, UserAgent] = FIFOCache(CACHED_USER_AGENTS)
    lock = threading.Lock()  # for changes; a look-up needs none

    def look_up(text: str) -> UserAgent:
        try:
            return parsed[text]
        except KeyError:
            agent = parse(text)
        with lock:
            parsed[text] = agent
        return agent

    return look_up


def make_metrics(settings: Settings) -> Metrics | None:
    """Make the metrics if they are on."""
    if not settings.metrics:
        return None
    from traffic_analytics.observability.metrics import Metrics  # noqa: PLC0415

    return Metrics()


def make_traces(settings: Settings, processor: SpanProcessor | None) -> Traces | None:
    """Make the traces if they are on; with a processor they start at once."""
    if settings.otel_traces_exporter == "none":
        return None
    from traffic_analytics.observability.span_export import Traces  # noqa: PLC0415

    traces = Traces(settings)
    if processor is not None:
        traces.start(processor)
    return traces
