"""What several processes count adds up, whatever becomes of the processes."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
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


def have_begun(service: Service, workers: int = 2, kinds: frozenset[str] = KINDS) -> bool:
    """Whether so many workers are there and have opened all their files, old ones or deleted ones included."""
    maps = [Path(f"/proc/{pid}/maps") for pid in service.workers()]
    with contextlib.suppress(OSError):
        return len(maps) == workers and all(
            set(re.findall(r"/(counter|histogram|gauge_livemax)_\d+\.db", each.read_text())) == kinds for each in maps
        )
    return False


def kill(service: Service, how: signal.Signals = signal.SIGKILL) -> None:
    """End each of the workers, and return when there are others."""
    for worker in service.workers():
        os.kill(worker, how)
        wait_until(lambda gone=worker: gone not in service.workers() and have_begun(service), PATIENCE)


def load_until(service: Service, condition: Callable[[], object]) -> int:
    """Send hits to both workers until a condition holds; returns how many were accepted."""
    wait_until(lambda: have_begun(service), PATIENCE)
    with Load(service.port) as load:
        wait_until(condition, PATIENCE)
    return len(load.accepted())


def test_the_counts_of_two_workers_add_up_and_outlive_them(tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):

        def contents() -> list[bytes]:
            return [(files / f"counter_{place}.db").read_bytes() for place in (0, 1)]

        def both_have_counted(before: list[bytes]) -> bool:
            return all(now != was for now, was in zip(contents(), before, strict=True))

        wait_until(lambda: have_begun(service), PATIENCE)
        before = contents()
        accepted = load_until(service, lambda: both_have_counted(before))
        assert samples(service)[ACCEPTED] == accepted

        known = sorted(files.iterdir())
        kill(service, signal.SIGKILL)
        kill(service, signal.SIGTERM)
        assert samples(service)[ACCEPTED] == accepted, "the dead have counted, too"

        before = contents()
        accepted += load_until(service, lambda: both_have_counted(before))
        assert samples(service)[ACCEPTED] == accepted, "their successors go on"
        assert sorted(files.iterdir()) == known, "in the same files"

        service.terminate()
        service.start()
        wait_until(lambda: have_begun(service), PATIENCE)
        assert samples(service)[ACCEPTED] == 0, "the service begins anew when it is started anew"


def test_a_reload_keeps_the_counts(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true") as (service, _fake):
        accepted = load_until(service, lambda: samples(service)[ACCEPTED] > 10)
        old = set(service.workers())
        os.kill(service.pids()[0], signal.SIGHUP)
        wait_until(lambda: not old & set(service.workers()) and have_begun(service), 40)
        accepted += load_until(service, lambda: samples(service)[ACCEPTED] > accepted + 10)

        assert samples(service)[ACCEPTED] == accepted


def test_hits_are_taken_though_somebody_deletes_the_counts(tmp_path: Path) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):
        wait_until(lambda: have_begun(service), PATIENCE)
        shutil.rmtree(files)
        assert [each.status for each in hit(service.port, 20)] == [202] * 20

        kill(service)
        assert {each.status for each in hit(service.port, 20)} == {202}
        assert samples(service)[ACCEPTED] == 20, "those who come next make the files anew"


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
def test_a_worker_that_cannot_count_is_replaced_and_the_others_go_on(
    block: Callable[[Path], None], tmp_path: Path
) -> None:
    files = tmp_path / "counts"
    with running(tmp_path / "data", METRICS="true", PROMETHEUS_MULTIPROC_DIR=str(files)) as (service, _fake):
        wait_until(lambda: have_begun(service), PATIENCE)
        block(files)

        os.kill(service.workers()[0], signal.SIGKILL)
        wait_until(lambda: service.log.count("MetricsUnavailable") > 1, PATIENCE)
        assert {each.status for each in hit(service.port, 5)} == {202}

        unblock(files)
        wait_until(lambda: have_begun(service), PATIENCE)
        assert {each.status for each in hit(service.port, 5)} == {202}


def test_a_directory_of_its_own_is_gone_when_the_service_is(tmp_path: Path) -> None:
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


def test_a_circuit_is_open_if_it_is_in_any_process_that_lives(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true") as (service, fake):
        fake.fail(always(503))
        load_until(service, lambda: samples(service)[CIRCUIT] == 1)

        kill(service)

        assert samples(service)[CIRCUIT] == 0


def test_scrapes_succeed_while_hits_arrive_and_workers_die(tmp_path: Path) -> None:
    with running(tmp_path / "data", METRICS="true", WEB_CONCURRENCY="3", DELIVERY="spool") as (service, _fake):
        answers: list[int] = []
        stopping = threading.Event()

        def scrape() -> None:
            while not stopping.is_set():
                answers.append(service.get("/metrics")[0])

        scraper = threading.Thread(target=scrape)
        scraper.start()
        with Load(service.port) as load:
            for _ in range(5):
                so_far = len(load.accepted())
                wait_until(lambda so_far=so_far: len(load.accepted()) > so_far + 20, PATIENCE)
                os.kill(service.workers()[0], signal.SIGKILL)
                wait_until(lambda: have_begun(service, 3, KINDS - {"gauge_livemax"}), PATIENCE)
        stopping.set()
        scraper.join(PATIENCE)

        assert set(answers) <= {200, 0}, "0: the one that was asked was killed"
        assert answers.count(200) > 5
        wait_until(lambda: samples(service)["traffic_analytics_spool_waiting_events"] == 0, PATIENCE)
        assert samples(service)[ACCEPTED] >= len(load.accepted())
