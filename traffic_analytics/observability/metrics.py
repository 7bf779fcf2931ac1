"""What the service counts, and under which names; imported only with METRICS=true.

Every label has a closed set of values, written here or in the contract of a hit. Nothing that a client sends becomes
one, so neither visitors nor sites nor paths can be told from the counts, and their number does not grow.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client import values as prometheus_values

from traffic_analytics import errors
from traffic_analytics.delivery.target import DATA_SOURCES
from traffic_analytics.hits.page_hit import Body
from traffic_analytics.observability import metric_wrappers as metered
from traffic_analytics.observability import multiprocess as metric_files
from traffic_analytics.observability.collectors import CountsOfAll
from traffic_analytics.observability.metric_wrappers import OTHER, by_data_source
from traffic_analytics.wsgi import answer_to

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.registry import Collector

    from traffic_analytics.delivery.target import Delivery, Target
    from traffic_analytics.hits.user_agent import UserAgent
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.wsgi import Answer

BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds. A hit waits at most 5 for Tinybird, a batch 31."""


def _body_places(struct_type: type[msgspec.Struct], place: str) -> Iterator[str]:
    yield place
    for field in msgspec.structs.fields(struct_type):
        inner = f"{place}.{field.encode_name}"
        yield inner
        for each in (field.type, *get_args(field.type)):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield from _body_places(each, inner)


PLACES = frozenset(
    {
        "headers.content-length",
        "headers.x-site-uuid",
        "headers.user-agent",
        "query.name",
        "query.token",
        *_body_places(Body, "body"),
    }
)
"""Where a hit can break the contract."""

OUTCOMES: dict[type[errors.AnalyticsError], tuple[str, str]] = {
    errors.UnsignedUrl: ("unsigned", ""),
    errors.BodyTooLarge: ("refused", "too_large"),
    errors.UnsupportedMediaType: ("refused", "media_type"),
    errors.SaltUnavailable: ("unavailable", "salt"),
    errors.SpoolUnavailable: ("unavailable", "spool"),
    errors.UpstreamFailed: ("failed", "upstream"),
}
"""What each error makes of a hit: outcome and rule. Whatever else is raised is a defect."""


class Metrics:
    """Everything that is counted. Made once for an app, before any fork; in tests there are many in one process."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        files = metric_files.directory
        # prometheus-client decides this when it is imported, by its environment variable, and by process ids only.
        prometheus_values.ValueClass = (
            prometheus_values.MutexValue if files is None else prometheus_values.MultiProcessValue(metric_files.place)  # type: ignore[no-untyped-call]
        )
        disable_created_metrics()  # type: ignore[no-untyped-call] # Prometheus keeps them as one more series each
        self._monotonic = monotonic
        self.registry = CollectorRegistry()
        self._shown = self.registry
        if files is not None:
            self._shown = CollectorRegistry()
            self._shown.register(CountsOfAll(files))
        self.hits = self._counter("hits", "Page hits by what became of them.", "outcome", "rule")
        self.events = self._counter(
            "sent_events",
            "Events sent to the target, by its answer. One that is sent again counts again.",
            "data_source",
            "way",
            "result",
        )
        self.quarantined = self._counter(
            "quarantined_rows", "Rows that Tinybird took but could not fit into its table.", "data_source", "way"
        )
        self.spooled = self._counter("spooled_events", "Accepted events that went to the spool.", "data_source")
        self.set_aside = self._counter(
            "set_aside_events", "Events that were set aside because the target refuses them.", "data_source"
        )
        self.lookups = self._counter("cache_lookups", "Look-ups in the caches of a process.", "cache", "result")
        self.sync_requests = self._counter(
            "sync_requests", "Ghost's syncs of its automations, by what became of them.", "result"
        )
        self.answers = self._counter(
            "statistics_answers", "Answers about statistics, by where they came from.", "result"
        )
        self.seconds = Histogram(
            "traffic_analytics_upstream_request_duration_seconds",
            "How long the target took for a request with events.",
            ["way"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.circuits = Gauge(
            "traffic_analytics_circuit_open",
            "1 if hits of some process go straight to the spool because the target did not take them.",
            ["data_source"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def begin(self) -> None:
        """Open this process's files, whose room is then there, so that no hit can fail for want of it."""
        self.events.labels(OTHER, "direct", "taken").inc(0)  # the first count opens the files of all

    def text(self) -> bytes:
        """Write what is counted, in all processes, as Prometheus reads it."""
        return generate_latest(self._shown)

    def show(self, collector: Collector) -> None:
        """Add what is found out only when somebody asks."""
        self._shown.register(collector)

    def answer_to(self, error: Exception) -> Answer:
        """Count a hit that came to an error, and answer it."""
        self._outcomes.failed(error)
        return answer_to(error)

    def user_agents(
        self,
        remember: Callable[[Callable[[str], UserAgent]], Callable[[str], UserAgent]],
        parse: Callable[[str], UserAgent],
    ) -> Callable[[str], UserAgent]:
        """Count bots, and what is found in the cache that `remember` puts before a parser."""
        lookups = self._cache("user_agents")
        return self._outcomes.bots(lookups.look(remember(lookups.fetch(parse))))

    def salts(self, store: SaltStore) -> metered.MeteredSalts:
        """Put a cache before a store, and count what is found in it."""
        return metered.MeteredSalts(store, self._cache("salts"))

    def delivery(self, delivery: Delivery) -> metered.MeteredDelivery:
        """Count what a delivery accepts."""
        return metered.MeteredDelivery(delivery, self._outcomes.accepted, by_data_source(self.spooled.labels))

    def target(self, target: Target, data_sources: Sequence[str] = DATA_SOURCES) -> metered.MeteredTarget:
        """Count what a target answers, and how long it takes."""
        return metered.MeteredTarget(target, self, self._monotonic, data_sources)

    def batches(self, target: Target, stopping: threading.Event) -> metered.MeteredBatchSender:
        """Put together what sends batches and counts what it sets aside; the target is one that counts already."""
        return metered.MeteredBatchSender(target, self, monotonic=self._monotonic, stopping=stopping)

    def syncs(self, sync: Callable[[dict[str, Any]], Answer]) -> metered.MeteredSyncs:
        """Count what is answered to Ghost's syncs."""
        return metered.MeteredSyncs(sync, self.sync_requests)

    def statistics_answers(self) -> metered.StatisticsAnswers:
        """Count answers about statistics."""
        return metered.StatisticsAnswers(self.answers)

    def circuit_observer(self) -> Callable[[str, bool], None]:
        """Return what is to be told when a circuit opens or closes."""
        gauges = {name: self.circuits.labels(name) for name in DATA_SOURCES}  # all are closed until one opens
        return lambda data_source, is_open: gauges[data_source].set(is_open)

    @cached_property
    def _outcomes(self) -> HitOutcomes:
        return HitOutcomes(self.hits)

    def _cache(self, name: str) -> metered.Lookups:
        return metered.Lookups(self.lookups.labels(name, "hit"), self.lookups.labels(name, "miss"))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"traffic_analytics_{name}", meaning, labels, registry=self.registry)


