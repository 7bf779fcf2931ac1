from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.app import SITE, TARGET
from tests.support.gateway import ACTIVE, STATIC, STATS, Dashboard, ghost_token, rows
from tests.support.tokens import ADMIN
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.settings import Settings
from traffic_analytics.tinybird.transport import NoResponse, ResponseTimeout

if TYPE_CHECKING:
    from tests.support.gateway import StartGateway


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics", "/.ghost/analytics/"])
def test_a_query_reaches_the_target_with_the_clients_token_and_its_response_returns(
    gateway: StartGateway, prefix: str
) -> None:
    dashboard = gateway()
    dashboard.respond_with(json=rows(3))

    response = dashboard.query(f"{prefix}/v0/pipes/api_kpis.json?site_uuid={SITE}&source=&date_from=2026-11-01")

    assert (response.status_code, response.json) == (200, rows(3))
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "private, no-store"
    (request,) = dashboard.requests
    assert request.url == f"{STATS}/v0/pipes/api_kpis.json?date_from=2026-11-01&site_uuid={SITE}&source="
    assert request.headers["Authorization"] == f"Bearer {STATIC}"


def test_only_query_and_token_of_the_clients_request_reach_the_target(gateway: StartGateway) -> None:
    dashboard = gateway()

    dashboard.query(
        headers={"Cookie": "a=b", "X-Forwarded-For": "203.0.113.7", "User-Agent": "Mozilla", "Referer": "r"}
    )

    (request,) = dashboard.requests
    assert {name.lower() for name in request.headers} == {"authorization", "accept", "user-agent"}
    assert request.headers["User-Agent"] == "traffic-analytics"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_405(gateway: StartGateway, method: str) -> None:
    dashboard = gateway()

    response = dashboard.service.client.open(ACTIVE, method=method, headers={"Authorization": f"Bearer {STATIC}"})

    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert dashboard.requests == []


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
def test_a_browser_may_send_its_token_from_another_origin(gateway: StartGateway, prefix: str) -> None:
    response = gateway().service.client.options(
        prefix + ACTIVE,
        headers={"Origin": "https://blog.example", "Access-Control-Request-Headers": "authorization"},
    )

    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in response.headers["access-control-allow-headers"]
    assert "GET" in response.headers["access-control-allow-methods"]


