"""Test that a slow store is waited for, and that one that is away blocks no threads."""

from __future__ import annotations

import threading
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import SITE, Log
from tests.support.clocks import Clock
from tests.support.processes import wait_until
from tests.support.salts import SITES, TODAY
from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.health import FRESH_FOR
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.circuit_breaker import CHECK_EVERY, DEADLINE, PAUSE, SaltCircuitBreaker
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 0.05
"""Deadline of requests that these tests never answer, in seconds."""
LATE = 60.0
"""Deadline of requests that these tests answer, in seconds."""
ABORTED = 5.0
"""Time after which a browser gives up, in seconds."""


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
        trouble, flows = self.trouble, self.flows
        self.calls += 1
        assert flows.wait(LATE)
        if trouble is not None:
            raise trouble


class Hits:
    """Request salts in threads, and collect each salt or refusal."""

    def __init__(self, breaker: SaltCircuitBreaker | Salts, *sites: str) -> None:
        self.salts: list[str] = []
        self.refusals: list[SaltUnavailable] = []
        self._breaker = breaker
        self._threads = [threading.Thread(target=self._request, args=[site]) for site in sites]
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(LATE)

    def _request(self, site: str) -> None:
        try:
            self.salts.append(self._breaker.get_or_create(site, TODAY))
        except SaltUnavailable as error:
            self.refusals.append(error)


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
    return SaltCircuitBreaker(store, now, deadline=LATE)


@pytest.fixture
def hasty_breaker(store: FarSalts, now: Clock[float]) -> SaltCircuitBreaker:
    return SaltCircuitBreaker(store, now, deadline=SOON)


def assert_refused(breaker: SaltCircuitBreaker, *sites: str) -> None:
    for site in sites:
        with pytest.raises(SaltUnavailable):
            breaker.get_or_create(site, TODAY)


def test_a_store_that_responds_is_called_each_time(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    assert breaker.get_or_create(SITE, TODAY) == breaker.get_or_create(SITE, TODAY)
    assert store.calls == 2
    breaker.check()
    assert breaker.forget_before(date(2026, 11, 23)) == 1


def test_hits_wait_for_a_slow_store(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()
    hits = Hits(breaker, *SITES)
    wait_until(lambda: store.calls == len(SITES))
    store.flows.set()
    hits.wait()

    assert (len(set(hits.salts)), hits.refusals) == (len(SITES), [])


def test_no_hit_waits_until_its_browser_has_given_up() -> None:
    assert 0.75 * ABORTED < DEADLINE < 0.9 * ABORTED


@pytest.mark.parametrize("waiting", [SITES[:3], [SITES[0]] * 3])
def test_a_bounded_number_of_hits_waits_for_a_slow_store(store: FarSalts, waiting: list[str]) -> None:
    breaker = SaltCircuitBreaker(store, deadline=LATE, waiting_hits=len(waiting))
    store.flows.clear()
    hits = Hits(breaker, *waiting)
    wait_until(lambda: breaker._places._value == 0 and store.calls == len(set(waiting)))
    calls = store.calls
    for site in SITES:
        with pytest.raises(SaltUnavailable, match="too many hits wait"):
            breaker.get_or_create(site, TODAY)
    assert store.calls == calls
    store.flows.set()
    hits.wait()

    assert (len(hits.salts), len(set(hits.salts)), hits.refusals) == (len(waiting), len(set(waiting)), [])
    assert breaker.get_or_create(SITES[7], TODAY), "a store that too many hits wait for is not away"


def test_a_hanging_store_is_waited_for_once(hasty_breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()

    assert_refused(hasty_breaker, SITE, *SITES)

    assert store.calls == 1


def test_hits_that_come_together_wait_together(hasty_breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()
    hits = Hits(hasty_breaker, *SITES)
    hits.wait()

    assert len(hits.refusals) == len(SITES)


def test_a_failure_does_not_open_the_circuit_if_the_store_has_responded_meanwhile(
    breaker: SaltCircuitBreaker, store: FarSalts
) -> None:
    flows = store.flows = threading.Event()
    store.trouble = SaltUnavailable("a connection was lost")
    unlucky = Hits(breaker, SITES[0])
    wait_until(lambda: store.calls == 1)
    store.trouble, store.flows = None, threading.Event()
    store.flows.set()
    assert breaker.get_or_create(SITES[1], TODAY)
    flows.set()
    unlucky.wait()

    assert len(unlucky.refusals) == 1
    assert breaker.get_or_create(SITES[2], TODAY)


def test_one_request_at_a_time_tests_whether_the_store_is_back(
    breaker: SaltCircuitBreaker, store: FarSalts, now: Clock[float]
) -> None:
    store.trouble = SaltUnavailable("away")
    assert_refused(breaker, SITE, SITE)
    assert store.calls == 1

    now.now += PAUSE
    store.flows.clear()
    probe = Hits(breaker, SITE)
    wait_until(lambda: store.calls == 2)
    assert_refused(breaker, SITE, *SITES)
    assert store.calls == 2
    store.flows.set()
    probe.wait()
    assert_refused(breaker, SITE)
    assert store.calls == 2, "it has failed again, so it is not called for a while"

    now.now += PAUSE
    store.trouble = None
    assert breaker.get_or_create(SITE, TODAY) == breaker.get_or_create(SITE, TODAY)


def test_a_stored_value_that_is_no_salt_refuses_its_own_site_only(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.trouble = SaltUnavailable("the stored value is no salt", store_answered=True)
    assert_refused(breaker, SITE)
    store.trouble = None

    assert breaker.get_or_create(SITES[1], TODAY)


def test_a_defect_does_not_open_the_circuit(breaker: SaltCircuitBreaker, store: FarSalts, now: Clock[float]) -> None:
    store.trouble = SaltUnavailable("away")
    assert_refused(breaker, SITE)
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


def test_ready_does_not_queue_behind_a_hanging_store(
    start: Any, hasty_breaker: SaltCircuitBreaker, store: FarSalts
) -> None:
    service = start(salts=hasty_breaker)
    store.flows.clear()
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.append(service.app.test_client().get("/ready").status_code))
        for _ in range(10)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert statuses == [503] * 10
    assert store.calls == 1, "the others do not wait"


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


def test_hits_that_need_the_same_salt_share_a_request(breaker: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()
    places = breaker._places._value
    hits = Hits(Salts(breaker), *[SITE] * 16)
    wait_until(lambda: breaker._places._value == places - 16)
    store.flows.set()
    hits.wait()

    assert (len(hits.salts), len(set(hits.salts))) == (16, 1)
    assert store.calls < 16
