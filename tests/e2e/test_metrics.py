"""Add up the counts of several processes while these are killed, replaced and reloaded."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browsers import Load, hit
from tests.support.fake_tinybird import always
from tests.support.processes import PATIENCE, wait_until
from tests.support.running import running
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.e2e

ACCEPTED = 'traffic_analytics_hits_total{outcome="accepted",rule=""}'
KINDS = frozenset({"counter", "histogram", "gauge_livemax"})
CIRCUIT = 'traffic_analytics_circuit_open{data_source="analytics_events"}'


def samples(service: Service) -> dict[str, float]:
    status, text = service.get("/metrics")
    assert status == 200
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def have_started(service: Service, workers: int = 2, kinds: frozenset[str] = KINDS) -> bool:
    """Return whether so many workers run and have opened all their files, even if those are deleted."""
    maps = [Path(f"/proc/{pid}/maps") for pid in service.workers()]
    with contextlib.suppress(OSError):
        return len(maps) == workers and all(
            set(re.findall(r"/(counter|histogram|gauge_livemax)_\d+\.db", each.read_text())) == kinds for each in maps
        )
    return False


def is_replaced(service: Service, worker: int) -> bool:
    return worker not in service.workers() and have_started(service)


def has_accepted(load: Load, hits: int) -> bool:
    return len(load.accepted()) > hits


def kill(service: Service, how: signal.Signals = signal.SIGKILL) -> None:
    """End each of the workers, and return once they are replaced."""
    for worker in service.workers():
        os.kill(worker, how)
        wait_until(partial(is_replaced, service, worker), PATIENCE)


def load_until(service: Service, condition: Callable[[], object]) -> int:
    """Send hits until a condition holds, over new connections each time; return how many were accepted.

    One worker may accept all connections of a round, so that the other counts nothing.
    """
    wait_until(lambda: have_started(service), PATIENCE)
    accepted = 0

    def is_reached() -> bool:
        nonlocal accepted
        with Load(service.port, hits_each=20) as load:
            load.wait()
        accepted += len(load.accepted())
        return bool(condition())

    wait_until(is_reached, PATIENCE)
    return accepted


def test_the_counts_of_two_workers_add_up_and_survive_them(tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):

        def contents() -> list[bytes]:
            return [(files / f"counter_{place}.db").read_bytes() for place in (0, 1)]

        def both_have_counted(before: list[bytes]) -> bool:
            return all(now != was for now, was in zip(contents(), before, strict=True))

        wait_until(lambda: have_started(service), PATIENCE)
        before = contents()
        accepted = load_until(service, lambda: both_have_counted(before))
        assert samples(service)[ACCEPTED] == accepted

        known = sorted(files.iterdir())
        kill(service, signal.SIGKILL)
        kill(service, signal.SIGTERM)
        assert samples(service)[ACCEPTED] == accepted, "counts of ended workers stay"

        before = contents()
        accepted += load_until(service, lambda: both_have_counted(before))
        assert samples(service)[ACCEPTED] == accepted, "their successors continue them"
        assert sorted(files.iterdir()) == known, "in the same files"

        service.terminate()
        service.start()
        wait_until(lambda: have_started(service), PATIENCE)
        assert samples(service)[ACCEPTED] == 0, "a new start begins at 0"


def test_a_reload_keeps_the_counts(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true") as (service, _fake):
        accepted = load_until(service, lambda: samples(service)[ACCEPTED] > 10)
        old = set(service.workers())
        os.kill(service.pids()[0], signal.SIGHUP)
        wait_until(lambda: not old & set(service.workers()) and have_started(service), 40)
        accepted += load_until(service, lambda: samples(service)[ACCEPTED] > accepted + 10)

        assert samples(service)[ACCEPTED] == accepted


def test_hits_are_accepted_though_the_count_files_are_deleted(tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):
        wait_until(lambda: have_started(service), PATIENCE)
        shutil.rmtree(files)
        assert [each.status for each in hit(service.port, 20)] == [202] * 20

        kill(service)
        assert {each.status for each in hit(service.port, 20)} == {202}
        assert samples(service)[ACCEPTED] == 20, "new workers make the files again"


def block_files(counts: Path) -> None:
    for place in (0, 1):
        (counts / f"histogram_{place}.db").unlink()
        (counts / f"histogram_{place}.db").mkdir()


def block_directory(counts: Path) -> None:
    shutil.rmtree(counts)
    counts.touch()


def unblock(counts: Path) -> None:
    if counts.is_dir():
        shutil.rmtree(counts)
    else:
        counts.unlink()


@pytest.mark.parametrize("block", [block_files, block_directory])
def test_a_worker_that_cannot_open_its_count_files_is_replaced(block: Callable[[Path], None], tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):
        wait_until(lambda: have_started(service), PATIENCE)
        block(files)

        os.kill(service.workers()[0], signal.SIGKILL)
        wait_until(lambda: service.log.count("MetricsUnavailable") > 1, PATIENCE)
        assert {each.status for each in hit(service.port, 5)} == {202}

        unblock(files)
        wait_until(lambda: have_started(service), PATIENCE)
        assert {each.status for each in hit(service.port, 5)} == {202}


def test_a_damaged_count_file_is_skipped_and_replaced_with_its_worker(tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):
        wait_until(lambda: have_started(service), PATIENCE)
        with (files / "counter_0.db").open("r+b") as file:  # as a full disk or a foreign program leaves it
            file.write(b"\xff\xff\xff\x00" * 1000)

        assert {service.get("/metrics")[0] for _ in range(10)} == {200}
        assert 0 < service.log.count("counter_0.db is damaged and was skipped") <= 2, "once in each worker"

        kill(service)
        accepted = load_until(service, lambda: samples(service)[ACCEPTED] > 10)
        assert samples(service)[ACCEPTED] == accepted
        assert service.log.count("counter_0.db is damaged and was deleted") == 1


def test_a_directory_that_was_not_named_is_removed_at_the_end(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true") as (service, _fake):
        load_until(service, lambda: samples(service)[ACCEPTED] > 10)
        maps = (
            Path(f"/proc/{service.workers()[0]}/maps").read_text() + Path(f"/proc/{service.pids()[0]}/maps").read_text()
        )
        directories = {Path(found) for found in re.findall(r"(/\S*/traffic-analytics-metrics-\w+)/", maps)}
        assert len(directories) == 1
        assert all(directory.is_dir() for directory in directories)

        service.terminate()

        assert not any(directory.exists() for directory in directories)


def test_a_circuit_is_open_if_it_is_open_in_any_living_process(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true") as (service, fake):
        fake.fail(always(503))
        load_until(service, lambda: samples(service)[CIRCUIT] == 1)

        kill(service)

        assert samples(service)[CIRCUIT] == 0


def test_scrapes_succeed_while_hits_arrive_and_workers_die(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true", WEB_CONCURRENCY="3", DELIVERY="spool") as (service, _fake):
        statuses: list[int] = []
        stopping = threading.Event()

        def scrape() -> None:
            while not stopping.is_set():
                statuses.append(service.get("/metrics")[0])

        scraper = threading.Thread(target=scrape)
        scraper.start()
        with Load(service.port) as load:
            for _ in range(5):
                so_far = len(load.accepted())
                wait_until(partial(has_accepted, load, so_far + 20), PATIENCE)
                os.kill(service.workers()[0], signal.SIGKILL)
                wait_until(lambda: have_started(service, 3, KINDS - {"gauge_livemax"}), PATIENCE)
        stopping.set()
        scraper.join(PATIENCE)

        assert set(statuses) <= {200, 0}, "0: the worker that answered was killed"
        assert statuses.count(200) > 5
        wait_until(lambda: samples(service)["traffic_analytics_spool_waiting_events"] == 0, PATIENCE)
        assert samples(service)[ACCEPTED] >= len(load.accepted())
