from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests_mock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.app import GOLDEN, OTHER_SITE, SITE, Service, all_rows_fit, golden
from tests.support.sync_rows import KEY, PATH, body_of, run, step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Service]


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


@pytest.fixture
def service(start: Start) -> Service:
    return start(TINYBIRD_SYNC_AUTH=KEY)


def sync(service: Service, *rows: Any, path: str = PATH, **headers: str | None) -> Any:
    """Post rows as Ghost does; a header that is None is omitted."""
    sent = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/x-ndjson",
        "x-site-uuid": SITE,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return service.client.post(path, data=body_of(*rows), headers={k: v for k, v in sent.items() if v is not None})


def forwarded(service: Service) -> list[tuple[str, list[Any]]]:
    """Return the rows sent to Tinybird with their data sources."""
    return [
        (request.qs["name"][0], [json.loads(line) for line in request.body.splitlines()])
        for request in service.tinybird.request_history
    ]


def refused(answer: Any, status: int) -> str:
    """Check the shape of an error and return its message."""
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"error", "message", "statusCode"}
    assert answer.json["statusCode"] == status
    assert answer.headers["access-control-allow-origin"] == "*"
    message: str = answer.json["message"]
    return message


def test_rows_as_ghost_sends_them_reach_their_data_source_without_their_type(service: Service) -> None:
    runs = [run(number) for number in range(3)]

    answer = sync(service, *runs)

    assert answer.status_code == 202
    assert answer.json == {"rows": 3, "quarantined_rows": 0}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert forwarded(service) == [("automation_run_events", [without(row, "type") for row in runs])]
    (request,) = service.tinybird.request_history
    assert request.headers["Authorization"] == "Bearer test-token"
    assert request.qs["wait"] == ["true"]  # Ghost deletes rows after a success, so they must be committed
    assert KEY not in str(request.headers) + request.url + request.text


def test_steps_with_all_columns_reach_their_data_source(service: Service) -> None:
    steps = [
        step(1),
        step(2, status="finished", step_attempts=2, finished_at="2026-11-22T00:30:13.714Z", ready_at=None),
    ]

    assert sync(service, *steps).status_code == 202

    assert forwarded(service) == [("automation_run_step_events", [without(row, "type") for row in steps])]


def test_rows_of_both_kinds_are_sent_separately_and_in_order(service: Service) -> None:
    answer = sync(service, run(1), step(1), run(2), step(2), run(3))

    assert answer.json == {"rows": 5, "quarantined_rows": 0}
    sent = [(name, [row["id"][-1] for row in rows]) for name, rows in forwarded(service)]
    assert sent == [("automation_run_events", ["1", "2", "3"]), ("automation_run_step_events", ["1", "2"])]


@pytest.mark.parametrize("name", ["automation_run_events", "automation_run_step_events"])
@pytest.mark.parametrize("named", [False, True])
def test_the_golden_rows_are_forwarded_unchanged(name: str, named: bool, service: Service) -> None:
    rows = golden(f"{name}.ndjson")
    site = rows[0]["site_uuid"]
    rows = [row for row in rows if row["site_uuid"] == site]

    answer = sync(service, *rows, path=PATH + (f"?name={name}" if named else ""), x_site_uuid=site)

    assert answer.status_code == 202, answer.text
    assert forwarded(service) == [(name, rows)]
    assert (GOLDEN / f"{name}.ndjson").stat().st_size > 1000


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
@pytest.mark.parametrize("end", ["", "/"])
def test_the_route_exists_on_both_paths_with_and_without_a_slash(prefix: str, end: str, service: Service) -> None:
    assert sync(service, run(), path=prefix + PATH + end).status_code == 202
    assert service.client.get(prefix + PATH + end).status_code == 405


