from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from traffic_analytics.delivery import batch_sender as batches
from traffic_analytics.delivery import forwarder
from traffic_analytics.delivery.forwarder import Forwarder
from traffic_analytics.delivery.spool import Spool
from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SpoolUnavailable
from traffic_analytics.runtime.file_lock import FileLock
from traffic_analytics.runtime.logs import RateLimitFilter
from traffic_analytics.tinybird.events import Tinybird

ACCEPTED = Reply(Verdict.TAKEN, "status 202", 202)


class FakeTinybird:
    """Accept everything unless a test sets another reply, and record the batches."""

    NAME = Tinybird.NAME
    WRONG_SETUP = Tinybird.WRONG_SETUP

    def __init__(self) -> None:
        self.posts: list[list[int]] = []
        self.accepted: list[int] = []
        self.test_reply = ACCEPTED
        self.reply: Callable[[list[int]], Reply] = lambda _events: ACCEPTED

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        return self.post_batch(data_source, list(events))

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        numbers = [json.loads(event) for event in events]
        self.posts.append(numbers)
        reply = self.reply(numbers) if data_source == "analytics_events" else self.test_reply
        if reply.verdict is Verdict.TAKEN:
            self.accepted += numbers
        return reply


class World:
    """A forwarder with a spool, a fake Tinybird, and a clock that a test or a wait moves."""

    def __init__(self, directory: Path, batch_size: int = 10) -> None:
        self.now = 1000.0
        self.tinybird = FakeTinybird()
        self.spool = Spool(directory / "spool.sqlite3", sync="normal", max_mb=8, clock=lambda: 1.8e9 + self.now)
        self.spool.prepare()
        self.stopping = threading.Event()
        self.lock = FileLock(directory / "lock")
        self.forwarder = self.another(batch_size)

    def another(self, batch_size: int = 10) -> Forwarder:
        return Forwarder(
            self.spool,
            batches.BatchSender(self.tinybird, monotonic=lambda: self.now, stopping=self.stopping),
            self.lock,
            batch_size=batch_size,
            flush_interval=1.0,
            monotonic=lambda: self.now,
            clock=lambda: 1.8e9 + self.now,
        )

    def append(self, *numbers: int) -> None:
        for number in numbers:
            self.spool.append("analytics_events", json.dumps(number).encode())

    def run(self, seconds: float) -> None:
        """Call the forwarder as its thread would, for some seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += max(self.forwarder.tick(), batches.MIN_GAP)

    @property
    def waiting(self) -> int:
        return self.spool.backlog().waiting


@pytest.fixture
def world(tmp_path: Path) -> Any:
    world = World(tmp_path)
    yield world
    world.lock.release()


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(vars(record))


@pytest.fixture
def records(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Collect what the forwarder logs, at the rate at which it would be written."""
    handler = Records()
    handler.addFilter(RateLimitFilter(lambda: world.now))
    log = logging.getLogger("traffic_analytics")
    monkeypatch.setattr(log, "handlers", [handler])
    level = log.level
    log.setLevel(logging.INFO)
    yield handler.records
    log.setLevel(level)


def refuse(
    *refused: int, verdict: Verdict = Verdict.REFUSED, reason: str = "status 400"
) -> Callable[[list[int]], Reply]:
    return lambda events: Reply(verdict, reason, 400) if set(events) & set(refused) else ACCEPTED


def test_waiting_events_are_sent_in_batches_in_order_and_then_deleted(world: World) -> None:
    world.append(*range(25))

    waits = [world.forwarder.tick() for _ in range(4)]

    assert world.tinybird.posts == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    assert waits == [0.0, 0.0, 1.0, 1.0]
    assert world.waiting == 0


def test_one_refused_event_among_many_becomes_a_dead_letter_and_all_others_are_delivered(world: World) -> None:
    world.append(*range(10))
    world.tinybird.reply = refuse(7)

    world.forwarder.tick()

    assert world.tinybird.accepted == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert [(each.event, each.reason) for each in world.spool.list_dead_letters()] == [(b"7", "status 400")]
    assert world.waiting == 0


def test_a_batch_that_is_too_large_is_split_until_it_fits(world: World) -> None:
    world.append(*range(10))
    world.tinybird.reply = lambda events: Reply(Verdict.TOO_LARGE, "status 413", 413) if len(events) > 3 else ACCEPTED

    world.forwarder.tick()

    assert world.tinybird.accepted == list(range(10))
    assert world.spool.backlog().dead_letters == 0


@pytest.mark.parametrize("verdict", [Verdict.LATER, Verdict.TOO_FAST, Verdict.WRONG_SETUP])
def test_a_failure_of_the_target_keeps_events_and_is_retried_with_growing_waits(verdict: Verdict, world: World) -> None:
    world.append(1, 2)
    world.tinybird.reply = lambda _events: Reply(verdict, "status x", 0)
    world.run(600)
    tries = len(world.tinybird.posts)
    assert world.waiting == 2
    assert 8 < tries < 45

    world.tinybird.reply = lambda _events: ACCEPTED
    world.run(batches.LONGEST_WAIT_MISCONFIGURED + 1)
    assert world.tinybird.accepted == [1, 2]


