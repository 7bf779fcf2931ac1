import gzip
import json
import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import bodies, columns, events
from tests.support.store import Clock, hit, ndjson

URL = "/v0/events?name=analytics_events&wait=true"
EVENT_ID = "0fe04a48-5c5b-4f0a-9a55-0d3f4b2c7e11"


def pageviews(client: FlaskClient, site: str = "site") -> int:
    rows = client.get(f"/v0/pipes/api_kpis.json?site_uuid={site}&date_from=2026-11-01&date_to=2026-11-30").get_json()
    return sum(row["pageviews"] for row in rows["data"])


def test_a_single_object_is_a_batch_of_one_on_one_line_or_many(client: FlaskClient) -> None:
    assert client.post(URL, json=hit()).get_json() == {"successful_rows": 1, "quarantined_rows": 0}
    response = client.post(URL, data=json.dumps(hit(), indent=2))
    assert response.get_json() == {"successful_rows": 1, "quarantined_rows": 0}
    assert pageviews(client) == 2


def test_the_status_is_202_or_200_with_wait(client: FlaskClient) -> None:
    assert client.post("/v0/events?name=analytics_events", json=hit()).status_code == 202
    assert client.post(URL, json=hit()).status_code == 200


def test_gzip_is_unpacked_in_one_or_several_members(client: FlaskClient) -> None:
    body = gzip.compress(ndjson([hit()])) + gzip.compress(ndjson([hit()]))
    response = client.post(URL, data=body, headers={"Content-Encoding": "gzip"})
    assert response.get_json() == {"successful_rows": 2, "quarantined_rows": 0}


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "UNPACKED_LIMIT", 1_000_000)
    response = client.post(URL, data=gzip.compress(b" " * 1_000_001), headers={"Content-Encoding": "gzip"})
    assert (response.status_code, "1000000" in response.get_json()["error"]) == (413, True)


def test_a_body_over_the_limit_is_413(client: FlaskClient) -> None:
    assert client.post(URL, data=b" " * (bodies.BODY_LIMIT + 1)).status_code == 413


@pytest.mark.parametrize("line", [b"\n", b"1\n", b"{}\n"], ids=["empty", "number", "object"])
def test_a_body_of_too_many_lines_is_413_with_the_rule_and_nothing_is_stored(client: FlaskClient, line: bytes) -> None:
    body = gzip.compress(ndjson([hit()]) + line * bodies.LINES_LIMIT)
    response = client.post(URL, data=body, headers={"Content-Encoding": "gzip"})
    assert (response.status_code, str(bodies.LINES_LIMIT) in response.get_json()["error"]) == (413, True)
    info = client.get("/v0/store/info").get_json()
    assert (info["hits"], info["rows_in_quarantine"]) == (0, 0)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_body_is_read_and_committed_in_pieces(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setattr(bodies, "PIECE_LINES", 7)
    monkeypatch.setattr(bodies, "CHUNK_BYTES", 13)
    monkeypatch.setattr(bodies, "GZIP_BYTES", 5)
    for module in (bodies, events):
        monkeypatch.setattr(module, "ROW_BYTES", 400)
    rows = [ndjson([hit(payload={"pathname": "x" * (50 * n % 200)})]) for n in range(40)]
    long = ndjson([hit(payload={"pathname": "x" * 1_000})])
    body = b" \r\n".join([*rows[:20], b" " * 1_000 + rows[20], long, *rows[21:], b"\n"])
    response = client.post(
        URL, data=gzip.compress(body) if encoding == "gzip" else body, headers={"Content-Encoding": encoding}
    )
    assert response.get_json() == {"successful_rows": 40, "quarantined_rows": 1}
    assert pageviews(client) == 40


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"\n \n", {}),
        (b"not gzip", {"Content-Encoding": "gzip"}),
        (gzip.compress(b"{}", mtime=0)[:-4], {"Content-Encoding": "gzip"}),
        (b"{}", {"Content-Encoding": "br"}),
    ],
)
def test_a_malformed_request_is_400(client: FlaskClient, body: bytes, headers: dict[str, str]) -> None:
    response = client.post(URL, data=body, headers=headers)
    assert response.status_code == 400
    assert response.get_json()["error"]


