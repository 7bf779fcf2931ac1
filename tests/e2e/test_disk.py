"""Test a full disk, and a full, locked or damaged spool: no accepted hit is lost, and hits are accepted again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import Load, Outcome, hit, hit_together
from tests.support.fake_tinybird import FakeTinybird, always
from tests.support.processes import wait_until
from tests.support.running import running
from tests.support.service import Service
from traffic_analytics.runtime.sqlite_file import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e

MB = 1024 * 1024
LONG_PATH = "/" + "long" * 1500


def fill(service: Service) -> set[str]:
    """Post hits until they are refused; returns the event ids of those that were accepted."""
    with Load(service.port, 4, pathname=LONG_PATH) as load:
        wait_until(lambda: any(each.status == 503 for each in load.outcomes), 60)
    assert {each.status for each in load.outcomes} <= {202, 503}
    refused = [each for each in load.outcomes if each.status == 503]
    assert all(int(each.headers["retry-after"]) > 0 for each in refused)
    assert all(each.headers["access-control-allow-origin"] == "*" for each in refused)
    return load.accepted()


def assert_not_ready(service: Service) -> None:
    def is_not_ready() -> bool:
        status, body = service.get("/ready")
        return status == 503 and "spool" in body

    wait_until(is_not_ready, 5)  # each process caches a good result for a second
    assert service.get("/health")[0] == 200


def assert_recovers(service: Service, fake: FakeTinybird, accepted: set[str]) -> None:
    """Assert that every accepted event is delivered exactly once and that hits are accepted again."""
    fake.wait_for(accepted, 60)
    wait_until(lambda: service.waiting() == 0)
    wait_until(lambda: service.get("/ready")[0] == 200)
    last: list[Outcome] = []

    def is_accepted() -> bool:  # space returns a little at a time
        last[:] = hit(service.port)
        return last[0].status == 202

    wait_until(is_accepted)
    fake.wait_for([last[0].event_id], 10)
    delivered = fake.delivered
    assert {each for each in accepted if delivered[each] != 1} == set()


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_a_full_spool_refuses_hits_and_empties_by_itself(tmp_path: Path, delivery: str) -> None:
    with running(tmp_path / "data", DELIVERY=delivery, SPOOL_MAX_MB="1") as (service, fake):
        fake.fail(always(503))
        accepted = fill(service)
        assert_not_ready(service)
        assert (service.data_dir / "spool.sqlite3").stat().st_size <= 1.5 * MB
        fake.heal()
        assert_recovers(service, fake, accepted)


def test_a_full_spool_is_still_full_and_still_empties_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool", SPOOL_MAX_MB="1") as (service, fake):
        fake.fail(always(503))
        accepted = fill(service)
        service.kill_tree()
        service.spawn()
        wait_until(lambda: service.get("/health")[0] == 200)
        assert_not_ready(service)
        more = fill(service)  # it counts as full while a few events still fit
        assert len(more) < len(accepted) / 2
        accepted |= more
        fake.heal()
        assert_recovers(service, fake, accepted)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MB; skips without the privilege to do so."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_filled_by_the_spool_is_emptied_by_delivering(small_disk: Path) -> None:
    with running(small_disk / "data", DELIVERY="spool") as (service, fake):
        fake.fail(always(503))
        accepted = fill(service)
        assert_not_ready(service)
        fake.heal()
        assert_recovers(service, fake, accepted)


def test_a_disk_filled_by_another_program_stops_hits_until_there_is_space(small_disk: Path) -> None:
    with running(small_disk / "data", DELIVERY="spool") as (service, fake):
        fake.fail(always(503))
        accepted = {each.event_id for each in hit(service.port, 50) if each.accepted}
        assert len(accepted) == 50
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
        accepted |= fill(service)
        assert_not_ready(service)
        ballast.unlink()
        fake.heal()
        assert_recovers(service, fake, accepted)


def test_a_limit_on_file_sizes_stops_hits_until_it_is_raised(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool") as (service, fake):
        fake.fail(always(503))
        service.limit_file_size(2 * MB)
        accepted = fill(service)
        assert_not_ready(service)
        service.limit_file_size(-1)
        fake.heal()
        assert_recovers(service, fake, accepted)


@contextlib.contextmanager
def locked(service: Service) -> Iterator[None]:
    """Lock the spool's file as another program might."""
    with contextlib.closing(sqlite3.connect(service.data_dir / "spool.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_a_spool_locked_for_a_moment_delays_hits_and_loses_none(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool") as (service, fake):
        outcomes: list[Outcome] = []
        posting = threading.Thread(target=lambda: outcomes.extend(hit_together(service.port, 20)))
        with locked(service):
            posting.start()
            time.sleep(1.5)  # duration of the lock
        posting.join()
        assert {each.status for each in outcomes} == {202}
        assert_recovers(service, fake, {each.event_id for each in outcomes})


def test_a_spool_locked_for_long_refuses_hits_in_time_and_recovers(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool", WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(always(503))
        before = hit(service.port, 10)
        with locked(service), Load(service.port, 8) as load:
            wait_until(lambda: sum(each.status == 503 for each in load.outcomes) >= 16, 20)
            assert_not_ready(service)
        slowest = max(each.seconds for each in load.outcomes)
        print(f"refused after at most {slowest:.3f} s")
        assert slowest < 5
        fake.heal()
        assert_recovers(service, fake, load.accepted() | {each.event_id for each in before})


def overwrite_the_header(file: Path) -> None:
    with file.open("r+b") as raw:
        raw.write(b"not a database at all")


def overwrite_a_page(file: Path) -> None:
    with file.open("r+b") as raw:
        raw.seek(file.stat().st_size // 2 // 4096 * 4096)
        raw.write(b"\xaa" * 4096)


def cut_in_half(file: Path) -> None:
    with file.open("r+b") as raw:
        raw.truncate(file.stat().st_size // 2)


def empty(file: Path) -> None:
    with file.open("r+b") as raw:
        raw.truncate(0)


@pytest.mark.parametrize("damage", [overwrite_the_header, overwrite_a_page, cut_in_half])
def test_a_damaged_spool_stops_the_start_and_is_not_changed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with running(tmp_path / "data", DELIVERY="spool", WEB_CONCURRENCY="1") as (service, fake):
        accepted = collect(service, fake)
        service.terminate()
        write_log_into_file(service)
        assert_start_refused_and_nothing_changed(service, damage)
        service.start()
        fake.heal()
        assert_recovers(service, fake, accepted)


@pytest.mark.parametrize("damage", [overwrite_a_page, empty, os.unlink])
def test_a_damaged_spool_keeps_the_log_that_a_killed_process_left(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with running(tmp_path / "data", DELIVERY="spool", WEB_CONCURRENCY="1") as (service, fake):
        accepted = collect(service, fake)
        service.terminate()
        write_log_into_file(service)
        service.start()
        accepted |= collect(service, fake)
        service.kill_tree()
        assert_start_refused_and_nothing_changed(service, damage)
        service.start()
        fake.heal()
        assert_recovers(service, fake, accepted)


def add_an_event_of(size: int, file: Path) -> None:
    """Store a large dead letter, which is never sent."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO set_aside VALUES (1, 'analytics_events', 0, zeroblob(?), '')", [size])


def test_a_large_spool_is_used_before_it_is_checked_and_damage_stops_the_service(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool", SPOOL_SYNC="normal") as (service, fake):
        file = service.data_dir / "spool.sqlite3"
        accepted = collect(service, fake)
        service.terminate()
        add_an_event_of(LARGE, file)
        write_log_into_file(service)
        service.start()
        wait_until(lambda: "FileChecked" in service.log)
        assert service.log.count("FileChecked") == 1, "one process checks it"
        accepted |= {each.event_id for each in hit(service.port, 10)}
        service.terminate()
        write_log_into_file(service)
        whole = file.read_bytes()

        overwrite_a_page(file)
        service.spawn()
        wait_until(lambda: service.exit_code() is not None)
        assert service.exit_code() != 0
        assert f"Traffic Analytics stops: {file} is damaged" in service.log

        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        file.write_bytes(whole)
        service.start()
        fake.heal()
        assert_recovers(service, fake, accepted)


def collect(service: Service, fake: FakeTinybird) -> set[str]:
    fake.fail(always(503))
    outcomes = hit_together(service.port, 100)
    assert {each.status for each in outcomes} == {202}
    return {each.event_id for each in outcomes}


def write_log_into_file(service: Service) -> None:
    with contextlib.closing(sqlite3.connect(service.data_dir / "spool.sqlite3")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def assert_start_refused_and_nothing_changed(service: Service, damage: Callable[[Path], None]) -> None:
    """Damage the spool, try to start, and restore the spool."""
    spool = service.data_dir / "spool.sqlite3"
    log = spool.with_name("spool.sqlite3-wal")
    intact = {file: file.read_bytes() for file in (spool, log) if file.exists()}
    damage(spool)
    damaged = {file: file.read_bytes() for file in (spool, log) if file.exists()}
    service.spawn()
    wait_until(lambda: service.exit_code() is not None)
    assert service.exit_code() != 0
    last_line = service.log.rstrip().splitlines()[-1]
    assert last_line.startswith(f"Traffic Analytics cannot start: {spool}")
    assert {file: file.read_bytes() for file in (spool, log) if file.exists()} == damaged
    for file, content in intact.items():
        file.write_bytes(content)
