"""To count what a part does, another stands before it; without metrics there is none, which costs nothing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from traffic_analytics.delivery.batch_sender import BatchSender, E
from traffic_analytics.delivery.target import DATA_SOURCES, Verdict, count_events
from traffic_analytics.errors import AnalyticsError
from traffic_analytics.salts.cache import Salts
from traffic_analytics.statistics.gateway import STALE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from prometheus_client import Counter

    from traffic_analytics.delivery.batch_sender import BatchSource
    from traffic_analytics.delivery.target import Delivery, Reply, Target
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.statistics.gateway import PipesApi
    from traffic_analytics.tinybird.pipes import Reply as PipeReply
    from traffic_analytics.wsgi import Answer

OTHER = "other"
"""Stands for what is in no closed set."""

SYNC_RESULTS = {202: "taken", 401: "unauthorized", 502: "failed", 503: "delayed"}
"""What the statuses of a sync are called; all others mean that it is invalid."""

P = ParamSpec("P")
T = TypeVar("T")


def by_data_source(make: Callable[[str], T], names: Sequence[str] = DATA_SOURCES) -> dict[str, T]:
    """Make something for each data source and one more for all that are not known."""
    return {name: make(name) for name in (*names, OTHER)}


class MeteredDelivery:
    """Counts what is accepted, and what of it was spooled: then there is no answer of the target."""

    def __init__(self, delivery: Delivery, accepted: Counter, spooled: Mapping[str, Counter]) -> None:
        self._delivery = delivery
        self._accepted = accepted
        self._spooled = spooled

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event and count it."""
        reply = self._delivery.accept(data_source, event, token)
        if reply is None:
            (self._spooled.get(data_source) or self._spooled[OTHER]).inc()
        self._accepted.inc()
        return reply


class MeteredTarget:
    """Counts a target's answers and times them."""

    def __init__(
        self, target: Target, metrics: Metrics, monotonic: Callable[[], float], data_sources: Sequence[str]
    ) -> None:
        self.NAME = target.NAME
        self.WRONG_SETUP = target.WRONG_SETUP
        self._target = target
        self._monotonic = monotonic
        self._direct = _Way(metrics, "direct", data_sources)
        self._batch = _Way(metrics, "batch", data_sources)

    def post(self, data_source: str, event: bytes, token: str | None = None) -> Reply:
        """Send one event."""
        begun = self._monotonic()
        reply = self._target.post(data_source, event, token)
        self._direct.count(data_source, 1, reply, self._monotonic() - begun)
        return reply

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send some."""
        begun = self._monotonic()
        reply = self._target.post_batch(data_source, events)
        self._batch.count(data_source, count_events(events), reply, self._monotonic() - begun)
        return reply


class _Way:
    """The counters of one way to the target; finding a child by its labels costs more than counting."""

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
    """Counts the events that are set aside, wherever that is."""

    def __init__(self, target: Target, metrics: Metrics, **rest: Any) -> None:
        super().__init__(target, **rest)
        self._set_aside = by_data_source(metrics.set_aside.labels)

    def deliver(self, data_source: str, events: Sequence[E], place: BatchSource[E]) -> bool:
        """Send events of one data source."""
        counter = self._set_aside.get(data_source) or self._set_aside[OTHER]
        return super().deliver(data_source, events, _MeteredBatchSource(place, counter))


class _MeteredBatchSource(Generic[E]):
    def __init__(self, place: BatchSource[E], set_aside: Counter) -> None:
        self.acknowledge = place.acknowledge
        self.renew_lease = place.renew_lease
        self._place = place
        self._counter = set_aside

    def dead_letter(self, event: E, reason: str) -> bool:
        is_aside = self._place.dead_letter(event, reason)
        if is_aside:
            self._counter.inc()
        return is_aside


class Lookups:
    """Tells what a cache had from what had to be fetched, which is done within the look-up and in its thread."""

    def __init__(self, hit: Counter, miss: Counter) -> None:
        self._hit = hit
        self._miss = miss
        self._thread = threading.local()

    def begin(self) -> None:
        """Begin to look something up."""
        self._thread.fetched = False

    def count(self) -> None:
        """Count what was looked up, by whether it was fetched."""
        (self._miss if self._thread.fetched else self._hit).inc()

    def look(self, look_up: Callable[P, T]) -> Callable[P, T]:
        """Count what comes of looking something up."""

        def look_up_and_count(*args: P.args, **kwargs: P.kwargs) -> T:
            self.begin()
            found = look_up(*args, **kwargs)
            self.count()
            return found

        return look_up_and_count

    def fetch(self, fetch: Callable[P, T]) -> Callable[P, T]:
        """Note that something is fetched for the cache."""

        def fetch_and_note(*args: P.args, **kwargs: P.kwargs) -> T:
            self._thread.fetched = True
            return fetch(*args, **kwargs)

        return fetch_and_note


class MeteredSalts(Salts):
    """Salts whose cache is watched."""

    def __init__(self, store: SaltStore, lookups: Lookups) -> None:
        super().__init__(_WatchedStore(store, lookups))
        self._look_up = lookups.look(super().get_or_create)

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day. Raises SaltUnavailable."""
        return self._look_up(site_uuid, day)


class _WatchedStore:
    def __init__(self, store: SaltStore, lookups: Lookups) -> None:
        self._store = store
        self._fetch = lookups.fetch(store.get_or_create)

    def prepare(self) -> None:
        self._store.prepare()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        return self._fetch(site_uuid, day)

    def forget_before(self, day: date) -> int:
        return self._store.forget_before(day)

    def check(self) -> None:
        self._store.check()


class MeteredSyncs:
    """Counts what was answered to Ghost's syncs."""

    def __init__(self, sync: Callable[[dict[str, Any]], Answer], syncs: Counter) -> None:
        self._sync = sync
        self._results = {status: syncs.labels(result) for status, result in SYNC_RESULTS.items()}
        self._invalid = syncs.labels("invalid")

    def __call__(self, environ: dict[str, Any]) -> Answer:
        """Answer a sync and count it."""
        answer = self._sync(environ)
        self._results.get(answer.status, self._invalid).inc()
        return answer


class StatisticsAnswers:
    """Counts answers about statistics: kept ones, those that the target was asked for, and those that stood in."""

    def __init__(self, answers: Counter) -> None:
        self._stale, self._failed, self._refused = (answers.labels(each) for each in ("stale", "failed", "refused"))
        self._good = Lookups(answers.labels("hit"), answers.labels("miss"))

    def count(self, answer: Callable[[str, str, str | None], Answer]) -> Callable[[str, str, str | None], Answer]:
        """Count what is answered."""

        def answer_and_count(file: str, query: str, authorization: str | None) -> Answer:
            self._good.begin()
            try:
                given = answer(file, query, authorization)
            except AnalyticsError:
                self._refused.inc()
                raise
            if given.status != 200:
                self._failed.inc()
            elif any(name == STALE for name, _ in given.headers):
                self._stale.inc()
            else:
                self._good.count()
            return given

        return answer_and_count

    def watch(self, pipes: PipesApi) -> PipesApi:
        """Note when the target is asked."""
        return _WatchedPipes(pipes, self._good)


class _WatchedPipes:
    def __init__(self, pipes: PipesApi, lookups: Lookups) -> None:
        self._get = lookups.fetch(pipes.get)

    def get(self, path: str, token: str) -> PipeReply:
        return self._get(path, token)