@pytest.mark.parametrize("name", ["", "analytics", "hits", "analytics_events_quarantine", "Analytics_Events"])
def test_an_unknown_data_source_is_400(client: FlaskClient, name: str) -> None:
    assert client.post(f"/v0/events?name={name}&wait=true", json=hit()).status_code == 400


INVALID_ROWS: list[tuple[bytes, str]] = [
    (ndjson([hit(payload={"utm_term": "x" * events.ROW_BYTES})]), "bytes"),
    (b"x" * (events.ROW_BYTES + 1), "bytes"),
    (ndjson([hit(action="other", payload={"x": "x" * events.RAW_BYTES})]), "bytes"),
    (ndjson([hit(session_id="x" * 201)]), "identifier"),
    (ndjson([hit(version="x" * 201)]), "identifier"),
    *((ndjson([hit(payload={field: "x" * 201})]), "identifier") for field in ("site_uuid", "post_uuid", "member_uuid")),
    (b"{", "JSON"),
    (b"[1]", "object"),
    (b'"text"', "object"),
    (b"\xff\xfe", "JSON"),
    (b"[" * 100_000, "nested"),
    (ndjson([hit(timestamp=None)]), "timestamp"),
    (ndjson([hit(timestamp="2026-02-30T10:00:00.000Z")]), "timestamp"),
    (ndjson([hit(timestamp="0001-01-01T00:00:00+14:00")]), "timestamp"),
    (ndjson([hit(timestamp=1_700_000_000)]), "timestamp"),
    (ndjson([hit(session_id="")]), "session_id"),
    (ndjson([{**hit(), "payload": None}]), "payload"),
    (ndjson([{**hit(), "payload": "text"}]), "JSON"),
    (ndjson([hit(payload={"site_uuid": ""})]), "site_uuid"),
    (ndjson([hit(payload={"pathname": 7})]), "pathname"),
    (ndjson([hit(payload={"meta": []})]), "meta"),
    (ndjson([hit(inserted_at="yesterday")]), "inserted_at"),
]


@pytest.mark.parametrize(("row", "reason"), INVALID_ROWS, ids=[f"{n}" for n in range(len(INVALID_ROWS))])
def test_an_invalid_row_is_quarantined_with_the_rule_and_the_others_are_stored(
    app: Flask, client: FlaskClient, row: bytes, reason: str
) -> None:
    response = client.post(URL, data=ndjson([hit()]) + row.rstrip() + b"\n" + ndjson([hit()]))
    assert (response.status_code, response.get_json()) == (200, {"successful_rows": 2, "quarantined_rows": 1})
    assert pageviews(client) == 2
    database = app.extensions["store"].engine.database
    (quarantined,) = database.query("SELECT name, reason FROM quarantine", {}).rows
    assert quarantined[0] == "analytics_events"
    assert reason in quarantined[1]


@pytest.mark.parametrize(
    "received",
    ["yesterday", "", "1979-12-31T23:59:59.999Z", "2300-01-01T00:00:00.000Z", "0001-01-01T00:00:00+14:00",
     "2026-02-30T10:00:00.000Z", "2026-11-22", 1_763_805_600_000, -1, 1.5, True, None, {}, ["2026-11-22T10:00:00Z"]],
)  # fmt: skip
def test_a_hit_whose_received_timestamp_is_unreadable_counts_without_it(
    app: Flask, client: FlaskClient, received: object
) -> None:
    event = hit(payload={"meta": {"received_timestamp": received, "more": 1}})
    assert client.post(URL, json=event).get_json() == {"successful_rows": 1, "quarantined_rows": 0}
    assert pageviews(client) == 1
    database = app.extensions["store"].engine.database
    assert database.query("SELECT received_at, meta FROM hits", {}).rows == [(None, '"more":1')]
    latency = client.get("/v0/pipes/api_monitoring_ingestion.json?site_uuid=site&start_date=2026-11-01")
    assert latency.get_json()["data"] == []


