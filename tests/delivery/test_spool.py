from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from traffic_analytics.delivery.spool import Claim, Spool
from traffic_analytics.errors import DamagedFile, SpoolUnavailable

MB = 1_000_000


class SpoolWithClock(Spool):
    """A spool whose clocks are set by hand."""

    def __init__(self, path: Path, max_mb: int = 8) -> None:
        self.now = 1_800_000_000.0
        super().__init__(path, sync="normal", max_mb=max_mb, clock=lambda: self.now)

    def take(self, limit: int = 500, max_bytes: int = MB, monotonic: float = 1000.0) -> list[bytes]:
        claim = self.claim(limit, max_bytes, monotonic)
        return [each.event for each in claim.events] if claim else []


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    spool = SpoolWithClock(tmp_path / "spool.sqlite3")
    spool.prepare()
    return spool


def claimed(spool: Spool, limit: int = 500, monotonic: float = 1000.0) -> Claim:
    claim = spool.claim(limit, MB, monotonic)
    assert claim is not None
    return claim


def test_events_are_claimed_in_the_order_of_their_commits(spool: SpoolWithClock) -> None:
    for n in range(20):
        spool.append("analytics_events", b"%d" % n)

    assert spool.take() == [b"%d" % n for n in range(20)]


def test_the_order_holds_if_the_clock_jumps_back_an_hour(spool: SpoolWithClock) -> None:
    for n in range(3):
        spool.append("analytics_events", b"%d" % n)
        spool.now -= 3600

    assert spool.take() == [b"0", b"1", b"2"]


def test_a_claimed_event_is_in_no_other_claim(spool: SpoolWithClock) -> None:
    for n in range(5):
        spool.append("analytics_events", b"%d" % n)

    assert spool.take(limit=2) == [b"0", b"1"]
    assert spool.take(limit=2) == [b"2", b"3"]
    assert spool.take(limit=2) == [b"4"]
    assert spool.take() == []


