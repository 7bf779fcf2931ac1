"""A worker with a subscription, a Tinybird and a place aside that do as each test wants."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.support.messages import EVENT, RAW, encoded
from traffic_analytics.delivery.batch_sender import MAX_BATCH_BYTES, BatchSender
from traffic_analytics.delivery.target import DATA_SOURCES, NO_DATA_SOURCE, Reply, Verdict
from traffic_analytics.errors import NotSubscribed, SaltUnavailable, SpoolUnavailable
from traffic_analytics.hits import user_agent
from traffic_analytics.pubsub import message as messages
from traffic_analytics.pubsub.outstanding import ASIDE_AGAIN_AFTER
from traffic_analytics.pubsub.subscription import LONGEST_REST, Inbox
from traffic_analytics.pubsub.worker import LONGEST_TURN, REOPEN_AFTER, SALT_AGAIN_AFTER, Worker
from traffic_analytics.runtime.logs import RateLimitFilter
from traffic_analytics.salts.cache import Salts
from traffic_analytics.salts.store import MemorySalts

REAL, TEST = DATA_SOURCES


class Message:
    """A message that knows what became of it: acknowledged, or given back for some seconds."""

    def __init__(self, data: bytes, data_source: str | None = REAL, message_id: str = "1") -> None:
        self.data = data
        self.attributes = {} if data_source is None else {messages.ATTRIBUTE: data_source}
        self.message_id = message_id
        self.publish_time = datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC)
        self.acked = False
        self.again_after: int | None = None

    def ack(self) -> None:
        self.acked = True

    def modify_ack_deadline(self, seconds: int) -> None:
        self.again_after = seconds

    def drop(self) -> None:
        assert self.again_after is not None


def event(name: str = "e", data_source: str = REAL, **more: Any) -> Message:
    return Message(encoded({**EVENT, "payload": {**EVENT["payload"], "event_id": name, **more}}), data_source)


class Subscription:
    most_messages = 10
    most_bytes = 1_000_000

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.is_open = False
        self.closed = False
        self.trouble: str | None = None
        self.end: str | None = None
        self.left: list[Any] = []
        self.opened = 0

    def open(self) -> str | None:
        self.opened += 1
        self.is_open = self.trouble is None
        return self.trouble

    def ended(self) -> str | None:
        end, self.end = self.end, None
        self.is_open = self.is_open and end is None
        return end

    def stop_taking(self) -> None:
        self.closed = True

    def close(self, left: Any, timeout: float) -> None:
        self.left = list(left)


class Tinybird:
    NAME = WRONG_SETUP = "Tinybird %s"

    def __init__(self) -> None:
        self.answers: dict[str, Reply] = {}
        self.guilty: set[str] = set()
        self.delivered: list[str] = []
        self.batches: list[int] = []

    def post(self, data_source: str, event: bytes, token: str | None = None) -> Reply:
        raise NotImplementedError

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        self.batches.append(len(events))
        names = [json.loads(each)["payload"]["event_id"] for each in events]
        if self.guilty & set(names):
            return Reply(Verdict.REFUSED, "status 400", 400)
        answer = self.answers.get(data_source, Reply(Verdict.TAKEN, "status 202", 202))
        if answer.verdict is Verdict.TAKEN:
            self.delivered += names
        return answer


class Place:
    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes, str]] = []
        self.asked = 0
        self.full = False

    def add_dead_letter(self, data_source: str, event: bytes, reason: str) -> None:
        self.asked += 1
        if self.full:
            raise SpoolUnavailable("it is full")
        self.kept.append((data_source, event, reason))


class FussySalts(MemorySalts):
    trouble: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.days: list[date] = []

    def get_or_create(self, site_uuid: str, day: date) -> str:
        self.days.append(day)
        if self.trouble is not None:
            raise self.trouble
        return super().get_or_create(site_uuid, day)


class World:
    """A worker and its neighbours; time passes only when a test lets it."""

    def __init__(self, batch_size: int = 5, flush_interval: float = 1.0) -> None:
        self.now = 1000.0
        self.subscription = Subscription()
        self.tinybird = Tinybird()
        self.place = Place()
        self.salts = FussySalts()
        self.shown: list[tuple[int, int, int, bool]] = []
        self.give_up = threading.Event()
        self.batches = BatchSender(self.tinybird, monotonic=lambda: self.now, stopping=self.give_up)
        self.batches._keep_pace = lambda: None  # type: ignore[method-assign] # whose waiting would be real
        self.worker = Worker(
            self.subscription,  # type: ignore[arg-type]
            self.batches,
            self.give_up,
            Salts(self.salts),
            self.place,
            batch_size=batch_size,
            flush_interval=flush_interval,
            parse_user_agent=user_agent.parse,
            monotonic=lambda: self.now,
            show=lambda *counts: self.shown.append(counts),
        )

    def bring(self, *arrived: Message) -> None:
        for each in arrived:
            self.subscription.inbox.schedule(lambda _message: None, each)  # type: ignore[arg-type]

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.worker.tick()


@pytest.fixture
def world() -> World:
    return World()


def test_a_batch_goes_when_it_is_full_or_when_its_oldest_event_has_waited(world: World) -> None:
    arrived = [event(str(number)) for number in range(7)]
    world.bring(*arrived)
    world.tick()

    assert [each.acked for each in arrived] == [True] * 5 + [False] * 2
    world.tick(0.9)
    assert world.tinybird.batches == [5]
    world.tick(0.2)
    assert world.tinybird.batches == [5, 2]
    assert all(each.acked for each in arrived)


def test_a_batch_is_full_by_its_bytes_too() -> None:
    world = World(batch_size=10_000, flush_interval=60.0)
    world.bring(*[event(str(number), note="x" * 900_000) for number in range(6)])

    world.tick()

    assert sum(world.tinybird.batches) >= 5
    assert max(world.tinybird.batches) * 900_000 <= MAX_BATCH_BYTES


def test_what_cannot_be_set_aside_comes_again_and_holds_up_nobody(world: World) -> None:
    world.place.full = True
    world.tinybird.guilty = {"guilty"}
    guilty, junk = event("guilty"), Message(b"junk")
    others = [event("a"), event("b"), event("c", TEST)]
    world.bring(guilty, others[0], junk, *others[1:])

    world.tick()
    world.tick(1.0)

    assert sorted(world.tinybird.delivered) == ["a", "b", "c"]
    assert all(each.acked for each in others)
    assert [(each.acked, each.again_after) for each in (junk, guilty)] == [(False, 60), (False, ASIDE_AGAIN_AFTER)]
    assert world.place.asked == 1, "a place that is full is left alone for a while"
    world.place.full = False
    world.bring(Message(guilty.data), Message(junk.data))
    world.tick(ASIDE_AGAIN_AFTER)
    world.tick(1.0)
    assert [(data_source, reason) for data_source, _, reason in world.place.kept] == [
        (NO_DATA_SOURCE, "it is neither an event nor a hit"),
        (REAL, "status 400"),
    ]
    assert world.shown[-1] == (7, 0, 2, True)


def test_what_can_never_be_set_aside_keeps_no_other_from_it(world: World) -> None:
    add_dead_letter = world.place.add_dead_letter

    def refuse_large(data_source: str, event: bytes, reason: str) -> None:
        if b"large" in event:
            raise ValueError("too large")
        add_dead_letter(data_source, event, reason)

    world.place.add_dead_letter = refuse_large  # type: ignore[method-assign]
    large, small, behind = Message(b'{"large":1}'), Message(b"{}"), event("behind")
    world.bring(large, small, behind)
    world.tick()
    world.tick(1.0)

    assert behind.acked
    assert (large.acked, small.acked) == (False, False)
    assert large.again_after is not None
    assert small.again_after is not None
    assert small.again_after < large.again_after, "it comes first the next time"
    again = Message(small.data)
    world.bring(again)
    world.tick(small.again_after)
    assert again.acked


def test_a_message_that_meets_a_defect_comes_again_and_so_do_none_behind_it(world: World) -> None:
    world.salts.trouble = ZeroDivisionError()
    hit, behind = Message(encoded(RAW), None), event("behind")
    world.bring(hit, behind)

    world.tick()
    world.tick(1.0)

    assert (hit.acked, hit.again_after, behind.acked) == (False, LONGEST_REST, True)
    assert world.place.kept == []


def test_deeply_nested_messages_are_set_aside_and_those_behind_them_delivered(world: World) -> None:
    deep, behind = Message(b'{"a":' * 900 + b"1" + b"}" * 900), event("behind")
    world.bring(deep, behind)

    world.tick()
    world.tick(1.0)

    assert deep.acked
    assert behind.acked
    assert len(world.place.kept) == 1


def test_hits_wait_for_a_salt(world: World) -> None:
    world.salts.trouble = SaltUnavailable("away")
    hit = Message(encoded(RAW), None)
    world.bring(hit)
    world.tick()
    assert (hit.acked, hit.again_after) == (False, SALT_AGAIN_AFTER)

    world.salts.trouble = None
    again = Message(encoded(RAW), None)
    world.bring(again)
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
def test_a_hit_is_named_by_the_salt_of_its_day_but_of_none_to_come(arrived: str, day: date, world: World) -> None:
    world.bring(Message(encoded({**RAW, "timestamp": arrived}), None))
    world.tick()

    assert world.salts.days == [day]


def test_an_event_that_the_node_service_has_not_named_has_the_same_name_each_time(world: World) -> None:
    nameless = {**RAW, "payload": {name: value for name, value in RAW["payload"].items() if name != "event_id"}}
    for message_id in ("7", "7", "8"):
        world.bring(Message(encoded(nameless), None, message_id))

    world.tick()
    world.tick(1.0)

    first, second, other = world.tinybird.delivered
    assert first == second != other


def test_a_data_source_that_rests_holds_half_at_most_and_the_other_goes_on(world: World) -> None:
    world.tinybird.answers[TEST] = Reply(Verdict.WRONG_SETUP, "status 403", 403, retry_after=300.0)
    resting = [event(str(number), TEST) for number in range(9)]
    world.bring(*resting)
    world.tick()
    other = event("other")
    world.bring(other)
    world.tick()
    world.tick(1.0)

    assert other.acked
    assert [each.again_after for each in resting] == [None] * 5 + [LONGEST_TURN] * 4
    assert not any(each.acked for each in resting)
    assert world.shown[-1][1] == 5


def test_a_data_source_that_rests_holds_half_of_the_bytes_at_most(world: World) -> None:
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503, retry_after=300.0)
    resting = [event(str(number), TEST, note="x" * 300_000) for number in range(4)]
    world.bring(*resting)
    world.tick()
    world.tick(1.0)
    world.tick()

    assert [each.again_after is not None for each in resting] == [False, True, True, True]


def test_a_stream_that_ends_is_said_at_once_and_opened_again(world: World) -> None:
    with pytest.raises(NotSubscribed, match="not subscribed yet"):
        world.worker.check()
    world.tick()
    world.worker.check()
    kept, again = event("kept"), event("again", TEST)
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503)
    world.bring(kept, again)
    world.subscription.inbox.ending.set()
    world.subscription.end = "NotFound"
    world.tick()

    assert (kept.acked, again.acked, again.again_after) == (True, False, 1), "what cannot be delivered is given back"
    with pytest.raises(NotSubscribed, match="NotFound"):
        world.worker.check()
    assert world.shown[-1] == (2, 0, 0, False)
    world.tick(0.1)
    with pytest.raises(NotSubscribed, match="NotFound"):
        world.worker.check()
    world.subscription.inbox = Inbox()
    world.tick(REOPEN_AFTER - 0.2)
    assert world.subscription.opened == 1
    world.tick(0.2)
    world.worker.check()
    assert world.subscription.opened == 2


def test_a_subscription_that_cannot_be_opened_is_tried_again_and_beats(world: World, caplog: Any) -> None:
    caplog.set_level("INFO")
    world.subscription.trouble = "NotFound: does it exist?"
    with caplog.filtering(RateLimitFilter(lambda: world.now)):
        for _ in range(100):
            world.tick(1.0)

    assert world.subscription.opened == pytest.approx(100 / REOPEN_AFTER, abs=2)
    with pytest.raises(NotSubscribed, match="does it exist"):
        world.worker.check()
    said = [record.event for record in caplog.records]
    assert said.count("WorkerHeartbeat") == 3
    assert said.count("SubscriptionUnavailable") == 2, "once a minute"


def test_what_a_tick_that_fails_has_taken_is_told(world: World) -> None:
    world.tick()
    world.bring(*[event(str(number)) for number in range(5)])
    world.tinybird.post_batch = None  # type: ignore[method-assign,assignment]

    with pytest.raises(TypeError):
        world.tick()

    assert world.shown[-1] == (5, 5, 0, True)


def test_the_end_delivers_what_is_held_and_gives_back_what_tinybird_does_not_take(world: World) -> None:
    world.tick()
    world.tinybird.answers[TEST] = Reply(Verdict.LATER, "status 503", 503)
    mine, late, left = event("mine"), event("late"), event("left", TEST)
    world.bring(mine, left)
    world.tick()
    world.bring(late)

    world.worker.finish()

    assert sorted(world.tinybird.delivered) == ["late", "mine"]
    assert mine.acked
    assert late.acked
    assert world.subscription.left == [left]


def test_what_is_under_way_when_told_to_stop_ends_with_its_batch(world: World) -> None:
    world.bring(*[event(str(number)) for number in range(20)])
    post = world.tinybird.post_batch

    def slowly(data_source: str, events: list[bytes]) -> Reply:
        world.worker.hurry()
        return post(data_source, events)

    world.tinybird.post_batch = slowly  # type: ignore[method-assign]
    world.tick()
    assert world.tinybird.batches == [5]

    world.worker.finish()
    assert world.tinybird.batches == [5] * 4


def test_a_data_source_that_rests_is_left_alone_at_the_end(world: World) -> None:
    world.tinybird.answers[REAL] = Reply(Verdict.TOO_FAST, "status 429", 429, retry_after=60.0)
    world.bring(event())
    world.tick()
    world.tick(1.0)
    posts = len(world.tinybird.batches)

    world.worker.finish()

    assert posts == len(world.tinybird.batches) == 1
    assert len(world.subscription.left) == 1


def test_the_end_does_not_wait_for_many_guilty_events() -> None:
    world = World(batch_size=64)
    world.tick()
    names = [str(number) for number in range(64)]
    world.tinybird.guilty = set(names)
    world.bring(*map(event, names))
    post = world.tinybird.post_batch

    def until_told(data_source: str, events: list[bytes]) -> Reply:
        if len(world.tinybird.batches) == 20:
            world.give_up.set()
        return post(data_source, events)

    world.tinybird.post_batch = until_told  # type: ignore[method-assign]
    world.worker.finish()

    assert len(world.tinybird.batches) < 25
    assert len(world.subscription.left) + len(world.place.kept) == 64
