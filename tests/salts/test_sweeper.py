from __future__ import annotations

import logging
import threading
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from tests.support.app import SITE
from tests.support.clocks import Clock
from tests.support.fresh_processes import PROCESSES
from tests.support.salts import MIDNIGHT, TODAY, YESTERDAY, CountingSalts, opened, read_files
from traffic_analytics.runtime.file_lock import FileLock
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.store import GRACE
from traffic_analytics.salts.sweeper import SWEEP_EVERY, Sweeper

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path


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


def test_every_process_drops_past_salts_at_the_same_moment() -> None:
    due = MIDNIGHT + GRACE
    for seconds in (3, 17, 0.25):
        salts, clock = Salts(CountingSalts()), Clock(due - timedelta(seconds=seconds))
        sweeper = Sweeper(salts, clock, None)
        salts.get_or_create(SITE, YESTERDAY)
        wait = sweeper.tick()
        assert (wait, len(salts._cache)) == (seconds, 1)
        clock.now += timedelta(seconds=wait)
        assert sweeper.tick() == SWEEP_EVERY
        assert len(salts._cache) == 0


def test_midnight_is_that_of_utc_in_every_time_zone() -> None:
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

    events = [vars(record)["event"] for record in caplog.records if record.levelno >= logging.ERROR]
    assert set(events) == {"SaltCleanupFailed"}
    assert store.days == set()
    assert store.sweeps == 3


def test_only_the_holder_of_the_lock_deletes_but_every_process_clears_its_cache(tmp_path: Path) -> None:
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
    assert second.requests == 2


def sweep_and_stay(path: Path, ready: Event) -> None:
    lock = FileLock(path.with_name("salts.sweep.lock"))
    Sweeper(Salts(opened(path)), lambda: MIDNIGHT + timedelta(hours=1), lock).tick()
    ready.set()
    threading.Event().wait(30)


def test_another_process_sweeps_if_the_first_is_killed(path: Path) -> None:
    store, ready = opened(path), PROCESSES.Event()
    old = store.get_or_create(SITE, YESTERDAY)
    clock = Clock(MIDNIGHT + timedelta(hours=1))
    lock = FileLock(path.with_name("salts.sweep.lock"))
    sweeper = Sweeper(Salts(store), clock, lock)
    holder = PROCESSES.Process(target=sweep_and_stay, args=[path, ready])
    holder.start()
    assert ready.wait(30)
    assert old.encode() not in read_files(path.parent)

    today = store.get_or_create(SITE, TODAY)
    clock.now += timedelta(days=1)
    sweeper.tick()
    assert store.get_or_create(SITE, TODAY) == today, "the holder is alive and will do it"
    holder.kill()
    holder.join(10)
    sweeper.tick()
    lock.release()
    assert today.encode() not in read_files(path.parent)


def test_salts_leave_the_memory_after_their_day_also_without_deletion_from_the_store() -> None:
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