def test_any_text_is_returned_unchanged(client: FlaskClient) -> None:
    for text in ("a\0b", "\U0001f600", "'; DROP TABLE hits; --", "$site_uuid", "%s {}", "\\u0000", "x" * 2_048):
        assert client.post(URL, json=hit(payload={"pathname": text})).get_json()["successful_rows"] == 1
        query = {"site_uuid": "site", "pathname": text, "date_from": "2026-11-22", "date_to": "2026-11-22"}
        rows = client.post("/v0/pipes/api_top_pages.json", json=query).get_json()["data"]
        assert rows == [{"post_uuid": "", "pathname": text, "visits": 1}]


def test_a_payload_may_be_a_json_text(client: FlaskClient) -> None:
    event = hit()
    assert client.post(URL, json=event | {"payload": json.dumps(event["payload"])}).get_json()["successful_rows"] == 1
    assert pageviews(client) == 1


def exported(client: FlaskClient) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.get("/v0/store/export?name=analytics_events").data.splitlines()]


@pytest.mark.parametrize(
    ("field", "characters"),
    [*((field, columns.LIMITS.get(field, columns.TEXT_CHARACTERS)) for field in columns.TEXTS if "uuid" not in field)],
)
@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f600", "\0"])
def test_a_long_text_is_cut(client: FlaskClient, field: str, characters: int, character: str) -> None:
    for length in (characters, characters + 1, 15_000):
        client.post(URL, json=hit(payload={field: character * length}))
    assert [row["payload"][field] for row in exported(client)] == [character * characters] * 3


def test_a_long_source_is_cut(client: FlaskClient) -> None:
    client.post(URL, json=hit(payload={"referrerSource": "x" * 20_000}))
    rows = client.get("/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-11-22").get_json()["data"]
    assert rows == [{"source": "x" * columns.TEXT_CHARACTERS, "visits": 1}]


@pytest.mark.parametrize("place", ["payload", "meta"])
def test_fields_without_a_column_are_cut_and_then_left_out_until_they_fit(client: FlaskClient, place: str) -> None:
    small = {"a": "x" * 5_000, "nested": {"url": "y" * 2_000, "n": 1}}
    large = {"a": "x" * 9_000, "nested": {"url": "y" * 9_000, "n": 1}}
    numbers = {"n": list(range(5_000)), "kept": "z"}
    for members in (small, large, numbers):
        client.post(URL, json=hit(payload={"meta": members} if place == "meta" else members))
    rows = [row["payload"]["meta"] if place == "meta" else row["payload"] for row in exported(client)]
    assert [{key: row[key] for key in ("a", "nested", "n", "kept") if key in row} for row in rows] == [
        small,
        {"a": "x" * 1_024, "nested": {"url": "y" * 1_024, "n": 1}},
        {"kept": "z"},
    ]


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


def test_test_events_and_other_actions_are_stored_but_never_counted(app: Flask, client: FlaskClient) -> None:
    assert client.post("/v0/events?name=analytics_events_test&wait=true", json=hit()).get_json()["successful_rows"] == 1
    assert client.post(URL, json=hit(action="something_else")).get_json()["successful_rows"] == 1
    assert pageviews(client) == 0
    assert len(app.extensions["store"].engine.database.query("SELECT * FROM whole", {}).rows) == 2


def test_a_session_whose_first_hit_comes_last_takes_its_source_from_it(client: FlaskClient) -> None:
    late = hit(timestamp="2026-11-22T10:05:00.000Z", payload={"referrerSource": "late.example"})
    first = hit(payload={"referrerSource": "first.example"})
    client.post(URL, json=late)
    client.post(URL, json=first)
    rows = client.get("/v0/pipes/api_top_sources.json?site_uuid=site&date_from=2026-11-22").get_json()["data"]
    assert rows == [{"source": "first.example", "visits": 1}]


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


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "automation_run_events",
            {"site_uuid": "s", "id": "r", "updated_at": "2026-01-01T00:00:00.000Z", "payload": {}},
        ),
        ("automation_run_events", {"site_uuid": "s", "updated_at": "2026-01-01T00:00:00.000Z", "payload": {}}),
        ("automation_run_step_events", {"site_uuid": "s", "id": "r", "payload": {"automation_run_id": "r"}}),
    ],
)
def test_invalid_automation_rows_are_quarantined(client: FlaskClient, name: str, row: dict[str, Any]) -> None:
    response = client.post(f"/v0/events?name={name}&wait=true", json=row)
    assert response.get_json() == {"successful_rows": 0, "quarantined_rows": 1}


