"""Workers stop, are killed, and meet messages and targets that fail; nothing is lost."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.support.app import FIREFOX, SITE
from tests.support.browsers import Load, hit
from tests.support.fake_tinybird import FakeTinybird, Request, always, hanging, taken
from tests.support.processes import wait_until
from tests.support.pubsub_emulator import PROJECT, PubsubEmulator
from tests.support.pubsub_world import REDELIVERY_PATIENCE, World, accepted, raw_message, records, refusing
from tests.support.service import ADDRESS
from traffic_analytics.hits import visitor
from traffic_analytics.pubsub.subscription import Inbox, Subscription

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fake_tinybird import Answer

pytestmark = pytest.mark.e2e

TEST_TARGET = "/api/v1/page_hit?name=analytics_events_test"


def test_a_worker_answers_probes_and_accepts_no_hits(world: World) -> None:
    worker = world.worker()

    assert worker.get("/")[0] == worker.get("/health")[0] == worker.get("/ready")[0] == 200
    assert hit(worker.port)[0].status == 404


def test_a_stream_whose_reader_thread_dies_is_ended_and_reported(
    emulator: PubsubEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's client runs on without its reader thread after a defect, and reports nothing."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    emulator.create(name)
    stream = Subscription(name, PROJECT, emulator.address, max_messages=10, max_bytes=10_000, monotonic=time.monotonic)
    assert stream.open() is None
    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "schedule", lambda *_: 1 / 0)
        emulator.publish(name, [b"poison"])
        wait_until(lambda: stream.ended() or stream.inbox.ending.is_set())
    stream.inbox.done([])
    reasons: list[str | None] = []  # `ended` returns the reason once

    def has_ended() -> bool:
        reasons.append(stream.ended())
        return reasons[-1] is not None

    wait_until(has_ended)

    assert reasons[-1] == "the thread that read its stream died"
    assert stream.open() is None
    try:
        wait_until(lambda: any(message.data == b"poison" for message in stream.inbox.take(0.1)), REDELIVERY_PATIENCE)
    finally:
        stream.close([], 2.0)


def test_messages_held_by_a_killed_worker_are_delivered_by_another(world: World) -> None:
    service, worker = world.service(), world.worker()
    world.fake.fail(hanging)
    outcomes = hit(service.port, 20)
    wait_until(lambda: world.fake.requests)
    worker.kill_tree()
    world.fake.heal()

    world.worker()

    world.fake.wait_for(accepted(outcomes), 90)


def test_a_stopping_worker_first_delivers_the_messages_it_holds(world: World) -> None:
    service = world.service()
    worker = world.worker(BATCH_FLUSH_INTERVAL_MS="60000", LOG_LEVEL="debug")
    outcomes = hit(service.port, 20)
    wait_until(lambda: sum(record["count"] for record in records(worker, "MessagesTaken")) == 20)

    assert worker.terminate() < 10

    assert set(world.fake.delivered) == accepted(outcomes)
    (stopped,) = records(worker, "WorkerStopped")
    assert (stopped["delivered"], stopped["given_back"]) == (20, 0)
    assert world.emulator.take(world.topic, timeout=12) == [], "all messages were acknowledged"


def test_a_worker_that_stops_while_tinybird_fails_returns_the_messages_it_holds(world: World) -> None:
    service, worker = world.service(), world.worker()
    world.fake.fail(always(500))
    outcomes = hit(service.port, 20)
    wait_until(lambda: world.fake.requests)
    wait_until(lambda: records(worker, "DeliveryDelayed"))
    assert worker.terminate() < 10
    world.fake.heal()

    (stopped,) = records(worker, "WorkerStopped")
    assert (stopped["delivered"], stopped["given_back"]) == (0, 20)
    world.worker()
    world.fake.wait_for(accepted(outcomes), 60)  # the emulator may keep the lease of the closed stream until it expires


def test_leases_are_extended_while_tinybird_is_unavailable(world: World) -> None:
    service, _ = world.service(), world.worker()
    world.fake.fail(always(503))
    outcomes = hit(service.port, 20)
    wait_until(lambda: any(len(request.lines) == 20 for request in world.fake.requests))  # the worker has received all

    received = world.emulator.take(world.topic, timeout=15)  # longer than the subscription's 10 seconds

    assert received == [], "no other subscriber received them"
    world.fake.heal()
    world.fake.wait_for(accepted(outcomes), 40)
    assert set(world.fake.delivered.values()) == {1}


@pytest.mark.parametrize("to_topic", [False, True])
def test_an_event_that_tinybird_refuses_becomes_a_dead_letter_and_the_others_are_delivered(
    world: World, to_topic: bool
) -> None:
    world.emulator.create(f"{world.topic}-aside")
    service = world.service()
    worker = world.worker(**{"PUBSUB_TOPIC_SET_ASIDE": f"{world.topic}-aside"} if to_topic else {})
    refused_id = str(uuid.uuid4())
    world.fake.fail(refusing(refused_id, always(400)))

    outcomes = hit(service.port, 10)
    (poison,) = hit(service.port, event_id=refused_id)
    outcomes += hit(service.port, 10)

    world.fake.wait_for(accepted(outcomes), 20)
    wait_until(lambda: records(worker, "EventSetAside"))
    assert poison.status == 202
    if to_topic:
        (message,) = world.emulator.take(f"{world.topic}-aside")
        assert json.loads(message.data)["payload"]["event_id"] == refused_id
        assert dict(message.attributes) == {"data_source": "analytics_events", "reason": "status 400"}
        return
    assert "status 400" in worker.command("spool", "list")
    world.fake.heal()
    worker.command("spool", "retry", "--all")
    world.fake.wait_for({refused_id}, 10)


def test_hits_published_by_the_node_service_are_enriched_and_delivered(world: World) -> None:
    raw, other = raw_message(), raw_message()
    bot = raw_message(meta={"ip": ADDRESS, "user-agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"})
    world.emulator.publish(world.topic, [json.dumps(each).encode() for each in (raw, bot, other)])

    worker = world.worker()

    world.fake.wait_for({each["payload"]["event_id"] for each in (raw, other)}, 20)
    events = [json.loads(line) for request in world.fake.requests for line in request.lines]
    event = next(each for each in events if each["payload"]["event_id"] == raw["payload"]["event_id"])
    assert len(events) == 2, "the bot was dropped"
    assert event["timestamp"] == raw["timestamp"]
    assert event["payload"]["device"] == "desktop"
    assert event["payload"]["referrerSource"] == "Google"
    assert event["payload"]["meta"] == raw["payload"]["meta"]
    (salt,) = worker.salts()
    assert event["session_id"] == visitor.session_id(salt, SITE, ADDRESS, FIREFOX)
    assert world.emulator.take(world.topic, timeout=12) == [], "all three were acknowledged"


@pytest.mark.parametrize("to_topic", [False, True])
def test_invalid_messages_become_dead_letters_without_addresses(world: World, to_topic: bool) -> None:
    world.emulator.create(f"{world.topic}-aside")
    broken = raw_message(site_uuid="x")
    messages = [b"\x00\xff", b"[1]", json.dumps(broken).encode(), f"not JSON {ADDRESS}".encode()]
    world.emulator.publish(world.topic, messages)

    worker = world.worker(**{"PUBSUB_TOPIC_SET_ASIDE": f"{world.topic}-aside"} if to_topic else {})

    wait_until(lambda: len(records(worker, "MessageSetAside")) == 4, 20)
    assert world.emulator.take(world.topic, timeout=12) == [], "they are not retried"
    if to_topic:
        dead_letters = [message.data for message in world.emulator.take(f"{world.topic}-aside")]
        assert len(dead_letters) == 4
        assert not any(ADDRESS.encode() in each for each in dead_letters)
    else:
        assert len(worker.command("spool", "list").splitlines()) == 4
    assert world.fake.requests == []


def test_a_refused_data_source_does_not_delay_the_other(world: World) -> None:
    def answer(request: Request) -> Answer:
        return always(403)(request) if request.data_source.endswith("_test") else taken(request)

    service = world.service()
    world.fake.fail(answer)
    with Load(service.port, 16, hits_each=100, target=TEST_TARGET) as load:
        load.wait()  # more messages than a worker holds
    world.worker(BATCH_SIZE="100")
    wait_until(lambda: world.fake.requests, 20)

    outcomes = hit(service.port, 5)

    world.fake.wait_for(accepted(outcomes), 20)


def test_every_accepted_hit_arrives_though_workers_are_killed_and_the_emulator_is_restarted(
    tmp_path: Path, fake: FakeTinybird, emulator: PubsubEmulator
) -> None:
    """The emulator forgets its messages when it stops, so every hit must be delivered before."""
    own = PubsubEmulator(tmp_path)
    own.start()
    world = World(own, tmp_path, fake)
    own.create(world.topic)
    try:
        first, second = world.service(), world.service()
        worker = world.worker()
        with Load(first.port, 4, pause=0.01) as one, Load(second.port, 4, pause=0.01) as other:
            wait_until(lambda: len(one.accepted()) > 200)
            worker.kill_tree()
            wait_until(lambda: len(one.accepted()) > 400)
            worker = world.worker()
        fake.wait_for(one.accepted() | other.accepted(), 120)

        own.stop()
        with Load(first.port, 4, pause=0.01) as three, Load(second.port, 4, pause=0.01) as four:
            wait_until(lambda: len(three.accepted()) > 200 and len(four.accepted()) > 200, 30)
            own.start()
            own.create(world.topic)
            wait_until(lambda: len(three.accepted()) > 400, 30)
        fake.wait_for(three.accepted() | four.accepted(), 60)
        assert {each.status for load in (one, other, three, four) for each in load.outcomes} == {202}
    finally:
        for each in world.processes:
            each.kill_tree()
        own.stop()
