"""Wrap targets, batch senders, caches and syncs to count their results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from traffic_analytics.delivery.batch_sender import BatchSender, E
from traffic_analytics.delivery.target import DATA_SOURCES, Verdict, count_events
from traffic_analytics.salts.cache import Salts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from prometheus_client import Counter

    from traffic_analytics.delivery.batch_sender import BatchSource
    from traffic_analytics.delivery.target import Reply, Target
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.salts.new_sites import NewSites
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.wsgi import Answer

OTHER = "other"
"""Label value for names that are in no closed set."""

SYNC_RESULTS = {202: "taken", 401: "unauthorized", 502: "failed", 503: "delayed"}
"""Label value for each status of a sync; any other status counts as invalid."""

P = ParamSpec("P")
T = TypeVar("T")


def by_data_source(make: Callable[[str], T], names: Sequence[str] = DATA_SOURCES) -> dict[str, T]:
    """Call `make` for each data source, and for OTHER, which stands for all unknown ones."""
    return {name: make(name) for name in (*names, OTHER)}


class MeteredTarget:
    """Count a target's replies and time them."""

    def __init__(
        self,
        target: Target,
        metrics: Metrics,
        monotonic: Callable[[], float],
        data_sources: Sequence[str] = DATA_SOURCES,
    ) -> None:
        self.NAME = target.NAME
        self.WRONG_SETUP = target.WRONG_SETUP
        self._target = target
        self._monotonic = monotonic
        self._direct = _TargetCounters(metrics, "direct", data_sources)
        self._batch = _TargetCounters(metrics, "batch", data_sources)

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        """Send events within their requests."""
        started = self._monotonic()
        reply = self._target.post(data_source, events, token)
        self._direct.count(data_source, len(events), reply, self._monotonic() - started)
        return reply

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events while no browser waits."""
        started = self._monotonic()
        reply = self._target.post_batch(data_source, events)
        self._batch.count(data_source, count_events(events), reply, self._monotonic() - started)
        return reply


class _TargetCounters:
    """Hold the counters of one `way`; looking up a counter by its labels costs more than counting."""

    def __init__(self, metrics: Metrics, way: str, data_sources: Sequence[str]) -> None:
        self._results = by_data_source(
            lambda data_source: {
                verdict: metrics.events.labels(data_source, way, verdict.name.lower()) for verdict in Verdict
            },
            data_sources,
        )
        self._quarantined = by_data_source(
            lambda data_source: metrics.quarantined.labels(data_source, way), data_sources
        )
        self._seconds = metrics.seconds.labels(way)

    def count(self, data_source: str, events: int, reply: Reply, seconds: float) -> None:
        known = data_source if data_source in self._results else OTHER
        self._results[known][reply.verdict].inc(events)
        self._seconds.observe(seconds)
        if reply.quarantined > 0:
            self._quarantined[known].inc(reply.quarantined)


class MeteredBatchSender(BatchSender):
    """Count the events of its batches that become dead letters, in the spool or in a topic."""

    def __init__(
        self, target: Target, metrics: Metrics, monotonic: Callable[[], float], stopping: threading.Event
    ) -> None:
        super().__init__(target, monotonic=monotonic, stopping=stopping)
        self._set_aside = by_data_source(metrics.set_aside.labels)

    def deliver(self, data_source: str, events: Sequence[E], source: BatchSource[E]) -> bool:
        """Send events of one data source."""
        counter = self._set_aside.get(data_source) or self._set_aside[OTHER]
        return super().deliver(data_source, events, _MeteredBatchSource(source, counter))


class _MeteredBatchSource(Generic[E]):
    def __init__(self, source: BatchSource[E], set_aside: Counter) -> None:
        self.acknowledge = source.acknowledge
        self.renew_lease = source.renew_lease
        self._source = source
        self._counter = set_aside

    def dead_letter(self, event: E, reason: str) -> bool:
        is_stored = self._source.dead_letter(event, reason)
        if is_stored:
            self._counter.inc()
        return is_stored


class Lookups:
    """Count look-ups in a cache as hits or misses. A miss is fetched within the look-up and in its thread."""

    def __init__(self, hit: Counter, miss: Counter) -> None:
        self._hit = hit
        self._miss = miss
        self._thread = threading.local()

    def begin(self) -> None:
        """Begin a look-up."""
        self._thread.has_fetched = False

    def count(self) -> None:
        """Count the look-up that this thread began."""
        (self._miss if self._thread.has_fetched else self._hit).inc()

    def count_lookups(self, look_up: Callable[P, T]) -> Callable[P, T]:
        """Return `look_up` with its calls counted."""

        def look_up_and_count(*args: P.args, **kwargs: P.kwargs) -> T:
            self.begin()
            value = look_up(*args, **kwargs)
            self.count()
            return value

        return look_up_and_count

    def note_fetches(self, fetch: Callable[P, T]) -> Callable[P, T]:
        """Return `fetch`; a call of it marks the current look-up of its thread as a miss."""

        def note_and_fetch(*args: P.args, **kwargs: P.kwargs) -> T:
            self._thread.has_fetched = True
            return fetch(*args, **kwargs)

        return note_and_fetch


def cache_lookups(metrics: Metrics, cache: str) -> Lookups:
    """Return the counters of one cache."""
    return Lookups(metrics.lookups.labels(cache, "hit"), metrics.lookups.labels(cache, "miss"))


class MeteredSalts(Salts):
    """Count the look-ups in the cache of salts."""

    def __init__(self, store: SaltStore, lookups: Lookups, new_sites: NewSites | None = None) -> None:
        super().__init__(_NotedStore(store, lookups), new_sites)
        self._look_up = lookups.count_lookups(super().get_or_create)

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day. Raises SaltUnavailable."""
        return self._look_up(site_uuid, day)


class _NotedStore:
    def __init__(self, store: SaltStore, lookups: Lookups) -> None:
        self.scope = store.scope
        self.chore = store.chore
        self.prepare = store.prepare
        self.get_or_create = lookups.note_fetches(store.get_or_create)
        self.forget_before = store.forget_before
        self.check = store.check


class MeteredSync:
    """Count the responses to Ghost's syncs."""

    def __init__(self, sync: Callable[[dict[str, Any]], Answer], metrics: Metrics) -> None:
        self._sync = sync
        self._results: Mapping[int, Counter] = {
            status: metrics.sync_requests.labels(result) for status, result in SYNC_RESULTS.items()
        }
        self._invalid = metrics.sync_requests.labels("invalid")

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer a sync and count it."""
        answer = self._sync(environ)
        self._results.get(answer.status, self._invalid).inc()
        return answer