def test_a_session_that_spans_a_day_counts_in_it_only_with_a_hit_in_it(client: FlaskClient) -> None:
    for session, days in (("throughout", (20, 21, 22)), ("away", (20, 22))):
        for day in days:
            client.post(URL, json=hit(session_id=session, timestamp=f"2026-11-{day}T10:00:00.000Z"))
    for name, of_source in (("api_top_sources", [{"source": "", "visits": 1}]), ("api_top_sources_v2", [])):
        url = f"/v0/pipes/{name}.json?site_uuid=site&date_from=2026-11-21&date_to=2026-11-21"
        assert client.get(url).get_json()["data"] == of_source
        assert client.get(f"{url}&source=").get_json()["data"] == of_source


def test_the_days_of_a_query_cut_a_session_and_v2_leaves_it_whole(client: FlaskClient) -> None:
    # Two hits before midnight in Los Angeles, three after it.
    stamps = ("21T07:58", "21T07:59", "21T08:01", "21T08:03", "21T08:04")
    sources = ("Google", "", "Bing", "", "")
    for stamp, source in zip(stamps, sources, strict=True):
        event = hit(timestamp=f"2026-11-{stamp}:00.000Z", payload={"referrerSource": source})
        assert client.post(URL, json=event).status_code == 200

    def ask(pipe: str, first: int, last: int) -> list[dict[str, object]]:
        days = f"date_from=2026-11-{first}&date_to=2026-11-{last}&timezone=America/Los_Angeles"
        rows: list[dict[str, object]] = client.get(f"/v0/pipes/{pipe}.json?site_uuid=site&{days}").get_json()["data"]
        return [row for row in rows if row["visits"]]

    evening = {"visits": 1, "pageviews": 2, "bounce_rate": 0.0, "avg_session_sec": 60.0}
    assert ask("api_kpis", 20, 20) == [{"date": "2026-11-20 23:00:00", **evening}]
    night = {"visits": 1, "pageviews": 3, "bounce_rate": 0.0, "avg_session_sec": 180.0}
    assert ask("api_kpis", 21, 22) == [{"date": "2026-11-21", **night}]
    both = {"visits": 1, "pageviews": 5, "bounce_rate": 0.0, "avg_session_sec": 360.0}
    assert ask("api_kpis", 20, 21) == [{"date": "2026-11-20", **both}]
    assert ask("api_kpis_v2", 20, 20) == [{"date": "2026-11-20 23:00:00", **both}]
    assert ask("api_kpis_v2", 21, 22) == []
    assert ask("api_top_sources", 21, 22) == [{"source": "Bing", "visits": 1}]
    assert ask("api_top_sources_v2", 21, 22) == []
    assert ask("api_top_sources_v2", 20, 22) == [{"source": "Google", "visits": 1}]


@pytest.mark.parametrize(("session_id", "sessions"), [("a" * 64, 2), ("A" * 64, 1), ("a session of another system", 1)])
@pytest.mark.parametrize("late", [True, False])
def test_a_session_lasts_as_long_as_its_session_id(
    client: FlaskClient, session_id: str, sessions: int, late: bool
) -> None:
    stamps = ["2025-11-22T10:00:00.000Z", "2026-11-22T10:00:00.000Z", "2026-11-28T10:00:00.000Z"]
    for stamp in reversed(stamps) if late else stamps:
        client.post(URL, json=hit(session_id=session_id, timestamp=stamp))
    assert client.get("/v0/store/info").get_json()["sessions"] == sessions


def test_a_batch_of_hits_far_apart_finds_its_sessions_and_repeats(client: FlaskClient) -> None:
    stamps = [f"20{year}-0{month}-15T10:00:00.000Z" for year in (20, 23, 26) for month in (1, 2, 9)]
    events = [hit(session_id=f"{number:064x}", timestamp=stamp) for number, stamp in enumerate(stamps)]
    client.post(URL, data=ndjson(events))
    more = [event | {"payload": event["payload"] | {"event_id": None}} for event in events]
    client.post(URL, data=ndjson([*more, *events]))
    facts = client.get("/v0/store/info").get_json()
    assert (facts["hits"], facts["sessions"]) == (2 * len(events), len(events))
