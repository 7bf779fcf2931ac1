"""Run a worker with a fake subscription, Tinybird and dead-letter queue."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from tests.support.messages import RAW, encoded
from tests.support.pubsub_worker import (
    REAL,
    TEST,
    Message,
    World,
    event,
)
from traffic_analytics.delivery.batch_sender import MAX_BATCH_BYTES
from traffic_analytics.delivery.target import NO_DATA_SOURCE, Reply, Verdict
from traffic_analytics.errors import NotSubscribed, SaltUnavailable
from traffic_analytics.pubsub.outstanding import DEAD_LETTER_RETRY
from traffic_analytics.pubsub.subscription import MAX_DELAY, Inbox
from traffic_analytics.pubsub.worker import MAX_EXCESS_DELAY, REOPEN_AFTER, SALT_RETRY
from traffic_analytics.runtime.logs import RateLimitFilter


def test_a_batch_is_sent_when_it_is_full_or_its_oldest_event_has_waited(world: World) -> None:
    arrived = [event(str(number)) for number in range(7)]
    world.deliver(*arrived)
    world.tick()

    assert [each.acked for each in arrived] == [True] * 5 + [False] * 2
    world.tick(0.9)
    assert world.tinybird.batches == [5]
    world.tick(0.2)
    assert world.tinybird.batches == [5, 2]
    assert all(each.acked for each in arrived)


def test_a_batch_is_full_by_its_bytes_too() -> None:
    world = World(batch_size=10_000, flush_interval=60.0)
    world.deliver(*[event(str(number), note="x" * 900_000) for number in range(6)])

    world.tick()

    assert sum(world.tinybird.batches) >= 5
    assert max(world.tinybird.batches) * 900_000 <= MAX_BATCH_BYTES


def test_a_message_that_cannot_become_a_dead_letter_is_redelivered_and_blocks_no_other(world: World) -> None:
    world.dead_letters.full = True
    world.tinybird.refused = {"refused"}
    refused, junk = event("refused"), Message(b"junk")
    others = [event("a"), event("b"), event("c", TEST)]
    world.deliver(refused, others[0], junk, *others[1:])

    world.tick()
    world.tick(1.0)

    assert sorted(world.tinybird.delivered) == ["a", "b", "c"]
    assert all(each.acked for each in others)
    assert [(each.acked, each.again_after) for each in (junk, refused)] == [(False, 60), (False, DEAD_LETTER_RETRY)]
    assert world.dead_letters.calls == 1, "a full queue is not tried again at once"
    world.dead_letters.full = False
    world.deliver(Message(refused.data), Message(junk.data))
    world.tick(DEAD_LETTER_RETRY)
    world.tick(1.0)
    assert [(data_source, reason) for data_source, _, reason in world.dead_letters.stored] == [
        (NO_DATA_SOURCE, "it is neither an event nor a hit"),
        (REAL, "status 400"),
    ]
    assert world.reports[-1] == (7, 0, 2, True)


def test_a_message_that_can_never_become_a_dead_letter_blocks_no_other_from_it(world: World) -> None:
    add_dead_letter = world.dead_letters.add_dead_letter

    def refuse_large(data_source: str, event: bytes, reason: str) -> None:
        if b"large" in event:
            raise ValueError("too large")
        add_dead_letter(data_source, event, reason)

    world.dead_letters.add_dead_letter = refuse_large  # type: ignore[method-assign]
    large, small, behind = Message(b'{"large":1}'), Message(b"{}"), event("behind")
    world.deliver(large, small, behind)
    world.tick()
    world.tick(1.0)

    assert behind.acked
    assert (large.acked, small.acked) == (False, False)
    assert large.again_after is not None
    assert small.again_after is not None
    assert small.again_after < large.again_after, "it is redelivered first"
    again = Message(small.data)
    world.deliver(again)
    world.tick(small.again_after)
    assert again.acked


def test_only_the_message_that_meets_a_defect_is_redelivered(world: World) -> None:
    world.salts.error = ZeroDivisionError()
    hit, behind = Message(encoded(RAW), None), event("behind")
    world.deliver(hit, behind)

    world.tick()
    world.tick(1.0)

    assert (hit.acked, hit.again_after, behind.acked) == (False, MAX_DELAY, True)
    assert world.dead_letters.stored == []


def test_a_deeply_nested_message_becomes_a_dead_letter_and_the_next_is_delivered(world: World) -> None:
    deep, behind = Message(b'{"a":' * 900 + b"1" + b"}" * 900), event("behind")
    world.deliver(deep, behind)

    world.tick()
    world.tick(1.0)

    assert deep.acked
    assert behind.acked
    assert len(world.dead_letters.stored) == 1


def test_a_hit_without_a_salt_is_redelivered(world: World) -> None:
    world.salts.error = SaltUnavailable("away")
    hit = Message(encoded(RAW), None)
    world.deliver(hit)
    world.tick()
    assert (hit.acked, hit.again_after) == (False, SALT_RETRY)

    world.salts.error = None
    again = Message(encoded(RAW), None)
    world.deliver(again)
    world.tick()
    world.tick(1.0)
    assert again.acked


@pytest.mark.parametrize(
    ("arrived", "day"),
    [
        ("2026-11-22T23:59:59.999Z", date(2026, 11, 22)),
        ("2026-11-22T19:00:00.000-05:00", date(2026, 11, 23)),
        ("2999-01-01T00:00:00.000Z", date(2026, 11, 23)),
    ],
)
def test_a_hit_uses_the_salt_of_its_day_but_never_of_a_future_day(arrived: str, day: date, world: World) -> None:
    world.deliver(Message(encoded({**RAW, "timestamp": arrived}), None))
    world.tick()

    assert world.salts.days == [day]


def test_a_redelivered_hit_without_an_event_id_gets_the_same_id(world: World) -> None:
    nameless = {**RAW, "payload": {name: value for name, value in RAW["payload"].items() if name != "event_id"}}
    for message_id in ("7", "7", "8"):
        world.deliver(Message(encoded(nameless), None, message_id))

    world.tick()
    world.tick(1.0)

    first, second, other = world.tinybird.delivered
    assert first == second != other


def test_a_data_source_that_is_backing_off_holds_at_most_half_and_the_other_goes_on(world: World) -> None:
    world.tinybird.answers[TEST] = Reply(Verdict.WRONG_SETUP, "status 403", 403, retry_after=300.0)
    resting = [event(str(number), TEST) for number in range(9)]
    world.deliver(*resting)
    world.tick()
    other = event("other")
    world.deliver(other)
    world.tick()
    world.tick(1.0)

    assert other.acked
    assert [each.again_after for each in resting] == [None] * 5 + [MAX_EXCESS_DELAY] * 4
    assert not any(each.acked for each in resting)
    assert world.reports[-1][1] == 5


def test_a_data_source_that_is_backing_off_holds_at_most_half_of_the_bytes(world: World) -> None:
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503, retry_after=300.0)
    resting = [event(str(number), TEST, note="x" * 300_000) for number in range(4)]
    world.deliver(*resting)
    world.tick()
    world.tick(1.0)
    world.tick()

    assert [each.again_after is not None for each in resting] == [False, True, True, True]


def test_a_stream_that_ends_is_reported_at_once_and_opened_again(world: World) -> None:
    with pytest.raises(NotSubscribed, match="not subscribed yet"):
        world.worker.check()
    world.tick()
    world.worker.check()
    kept, again = event("kept"), event("again", TEST)
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503)
    world.deliver(kept, again)
    world.subscription.inbox.ending.set()
    world.subscription.end = "NotFound"
    world.tick()

    assert (kept.acked, again.acked, again.again_after) == (True, False, 1), "an undelivered message is given back"
    with pytest.raises(NotSubscribed, match="NotFound"):
        world.worker.check()
    assert world.reports[-1] == (2, 0, 0, False)
    world.tick(0.1)
    with pytest.raises(NotSubscribed, match="NotFound"):
        world.worker.check()
    world.subscription.inbox = Inbox()
    world.tick(REOPEN_AFTER - 0.2)
    assert world.subscription.opened == 1
    world.tick(0.2)
    world.worker.check()
    assert world.subscription.opened == 2


def test_a_subscription_that_cannot_be_opened_is_retried_and_the_heartbeat_goes_on(world: World, caplog: Any) -> None:
    caplog.set_level("INFO")
    world.subscription.problem = "NotFound: does it exist?"
    with caplog.filtering(RateLimitFilter(lambda: world.now)):
        for _ in range(100):
            world.tick(1.0)

    assert world.subscription.opened == pytest.approx(100 / REOPEN_AFTER, abs=2)
    with pytest.raises(NotSubscribed, match="does it exist"):
        world.worker.check()
    events = [record.event for record in caplog.records]
    assert events.count("WorkerHeartbeat") == 3
    assert events.count("SubscriptionUnavailable") == 2, "once a minute"


def test_a_tick_that_fails_reports_the_messages_that_it_received(world: World) -> None:
    world.tick()
    world.deliver(*[event(str(number)) for number in range(5)])
    world.tinybird.post_batch = None  # type: ignore[method-assign,assignment]

    with pytest.raises(TypeError):
        world.tick()

    assert world.reports[-1] == (5, 5, 0, True)


def test_a_stopping_worker_delivers_outstanding_events_and_gives_back_the_others(world: World) -> None:
    world.tick()
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503)
    mine, late, left = event("mine"), event("late"), event("left", TEST)
    world.deliver(mine, left)
    world.tick()
    world.deliver(late)

    world.worker.finish()

    assert sorted(world.tinybird.delivered) == ["late", "mine"]
    assert mine.acked
    assert late.acked
    assert world.subscription.left == [left]


def test_a_delivery_in_progress_stops_after_its_batch(world: World) -> None:
    world.deliver(*[event(str(number)) for number in range(20)])
    post = world.tinybird.post_batch

    def slowly(data_source: str, events: list[bytes]) -> Reply:
        world.worker.prepare_stop()
        return post(data_source, events)

    world.tinybird.post_batch = slowly  # type: ignore[method-assign]
    world.tick()
    assert world.tinybird.batches == [5]

    world.worker.finish()
    assert world.tinybird.batches == [5] * 4


def test_a_stopping_worker_sends_nothing_to_a_data_source_that_is_backing_off(world: World) -> None:
    world.tinybird.answers[REAL] = Reply(Verdict.TOO_FAST, "status 429", 429, retry_after=60.0)
    world.deliver(event())
    world.tick()
    world.tick(1.0)
    posts = len(world.tinybird.batches)

    world.worker.finish()

    assert posts == len(world.tinybird.batches) == 1
    assert len(world.subscription.left) == 1


def test_a_stopping_worker_does_not_search_for_many_refused_events() -> None:
    world = World(batch_size=64)
    world.tick()
    names = [str(number) for number in range(64)]
    world.tinybird.refused = set(names)
    world.deliver(*map(event, names))
    post = world.tinybird.post_batch

    def give_up_after_20(data_source: str, events: list[bytes]) -> Reply:
        if len(world.tinybird.batches) == 20:
            world.give_up.set()
        return post(data_source, events)

    world.tinybird.post_batch = give_up_after_20  # type: ignore[method-assign]
    world.worker.finish()

    assert len(world.tinybird.batches) < 25
    assert len(world.subscription.left) + len(world.dead_letters.stored) == 64
