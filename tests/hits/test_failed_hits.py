"""Responses to a browser if Tinybird or the salts fail."""

from __future__ import annotations

import importlib
import json
import pkgutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

import traffic_analytics
from tests.support.app import FIREFOX, SITE, TARGET, Log, page_hit
from tests.support.fakes import UnusableSalts
from traffic_analytics import errors, wsgi
from traffic_analytics.salts.sqlite import SqliteSalts

HIT = "/api/v1/page_hit?name=analytics_events"
BELOW = "/.ghost/analytics"
TOKEN = "visitors-secret-token"
ADDRESS = "203.0.113.77"


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "body", [b'{"successful_rows":1,"quarantined_rows":0}', b'{"successful_rows": 0, "quarantined_rows": 1}', b"{}"]
)
def test_the_response_of_tinybird_is_passed_on(status: int, body: bytes, service: Any) -> None:
    service.tinybird.post(TARGET, status_code=status, content=body, headers={"Set-Cookie": "a=b", "X-Internal": "1"})

    answer = service.hit()

    assert answer.status_code == status
    assert json.loads(answer.data) == json.loads(body)
    assert answer.mimetype == "application/json"
    assert not {"Set-Cookie", "X-Internal"} & set(answer.headers.keys())


@pytest.mark.parametrize("body", [b"", b"OK", b"<html>upstream</html>", b'{"cut":', b"\xff", b"[" * 100_000])
def test_a_success_that_is_no_json_is_replaced(body: bytes, service: Any) -> None:
    service.tinybird.post(TARGET, status_code=202, content=body)

    answer = service.hit()

    assert answer.status_code == 202
    assert json.loads(answer.data) == {}


def fail_to_forward(start: Any) -> Any:
    """Post a hit with the client's own token, which cannot be spooled."""
    service = start(TINYBIRD_TRACKER_TOKEN="")
    answer = service.hit(target=f"{HIT}&token={TOKEN}", headers={"X-Forwarded-For": ADDRESS, "x-request-id": "r-1"})
    assert f"token={TOKEN}" in service.tinybird.request_history[0].url
    return answer


def check_proxy_error(answer: Any, log: Log) -> None:
    assert answer.status_code == 502
    assert answer.json == {"error": "Proxy error"}
    assert answer.mimetype == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    (record,) = log.records
    assert (record["event"], record["level"]) == ("ProxyError", "error")
    assert (record["request_id"], record["site_uuid"]) == ("r-1", SITE)
    for private in (TOKEN, ADDRESS, FIREFOX, "Traceback"):
        assert private not in log.text


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 413, 422, 429, 500, 502, 503])
def test_any_other_answer_of_tinybird_is_a_proxy_error(status: int, start: Any, tinybird: Any, log: Log) -> None:
    tinybird.post(
        TARGET,
        status_code=status,
        text=f'{{"error": "invalid token {TOKEN}"}}',
        headers={"Location": "http://elsewhere.example/", "Retry-After": "3"},
    )

    check_proxy_error(fail_to_forward(start), log)
    assert str(status) in log.text
    assert len(tinybird.request_history) == 1


@pytest.mark.parametrize(
    "failure",
    [
        requests.ConnectTimeout(f"http://tinybird.example?token={TOKEN}"),
        requests.ReadTimeout(f"?token={TOKEN}"),
        requests.ConnectionError(f"refused {TOKEN}"),
        requests.exceptions.SSLError(TOKEN),
        requests.exceptions.ChunkedEncodingError(TOKEN),
        requests.exceptions.ContentDecodingError(TOKEN),
        ConnectionResetError(104, TOKEN),
        TimeoutError(TOKEN),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_unreachable_tinybird_is_a_proxy_error(failure: Exception, start: Any, tinybird: Any, log: Log) -> None:
    tinybird.post(TARGET, exc=failure)

    check_proxy_error(fail_to_forward(start), log)


def test_a_hit_without_a_salt_is_refused(start: Any, log: Log) -> None:
    service = start(salts=UnusableSalts())

    answer = service.hit()

    assert answer.status_code == 503
    assert answer.json["statusCode"] == 503
    assert service.tinybird.request_history == []
    assert [record["event"] for record in log.records] == ["SaltUnavailable"]


@pytest.mark.parametrize("prefix", ["", BELOW])
def test_ready_fails_without_salts_while_health_succeeds(prefix: str, start: Any) -> None:
    service = start(salts=UnusableSalts())

    answer = service.client.get(f"{prefix}/ready")

    assert answer.status_code == 503
    assert "salt" in answer.json["message"]
    assert service.client.get(f"{prefix}/health").status_code == 200


def test_ready_fails_while_the_salts_file_is_missing(tmp_path: Path, start: Any) -> None:
    path = tmp_path / "salts.sqlite3"
    service = start(salts=SqliteSalts(path))
    assert service.client.get("/ready").status_code == 200

    path.rename(tmp_path / "elsewhere")
    assert service.client.get("/ready").status_code == 200, "not every request writes to the disk"
    service.now += timedelta(seconds=1)
    assert service.client.get("/ready").status_code == 503
    assert service.hit().status_code == 503
    assert not path.exists()
    (tmp_path / "elsewhere").rename(path)
    assert service.client.get("/ready").status_code == 200
    assert service.hit().status_code == 202


def test_a_defect_is_answered_as_json_and_logged_without_its_message(start: Any, log: Log) -> None:
    service = start()
    service.now = "no time"  # the clock's answer has no date()

    answer = service.hit(page_hit(pathname="/private/"))

    assert answer.status_code == 500
    assert answer.json["statusCode"] == 500
    assert answer.headers["access-control-allow-origin"] == "*"
    (record,) = log.records
    assert record["event"] == "UnhandledError"
    assert record["error"] == "AttributeError"
    assert "no attribute" not in log.text
    assert "/private/" not in log.text


def every_subclass(parent: type[Exception]) -> set[type[Exception]]:
    return {parent}.union(*(every_subclass(child) for child in parent.__subclasses__()))


def test_every_error_that_a_request_can_meet_has_a_status() -> None:
    for module in pkgutil.walk_packages(traffic_analytics.__path__, "traffic_analytics."):
        importlib.import_module(module.name)
    never_raised = {errors.AnalyticsError, errors.RefusedHit}
    only_at_the_start = {errors.ConfigurationError, errors.DamagedFile, errors.ForeignFile}
    only_in_a_worker = {errors.NoEvent}

    met = every_subclass(errors.AnalyticsError) - never_raised - only_at_the_start - only_in_a_worker

    # The store's errors have the same root, and are known once its own tests are collected.
    assert {each for each in met if each.__module__.startswith("traffic_analytics.")} == set(wsgi.STATUS)
    assert all(400 <= status < 600 and name for status, name in wsgi.STATUS.values())