@pytest.mark.parametrize("path", [f"/.ghost/analytics/{PATH}", f"/.ghost//analytics{PATH}", f"{PATH}//"])
def test_several_slashes_in_a_row_are_one_for_large_bodies_too(path: str, service: Service) -> None:
    head = f"POST {path}?x=//y HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()

    assert service.app.extensions["body_limits"].accepts(head)
    assert sync(service, run(), path=path).status_code == 202


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
def test_without_the_setting_there_is_no_such_route(prefix: str, start: Start) -> None:
    service = start()

    for method in ("GET", "POST", "OPTIONS"):
        answer = service.client.open(prefix + PATH, method=method, headers={"Authorization": f"Bearer {KEY}"})
        assert refused(answer, 404) == "no such route"
    assert "body_limits" not in service.app.extensions


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"BearerX {KEY}",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}x",
        f"Bearer {KEY.upper()}",
        f"Bearer {KEY} {KEY}",
        f"Bearer {KEY}, Bearer {KEY}",
        "Bearer \xe9",
    ],
    ids=itertools.count(),
)
def test_without_the_key_no_rows_are_accepted_or_read(authorization: str | None, start: Start, log: Any) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    answer = sync(service, b"no json", Content_Type="text/plain", x_site_uuid=None, Authorization=authorization)

    assert "key" in refused(answer, 401)
    assert service.tinybird.request_history == []
    assert KEY[:-1] not in answer.text + log.text
    assert [record["event"] for record in log.records] == ["SyncKeyRefused"]


