"""A hit counts once, however often it is delivered."""

import threading

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.store import Clock, hit, ndjson
from tests.support.store_responses import exported, pageviews

URL = "/v0/events?name=analytics_events&wait=true"
EVENT_ID = "0fe04a48-5c5b-4f0a-9a55-0d3f4b2c7e11"


def test_a_long_event_id_counts_once_even_after_its_export(client: FlaskClient) -> None:
    event = hit(payload={"event_id": "x" * 5_000})
    client.post(URL, data=ndjson([event, event, hit(payload={"event_id": "x" * 5_001})]))
    rows = exported(client)
    client.post(URL, data=ndjson([*rows, event]))
    assert pageviews(client) == 2
    assert all(len(row["payload"]["event_id"]) == 36 for row in rows)


@pytest.mark.parametrize("event_id", [EVENT_ID, EVENT_ID.upper(), "any text", "\0", "x" * 201, "x" * 19_000])
def test_a_hit_delivered_again_counts_once(client: FlaskClient, event_id: str) -> None:
    event = hit(payload={"event_id": event_id})
    assert client.post(URL, data=ndjson([event, event])).get_json() == {"successful_rows": 2, "quarantined_rows": 0}
    client.post(URL, data=ndjson([hit(), event, hit()]))
    assert pageviews(client) == 3


def test_a_repeat_is_recognised_after_a_restart_and_a_year(app: Flask, client: FlaskClient, clock: Clock) -> None:
    event = hit()
    client.post(URL, json=event)
    app.extensions["store"].close()
    clock.now += 365 * 86_400
    client.post(URL, json=event)
    assert pageviews(client) == 1


def test_hits_of_two_sites_may_share_an_event_id(client: FlaskClient) -> None:
    event = hit()
    other = hit(payload={"event_id": event["payload"]["event_id"], "site_uuid": "other"})
    third = hit(payload={"event_id": event["payload"]["event_id"], "site_uuid": "third"})
    client.post(URL, data=ndjson([event, other]))
    client.post(URL, json=third)
    assert [pageviews(client, site) for site in ("site", "other", "third")] == [1, 1, 1]


@pytest.mark.parametrize("event_id", [None, ""])
def test_hits_without_an_event_id_are_all_stored(client: FlaskClient, event_id: str | None) -> None:
    event = hit(payload={"event_id": event_id})
    client.post(URL, data=ndjson([event, event]))
    client.post(URL, json=event)
    assert pageviews(client) == 3


def test_concurrent_clients_get_their_own_counts(client: FlaskClient, app: Flask) -> None:
    responses: list[dict[str, int]] = []
    barrier = threading.Barrier(8)

    def send(number: int) -> None:
        sender = app.test_client()
        barrier.wait()
        for n in range(5):
            rows = [hit(session_id=f"{number}-{n}") for _ in range(number + 1)]
            responses.append(sender.post(URL, data=ndjson(rows) + b"{\n").get_json() | {"sent": number + 1})

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(responses) == 40
    assert all(
        response["successful_rows"] == response["sent"] and response["quarantined_rows"] == 1 for response in responses
    )
    assert pageviews(client) == sum(5 * (number + 1) for number in range(8))


def test_a_batch_of_hits_far_apart_finds_its_sessions_and_repeats(client: FlaskClient) -> None:
    stamps = [f"20{year}-0{month}-15T10:00:00.000Z" for year in (20, 23, 26) for month in (1, 2, 9)]
    events = [hit(session_id=f"{number:064x}", timestamp=stamp) for number, stamp in enumerate(stamps)]
    client.post(URL, data=ndjson(events))
    more = [event | {"payload": event["payload"] | {"event_id": None}} for event in events]
    client.post(URL, data=ndjson([*more, *events]))
    facts = client.get("/v0/store/info").get_json()
    assert (facts["hits"], facts["sessions"]) == (2 * len(events), len(events))