class MessageMetrics:
    """What a worker counts besides: the messages that it takes from a subscription."""

    def __init__(self, metrics: Metrics) -> None:
        self.received = Counter(
            "traffic_analytics_messages_received",
            "Messages that came from the subscription, those that came again included.",
            registry=metrics.registry,
        )
        self.held = Gauge(
            "traffic_analytics_messages_held",
            "Messages that are here and neither acknowledged nor given back.",
            registry=metrics.registry,
            multiprocess_mode="livesum",
        )
        self.set_aside = Counter(
            "traffic_analytics_messages_set_aside",
            "Messages that were set aside because they are no events or the target refuses them.",
            registry=metrics.registry,
        )
        self.subscribed = Gauge(
            "traffic_analytics_subscribed",
            "Whether messages can come; 0 if not.",
            registry=metrics.registry,
            multiprocess_mode="livemin",
        )
        self._received = 0
        self._set_aside = 0

    def show(self, received: int, held: int, set_aside: int, subscribed: bool) -> None:
        """Take over a worker's own counts, which only grow, what it holds, and whether messages can come."""
        self.received.inc(received - self._received)
        self.set_aside.inc(set_aside - self._set_aside)
        self.held.set(held)
        self.subscribed.set(subscribed)
        self._received, self._set_aside = received, set_aside


class HitOutcomes:
    """Counts each hit once. Delivery tells of the accepted, the parser of user agents of bots, errors of the rest."""

    def __init__(self, hits: Counter) -> None:
        self.accepted = hits.labels("accepted", "")
        self.bot = hits.labels("bot", "")
        self._invalid = {place: hits.labels("invalid", place) for place in (*PLACES, OTHER)}
        self._errors: dict[type[Exception], Counter] = {
            error: hits.labels(outcome, rule) for error, (outcome, rule) in OUTCOMES.items()
        }
        self._defect = hits.labels("failed", "defect")

    def failed(self, error: Exception) -> None:
        """Count a hit that came to an error."""
        if isinstance(error, errors.InvalidHit):
            counter = self._invalid.get(error.place) or self._invalid[OTHER]
        else:
            counter = self._errors.get(type(error), self._defect)
        counter.inc()

    def bots(self, parse: Callable[[str], UserAgent]) -> Callable[[str], UserAgent]:
        """Count the bots; this is where their hits end."""

        def parse_and_count(user_agent: str) -> UserAgent:
            agent = parse(user_agent)
            if agent.device == "bot":
                self.bot.inc()
            return agent

        return parse_and_count