def test_the_scheme_is_accepted_in_any_case(service: Service) -> None:
    assert sync(service, run(), Authorization=f"bearer  {KEY} ").status_code == 202


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-ndjson", 202),
        ("Application/X-NDJSON; charset=utf-8", 202),
        ("application/json", 202),
        ("application/json;charset=UTF-8", 202),
        ("text/plain", 415),
        ("application/x-ndjson2", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_the_content_type_must_be_ndjson(content_type: str | None, status: int, service: Service) -> None:
    answer = sync(service, run(), Content_Type=content_type)

    assert answer.status_code == status
    if status == 415:
        assert refused(answer, 415).startswith("headers.content-type: must be")


@pytest.mark.parametrize(("encoding", "status"), [("identity", 202), ("gzip", 415), ("br", 415)])
def test_the_body_must_not_be_compressed(encoding: str, status: int, service: Service) -> None:
    answer = sync(service, run(), Content_Encoding=encoding)

    assert answer.status_code == status
    if status == 415:
        assert refused(answer, 415).startswith("headers.content-encoding: must be absent")


MUST_BE_DATE = "must be a date and time like 2026-01-31T23:59:59.999Z"
OTHER = "must be that of the header x-site-uuid"
NAMES = "automation_run_events, automation_run_step_events"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"{", ": must be a JSON object"),
        (b"[]", ": must be object, got array"),
        (b"1a4", ": must be object, got int"),
        (b"\xff", ": must be in UTF-8"),
        (json.dumps(run()).encode().replace(b"6920f0c1a1b2c3d4e5f60001", b"\xff"), ": must be in UTF-8"),
        (json.dumps(run()).encode() * 2, ": must be a JSON object"),
        (b'{"a":' * 5000, ": must be a JSON object"),
        (json.dumps({**run(), "payload": 0}).encode().replace(b": 0", b": " + b"[" * 5000), ": must be a JSON object"),
        (without(run(), "id"), ": misses required field id"),
        (without(run(), "payload"), ": misses required field payload"),
        (without(run(), "site_uuid"), ": misses required field site_uuid"),
        (without(run(), "updated_at"), ": misses required field updated_at"),
        ({**run(), "type": "members"}, ".type: must be one of automation_runs, automation_run_steps"),
        ({**run(), "type": None}, ".type: must be str, got null"),
        ({**run(), "type": 1}, ".type: must be str, got int"),
        ({**run(), "id": 7}, ".id: must be str, got int"),
        ({**run(), "id": " "}, ".id: must not be blank"),
        ({**run(), "site_uuid": OTHER_SITE}, f".site_uuid: {OTHER}"),
        ({**run(), "updated_at": "yesterday"}, f".updated_at: {MUST_BE_DATE}"),
        ({**run(), "updated_at": "2026-02-30T00:00:00.000Z"}, f".updated_at: {MUST_BE_DATE}"),
        ({**run(), "updated_at": None}, ".updated_at: must be str, got null"),
        ({**run(), "payload": "{}"}, ".payload: must be object, got str"),
        ({**run(), "payload": None}, ".payload: must be object, got null"),
        (run(site_uuid=OTHER_SITE), f".payload.site_uuid: {OTHER}"),
        (run(site_uuid=None), ".payload.site_uuid: must be str, got null"),
        (run(automation_id=""), ".payload.automation_id: must not be blank"),
        (run(automation_id=None), ".payload.automation_id: must be str, got null"),
        (run(created_at=""), f".payload.created_at: {MUST_BE_DATE}"),
        (run(created_at="2026-11-22 00:30:13"), f".payload.created_at: {MUST_BE_DATE}"),
        (run(created_at=None), ".payload.created_at: must be str, got null"),
        (run(updated_at="now"), f".payload.updated_at: {MUST_BE_DATE}"),
        (run(id=5), ".payload.id: must be str, got int"),
        ({**run(), "payload": without(run()["payload"], "created_at")}, ".payload: misses required field created_at"),
        ({**run(), "type": "automation_run_steps"}, ".payload: misses required field automation_run_id"),
        (step(status=None), ".payload.status: must be str, got null"),
        (step(status=3), ".payload.status: must be str, got int"),
        (step(status=""), ".payload.status: must not be blank"),
        (step(automation_run_id=""), ".payload.automation_run_id: must not be blank"),
        (step(step_attempts="2"), ".payload.step_attempts: must be int | null, got str"),
        (step(started_at="soon"), f".payload.started_at: {MUST_BE_DATE}"),
        (step(finished_at=0), ".payload.finished_at: must be str | null, got int"),
        ({**step(), "type": "automation_runs"}, ".payload: misses required field automation_id"),
        (without(run(automation_run_id="x"), "type"), ".payload: must hold either automation_id or automation_run_id"),
        (without({**run(), "payload": {}}, "type"), ".payload: must hold either automation_id or automation_run_id"),
        (without({**run(), "payload": []}, "type"), ".payload: must be object, got array"),
    ],
    ids=itertools.count(),
)
def test_one_invalid_row_refuses_all_rows_and_is_named(row: Any, message: str, start: Start, log: Any) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    answer = sync(service, run(1), step(1), row, run(2))

    assert refused(answer, 400) == f"line 3{message}"
    assert service.tinybird.request_history == []
    assert log.text == ""


@pytest.mark.parametrize(
    ("query", "row", "message"),
    [
        ("?name=analytics_events", run(), f"query.name: must be absent or exactly one of {NAMES}"),
        ("?name=", run(), f"query.name: must be absent or exactly one of {NAMES}"),
        (
            "?name=automation_run_events&name=automation_run_events",
            run(),
            f"query.name: must be absent or exactly one of {NAMES}",
        ),
        (
            "?name=automation_run_step_events",
            run(),
            "line 1.type: must be automation_run_steps for the data source in ?name",
        ),
        (
            "?name=automation_run_step_events",
            without(run(), "type"),
            "line 1.payload: misses required field automation_run_id",
        ),
    ],
)
def test_the_data_source_of_the_query_must_be_that_of_the_rows(
    query: str, row: Any, message: str, service: Service
) -> None:
    assert refused(sync(service, row, path=PATH + query), 400) == message
    assert service.tinybird.request_history == []


