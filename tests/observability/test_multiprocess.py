from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.processes import PATIENCE, ROOT
from traffic_analytics.observability.multiprocess import CountFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import os, sys
from traffic_analytics.observability import multiprocess
multiprocess.prepare_directory()
from traffic_analytics.observability.metrics import MessageMetrics, Metrics
metrics = Metrics()
messages = MessageMetrics(metrics)

def count_bots(number, slot):
    child = os.fork()
    if not child:
        multiprocess.use_slot(slot)
        metrics.open_files()
        metrics.hits.labels("bot", "").inc(number)
        messages.subscribed.set(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

exec(sys.argv[1])
"""
DAMAGE = {
    "empty of structure": b"no counts at all, but longer than a header",
    "two bytes": b"\x08\x00",
    "cut": b"\x40\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00",
    "beyond its end": b"\x40\x00\x00\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x00" * 14,
    "no JSON": b"\x28\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00abcd" + b"\x00" * 24,
}


def run(directory: Path, commands: str) -> str:
    """Run commands in a process that forks a child for each count; return what it logged."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, commands],
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def scrape(files: CountFiles) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(files)
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


def bots(files: CountFiles) -> float:
    return scrape(files)['traffic_analytics_hits_total{outcome="bot",rule=""}']


class Records(logging.Handler):
    """The records of the module, however another test has configured its loggers."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append((vars(record)["event"], record.getMessage()))


@pytest.fixture
def records() -> Iterator[Records]:
    handler, logger = Records(), logging.getLogger(CountFiles.__module__)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


def test_children_count_in_the_files_of_their_slots_and_successors_continue_them(tmp_path: Path) -> None:
    """Fails if prometheus-client no longer makes its values from `values.ValueClass`."""
    run(tmp_path, "count_bots(1, 0); count_bots(2, 1); count_bots(4, 1)")

    assert {file.name for file in tmp_path.glob("counter_*")} == {
        "counter_0.db",
        "counter_1.db",
        "counter_master.db",
    }
    assert bots(CountFiles(tmp_path)) == 1 + 2 + 4


def test_gauges_of_the_master_and_of_ended_workers_do_not_count(tmp_path: Path) -> None:
    run(tmp_path, "count_bots(1, 0); count_bots(1, 1); multiprocess.drop_live_gauges(1)")

    assert (tmp_path / "gauge_livemin_master.db").exists()
    assert not (tmp_path / "gauge_livemin_1.db").exists()
    assert scrape(CountFiles(tmp_path))["traffic_analytics_subscribed"] == 1


def test_a_start_empties_the_directory(tmp_path: Path) -> None:
    run(tmp_path, "count_bots(1, 0)")
    run(tmp_path, "count_bots(2, 1)")

    assert bots(CountFiles(tmp_path)) == 2


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_file_is_skipped_and_logged_once(damage: bytes, tmp_path: Path, records: Records) -> None:
    run(tmp_path, "count_bots(1, 0); count_bots(2, 1)")
    (tmp_path / "counter_1.db").write_bytes(damage)
    files = CountFiles(tmp_path)

    assert (bots(files), bots(files)) == (1, 1)

    assert records.all == [("MetricsDamaged", "count file counter_1.db is damaged and was skipped")]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_worker_replaces_a_damaged_file_of_its_slot(damage: bytes, tmp_path: Path) -> None:
    log = run(
        tmp_path,
        f"count_bots(1, 0); count_bots(2, 1); open({str(tmp_path / 'counter_1.db')!r}, 'wb').write({damage!r});"
        "count_bots(4, 1)",
    )

    assert log.strip() == "count file counter_1.db is damaged and was deleted"
    assert bots(CountFiles(tmp_path)) == 1 + 4


def test_a_file_that_is_being_made_is_no_damage(tmp_path: Path, records: Records) -> None:
    run(tmp_path, "count_bots(1, 0)")
    (tmp_path / "counter_1.db").touch()
    (tmp_path / "histogram_1.db").write_bytes(b"\x00" * 65_536)

    assert bots(CountFiles(tmp_path)) == 1
    assert records.all == []