def test_an_event_stays_until_it_is_acknowledged(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    claim = claimed(spool)

    assert spool.backlog().waiting == 1
    spool.acknowledge(claim.events, 1000.0)
    assert spool.backlog().waiting == 0


def test_a_claim_ends_when_its_lease_runs_out(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")

    assert spool.take(monotonic=1000.0) == [b"1"]
    assert spool.take(monotonic=1059.0) == []
    assert spool.take(monotonic=1060.0) == [b"1"]


def test_a_renewed_lease_lasts_longer(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    claim = claimed(spool, monotonic=1000.0)
    spool.renew(claim, 1050.0)

    assert spool.take(monotonic=1100.0) == []
    assert spool.take(monotonic=1110.0) == [b"1"]


def test_a_lease_from_before_a_restart_of_the_machine_does_not_hold(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    spool.take(monotonic=5_000_000.0)

    assert spool.take(monotonic=12.0) == [b"1"]


def test_the_unacknowledged_events_of_a_released_claim_can_be_claimed(spool: SpoolWithClock) -> None:
    for n in range(4):
        spool.append("analytics_events", b"%d" % n)
    claim = claimed(spool)
    spool.acknowledge(claim.events[:2], 1000.0)
    spool.release(claim)

    assert spool.take() == [b"2", b"3"]


def test_claims_do_not_overlap(spool: SpoolWithClock) -> None:
    for n in range(6):
        spool.append("analytics_events", b"%d" % n)
    first, _second = claimed(spool, 2), claimed(spool, 2)
    spool.release(first)

    assert spool.take(limit=6) == [b"0", b"1"]
    assert spool.take(limit=6) == [b"4", b"5"]


def test_a_claim_holds_one_data_source(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    spool.append("analytics_events_test", b"2")
    spool.append("analytics_events", b"3")

    claim, other = claimed(spool), claimed(spool)

    assert (claim.data_source, [each.event for each in claim.events]) == ("analytics_events", [b"1", b"3"])
    assert (other.data_source, [each.event for each in other.events]) == ("analytics_events_test", [b"2"])


def test_a_claim_has_at_most_the_given_bytes_but_always_one_event(spool: SpoolWithClock) -> None:
    for size in (600, 300, 300, 5000):
        spool.append("analytics_events", b"x" * size)

    assert [len(event) for event in spool.take(max_bytes=1000)] == [600, 300]
    assert [len(event) for event in spool.take(max_bytes=1000)] == [300]
    assert [len(event) for event in spool.take(max_bytes=1000)] == [5000]


def test_ids_are_not_used_again_when_the_spool_was_empty_in_between(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    first = claimed(spool)
    spool.acknowledge(first.events, 1000.0)
    spool.release(first)
    spool.now += 1e-3
    spool.append("analytics_events", b"2")

    spool.acknowledge(first.events, 1000.0)  # late, as after a disk error on a write that succeeded

    assert spool.take() == [b"2"]


def test_a_dead_letter_waits_for_an_operator(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"bad")
    spool.append("analytics_events", b"good")
    claim = claimed(spool)
    spool.dead_letter(claim.events[0], "status 400")
    spool.release(claim)

    assert spool.take() == [b"good"]
    assert [(each.event, each.reason, each.data_source) for each in spool.list_dead_letters()] == [
        (b"bad", "status 400", "analytics_events")
    ]
    assert spool.requeue([claim.events[0].id]) == 1
    assert list(spool.list_dead_letters()) == []
    assert [each.event for each in spool.list_waiting()] == [b"good", b"bad"]


def test_all_dead_letters_can_be_requeued_or_purged(spool: SpoolWithClock) -> None:
    for n in range(3):
        spool.append("analytics_events", b"%d" % n)
    for each in claimed(spool).events:
        spool.dead_letter(each, "status 400")

    assert spool.requeue(None) == 3
    spool.release_all()
    for each in claimed(spool).events[:2]:
        spool.dead_letter(each, "status 400")
    assert spool.purge_dead_letters() == 2
    assert spool.backlog().waiting == 1


def fill(spool: Spool, size: int) -> int:
    """Append until there is no room; return how many events were stored."""
    for stored in range(2000):
        try:
            spool.append("analytics_events", b"x" * size)
        except SpoolUnavailable:
            return stored
    pytest.fail("the spool has no bound")


def test_a_full_spool_refuses_events_keeps_its_own_and_has_room_after_acknowledgements(tmp_path: Path) -> None:
    spool = SpoolWithClock(tmp_path / "small.sqlite3", max_mb=1)
    spool.prepare()
    stored = fill(spool, 1000)

    with pytest.raises(SpoolUnavailable, match="full"):
        spool.append("analytics_events", b"x" * 1000)
    with pytest.raises(SpoolUnavailable, match="full"):
        spool.check()
    assert spool.backlog().waiting == stored > 500
    assert (tmp_path / "small.sqlite3").stat().st_size <= 1024 * 1024
    spool.acknowledge(claimed(spool, 400).events, 1000.0)
    spool.check()
    spool.append("analytics_events", b"x" * 1000)
    assert spool.backlog().waiting == stored - 400 + 1


def test_the_forwarder_of_a_full_spool_can_store_dead_letters(tmp_path: Path) -> None:
    spool = SpoolWithClock(tmp_path / "small.sqlite3", max_mb=1)
    spool.prepare()
    fill(spool, 3000)
    worker = Spool(tmp_path / "small.sqlite3", sync="normal", max_mb=1, clock=lambda: spool.now, room_to_work=True)

    worker.dead_letter(claimed(worker).events[0], "status 400")

    assert worker.backlog().dead_letters == 1


def test_free_room_is_returned_to_the_disk(spool: SpoolWithClock) -> None:
    for _ in range(12):
        spool.append("analytics_events", b"x" * 500_000)
    spool.acknowledge(claimed(spool, 100).events, 1000.0)
    while (claim := spool.claim(100, MB, 1000.0)) is not None:
        spool.acknowledge(claim.events, 1000.0)
    before = spool.backlog()
    assert before.waiting == 0

    pages = sqlite3.connect(spool._file.path)
    count = pages.execute("PRAGMA page_count").fetchone()[0]
    spool.shrink()
    fewer = pages.execute("PRAGMA page_count").fetchone()[0]
    pages.close()

    assert fewer <= count - 1000


def test_events_that_threads_append_at_once_are_all_stored(spool: SpoolWithClock) -> None:
    barrier = threading.Barrier(8)

    def append(n: int) -> None:
        barrier.wait()
        for each in range(50):
            spool.append("analytics_events", b"%d-%d" % (n, each))

    threads = [threading.Thread(target=append, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(spool.take(1000)) == {b"%d-%d" % (n, each) for n in range(8) for each in range(50)}


def test_the_id_of_a_dead_letter_is_not_used_again(spool: SpoolWithClock) -> None:
    for event in (b"1", b"2"):  # in the same microsecond
        spool.append("analytics_events", event)
        claim = claimed(spool)
        spool.dead_letter(claim.events[0], "status 400")
        spool.release(claim)

    assert [each.event for each in spool.list_dead_letters()] == [b"1", b"2"]


def test_no_other_user_of_the_machine_can_read_the_file(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")

    for path in spool._file.path.parent.glob("spool.sqlite3*"):
        assert path.suffix == ".lock" or path.stat().st_mode & 0o077 == 0, path.name


def test_an_append_whose_commit_fails_raises(spool: SpoolWithClock) -> None:
    other = sqlite3.connect(spool._file.path, isolation_level=None)
    other.execute("DROP TABLE events")
    other.close()

    with pytest.raises(SpoolUnavailable):
        spool.append("analytics_events", b"1")


KILLED_AFTER_APPEND = """
import os, signal, sys, time
from pathlib import Path
from traffic_analytics.delivery.spool import Spool
spool = Spool(Path(sys.argv[1]), sync="full", max_mb=8, clock=time.time)
spool.append("analytics_events", b"stored")
spool.claim(10, 1000, time.monotonic())
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_appended_events_survive_the_kill_of_their_process(spool: SpoolWithClock) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_APPEND, str(spool._file.path)], check=False)

    assert killed.returncode == -9
    assert [each.event for each in spool.list_waiting()] == [b"stored"]
    spool.release_all()
    assert spool.take() == [b"stored"]


def test_a_missing_file_is_not_replaced_by_a_new_one(spool: SpoolWithClock) -> None:
    spool.append("analytics_events", b"1")
    spool._file.path.rename(spool._file.path.with_suffix(".moved"))

    with pytest.raises(SpoolUnavailable, match="gone"):
        spool.append("analytics_events", b"2")
    assert not spool._file.path.exists()


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_stops_the_start_and_is_left_as_it_is(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "spool.sqlite3"
    path.write_bytes(damage)

    with pytest.raises(DamagedFile, match=r"spool\.sqlite3"):
        SpoolWithClock(path).prepare()
    assert path.read_bytes() == damage
