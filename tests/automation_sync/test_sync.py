from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests_mock

from tests.support.app import GOLDEN, Service, all_rows_fit, golden
from tests.support.sync import forwarded, refused, sync, without
from tests.support.sync_rows import KEY, PATH, run, step

if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[..., Service]


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
