"""Test the forwarder: its speed, its exclusiveness, its replacement after a crash, stops and clock changes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import pytest

from tests.support.browsers import Load, hit
from tests.support.fake_tinybird import FakeTinybird, Request, always, hanging, taken
from tests.support.processes import ROOT, wait_until
from tests.support.running import running
from tests.support.service import Service
from traffic_analytics.delivery.spool import Spool

pytestmark = pytest.mark.e2e


def fill(data_dir: Path, count: int) -> list[str]:
    """Store events in a spool without a forwarder; returns their event ids."""
    file = data_dir / "spool.sqlite3"
    Spool(file, sync="normal", max_mb=1024, clock=time.monotonic).prepare()
    event_ids = [f"event-{n}" for n in range(count)]
    rows = (
        (n, "analytics_events", 0.0, f'{{"event_id":"{event_id}","padding":"{"x" * 900}"}}'.encode())
        for n, event_id in enumerate(event_ids, start=1)
    )
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
    return event_ids


# -- speed


def test_a_backlog_of_100_000_events_drains_fast(tmp_path: Path, fake: FakeTinybird) -> None:
    event_ids = fill(tmp_path / "data", 100_000)
    service = Service(tmp_path / "data", fake.url, DELIVERY="spool", WEB_CONCURRENCY="1")
    try:
        service.start()
        fake.wait_for(event_ids, 60)
        last = max(each.arrived for each in fake.requests)
        rate = len(event_ids) / (last - fake.requests[0].arrived)
        print(f"drained {rate:.0f} events/s in {len(fake.requests)} batches")
        assert rate > 2000  # 5000 and more on an idle machine
        wait_until(lambda: service.waiting() == 0)
        assert set(fake.delivered.values()) == {1}
        in_order = [event_id for request in fake.requests for event_id in request.event_ids]
        assert in_order == event_ids
    finally:
        service.kill_tree()


def test_hits_are_answered_fast_while_a_backlog_drains(tmp_path: Path, fake: FakeTinybird) -> None:
    event_ids = fill(tmp_path / "data", 30_000)
    service = Service(tmp_path / "data", fake.url, DELIVERY="spool")
    try:
        service.start()
        with Load(service.port, 4, pause=0.01) as load:
            fake.wait_for(event_ids, 60)
        fake.wait_for(load.accepted(), 30)
        times = sorted(each.seconds for each in load.outcomes)
        print(f"{len(times)} hits, p99 {times[len(times) * 99 // 100] * 1000:.1f} ms")
        assert {each.status for each in load.outcomes} == {202}
        assert times[len(times) * 99 // 100] < 1.0  # the browsers and Tinybird use most of this machine's time
    finally:
        service.kill_tree()


# -- one at a time


CLAIMER = """
import json, random, sys, time
from pathlib import Path
from traffic_analytics.delivery.spool import Spool