@pytest.mark.parametrize("site", [None, "", "1", SITE + "0", f"{{{SITE}}}"])
def test_the_site_must_be_a_uuid(site: str | None, service: Service) -> None:
    assert refused(sync(service, run(), x_site_uuid=site), 400) == "headers.x-site-uuid: must be a UUID"


def test_the_case_of_a_site_does_not_matter(service: Service) -> None:
    assert (
        sync(service, {**run(site_uuid=SITE.upper()), "site_uuid": SITE}, x_site_uuid=SITE.upper()).status_code == 202
    )


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n\n  "])
def test_a_body_without_rows_is_refused(body: bytes, service: Service) -> None:
    assert refused(sync(service, body), 400) == "body: must hold at least one row"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n", b"\n \n"])
def test_blank_lines_are_not_counted_as_rows(end: bytes, service: Service) -> None:
    assert sync(service, b"", run(1), b"\r", run(2), end).json["rows"] == 2


@pytest.mark.parametrize("row", [without(run(), "type"), without(step(), "type")])
def test_the_kind_of_a_row_without_a_type_is_derived_from_its_fields(row: dict[str, Any], service: Service) -> None:
    assert sync(service, row).status_code == 202

    of_steps = "automation_run_id" in row["payload"]
    assert forwarded(service) == [("automation_run_step_events" if of_steps else "automation_run_events", [row])]


def test_unknown_fields_pass_unchanged(service: Service) -> None:
    row = {**run(colour="grün", depth=1.50, big=12345678901234567890123), "member": {"a": [1, None]}}

    assert sync(service, row).status_code == 202

    assert forwarded(service)[0][1] == [without(row, "type")]


def test_of_two_members_with_one_name_only_the_checked_one_is_forwarded(service: Service) -> None:
    twice = json.dumps(run()).replace('"site_uuid"', f'"site_uuid": "{OTHER_SITE}", "site_uuid"').encode()

    assert sync(service, twice).status_code == 202

    assert OTHER_SITE not in service.tinybird.request_history[-1].text


def test_a_thousand_rows_are_accepted_and_one_more_is_not(service: Service) -> None:
    rows = [run(number) for number in range(1000)]

    assert sync(service, *rows).json["rows"] == 1000
    assert sync(service, *rows, b"").json["rows"] == 1000
    assert refused(sync(service, *rows, run(1000)), 413) == "body: must be at most 1000 lines"


def test_nine_mebibytes_are_accepted_and_one_byte_more_is_not(service: Service) -> None:
    limit = 9 * 1024 * 1024
    fitting = body_of(*[run(number, note="x" * 9000) for number in range(1000)])
    fitting += b" " * (limit - len(fitting))

    assert sync(service, fitting).json["rows"] == 1000
    assert refused(sync(service, fitting + b" "), 413) == f"body: must be at most {limit} bytes"


@pytest.mark.parametrize(
    ("answer", "status", "retry_after", "event"),
    [
        ({"status_code": 429, "headers": {"Retry-After": "7.2"}}, 503, "8", "SyncDelayed"),
        ({"status_code": 429}, 503, "30", "SyncDelayed"),
        ({"status_code": 500}, 503, "30", "SyncDelayed"),
        ({"exc": requests.ConnectTimeout("secret words")}, 503, "30", "SyncDelayed"),
        ({"status_code": 400, "text": "secret words"}, 502, None, "SyncMisconfigured"),
        ({"status_code": 422}, 502, None, "SyncMisconfigured"),
        ({"status_code": 413}, 502, None, "SyncMisconfigured"),
        ({"status_code": 401}, 502, None, "SyncMisconfigured"),
        ({"status_code": 403}, 502, None, "SyncMisconfigured"),
        ({"status_code": 301, "headers": {"Location": "/"}}, 502, None, "SyncMisconfigured"),
        ({"status_code": 200, "text": "<html>secret words"}, 502, None, "SyncMisconfigured"),
        ({"status_code": 200, "json": {"successful_rows": 0, "quarantined_rows": 0}}, 502, None, "SyncMisconfigured"),
        ({"status_code": 200, "json": {"successful_rows": 0, "quarantined_rows": 1}}, 502, None, "SyncMisconfigured"),
    ],
)
def test_a_sync_fails_if_tinybird_does_not_accept_its_rows(
    answer: dict[str, Any], status: int, retry_after: str | None, event: str, start: Start, log: Any
) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    service.tinybird.post(requests_mock.ANY, **answer)

    response = sync(service, run())

    message = refused(response, status)
    assert message.startswith("Tinybird did not accept the rows for automation_run_events: ")
    assert response.headers.get("retry-after") == retry_after
    (record,) = log.records
    assert record["event"] == event
    assert "secret" not in message + log.text
    assert "test-token" not in log.text


