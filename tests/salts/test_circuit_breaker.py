"""A store that is away costs hits a moment, not their threads."""

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
from traffic_analytics.health import GOOD_FOR
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.circuit_breaker import CHECK_EVERY, PAUSE, SaltCircuitBreaker
from traffic_analytics.salts.store import MemorySalts

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 0.3
"""Seconds that these tests wait for a store which hangs."""


class FarSalts(MemorySalts):
    """A store that can be away (it refuses), hang (it answers once that is over), or hold something that is no salt."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.trouble: Exception | None = None
        self.flows = threading.Event()
        self.flows.set()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.check()
        return super().get_or_create(site_uuid, day)

    def check(self) -> None:
        self.asked += 1
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
def guarded(store: FarSalts, now: Clock[float]) -> SaltCircuitBreaker:
    return SaltCircuitBreaker(store, now, deadline=SOON)


def seconds_until_refused(guarded: SaltCircuitBreaker, site: str = SITE) -> float:
    begun = time.monotonic()
    with pytest.raises(SaltUnavailable):
        guarded.get_or_create(site, TODAY)
    return time.monotonic() - begun


def test_a_store_that_answers_is_asked_each_time(guarded: SaltCircuitBreaker, store: FarSalts) -> None:
    assert guarded.get_or_create(SITE, TODAY) == guarded.get_or_create(SITE, TODAY)
    assert store.asked == 2
    guarded.check()
    assert guarded.forget_before(date(2026, 11, 23)) == 1


def test_a_hanging_store_is_waited_for_once(guarded: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()

    assert SOON <= seconds_until_refused(guarded) < 10 * SOON
    assert max(seconds_until_refused(guarded, site) for site in SITES) < SOON
    assert store.asked == 1


def test_hits_that_come_together_wait_together(guarded: SaltCircuitBreaker, store: FarSalts) -> None:
    store.flows.clear()
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda site=site: waits.append(seconds_until_refused(guarded, site))) for site in SITES
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(waits) == len(SITES)
    assert max(waits) < 10 * SOON
    assert store.asked <= len(SITES)


def test_one_question_at_a_time_finds_out_whether_the_store_is_back(
    guarded: SaltCircuitBreaker, store: FarSalts, now: Clock[float]
) -> None:
    store.trouble = SaltUnavailable("away")
    seconds_until_refused(guarded)
    seconds_until_refused(guarded)
    assert store.asked == 1

    now.now += PAUSE
    store.flows.clear()
    looking = threading.Thread(target=lambda: seconds_until_refused(guarded))
    looking.start()
    while store.asked < 2:
        time.sleep(0.001)
    assert max(seconds_until_refused(guarded, site) for site in SITES) < SOON
    looking.join()
    assert store.asked == 2
    seconds_until_refused(guarded)
    assert store.asked == 2, "it was away, so it is left alone again"

    now.now += PAUSE
    store.trouble = None
    store.flows.set()
    assert guarded.get_or_create(SITE, TODAY) == guarded.get_or_create(SITE, TODAY)


def test_what_holds_no_salt_refuses_its_own_site_only(guarded: SaltCircuitBreaker, store: FarSalts) -> None:
    store.trouble = SaltUnavailable("what the store holds is no salt", store_answered=True)
    seconds_until_refused(guarded)
    store.trouble = None

    assert guarded.get_or_create(SITES[1], TODAY)


def test_a_defect_is_not_taken_for_an_absence(guarded: SaltCircuitBreaker, store: FarSalts, now: Clock[float]) -> None:
    store.trouble = SaltUnavailable("away")
    seconds_until_refused(guarded)
    now.now += PAUSE
    store.trouble = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        guarded.get_or_create(SITE, TODAY)
    store.trouble = None

    assert guarded.get_or_create(SITE, TODAY), "the one that failed has not kept the turn to look"


def test_absence_and_return_are_each_said_once(start: Any, store: FarSalts, now: Clock[float], log: Log) -> None:
    guarded = SaltCircuitBreaker(store, now)
    service = start(salts=guarded)
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


def test_a_machine_that_has_found_the_store_stays_ready_without_it(start: Any, store: FarSalts) -> None:
    """The store is the same for all machines: by its absence a balancer would take all of them out of service."""
    service = start(salts=SaltCircuitBreaker(store))
    assert service.hit().status_code == 202
    assert service.client.get("/ready").status_code == 200
    store.trouble = SaltUnavailable("away")
    service.now += 2 * GOOD_FOR

    assert service.client.get("/ready").status_code == 200
    assert service.hit().status_code == 202, "its salt is cached"
    assert service.hit(headers={"x-site-uuid": SITES[1]}).status_code == 503


def test_ready_does_not_queue_behind_a_hanging_store(start: Any, store: FarSalts) -> None:
    service = start(salts=SaltCircuitBreaker(store, deadline=SOON))
    store.flows.clear()
    statuses: list[int] = []
    askers = [
        threading.Thread(target=lambda: statuses.append(service.app.test_client().get("/ready").status_code))
        for _ in range(10)
    ]
    begun = time.monotonic()
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()

    assert statuses == [503] * 10
    assert time.monotonic() - begun < 5 * SOON


def test_the_chore_looks_at_the_start_and_while_the_store_is_away(store: FarSalts, now: Clock[float]) -> None:
    guarded = SaltCircuitBreaker(store, now)
    store.trouble = SaltUnavailable("away")
    for _ in range(3):
        now.now += guarded.tick()
    assert (store.asked, CHECK_EVERY >= PAUSE) == (3, True)
    store.trouble = None
    for _ in range(3):
        now.now += guarded.tick()
    assert store.asked == 4, "one that answers is left in peace"


def test_one_missing_salt_is_asked_for_once_however_many_want_it(store: FarSalts) -> None:
    store.flows.clear()
    salts, refused = Salts(SaltCircuitBreaker(store, deadline=SOON)), []

    def want() -> None:
        with pytest.raises(SaltUnavailable):
            salts.get_or_create(SITE, TODAY)
        refused.append(SITE)

    threads = [threading.Thread(target=want) for _ in range(16)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 16
    assert store.asked == 1
    assert time.monotonic() - begun < 10 * SOON