spool = Spool(Path(sys.argv[1]), sync="normal", max_mb=1024, clock=time.time, room_to_work=True)
dice = random.Random(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
while claim := spool.claim(dice.randint(1, 40), 20_000, time.monotonic()):
    started = time.monotonic()
    time.sleep(dice.uniform(0, 0.01))
    events = claim.events[: dice.randint(0, len(claim.events))]
    ended = time.monotonic()
    spool.acknowledge(events, ended)
    print(json.dumps([started, ended, [e.id for e in claim.events], [e.id for e in events]]), flush=True)
    spool.release(claim)
"""


def test_two_processes_never_hold_the_same_claim(tmp_path: Path) -> None:
    # Without the forwarder lock: the claims alone must be exclusive.
    fill(tmp_path / "data", 4000)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tmp_path / "data/spool.sqlite3"), str(seed)],
            env={"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    for each in claimers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in claimers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    records = [[json.loads(line) for line in each.communicate(timeout=60)[0].splitlines()] for each in claimers]
    assert [each.returncode for each in claimers] == [0, 0, 0]
    assert all(len(of_one) > 10 for of_one in records)
    acknowledged = [event for of_one in records for *_, sent in of_one for event in sent]
    assert len(acknowledged) == len(set(acknowledged)) == 4000
    for one, other in combinations(records, 2):
        for started, ended, events, _ in one:
            for other_started, other_ended, other_events, _ in other:
                if started < other_ended and other_started < ended:
                    assert set(events).isdisjoint(other_events)


def test_two_services_on_one_spool_send_no_event_twice(tmp_path: Path, fake: FakeTinybird) -> None:
    event_ids = fill(tmp_path / "data", 5000)
    services = [Service(tmp_path / "data", fake.url, DELIVERY="spool", BATCH_SIZE="50") for _ in range(2)]
    try:
        for each in services:
            each.spawn()
        wait_until(lambda: all(each.get("/ready")[0] == 200 for each in services))
        assert sum(each.forwarder() is not None for each in services) == 1
        with Load(services[0].port, 2) as one, Load(services[1].port, 2) as other:
            fake.wait_for(event_ids, 60)
        fake.wait_for(one.accepted() | other.accepted(), 30)
        wait_until(lambda: services[0].waiting() == 0)
        assert set(fake.delivered.values()) == {1}
    finally:
        for each in services:
            each.kill_tree()


def test_events_claimed_by_a_killed_forwarder_are_sent_by_another_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", DELIVERY="spool") as (service, fake), Load(service.port, 4, pause=0.01) as load:
        times = []
        for _ in range(5):
            fake.fail(hanging)
            claimed = next_request(fake).event_ids
            service.kill_forwarder()
            killed = time.monotonic()
            fake.heal()
            fake.wait_for(claimed, 20)
            times.append(time.monotonic() - killed)
        print("sent again after", ", ".join(f"{each:.2f}" for each in times), "s")
        assert max(times) < 5  # about 0.5 s on an idle machine
        assert sorted(times)[2] < 1.5
        fake.wait_for(load.accepted(), 30)


def next_request(fake: FakeTinybird) -> Request:
    """Wait for one more request and return it."""
    before = len(fake.requests)
    wait_until(lambda: len(fake.requests) > before)
    return fake.requests[-1]


def test_the_other_process_takes_over_within_a_second(tmp_path: Path) -> None:
    # Stop the master, so that it does not replace the killed worker.
    with running(tmp_path / "data", DELIVERY="spool") as (service, fake), Load(service.port, 4, pause=0.01) as load:
        wait_until(lambda: len(service.workers()) == 2)
        workers = set(service.workers())
        os.kill(service.pids()[0], signal.SIGSTOP)
        try:
            workers.remove(service.kill_forwarder())
            needed = wait_until(lambda: service.forwarder() in workers)
        finally:
            os.kill(service.pids()[0], signal.SIGCONT)
        print(f"taken over after {needed:.2f} s")
        assert needed < 2  # at most about 0.5 s on an idle machine
        fake.wait_for(load.accepted(), 30)


# -- stopping


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_a_second_run_continues_where_the_first_stopped(tmp_path: Path, delivery: str) -> None:
    with running(tmp_path / "data", DELIVERY=delivery) as (service, fake):
        times = []
        with Load(service.port, 8) as load:
            for behave in (taken, always(503), taken, always(503)):
                fake.fail(behave)
                load.wait_for_more(100)
                times.append(service.terminate())
                waiting = service.waiting()
                missing = load.accepted() - set(fake.delivered)
                assert len(missing) <= waiting
                service.start()
        print("stopped within", ", ".join(f"{each:.2f}" for each in times), "s")
        assert max(times) < 10
        assert not [each for each in load.outcomes if each.status >= 500]
        fake.heal()
        fake.wait_for(load.accepted(), 30)
        wait_until(lambda: service.waiting() == 0)
        assert {each: n for each, n in fake.delivered.items() if n > 1} == {}


@pytest.mark.parametrize("delivery", ["direct", "spool"])
def test_a_stop_does_not_wait_for_tinybird_beyond_its_timeout(tmp_path: Path, delivery: str) -> None:
    with running(tmp_path / "data", DELIVERY=delivery, WEB_CONCURRENCY="1") as (service, fake):
        fake.fail(hanging)
        with Load(service.port, 6, hits_each=1) as load:
            wait_until(lambda: fake.requests)
            needed = service.terminate()
            outcomes = load.wait()
        print(f"stopped within {needed:.1f} s")
        assert needed < 25
        assert {each.status for each in outcomes} == {202}
        assert service.waiting() == 6
        service.start()
        fake.heal()
        fake.wait_for(load.accepted(), 10)


# -- clock changes


@pytest.mark.parametrize("delivery", ["direct", "spool"])
@pytest.mark.parametrize("jumps", [[3600, 0], [-3600, 0], [86_400, -86_400]])
def test_a_clock_change_loses_and_repeats_no_event(tmp_path: Path, delivery: str, jumps: list[int]) -> None:
    off_by = tmp_path / "clock"
    off_by.write_text("0")

    def jump(seconds: int) -> None:
        new = off_by.with_name("clock.new")
        new.write_text(str(seconds))
        new.replace(off_by)

    accepted: list[str] = []
    with running(
        tmp_path / "data", "tests.support.clocked_app:app", DELIVERY=delivery, CLOCK_OFF_BY=str(off_by), BATCH_SIZE="7"
    ) as (service, fake):

        def post() -> None:
            outcomes = hit(service.port, 20)
            assert {each.status for each in outcomes} == {202}
            accepted.extend(each.event_id for each in outcomes)

        for seconds in jumps:
            post()
            fake.fail(always(503))
            post()
            jump(seconds)
            post()
            fake.heal()
            fake.wait_for(accepted, 20)
        post()
        fake.wait_for(accepted, 20)
        wait_until(lambda: service.waiting() == 0)
        assert set(fake.delivered.values()) == {1}
        assert service.get("/ready")[0] == 200
        if delivery == "spool":
            assert [each for request in fake.requests if request.taken for each in request.event_ids] == accepted
