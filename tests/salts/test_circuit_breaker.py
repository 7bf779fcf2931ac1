"""Test that a store that does not respond blocks no threads."""

from __future__ import annotations

import threading
import time
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import SITE, Log
from tests.support.clocks import Clock
from tests.support.salts import SITES, TODAY
from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.health import FRESH_FOR
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.circuit_breaker import CHECK_EVERY, PAUSE, SaltCircuitBreaker
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 0.3
"""Time that these tests wait for a store that hangs, in seconds."""


class FarSalts(MemorySalts):
    """A store that can raise `trouble`, or hang until `flows` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.trouble: Exception | None = None
        self.flows = threading.Event()
        self.flows.set()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.check()
        return super().get_or_create(site_uuid, day)

    def check(self) -> None:
        self.calls += 1
        assert self.flows.wait(30)
        if self.trouble is not None:
            raise self.trouble


@pytest.fixture
def store() -> Iterator[FarSalts]:
    store = FarSalts()
    yield store
    store.flows.set()


@pytest.fixture
def now() -> Clock[float]:
    return Clock(1000.0)


@pytest.fixture
def breaker(store: FarSalts, now: Clock[float]) -> SaltCircuitBreaker:
    return SaltCircuitBreaker(store, now, deadline=SOON)


def seconds_until_refused(breaker: SaltCircuitBreaker, site: str = SITE) -> float:
    started = time.monotonic()
    with pytest.raises(SaltUnavailable):
        breaker.get_or_create(site, TODAY)
    return time.monotonic() - started


def test_a_store_that_responds_is_called_each_time(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    assert breaker.get_or_create(SITE, TODAY) == breaker.get_or_create(SITE, TODAY)
    assert store.calls == 2
    breaker.check()
    assert breaker.forget_before(date(2026, 11, 23)) == 1


def test_a_hanging_store_is_waited_for_once(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()

    assert SOON <= seconds_until_refused(breaker) < 10 * SOON
    assert max(seconds_until_refused(breaker, site) for site in SITES) < SOON
    assert store.calls == 1


def test_hits_that_come_together_wait_together(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda site=site: waits.append(seconds_until_refused(breaker, site))) for site in SITES
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(waits) == len(SITES)
    assert max(waits) < 10 * SOON
    assert store.calls <= len(SITES)


def test_one_request_at_a_time_tests_whether_the_store_is_back(
    breaker: SaltCircuitBreaker, store: FarSalts, now: Clock[float]
) -> None:
    store.trouble = SaltUnavailable("away")
    seconds_until_refused(breaker)
    seconds_until_refused(breaker)
    assert store.calls == 1

    now.now += PAUSE
    store.flows.clear()
    looking = threading.Thread(target=lambda: seconds_until_refused(breaker))
    looking.start()
    while store.calls < 2:
        time.sleep(0.001)
    assert max(seconds_until_refused(breaker, site) for site in SITES) < SOON
    looking.join()
    assert store.calls == 2
    seconds_until_refused(breaker)
    assert store.calls == 2, "it has failed again, so it is not called for a while"

    now.now += PAUSE
    store.trouble = None
    store.flows.set()
    assert breaker.get_or_create(SITE, TODAY) == breaker.get_or_create(SITE, TODAY)


def test_a_stored_value_that_is_no_salt_refuses_its_own_site_only(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.trouble = SaltUnavailable("the stored value is no salt", store_answered=True)
    seconds_until_refused(breaker)
    store.trouble = None

    assert breaker.get_or_create(SITES[1], TODAY)


def test_a_defect_does_not_open_the_circuit(breaker: SaltCircuitBreaker, store: FarSalts, now: Clock[float]) -> None:
    store.trouble = SaltUnavailable("away")
    seconds_until_refused(breaker)
    now.now += PAUSE
    store.trouble = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        breaker.get_or_create(SITE, TODAY)
    store.trouble = None

    assert breaker.get_or_create(SITE, TODAY), "the failed request has released the turn"


def test_absence_and_return_are_each_logged_once(start: Any, store: FarSalts, now: Clock[float], log: Log) -> None:
    breaker = SaltCircuitBreaker(store, now)
    service = start(salts=breaker)
    store.trouble = SaltUnavailable("Redis: ConnectionError")
    answers = [service.hit(headers={"x-site-uuid": site}) for site in SITES]
    assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(503, "5")}
    assert service.client.get("/ready").status_code == 503
    now.now += PAUSE
    store.trouble = None
    assert service.hit().status_code == 202

    events = [record["event"] for record in log.records]
    assert events.count("SaltStoreUnavailable") == events.count("SaltStoreAvailable") == 1
    assert events.count("SaltUnavailable") < len(SITES), "a record for each hit would fill the disk"
    assert len(service.events) == 1


def test_a_machine_that_has_reached_the_store_stays_ready_without_it(start: Any, store: FarSalts) -> None:
    """All machines share the store; in its absence a load balancer would remove all of them."""
    service = start(salts=SaltCircuitBreaker(store))
    assert service.hit().status_code == 202
    assert service.client.get("/ready").status_code == 200
    store.trouble = SaltUnavailable("away")
    service.now += 2 * FRESH_FOR

    assert service.client.get("/ready").status_code == 200
    assert service.hit().status_code == 202, "its salt is cached"
    assert service.hit(headers={"x-site-uuid": SITES[1]}).status_code == 503


def test_ready_does_not_queue_behind_a_hanging_store(start: Any, store: FarSalts) -> None:
    service = start(salts=SaltCircuitBreaker(store, deadline=SOON))
    store.flows.clear()
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.append(service.app.test_client().get("/ready").status_code))
        for _ in range(10)
    ]
    started = time.monotonic()
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert statuses == [503] * 10
    assert time.monotonic() - started < 5 * SOON


def test_the_store_is_checked_at_the_start_and_while_it_is_away(store: FarSalts, now: Clock[float]) -> None:
    breaker = SaltCircuitBreaker(store, now)
    store.trouble = SaltUnavailable("away")
    for _ in range(3):
        now.now += breaker.tick()
    assert (store.calls, CHECK_EVERY >= PAUSE) == (3, True)
    store.trouble = None
    for _ in range(3):
        now.now += breaker.tick()
    assert store.calls == 4, "a store that responds is not checked again"


def test_one_missing_salt_is_requested_once_by_many_threads(store: FarSalts) -> None:
    store.flows.clear()
    salts, refused = Salts(SaltCircuitBreaker(store, deadline=SOON)), []

    def request() -> None:
        with pytest.raises(SaltUnavailable):
            salts.get_or_create(SITE, TODAY)
        refused.append(SITE)

    threads = [threading.Thread(target=request) for _ in range(16)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 16
    assert store.calls == 1
    assert time.monotonic() - started < 10 * SOON
