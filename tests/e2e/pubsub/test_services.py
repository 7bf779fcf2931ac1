"""Services publish to Google's Pub/Sub emulator, and workers deliver what they published."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.browsers import hit, hit_together
from tests.support.fake_tinybird import always
from tests.support.processes import wait_until
from tests.support.pubsub_world import World, accepted, raw_message, records
from tests.support.service import ADDRESS

pytestmark = pytest.mark.e2e

TEST_TARGET = "/api/v1/page_hit?name=analytics_events_test"


def test_hits_travel_from_services_through_pubsub_and_a_worker_to_tinybird(world: World) -> None:
    world.emulator.create_subscription(f"{world.topic}-copy", world.topic)
    service, _ = world.service(), world.worker()

    outcomes = hit(service.port, 40)
    (test,) = hit(service.port, target=TEST_TARGET)

    world.fake.wait_for(accepted([*outcomes, test]), 10)
    assert set(world.fake.delivered.values()) == {1}
    sources = {name: request.data_source for request in world.fake.requests for name in request.event_ids}
    assert sources[test.event_id] == "analytics_events_test"
    assert {sources[each.event_id] for each in outcomes} == {"analytics_events"}
    messages = world.emulator.take(f"{world.topic}-copy")
    assert messages
    for message in messages:
        assert ADDRESS not in message.data.decode()
        assert json.loads(message.data)["session_id"]
    delivered = {line for request in world.fake.requests for line in request.lines}
    assert {message.data for message in messages} <= delivered, "events are delivered as published"


def test_the_metrics_of_a_worker_count_its_messages_and_its_subscription(world: World) -> None:
    def sample(name: str) -> float:
        match = re.search(rf"^traffic_analytics_{name} (\S+)$", worker.get("/metrics")[1], re.MULTILINE)
        assert match, name
        return float(match[1])

    worker = world.new_worker(METRICS="true")
    world.topic, topic = f"{world.topic}-new", world.topic
    worker.environment["PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW"] = world.topic
    worker.spawn()
    wait_until(lambda: records(worker, "SubscriptionUnavailable"), 20)
    assert sample("subscribed") == 0

    world.emulator.create_subscription(world.topic, topic)
    wait_until(lambda: sample("subscribed") == 1, 20)
    world.fake.fail(always(503))
    world.emulator.publish(topic, [json.dumps(raw_message()).encode(), b"junk"])
    wait_until(lambda: sample("messages_held") == 1)
    assert sample("messages_received_total") == 2
    assert sample("messages_set_aside_total") == 1
    world.fake.heal()
    wait_until(lambda: sample("messages_held") == 0)


def test_hits_do_not_wait_for_a_pubsub_that_hangs_and_are_published_later(world: World) -> None:
    service, _ = world.service(), world.worker()
    world.fake.wait_for(accepted(hit(service.port, 3)), 10)

    world.emulator.hang()
    outcomes = hit_together(service.port, 30)
    late = hit(service.port, 10)
    assert max(each.seconds for each in outcomes) < 3.5
    assert max(each.seconds for each in late) < 2.5
    assert service.waiting() == 40
    world.emulator.go_on()

    world.fake.wait_for(accepted([*outcomes, *late]), 30)
    wait_until(lambda: service.waiting() == 0)


def test_a_missing_topic_loses_nothing(world: World) -> None:
    world.topic += "-new"
    service = world.service()

    outcomes = hit(service.port, 5)

    assert service.waiting() == 5
    wait_until(lambda: records(service, "DeliveryMisconfigured"))
    assert service.get("/ready")[0] == 200
    world.emulator.create(world.topic)
    world.worker()
    world.fake.wait_for(accepted(outcomes), 20)


def test_a_missing_subscription_is_reported_and_used_once_it_exists(world: World) -> None:
    topic, world.topic = world.topic, f"{world.topic}-new"
    worker = world.new_worker()
    worker.spawn()
    wait_until(lambda: records(worker, "SubscriptionUnavailable"), 20)

    assert worker.get("/health")[0] == 200
    assert worker.get("/ready")[0] == 503
    assert "FAIL  Pub/Sub subscription" in worker.command("check", check=False)
    world.emulator.create_subscription(world.topic, topic)
    wait_until(lambda: worker.get("/ready")[0] == 200, 20)
    assert "ok    Pub/Sub subscription" in worker.command("check", check=False)


def test_check_tries_the_topic_for_dead_letters(world: World) -> None:
    worker = world.worker(PUBSUB_TOPIC_SET_ASIDE=f"{world.topic}-aside")
    assert "FAIL  Pub/Sub topic for what is set aside: nothing" in worker.command("check", check=False)

    world.emulator.create(f"{world.topic}-aside")

    assert "ok    Pub/Sub topic for what is set aside" in worker.command("check", check=False)
