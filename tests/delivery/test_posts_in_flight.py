"""Hits wait for a post in flight, within the limits of a post and of their patience."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import PATIENCE, wait_until
from traffic_analytics.delivery import target as delivery_target
from traffic_analytics.delivery.circuit import STALLED_AFTER
from traffic_analytics.delivery.modes import (
    MAX_BYTES,
    MAX_EVENTS,
    DirectDelivery,
    Pace,
    UnspooledDelivery,
    make_pace,
)
from traffic_analytics.delivery.spool import Spool
from traffic_analytics.delivery.target import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class SlowTarget:
    """A target whose replies a test allows."""

    NAME = WRONG_SETUP = "the target"

    def __init__(self) -> None:
        self.posts: list[list[bytes]] = []
        self.go_on = threading.Semaphore(0)

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> delivery_target.Reply:
        self.posts.append(list(events))
        assert self.go_on.acquire(timeout=PATIENCE)
        return delivery_target.Reply(Verdict.TAKEN, "", 202, b"{}", len(events))

    def post_batch(self, data_source: str, events: list[bytes]) -> delivery_target.Reply:
        raise NotImplementedError


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool.sqlite3", sync="normal", max_mb=8, clock=lambda: 1.8e9)
    spool.prepare()
    return spool


@pytest.fixture
def slow() -> Iterator[SlowTarget]:
    target = SlowTarget()
    yield target
    for _ in range(100):
        target.go_on.release()


def deliver(delivery: DirectDelivery | UnspooledDelivery, *events: bytes) -> Callable[[], list[Any]]:
    """Submit each event in a thread of its own; return a function that waits for the outcomes."""
    outcomes: dict[bytes, Any] = {}

    def wait(event: bytes) -> None:
        outcomes[event] = delivery.submit("analytics_events", event, None).wait()

    threads = [threading.Thread(target=wait, args=[event], daemon=True) for event in events]
    for thread in threads:
        thread.start()

    def join() -> list[Any]:
        for thread in threads:
            thread.join(PATIENCE)
        return [outcomes[event] for event in events]

    return join


def test_hits_that_arrive_during_a_post_join_the_next_one(slow: SlowTarget, spool: Spool) -> None:
    direct = DirectDelivery(slow, spool, Pace(1, 0.0), time.monotonic)
    first = deliver(direct, b"1")
    wait_until(lambda: slow.posts)
    others = deliver(direct, b"2", b"3", b"4")
    joiner = direct._posts["analytics_events"]
    wait_until(lambda: len(joiner._waiting) == 3)

    slow.go_on.release()
    slow.go_on.release()

    assert [each.verdict for each in first() + others()] == [Verdict.TAKEN] * 4
    assert [sorted(post) for post in slow.posts] == [[b"1"], [b"2", b"3", b"4"]]


def test_behind_a_target_that_stalls_waiting_and_new_hits_go_to_the_spool(slow: SlowTarget, spool: Spool) -> None:
    direct = DirectDelivery(slow, spool, Pace(1, 0.0), time.monotonic)
    first = deliver(direct, b"1")
    wait_until(lambda: slow.posts)
    started = time.monotonic()

    assert deliver(direct, b"2", b"3")() == [None, None]

    assert time.monotonic() - started >= STALLED_AFTER / 2  # they waited first
    assert deliver(direct, b"4")() == [None]
    assert slow.posts == [[b"1"]]
    assert sorted(each.event for each in spool.list_waiting()) == [b"2", b"3", b"4"]
    slow.go_on.release()
    assert first()[0].verdict is Verdict.TAKEN


@pytest.mark.parametrize(
    ("size", "count", "largest"), [(10, MAX_EVENTS + 1, MAX_EVENTS), (MAX_BYTES // 4, 9, 4)], ids=["events", "bytes"]
)
def test_a_post_is_bounded(size: int, count: int, largest: int, slow: SlowTarget) -> None:
    for _ in range(10):
        slow.go_on.release()
    unspooled = UnspooledDelivery(slow, make_pace(1), time.monotonic)
    pending = [unspooled.submit("analytics_events", b"%0*d" % (size, n), None) for n in range(count)]

    outcomes = [each.wait() for each in pending]

    assert all(isinstance(each, delivery_target.Reply) for each in outcomes)
    assert max(map(len, slow.posts)) == largest
    assert sum(map(len, slow.posts)) == count


def test_the_joiners_of_tokens_are_bounded_and_a_dropped_one_settles_its_events(slow: SlowTarget) -> None:
    for _ in range(200):
        slow.go_on.release()
    unspooled = UnspooledDelivery(slow, make_pace(1), time.monotonic)
    pending = [unspooled.submit("analytics_events", b"{}", f"token-{n}") for n in range(150)]

    assert [each.wait().verdict for each in pending] == [Verdict.TAKEN] * 150  # type: ignore[union-attr]
    assert len(unspooled._posts) == 100


class TooFast:
    """A target that is sent too many requests."""

    NAME = WRONG_SETUP = "the target"

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> delivery_target.Reply:
        return delivery_target.Reply(Verdict.TOO_FAST, "status 429", 429)

    def post_batch(self, data_source: str, events: list[bytes]) -> delivery_target.Reply:
        raise NotImplementedError


@pytest.mark.parametrize("with_spool", [True, False])
def test_after_a_429_posts_keep_the_pace_even_if_none_is_in_flight(with_spool: bool, spool: Spool) -> None:
    pace = Pace(5, 0.2)
    delivery: DirectDelivery | UnspooledDelivery
    if with_spool:
        delivery = DirectDelivery(TooFast(), spool, pace, time.monotonic)
        joiner = delivery._posts["analytics_events"]
        deliver(delivery, b"1")()
    else:
        delivery = UnspooledDelivery(TooFast(), pace, time.monotonic)
        deliver(delivery, b"1")()
        joiner = delivery._posts["analytics_events", None]
    started = joiner._last_start

    deliver(delivery, b"2")()

    assert joiner._last_start - started >= pace.gap


@pytest.mark.parametrize(("workers", "gap"), [(1, 0.02), (2, 0.04), (8, 0.16)])
def test_all_workers_together_start_fifty_posts_a_second(workers: int, gap: float) -> None:
    assert make_pace(workers).gap == pytest.approx(gap)