def test_without_stats_target_there_is_no_gateway_and_nothing_of_it_is_loaded(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("statistics", "statistics.routes", "statistics.gateway", "tinybird.pipes"):
        monkeypatch.setitem(sys.modules, f"traffic_analytics.{name}", None)  # importing it would fail

    service = start(TINYBIRD_ADMIN_TOKEN=ADMIN)

    assert service.client.get(ACTIVE).status_code == 404
    assert service.hit().status_code == 202
    assert not (Path(service.app.root_path) / "statistics.sqlite3").exists()


def test_a_target_that_leads_back_here_is_named(gateway: StartGateway) -> None:
    dashboard = gateway()

    response = dashboard.query(headers={"User-Agent": "traffic-analytics"})

    assert response.status_code == 508
    assert "STATS_TARGET" in response.json["message"]
    assert dashboard.requests == []


def test_an_error_of_the_target_is_passed_on_and_not_cached(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with(
        {"status_code": 400, "json": {"error": "site_uuid is required"}},
        {"status_code": 404, "text": "<html>"},
        {"json": rows(2)},
    )

    first, second, third = dashboard.query(), dashboard.query(), dashboard.query()

    assert (first.status_code, first.json) == (400, {"error": "site_uuid is required"})
    assert (second.status_code, second.json) == (404, {"error": "status 404"})
    assert third.status_code == 200


@pytest.mark.parametrize(
    "response",
    [
        {"text": "<html>"},
        {"json": [1]},
        {"status_code": 302, "headers": {"Location": "http://b.example"}, "json": {}},
        {"text": ""},
    ],
)
def test_a_response_that_is_not_statistics_is_502_and_not_cached(
    gateway: StartGateway, response: dict[str, Any]
) -> None:
    dashboard = gateway()
    dashboard.respond_with(response, {"json": rows(1)})

    assert dashboard.query().status_code == 502
    dashboard.advance(11)
    assert dashboard.query().status_code == 200


FAILURES = [
    ({"status_code": 500, "json": {"error": "no"}}, 500),
    ({"status_code": 503, "text": "no"}, 503),
    ({"status_code": 429, "json": {"error": "quota"}}, 429),
    ({"status_code": 408, "json": {"error": "slow query"}}, 408),
    ({"exc": requests.exceptions.ConnectTimeout}, 504),
    ({"exc": requests.exceptions.ReadTimeout}, 504),
    ({"exc": ResponseTimeout("ReadTimeoutError")}, 504),
    ({"exc": NoResponse("NewConnectionError")}, 502),
    ({"exc": requests.exceptions.ConnectionError("https://Timeout.example refused")}, 502),
]


@pytest.mark.parametrize(("failure", "status"), FAILURES)
def test_a_failure_is_replaced_by_the_last_good_response_for_an_hour(
    gateway: StartGateway, failure: dict[str, Any], status: int
) -> None:
    dashboard = gateway()
    dashboard.query()
    dashboard.respond_with(failure)

    dashboard.advance(61)
    first = dashboard.query()
    dashboard.advance(3538)
    last = dashboard.query()
    dashboard.advance(1)
    too_late = dashboard.query()

    for response, age in ((first, "61"), (last, "3599")):
        assert (response.status_code, response.json) == (200, rows(1))
        assert response.headers["x-traffic-analytics-stale"] == age
        assert "x-traffic-analytics-stale" in response.headers["access-control-expose-headers"]
    assert too_late.status_code == status
    assert too_late.json["error"]
    assert too_late.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(("failure", "status"), FAILURES)
def test_a_failure_without_a_good_response_is_json_and_not_repeated_at_once(
    gateway: StartGateway, failure: dict[str, Any], status: int
) -> None:
    dashboard = gateway()
    dashboard.respond_with(failure)

    first = dashboard.query()
    count = len(dashboard.requests)
    dashboard.advance(9)
    second = dashboard.query()

    assert (first.status_code, second.status_code) == (status, status)
    assert first.json["error"] == second.json["error"]
    assert (first.headers["retry-after"], second.headers["retry-after"]) == ("10", "1")
    assert len(dashboard.requests) == count
    dashboard.respond_with(json=rows(5))
    dashboard.advance(1)
    assert dashboard.query().json == rows(5)


def test_a_kept_alive_connection_that_was_closed_is_not_a_failure(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with({"exc": requests.exceptions.ConnectionError("ProtocolError")}, {"json": rows(4)})

    assert dashboard.query().json == rows(4)


def test_a_target_that_names_a_time_is_not_queried_before(gateway: StartGateway) -> None:
    dashboard = gateway(TINYBIRD_ADMIN_TOKEN=ADMIN)
    dashboard.query(ACTIVE, ghost_token())
    dashboard.advance(61)
    dashboard.respond_with(status_code=429, headers={"Retry-After": "1800"}, json={"error": "quota"})
    dashboard.query(ACTIVE, ghost_token())
    count = len(dashboard.requests)

    another_worker = Dashboard(dashboard.service)
    for _ in range(29):
        dashboard.advance(60)
        assert "x-traffic-analytics-stale" in dashboard.query(ACTIVE, ghost_token()).headers
        other_query = another_worker.query("/v0/pipes/api_kpis.json", ghost_token())
        assert other_query.status_code == 429
        assert int(other_query.headers["retry-after"]) > 0
    assert len(dashboard.requests) == count
    dashboard.advance(60)
    assert "x-traffic-analytics-stale" not in dashboard.query(ACTIVE, ghost_token()).headers
    assert len(dashboard.requests) == count + 1


def test_a_rate_limit_of_one_token_does_not_pause_another(gateway: StartGateway) -> None:
    dashboard = gateway()
    dashboard.respond_with(
        {"status_code": 429, "headers": {"Retry-After": "60"}, "json": {"error": "q"}}, {"json": rows(2)}
    )

    assert dashboard.query(token="mine").status_code == 429
    assert dashboard.query(token="yours").status_code == 200


def test_failures_are_logged_without_tokens_and_queries(
    gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    dashboard = gateway()
    logging.getLogger("traffic_analytics").addHandler(caplog.handler)
    try:
        dashboard.query(f"{ACTIVE}?token={STATIC}&pathname=/private/", token=None)
        dashboard.advance(61)
        dashboard.respond_with(exc=requests.exceptions.ConnectionError(f"refused {STATIC}"))
        dashboard.query(f"{ACTIVE}?token={STATIC}&pathname=/private/", token=None)
    finally:
        logging.getLogger("traffic_analytics").removeHandler(caplog.handler)

    said = [str(vars(record)) for record in caplog.records]
    assert {getattr(record, "event", "") for record in caplog.records} == {"StatisticsFailed", "StatisticsStale"}
    assert not any(STATIC in each or "private" in each for each in said)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://api.tinybird.co", "https://api.tinybird.co"),
        ("https://api.tinybird.co/", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0/events", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0/pipes/", "https://api.tinybird.co"),
        ("https://api.tinybird.co/v0", "https://api.tinybird.co"),
        ("http://127.0.0.1:7181", "http://127.0.0.1:7181"),
        ("https://proxy.example/tinybird/v0/pipes", "https://proxy.example/tinybird"),
    ],
)
def test_every_form_of_tinybirds_url_is_a_valid_stats_target(text: str, target: str) -> None:
    assert (
        Settings.from_env(
            {"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "STATS_TARGET": text}
        ).stats_target
        == target
    )


@pytest.mark.parametrize(
    "text", ["api.tinybird.co", "ftp://a", "https://api.tinybird.co/v0/pipes/api_kpis.json", "https://a.b?token=x"]
)
def test_an_invalid_stats_target_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="STATS_TARGET: must be"):
        Settings.from_env({"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "STATS_TARGET": text})
