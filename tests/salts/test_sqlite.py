from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.app import SITE, Log
from traffic_analytics.errors import DamagedFile, SaltUnavailable
from traffic_analytics.runtime.file_lock import FileLock
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.sqlite import SqliteSalts
from traffic_analytics.salts.store import GRACE, MemorySalts
from traffic_analytics.salts.sweeper import Sweeper
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier, Event
    from pathlib import Path

TODAY = date(2026, 11, 22)
YESTERDAY = TODAY - timedelta(days=1)
SITES = [f"940b73e9-4952-4752-b23d-{number:012}" for number in range(5)]
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
processes = multiprocessing.get_context("forkserver")  # fresh processes without threads, quicker than spawned ones
processes.set_forkserver_preload(["tests.salts.test_sqlite"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "salts.sqlite3"


def opened(path: Path) -> SqliteSalts:
    store = SqliteSalts(path)
    store.prepare()
    return store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: Path) -> Any:
    return MemorySalts() if request.param == "memory" else opened(path)


def test_a_site_has_one_salt_a_day(store: Any) -> None:
    salts = {(site, day): store.get_or_create(site, day) for site in SITES for day in (YESTERDAY, TODAY)}

    assert len(set(salts.values())) == 10
    assert all(len(bytes.fromhex(salt)) == 32 for salt in salts.values())
    assert {key: store.get_or_create(*key) for key in salts} == salts


def test_salts_are_not_guessable_from_their_site_and_day(tmp_path: Path) -> None:
    assert opened(tmp_path / "a").get_or_create(SITE, TODAY) != opened(tmp_path / "b").get_or_create(SITE, TODAY)


def test_threads_get_the_same_salt(store: Any) -> None:
    barrier, seen = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        seen.append(tuple(store.get_or_create(site, TODAY) for site in SITES))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_salts_survive_a_restart(path: Path) -> None:
    before = opened(path).get_or_create(SITE, TODAY)

    assert opened(path).get_or_create(SITE, TODAY) == before


def ask_after(barrier: Barrier, path: Path, answers: Any) -> None:
    """Race for ten files: one alone may go well by luck."""
    seen = []
    for number in range(10):
        barrier.wait(30)
        store = opened(path.with_name(f"{number}.sqlite3"))
        seen += [store.get_or_create(site, TODAY) for site in SITES]
        store._file.close()
    answers.put(seen)


def test_eight_processes_that_race_for_a_new_file_agree(path: Path) -> None:
    barrier, answers = processes.Barrier(8), processes.Queue()
    racers = [processes.Process(target=ask_after, args=[barrier, path, answers]) for _ in range(8)]
    for racer in racers:
        racer.start()
    seen = [tuple(answers.get(timeout=30)) for _ in racers]
    for racer in racers:
        racer.join(10)

    assert [racer.exitcode for racer in racers] == [0] * 8
    assert len(set(seen)) == 1
    assert len(set(seen[0])) == 10 * len(SITES)
    store = opened(path.with_name("9.sqlite3"))
    assert tuple(store.get_or_create(site, TODAY) for site in SITES) == seen[0][-len(SITES) :]


def test_forgetting_deletes_earlier_days_only(store: Any) -> None:
    kept = store.get_or_create(SITE, TODAY)
    forgotten = [store.get_or_create(SITE, TODAY - timedelta(days=days)) for days in (1, 2, 40)]

    assert store.forget_before(TODAY) == 3
    assert store.forget_before(TODAY) == 0
    assert store.get_or_create(SITE, TODAY) == kept
    assert store.get_or_create(SITE, YESTERDAY) not in forgotten


def everything_in(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(directory.rglob("*")) if file.is_file())


def keep_open(path: Path, ready: Event, done: Event) -> None:
    store = opened(path)
    store.get_or_create(SITE, TODAY)
    ready.set()
    done.wait(30)


@pytest.mark.parametrize("somebody_else", [False, True])
def test_a_deleted_salt_is_in_no_file_anymore(path: Path, somebody_else: bool) -> None:
    store = opened(path)
    salts = [store.get_or_create(site.replace("940b", f"{n:04x}"), YESTERDAY) for site in SITES for n in range(50)]
    kept = store.get_or_create(SITE, TODAY)
    ready, done = processes.Event(), processes.Event()
    other = processes.Process(target=keep_open, args=[path, ready, done])
    if somebody_else:
        other.start()
        assert ready.wait(30)
    assert salts[0].encode() in everything_in(path.parent), "or this test looks in the wrong place"

    assert store.forget_before(TODAY) == 250

    left = everything_in(path.parent)
    done.set()
    if somebody_else:
        other.join(10)
    assert kept.encode() in left
    for salt in salts:
        assert salt.encode() not in left
        assert bytes.fromhex(salt) not in left


def test_a_deletion_that_a_reader_holds_up_is_reported_and_made_up_for(path: Path) -> None:
    store = opened(path)
    salt = store.get_or_create(SITE, YESTERDAY)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM salts").fetchall()
        with pytest.raises(SaltUnavailable):
            store.forget_before(TODAY)

    store.forget_before(TODAY)
    assert salt.encode() not in everything_in(path.parent)


class CountingSalts(MemorySalts):
    asked = 0
    sweeps = 0
    failures = 0

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.asked += 1
        return super().get_or_create(site_uuid, day)

    def forget_before(self, day: date) -> int:
        self.sweeps += 1
        if self.failures:
            self.failures -= 1
            raise SaltUnavailable("disk I/O error")
        return super().forget_before(day)

    @property
    def days(self) -> set[date]:
        return {day for _, day in self._salts}


def test_the_store_is_asked_once_for_each_site_and_day() -> None:
    store = CountingSalts()
    salts = Salts(store)

    first = [salts.get_or_create(site, TODAY) for site in SITES]
    assert [salts.get_or_create(site, TODAY) for site in SITES] == first
    assert store.asked == len(SITES)
    assert salts.get_or_create(SITES[0], YESTERDAY) not in first
    assert store.asked == len(SITES) + 1


def test_the_cache_forgets_past_days_too() -> None:
    store = CountingSalts()
    salts = Salts(store)
    old = salts.get_or_create(SITE, YESTERDAY)
    kept = salts.get_or_create(SITE, TODAY)

    salts.forget_cached_before(TODAY)
    salts.forget_before(TODAY)

    assert salts.get_or_create(SITE, TODAY) == kept
    assert store.asked == 2
    assert salts.get_or_create(SITE, YESTERDAY) != old


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def test_past_salts_are_deleted_soon_after_midnight_utc() -> None:
    store, clock = CountingSalts(), Clock(MIDNIGHT - timedelta(hours=12))
    sweeper = Sweeper(Salts(store), clock, None)
    for days in range(4):
        store.get_or_create(SITE, TODAY - timedelta(days=days))

    sweeper.tick()
    assert store.days == {YESTERDAY, TODAY}
    clock.now = MIDNIGHT - timedelta(seconds=1)
    sweeper.tick()
    clock.now = MIDNIGHT + GRACE - timedelta(seconds=1)
    sweeper.tick()
    assert store.days == {YESTERDAY, TODAY}, "hits that arrived before midnight may still be at work"
    clock.now = MIDNIGHT + GRACE
    sweeper.tick()
    assert store.days == {TODAY}
    assert timedelta(0) < GRACE < timedelta(hours=1)


def test_midnight_is_that_of_utc_wherever_the_clock_is() -> None:
    store, clock = CountingSalts(), Clock(MIDNIGHT - timedelta(hours=1))
    sweeper = Sweeper(Salts(store), lambda: clock().astimezone(timezone(timedelta(hours=9))), None)
    store.get_or_create(SITE, YESTERDAY)

    sweeper.tick()
    assert store.days == {YESTERDAY}
    clock.now = MIDNIGHT + timedelta(hours=1)
    sweeper.tick()
    assert store.days == set()


def test_a_day_is_swept_once() -> None:
    store, clock = CountingSalts(), Clock(MIDNIGHT + timedelta(hours=1))
    sweeper = Sweeper(Salts(store), clock, None)

    for _ in range(100):
        sweeper.tick()
        clock.now += timedelta(minutes=5)
    assert store.sweeps == 1


def test_a_sweep_that_failed_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store, clock = CountingSalts(), Clock(MIDNIGHT + timedelta(hours=1))
    store.failures = 2
    store.get_or_create(SITE, YESTERDAY)
    sweeper = Sweeper(Salts(store), clock, None)
    logger = logging.getLogger("traffic_analytics.salts")
    logger.addHandler(caplog.handler)
    try:
        for _ in range(3):
            sweeper.tick()
    finally:
        logger.removeHandler(caplog.handler)

    events = [record.event for record in caplog.records if record.levelno >= logging.ERROR]
    assert set(events) == {"SaltCleanupFailed"}
    assert store.days == set()
    assert store.sweeps == 3


def test_only_the_holder_of_the_lock_deletes_but_all_forget_what_they_cached(tmp_path: Path) -> None:
    clock = Clock(MIDNIGHT + timedelta(hours=1))
    first, second = CountingSalts(), CountingSalts()
    cached = Salts(second)
    cached.get_or_create(SITE, YESTERDAY)
    lock = FileLock(tmp_path / "lock")
    one = Sweeper(Salts(first), clock, lock)
    other = Sweeper(cached, clock, FileLock(tmp_path / "lock"))

    one.tick()
    other.tick()
    lock.release()

    assert (first.sweeps, second.sweeps) == (1, 0)
    cached.get_or_create(SITE, YESTERDAY)
    assert second.asked == 2


def sweep_and_stay(path: Path, ready: Event) -> None:
    lock = FileLock(path.with_name("salts.sweep.lock"))
    Sweeper(Salts(opened(path)), lambda: MIDNIGHT + timedelta(hours=1), lock).tick()
    ready.set()
    threading.Event().wait(30)


def test_another_process_sweeps_when_the_one_that_did_is_killed(path: Path) -> None:
    store, ready = opened(path), processes.Event()
    old = store.get_or_create(SITE, YESTERDAY)
    clock = Clock(MIDNIGHT + timedelta(hours=1))
    lock = FileLock(path.with_name("salts.sweep.lock"))
    sweeper = Sweeper(Salts(store), clock, lock)
    holder = processes.Process(target=sweep_and_stay, args=[path, ready])
    holder.start()
    assert ready.wait(30)
    assert old.encode() not in everything_in(path.parent)

    today = store.get_or_create(SITE, TODAY)
    clock.now += timedelta(days=1)
    sweeper.tick()
    assert store.get_or_create(SITE, TODAY) == today, "the holder is alive and will do it"
    holder.kill()
    holder.join(10)
    sweeper.tick()
    lock.release()
    assert today.encode() not in everything_in(path.parent)


def service(path: Path, **environment: str) -> Any:
    settings = {"PROXY_TARGET": "http://x", "DATA_DIR": str(path.parent), "SALT_STORE_TYPE": "sqlite", **environment}
    return create_app(Settings.from_env(settings))


NODE_SALTS = json.dumps({"salt:2026-11-22:940b73e9": {"salt": "ab" * 32, "created_at": "2026-11-22T00:00:00Z"}})


def whole_database(path: Path) -> bytes:
    store = opened(path)
    for number in range(200):
        store.get_or_create(f"{SITE}-{number}", TODAY)
    store._file.close()
    data = path.read_bytes()
    path.unlink()
    return data


def foreign_database(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE posts (title TEXT)")
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"garbage, and not a little of it" * 100,
        lambda _: b"\0" * 8192,
        lambda _: NODE_SALTS.encode(),
        lambda path: whole_database(path)[:10_000],
        lambda path: whole_database(path)[:8192],
        lambda path: whole_database(path)[:50],
        lambda path: whole_database(path)[:4096] + b"\xaa" * 8192 + whole_database(path)[12_288:],
        foreign_database,
    ],
    ids=["garbage", "zeros", "json", "cut", "cut at a page", "cut in the header", "overwritten", "foreign"],
)
def test_a_damaged_file_stops_the_start_and_is_left_as_it_is(damage: Any, path: Path) -> None:
    path.parent.mkdir()
    data = damage(path)
    path.write_bytes(data)

    with pytest.raises(DamagedFile, match=r"salts\.sqlite3"):
        service(path)

    assert path.read_bytes() == data


