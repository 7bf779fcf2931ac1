"""Test services on several machines that share one salt store: Redis and Firestore."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import Client
from redis import Redis

from tests.support import neighbours
from tests.support.app import FIREFOX, SITE
from tests.support.browsers import Browser, Outcome
from tests.support.fake_tinybird import FakeTinybird
from tests.support.neighbours import PASSWORD
from tests.support.processes import wait_until
from tests.support.running import running
from tests.support.service import ADDRESS, Service
from traffic_analytics.hits.visitor import session_id
from traffic_analytics.salts.circuit_breaker import DEADLINE, PAUSE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

NODE_SALT = "ab" * 32


def site(number: int) -> str:
    return f"940b73e9-4952-4752-b23d-{number:012}"


def today() -> date:
    return datetime.now(UTC).date()  # noqa: TID251 - the clock of the services


class SharedRedis:
    """Redis, as seen from another machine."""

    def __init__(self, directory: Path) -> None:
        self.neighbour = neighbours.redis(directory)
        self._url = f"redis://:{PASSWORD}@127.0.0.1:{self.neighbour.port}/0"
        self.environment = {"SALT_STORE_TYPE": "redis", "REDIS_URL": self._url}

    def connect(self) -> None:
        self._redis = Redis.from_url(self._url, decode_responses=True)

    def salts(self) -> dict[str, str]:
        return {key: str(self._redis.get(key)) for key in self._redis.scan_iter("salt:*")}

    def put(self, key: str, salt: str) -> None:
        self._redis.set(key, salt)

    def expires_as_specified(self, key: str, day: date) -> bool:
        end = datetime.fromtimestamp(time.time() + self._redis.ttl(key), UTC)  # noqa: TID251 - the services' clock
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        return timedelta(minutes=4) < end - midnight < timedelta(minutes=6)


class SharedFirestore:
    """Firestore, as seen by a Node service."""

    def __init__(self, directory: Path) -> None:
        self.neighbour = neighbours.firestore(directory)
        self._host = f"127.0.0.1:{self.neighbour.port}"
        self.environment = {
            "SALT_STORE_TYPE": "firestore",
            "FIRESTORE_EMULATOR_HOST": self._host,
            "FIRESTORE_CLEANUP_BATCH_SIZE": "3",
            "GOOGLE_CLOUD_PROJECT": "demo",
            "LOG_FORMAT": "json",
        }

    def connect(self) -> None:
        with pytest.MonkeyPatch.context() as patch:  # the client reads the environment when it is created
            patch.setenv("FIRESTORE_EMULATOR_HOST", self._host)
            credentials = AnonymousCredentials()
            self._collection = Client("demo", credentials=credentials).collection("salts")

    def salts(self) -> dict[str, str]:
        return {each.id: each.get("salt") for each in self._collection.stream()}

    def put(self, key: str, salt: str) -> None:
        self._collection.document(key).set({"salt": salt, "created_at": datetime(2026, 11, 22, tzinfo=UTC)})

    def expires_as_specified(self, key: str, day: date) -> bool:
        fields = self._collection.document(key).get().to_dict() or {}
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return (
            set(fields) == {"salt", "created_at", "expires_at"}
            and fields["expires_at"] == midnight + timedelta(days=2)
            and midnight <= fields["created_at"] < midnight + timedelta(days=1)
        )


@pytest.fixture(params=[SharedRedis, SharedFirestore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    store = request.param(tmp_path)
    with store.neighbour:
        store.connect()
        yield store


@contextlib.contextmanager
def machine(directory: Path, store: Any, **environment: str) -> Iterator[tuple[Service, FakeTinybird]]:
    """Run the service on a machine of its own; asserts afterwards that its files and log hold no salt or password."""
    directory.mkdir()
    with running(directory / "data", **store.environment, **environment) as (service, fake):
        yield service, fake
        written = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    secrets = [PASSWORD, *store.salts().values()]
    assert [secret for secret in secrets if any(secret.encode() in each for each in written)] == []


def visit(service: Service, site: str) -> Outcome:
    browser = Browser(service.port)
    try:
        return browser.hit(site=site)
    finally:
        browser.close()


class Visits:
    """Visit sites together, each in a thread of its own."""

    def __init__(self, service: Service, sites: list[str]) -> None:
        self.outcomes: list[Outcome] = []
        self._threads = [
            threading.Thread(target=lambda each=each: self.outcomes.append(visit(service, each))) for each in sites
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> list[Outcome]:
        for thread in self._threads:
            thread.join()
        return self.outcomes


def visit_until_accepted(service: Service, sites: list[str]) -> None:
    """Visit sites together, and again those whose hit was refused: a busy machine may be too slow for the deadline."""

    def visit_repeatedly(site: str) -> None:
        wait_until(lambda: visit(service, site).status == 202)

    threads = [threading.Thread(target=visit_repeatedly, args=[each]) for each in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def sessions_sent(*fakes: FakeTinybird) -> set[tuple[str, str]]:
    """Return site and session of each event that Tinybird received."""
    events = [json.loads(line) for fake in fakes for request in fake.requests for line in request.lines]
    return {(event["site_uuid"], event["session_id"]) for event in events}


def sessions_expected(store: Any) -> set[tuple[str, str]]:
    """Derive the sessions of the tests' visitor from today's salts in the store."""
    salts = {key.split(":", 2)[2]: salt for key, salt in store.salts().items() if key.split(":")[1] == str(today())}
    return {(site, session_id(salt, site, ADDRESS, FIREFOX)) for site, salt in salts.items()}


def events_in(service: Service) -> list[str]:
    return [json.loads(line)["event"] for line in service.log.splitlines() if line.startswith("{")]


def test_two_machines_that_start_together_derive_the_same_sessions(store: Any, tmp_path: Path) -> None:
    sites = [site(number) for number in range(5)]
    with machine(tmp_path / "one", store) as (one, seen), machine(tmp_path / "two", store) as (two, seen_too):
        racers = [threading.Thread(target=visit_until_accepted, args=[each, sites * 6]) for each in (one, two)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert [sum(len(request.lines) for request in each.requests) for each in (seen, seen_too)] == [30, 30]
        assert sessions_sent(seen) == sessions_sent(seen_too) == sessions_expected(store)
        assert len(sessions_expected(store)) == 5
        assert [key for key in store.salts() if not store.expires_as_specified(key, today())] == []


def test_a_salt_that_a_node_service_created_is_used(store: Any, tmp_path: Path) -> None:
    store.put(f"salt:{today()}:{SITE}", NODE_SALT)
    with machine(tmp_path / "one", store) as (service, fake):
        assert visit(service, SITE).status == 202
        assert sessions_sent(fake) == {(SITE, session_id(NODE_SALT, SITE, ADDRESS, FIREFOX))}


def test_an_invalid_salt_refuses_the_hits_of_its_site_only(store: Any, tmp_path: Path) -> None:
    store.put(f"salt:{today()}:{SITE}", "")
    with machine(tmp_path / "one", store) as (service, fake):
        assert visit(service, SITE).status == 503
        assert visit(service, site(1)).status == 202
        assert {site for site, _ in sessions_sent(fake)} == {site(1)}
        store.put(f"salt:{today()}:{SITE}", NODE_SALT)
        assert visit(service, SITE).status == 202
        assert "SaltStoreUnavailable" not in events_in(service)


def test_a_slow_store_costs_no_hit(store: Any, tmp_path: Path) -> None:
    with machine(tmp_path / "one", store, THREADS="2", WEB_CONCURRENCY="1") as (service, fake):
        wait_until(lambda: visit(service, SITE).status == 202)
        store.neighbour.hang()
        visits = Visits(service, [site(number) for number in range(5)] * 6)
        time.sleep(1.5)  # the store's response time
        cached = visit(service, SITE)
        store.neighbour.go_on()
        outcomes = visits.wait()

        assert cached.status == 202
        if max(each.seconds for each in outcomes) < DEADLINE:
            assert {each.status for each in outcomes} == {202}
            assert sessions_sent(fake) == sessions_expected(store)


def test_hits_of_new_sites_are_refused_while_the_store_hangs_and_cached_ones_served(store: Any, tmp_path: Path) -> None:
    with machine(tmp_path / "one", store, WEB_CONCURRENCY="1") as (service, fake):
        wait_until(lambda: visit(service, SITE).status == 202)
        store.neighbour.hang()
        visits = Visits(service, [site(number) for number in range(32)])
        cached = [visit(service, SITE) for _ in range(20)]
        together = visits.wait()
        begun = time.monotonic()
        after = [visit(service, site(number)) for number in range(32, 200)]
        seconds = time.monotonic() - begun
        cached += [visit(service, SITE) for _ in range(20)]
        ready, _ = service.get("/ready")
        started = time.monotonic()
        store.neighbour.go_on()
        wait_until(lambda: visit(service, site(0)).status == 202)
        print(
            f"together {max(each.seconds for each in together):.3f} s, then at most "
            f"{sorted(each.seconds for each in after)[-5:]}, cached {max(each.seconds for each in cached):.3f} s, "
            f"back after {time.monotonic() - started:.3f} s"
        )

        assert {each.status for each in together + after} == {503}
        assert {each.headers["retry-after"] for each in together + after} == {"5"}
        assert {each.status for each in cached} == {202}
        assert ready == 200, "a shared store that fails must not stop all machines"
        slowest = max(each.seconds for each in together)
        assert max(each.seconds for each in cached) < slowest, "cached sites do not wait for the store"
        probes = [each for each in after if each.seconds >= DEADLINE]
        assert len(probes) <= 1 + seconds / (DEADLINE + PAUSE), "one hit at a time tries the store"
        assert {site for site, _ in sessions_sent(fake)} == {SITE, site(0)}
        assert sessions_sent(fake) == {name for name in sessions_expected(store) if name[0] in (SITE, site(0))}
        events = events_in(service)
        assert events.count("SaltStoreUnavailable") == events.count("SaltStoreAvailable") == 1
        assert events.count("SaltUnavailable") < 20


def test_a_store_is_used_again_after_it_restarts(store: Any, tmp_path: Path) -> None:
    with machine(tmp_path / "one", store) as (service, fake):
        wait_until(lambda: visit(service, site(0)).status == 202)
        before = sessions_sent(fake)
        salts = store.salts()
        store.neighbour.stop()
        refused = [visit(service, site(number)) for number in range(1, 50)]
        started = time.monotonic()
        while time.monotonic() - started < 6:  # long enough to detect growing delays
            refused.append(visit(service, site(1)))
            time.sleep(0.1)
        store.neighbour.start()
        store.connect()
        for key, salt in salts.items():
            store.put(key, salt)
        started = time.monotonic()
        wait_until(lambda: {visit(service, site(1)).status for _ in range(8)} == {202})
        print(f"refused in {max(each.seconds for each in refused):.3f} s, back in {time.monotonic() - started:.3f} s")
        assert {each.status for each in refused} == {503}
        assert before <= sessions_sent(fake) == sessions_expected(store)


def test_a_machine_starts_while_the_store_is_down_and_reports_it(store: Any, tmp_path: Path) -> None:
    store.neighbour.stop()
    fake = FakeTinybird()
    service = Service(tmp_path / "data", fake.url, **store.environment)
    try:
        service.spawn()
        wait_until(lambda: service.get("/health")[0] == 200, 20)
        wait_until(lambda: "SaltStoreUnavailable" in events_in(service))
        assert visit(service, SITE).status == 503
        store.neighbour.start()
        store.connect()
        wait_until(lambda: visit(service, SITE).status == 202)
        assert sessions_sent(fake) == sessions_expected(store)
        assert PASSWORD not in service.log
    finally:
        service.kill_tree()
        fake.refuse()


def test_salts_of_past_days_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    store = SharedFirestore(tmp_path)
    with store.neighbour:
        store.connect()
        for days in (0, *range(2, 11)):  # yesterday's salts are kept for some minutes after midnight
            store.put(f"salt:{today() - timedelta(days=days)}:{SITE}", NODE_SALT)
        for other in ("sale", "salt", "zebra"):
            store.put(other, "not-a-salt")
        expected = {f"salt:{today()}:{SITE}", "sale", "salt", "zebra"}
        with machine(tmp_path / "one", store) as (one, _), machine(tmp_path / "two", store) as (two, _):
            wait_until(lambda: set(store.salts()) == expected)
            assert visit(one, SITE).status == visit(two, SITE).status == 202
            wait_until(lambda: "SaltCleanupCompleted" in events_in(one) + events_in(two))
            assert "SaltCleanupFailed" not in events_in(one) + events_in(two)


def test_check_tries_the_store(store: Any, tmp_path: Path) -> None:
    with machine(tmp_path / "one", store) as (service, _):
        kind = store.environment["SALT_STORE_TYPE"]
        assert f"ok    salt store ({kind})" in service.command("check")