def test_the_log_names_the_permission_that_the_token_lacks(start: Start, log: Any) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    service.tinybird.post(requests_mock.ANY, status_code=403)

    sync(service, step())

    words = "TINYBIRD_TRACKER_TOKEN must be allowed to append to automation_run_events and automation_run_step_events"
    assert words in log.records[0]["message"]


def test_a_sync_fails_if_tinybird_accepts_only_one_of_its_data_sources(service: Service) -> None:
    service.tinybird.post(requests_mock.ANY, [{"json": all_rows_fit}, {"status_code": 503}])

    assert "automation_run_step_events" in refused(sync(service, run(), step()), 503)
    assert len(service.tinybird.request_history) == 2


def test_rows_in_quarantine_are_counted_and_logged(start: Start, log: Any) -> None:
    service = start(TINYBIRD_SYNC_AUTH=KEY)
    service.tinybird.post(requests_mock.ANY, json={"successful_rows": 1, "quarantined_rows": 1})

    answer = sync(service, run(1), run(2))

    assert (answer.status_code, answer.json) == (202, {"rows": 2, "quarantined_rows": 1})
    assert [record["event"] for record in log.records] == ["RowsQuarantined", "RowsSynced"]


def test_a_failed_sync_releases_its_slot(service: Service) -> None:
    for _ in range(5):
        assert refused(sync(service, b"{"), 400)

    assert sync(service, run()).status_code == 202


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
mutated = st.builds(
    lambda row, name, inner, value: (
        {**row, "payload": {**row["payload"], name: value}} if inner else {**row, name: value}
    ),
    st.sampled_from([run(), step(), without(run(), "type"), without(step(), "type")]),
    st.sampled_from([*run(), *step()["payload"]]),
    st.booleans(),
    json_values | st.sampled_from(["\ud800", "2026-11-22T00:30:13Z", SITE, "automation_runs"]),
)
lines = st.one_of(
    st.binary(max_size=60), json_values.map(json.dumps).map(str.encode), mutated.map(json.dumps).map(str.encode)
)


@pytest.fixture(scope="module")
def hostile_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("hostile")
    with requests_mock.Mocker() as tinybird:
        tinybird.post(requests_mock.ANY, status_code=202, json=all_rows_fit)
        yield Service(directory, tinybird, TINYBIRD_SYNC_AUTH=KEY)


@given(
    st.lists(lines, max_size=5),
    st.sampled_from(["", "?name=automation_run_events", "?name=%FF", "?name", "?" + "&" * 50]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_is_handled_and_only_json_is_forwarded(
    hostile_service: Service, sent: list[bytes], query: str
) -> None:
    service = hostile_service
    service.tinybird.reset_mock()

    answer = sync(service, *sent, path=PATH + query)

    assert answer.status_code in (202, 400)
    sent_rows = [row for _, rows in forwarded(service) for row in rows]
    assert len(sent_rows) == (answer.json["rows"] if answer.status_code == 202 else 0)
    assert all(row["site_uuid"] == row["payload"]["site_uuid"] == SITE and "type" not in row for row in sent_rows)