def test_a_data_directory_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(DamagedFile, match="data"):
        service(tmp_path / "data" / "salts.sqlite3")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": "file"}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": ""}, "data/salts.sqlite3"),
        ({"SALT_STORE_TYPE": "file", "SALT_STORE_FILE_PATH": "elsewhere/own.db"}, "elsewhere/own.db"),
        ({"SALT_STORE_FILE_PATH": "elsewhere/own.db"}, "elsewhere/own.db"),
    ],
)
def test_salts_are_kept_where_the_settings_say(environment: dict[str, str], name: str, tmp_path: Path) -> None:
    if "SALT_STORE_FILE_PATH" in environment:
        environment = environment | {"SALT_STORE_FILE_PATH": str(tmp_path / environment["SALT_STORE_FILE_PATH"])}

    service(tmp_path / "data" / "unused", **environment)

    assert (tmp_path / name).read_bytes().startswith(b"SQLite format 3")
    assert len(list(tmp_path.rglob("*.sqlite3")) + list(tmp_path.rglob("*.db"))) == 1


def test_salts_in_memory_touch_no_file(tmp_path: Path) -> None:
    service(tmp_path / "data" / "x", SALT_STORE_TYPE="memory")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_taken_away_is_not_replaced_by_a_new_one(path: Path, start: Any, log: Log) -> None:
    service = start(salts=SqliteSalts(path))
    assert service.hit().status_code == 202
    path.unlink()

    answer = service.hit(headers={"x-site-uuid": SITES[1]})

    assert answer.status_code == 503
    assert len(service.tinybird.request_history) == 1
    assert not path.exists()
    assert "SaltUnavailable" in log.text


