from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.support.app import TARGET
from tests.support.fakes import spooled
from traffic_analytics.delivery.circuit import FAILURES_TO_OPEN

RECEIVED = {"message": "Page hit event received"}
FAILURES = [
    {"status_code": 500},
    {"status_code": 503},
    {"status_code": 429, "headers": {"Retry-After": "1"}},
    {"status_code": 400},
    {"status_code": 403},
    {"status_code": 413},
    {"status_code": 422},
    {"status_code": 302, "headers": {"Location": "https://elsewhere.example/"}},
    {"exc": requests.ConnectTimeout},
    {"exc": requests.ReadTimeout},
    {"exc": requests.ConnectionError},
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_an_event_that_tinybird_does_not_accept_is_stored_and_answered_202(
    failure: dict[str, Any], service: Any, tinybird: Any
) -> None:
    tinybird.post(TARGET, **failure)

    answer = service.hit()

    assert (answer.status_code, answer.json) == (202, RECEIVED)
    assert spooled(service) == [tinybird.request_history[0].body]


def test_after_some_failures_in_a_row_no_browser_waits_for_tinybird(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=503)
    for _ in range(FAILURES_TO_OPEN + 10):
        assert service.hit().status_code == 202

    assert tinybird.call_count == FAILURES_TO_OPEN
    assert len(spooled(service)) == FAILURES_TO_OPEN + 10


def test_a_success_resets_the_count_of_failures(service: Any, tinybird: Any) -> None:
    bad, good = {"status_code": 503}, {"status_code": 202, "json": {}}
    tinybird.post(TARGET, [*[bad] * (FAILURES_TO_OPEN - 1), good, *[bad] * (FAILURES_TO_OPEN - 1), good])
    for _ in range(2 * FAILURES_TO_OPEN):
        service.hit()

    assert tinybird.call_count == 2 * FAILURES_TO_OPEN


def test_an_event_that_is_itself_refused_does_not_open_the_circuit(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=400)
    for _ in range(2 * FAILURES_TO_OPEN):
        service.hit()

    assert tinybird.call_count == 2 * FAILURES_TO_OPEN


def test_a_refused_data_source_opens_no_circuit_for_another(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET + "?name=analytics_events_test", status_code=403)
    for _ in range(FAILURES_TO_OPEN + 1):
        assert service.hit(target="/api/v1/page_hit?name=analytics_events_test").status_code == 202

    service.hit()

    assert tinybird.request_history[-1].query == "name=analytics_events"


def test_with_delivery_spool_every_event_is_stored_and_none_is_sent_within_its_request(
    start: Any, tinybird: Any
) -> None:
    service = start(DELIVERY="spool")

    answer = service.hit()

    assert (answer.status_code, answer.json) == (202, RECEIVED)
    assert tinybird.call_count == 0
    assert len(spooled(service)) == 1


def test_no_address_and_no_token_is_in_the_spool(start: Any) -> None:
    service = start(DELIVERY="spool")
    service.hit(
        target="/api/v1/page_hit?name=analytics_events&token=sekret", headers={"X-Forwarded-For": "203.0.113.77"}
    )

    files = b"".join(path.read_bytes() for path in service.data_dir.iterdir())

    assert b"/about/" in files
    for private in (b"203.0.113.77", b"sekret", b"test-token"):
        assert private not in files


def test_without_a_token_there_is_no_spool_and_a_failed_hit_is_answered_502(start: Any, tinybird: Any) -> None:
    service = start(TINYBIRD_TRACKER_TOKEN="")
    tinybird.post(TARGET, status_code=503)

    answer = service.hit(target="/api/v1/page_hit?name=analytics_events&token=abc")

    assert (answer.status_code, answer.json) == (502, {"error": "Proxy error"})
    assert not (service.data_dir / "spool.sqlite3").exists()


def test_an_unusable_spool_is_answered_503_with_retry_after(start: Any, tinybird: Any) -> None:
    service = start(DELIVERY="spool")
    (service.data_dir / "spool.sqlite3").rename(service.data_dir / "moved")

    answer = service.hit()
    ready = service.client.get("/ready")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert ready.status_code == 503
    assert "spool" in ready.json["message"]
    (service.data_dir / "moved").rename(service.data_dir / "spool.sqlite3")
    assert service.hit().status_code == 202
    assert service.client.get("/ready").status_code == 200


def test_quarantined_rows_are_logged(start: Any, tinybird: Any, log: Any) -> None:
    service = start()
    tinybird.post(TARGET, status_code=202, json={"successful_rows": 0, "quarantined_rows": 1})

    assert service.hit().status_code == 202
    assert [record["rows"] for record in log.records if record["event"] == "RowsQuarantined"] == [1]


def test_a_response_without_a_body_is_passed_on_as_empty_json(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=204)

    answer = service.hit()

    assert (answer.status_code, answer.json) == (202, {})
