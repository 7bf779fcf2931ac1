"""Define the metrics and their labels.

Every label has a closed set of values, listed in the code. No text of a client becomes a label. So the metrics show no
visitor, site or path, and the number of series does not grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import values as prometheus_values

from traffic_analytics.observability import multiprocess

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Upper bounds of the histogram, in seconds. A hit waits at most 5 for Tinybird, a batch 31."""


class Metrics:
    """Hold the instruments of one app. Made before any fork; a test may make several in one process."""

    def __init__(self) -> None:
        # prometheus-client chooses this on import, from its environment variable, and names files by process id.
        prometheus_values.ValueClass = multiprocess.value_class()
        disable_created_metrics()  # type: ignore[no-untyped-call] # each is one more series
        self.registry = CollectorRegistry()
        self._exported = multiprocess.exported_registry(self.registry)
        self.hits = self._counter("hits", "Page hits by outcome and rule.", "outcome", "rule")
        self.events = self._counter(
            "sent_events",
            "Events sent to the target, by its reply. An event that is sent again counts again.",
            "data_source",
            "way",
            "result",
        )
        self.quarantined = self._counter(
            "quarantined_rows", "Rows that Tinybird accepted into its quarantine.", "data_source", "way"
        )
        self.spooled = self._counter("spooled_events", "Accepted events that went to the spool.", "data_source")
        self.set_aside = self._counter(
            "set_aside_events", "Dead letters: events that the target refuses.", "data_source"
        )
        self.lookups = self._counter("cache_lookups", "Look-ups in the caches of a process.", "cache", "result")
        self.sync_requests = self._counter("sync_requests", "Ghost's syncs of its automations, by result.", "result")
        self.answers = self._counter("statistics_answers", "Responses to queries, by their origin.", "result")
        self.seconds = Histogram(
            "traffic_analytics_upstream_request_duration_seconds",
            "Duration of a request with events to the target.",
            ["way"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.circuits = Gauge(
            "traffic_analytics_circuit_open",
            "1 if hits of a process go straight to the spool because the target failed, else 0.",
            ["data_source"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def open_files(self) -> None:
        """Open and size this process's count files, so that no later count fails. Raises OSError."""
        self.events.labels("other", "direct", "taken").inc(0)  # the first count opens the files of all

    def export(self) -> bytes:
        """Return the metrics of all processes in Prometheus' text format."""
        return generate_latest(self._exported)

    def register(self, collector: Collector) -> None:
        """Export the metrics that a collector reads at each scrape, too."""
        self._exported.register(collector)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"traffic_analytics_{name}", meaning, labels, registry=self.registry)


class MessageMetrics:
    """Hold the instruments of a worker's messages, and copy the worker's own counts into them."""

    def __init__(self, metrics: Metrics) -> None:
        self.received = Counter(
            "traffic_analytics_messages_received",
            "Messages received from the subscription, redeliveries included.",
            registry=metrics.registry,
        )
        self.held = Gauge(
            "traffic_analytics_messages_held",
            "Messages that are neither acknowledged nor given back.",
            registry=metrics.registry,
            multiprocess_mode="livesum",
        )
        self.set_aside = Counter(
            "traffic_analytics_messages_set_aside",
            "Dead letters: messages that are no events or that the target refuses.",
            registry=metrics.registry,
        )
        self.subscribed = Gauge(
            "traffic_analytics_subscribed",
            "1 if messages can arrive, else 0.",
            registry=metrics.registry,
            multiprocess_mode="livemin",
        )
        self._received = 0
        self._dead_letters = 0

    def update(self, received: int, outstanding: int, dead_letters: int, is_subscribed: bool) -> None:
        """Copy the totals of messages received and of dead letters, the number outstanding, and `is_subscribed`."""
        self.received.inc(received - self._received)
        self.set_aside.inc(dead_letters - self._dead_letters)
        self.held.set(outstanding)
        self.subscribed.set(is_subscribed)
        self._received, self._dead_letters = received, dead_letters