def test_a_file_that_is_damaged_while_running_refuses_hits(path: Path, start: Any) -> None:
    service = start(salts=SqliteSalts(path))
    path.write_bytes(b"garbage" * 5000)

    assert service.hit().status_code == 503
    assert service.client.get("/ready").status_code == 503
    assert service.tinybird.request_history == []


def use_before_and_after_a_fork(path: Path, answers: Any) -> None:
    store = opened(path)
    before, inherited = store.get_or_create(SITE, TODAY), store._file._connection
    if child := os.fork():
        answers.put(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    same = store.get_or_create(SITE, TODAY) == before
    os._exit(0 if same and store._file._connection is not inherited else 1)


def test_a_process_made_by_fork_opens_a_connection_of_its_own(path: Path) -> None:
    answers = processes.Queue()
    parent = processes.Process(target=use_before_and_after_a_fork, args=[path, answers])
    parent.start()

    assert answers.get(timeout=30) == 0
    parent.join(10)


def test_a_file_that_was_cut_is_not_taken_for_new(tmp_path: Path) -> None:
    path = tmp_path / "salts.sqlite3"
    path.write_bytes(b"S")

    with pytest.raises(DamagedFile, match="cannot be used as a database: it has 1 bytes"):
        SqliteSalts(path).prepare()
    assert path.read_bytes() == b"S"


def test_an_empty_file_is_taken_for_new_but_not_in_silence(start: Any, tmp_path: Path, log: Any) -> None:
    path = tmp_path / "salts.sqlite3"
    path.touch()

    start(salts=SqliteSalts(path))

    assert [record["event"] for record in log.records] == ["EmptyFile"]
    SqliteSalts(path).get_or_create("site", date(2026, 11, 22))


class AbsentSalts(CountingSalts):
    """A store that can be taken away."""

    away = False

    def get_or_create(self, site_uuid: str, day: date) -> str:
        if self.away:
            self.asked += 1
            raise SaltUnavailable("away")
        return super().get_or_create(site_uuid, day)


def test_a_cached_salt_serves_for_its_whole_day_while_the_store_is_away(start: Any) -> None:
    store = AbsentSalts()
    service = start(salts=store)
    service.now = datetime(2026, 11, 22, tzinfo=UTC)
    assert service.hit().status_code == 202
    store.away = True

    service.now = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    assert service.hit().status_code == 202
    names = {event["session_id"] for event in service.events}
    service.now = datetime(2026, 11, 23, tzinfo=UTC)
    refused = service.hit()

    assert len(names) == 1
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert len(service.events) == 2, "no visitor gets another name for want of a salt"


def test_salts_leave_the_memory_after_their_day_also_if_nobody_is_to_delete_them_from_the_store(start: Any) -> None:
    store = CountingSalts()
    salts, clock = Salts(store), Clock(MIDNIGHT - timedelta(hours=1))
    sweeper = Sweeper(salts, clock, None, deletes=False)
    salts.get_or_create(SITE, YESTERDAY)

    sweeper.tick()
    assert len(salts._cache) == 1
    clock.now = MIDNIGHT + GRACE
    sweeper.tick()

    assert len(salts._cache) == 0
    assert (store.sweeps, store.days) == (0, {YESTERDAY})


class SlowSalts(CountingSalts):
    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.entered.set()
        assert self.go.wait(30)
        return super().get_or_create(site_uuid, day)


def test_threads_that_want_the_same_salt_ask_the_store_once() -> None:
    store, seen = SlowSalts(), []
    salts = Salts(store)
    threads = [threading.Thread(target=lambda: seen.append(salts.get_or_create(SITE, TODAY))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert store.entered.wait(30)
    store.go.set()
    for thread in threads:
        thread.join()

    assert (len(seen), len(set(seen)), store.asked) == (8, 1, 1)
