import gzip
import json
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import bodies, columns, events
from tests.support.store import hit, ndjson
from tests.support.store_responses import exported, pageviews

URL = "/v0/events?name=analytics_events&wait=true"


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


@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f600", "\0"])
def test_a_long_text_is_cut(client: FlaskClient, character: str) -> None:
    limits = {
        field: columns.LIMITS.get(field, columns.TEXT_CHARACTERS) for field in columns.TEXTS if "uuid" not in field
    }
    events = [
        hit(session_id=field, payload={field: character * length})
        for field, characters in limits.items()
        for length in (characters, characters + 1, 15_000)
    ]
    client.post(URL, data=ndjson(events))
    found = sorted((row["session_id"], row["payload"][row["session_id"]]) for row in exported(client))
    assert found == sorted(3 * [(field, character * characters) for field, characters in limits.items()])


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


def test_test_events_and_other_actions_are_stored_but_never_counted(app: Flask, client: FlaskClient) -> None:
    assert client.post("/v0/events?name=analytics_events_test&wait=true", json=hit()).get_json()["successful_rows"] == 1
    assert client.post(URL, json=hit(action="something_else")).get_json()["successful_rows"] == 1
    assert pageviews(client) == 0
    assert len(app.extensions["store"].engine.database.query("SELECT * FROM whole", {}).rows) == 2


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