def test_retry_after_is_respected(world: World) -> None:
    world.append(1)
    world.tinybird.reply = lambda _events: Reply(Verdict.TOO_FAST, "status 429", 429, retry_after=40.0)
    world.forwarder.tick()

    world.run(39)
    assert len(world.tinybird.posts) == 1
    world.run(2)
    assert len(world.tinybird.posts) == 2


def test_a_wrong_token_is_logged_once_a_minute_for_each_data_source(
    world: World, records: list[dict[str, Any]]
) -> None:
    world.append(1)
    world.spool.append("analytics_events_test", b"100")
    world.tinybird.reply = lambda _events: Reply(Verdict.WRONG_SETUP, "status 403", 403)
    world.tinybird.test_reply = Reply(Verdict.WRONG_SETUP, "status 404", 404)
    world.run(300)

    logged = [each["data_source"] for each in records if each["event"] == "DeliveryMisconfigured"]
    assert 3 <= logged.count("analytics_events") <= 6
    assert 3 <= logged.count("analytics_events_test") <= 6


def test_a_refused_data_source_delays_no_other(world: World) -> None:
    world.tinybird.test_reply = Reply(Verdict.WRONG_SETUP, "status 403", 403)
    world.spool.append("analytics_events_test", b"100")
    world.append(1, 2)

    world.run(2)
    assert world.tinybird.accepted == [1, 2]
    assert world.waiting == 1
    world.tinybird.test_reply = ACCEPTED
    world.run(batches.LONGEST_WAIT_MISCONFIGURED)
    assert world.tinybird.accepted == [1, 2, 100]


def test_events_that_did_not_fit_into_a_batch_are_sent_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.forwarder._batches, "max_bytes", 4)
    world.append(*range(5))

    assert [world.forwarder.tick() for _ in range(2)] == [0.0, 1.0]
    assert world.tinybird.posts == [[0, 1], [2, 3, 4]]


def test_batches_shrink_if_large_ones_get_no_response(world: World) -> None:
    for _ in range(10):
        world.spool.append("analytics_events", b'"' + b"x" * 600_000 + b'"')
    world.tinybird.reply = lambda events: Reply(Verdict.LATER, "TimeoutError") if len(events) > 1 else ACCEPTED

    world.run(60)

    assert world.waiting == 0


def test_at_most_fifty_requests_are_sent_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        world.now += seconds
        return False

    monkeypatch.setattr(world.stopping, "wait", wait)
    world.append(*range(500))
    begun = world.now
    for _ in range(50):
        world.forwarder.tick()

    assert len(world.tinybird.posts) == 50
    assert world.now - begun >= 49 / 50 - 1e-6


def test_only_one_of_two_forwarders_sends_and_the_other_takes_over(world: World, tmp_path: Path) -> None:
    world.append(1)
    assert world.forwarder.tick() == 1.0
    other_lock = FileLock(tmp_path / "lock")
    other = world.another()
    other._lock = other_lock
    world.append(2)

    assert other.tick() == forwarder.TAKE_OVER
    assert world.tinybird.accepted == [1]
    world.lock.release()
    other.tick()
    assert world.tinybird.accepted == [1, 2]
    other_lock.release()


def test_events_claimed_by_a_dead_forwarder_are_sent_by_the_next_at_once(world: World) -> None:
    world.append(1, 2)
    assert world.spool.claim(10, 1000, world.now) is not None

    world.forwarder.tick()

    assert world.tinybird.accepted == [1, 2]


def test_accepted_events_that_could_not_be_acknowledged_are_acknowledged_later_and_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.append(1, 2)
    acknowledge = world.spool.acknowledge

    def full(*_args: Any) -> None:
        raise SpoolUnavailable("database or disk is full")

    monkeypatch.setattr(world.spool, "acknowledge", full)
    world.run(5)
    assert world.waiting == 2
    monkeypatch.setattr(world.spool, "acknowledge", acknowledge)
    world.run(2)

    assert world.waiting == 0
    assert world.tinybird.accepted == [1, 2]


def test_a_stop_during_a_batch_leaves_its_other_events_in_the_spool(world: World) -> None:
    world.append(*range(10))

    def stop(events: list[int]) -> Reply:
        if len(events) == 10:
            return Reply(Verdict.TOO_LARGE, "status 413", 413)
        world.stopping.set()
        return ACCEPTED

    world.tinybird.reply = stop
    world.forwarder.tick()

    assert world.tinybird.accepted == [0, 1, 2, 3, 4]
    assert [json.loads(each.event) for each in world.spool.list_waiting()] == [5, 6, 7, 8, 9]


def test_the_backlog_is_logged_every_minute(world: World, records: list[dict[str, Any]]) -> None:
    world.append(1)
    world.now += 30
    world.tinybird.reply = lambda _events: Reply(Verdict.LATER, "status 503", 503)
    world.run(179)

    reports = [record for record in records if record["event"] == "SpoolBacklog"]
    assert [report["waiting"] for report in reports] == [1, 1, 1]
    assert reports[0]["oldest_seconds"] == 30
