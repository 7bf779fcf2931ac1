"""`check` and `doctor` name each thing that they try, and advise what to do about one that fails."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

from tests.support.app import TARGET, run
from traffic_analytics import __version__
from traffic_analytics.cli.installation import STORE_GREETING
from traffic_analytics.hits.page_hit import TEST_SITE
from traffic_analytics.tinybird.jwt import JwtVerifier

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "http://tinybird.example"
STATISTICS = f"{ORIGIN}/v0/pipes/api_active_visitors.json"


@pytest.fixture(autouse=True)
def greeting(tinybird: Any) -> None:
    tinybird.get(f"{ORIGIN}/", text="not the store")


def test_check_sends_one_event_to_the_test_data_source_and_waits_for_it(service: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=200, json={"successful_rows": 1, "quarantined_rows": 0})

    result = run(service, "check")
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output
    (sent,) = [each for each in tinybird.request_history if each.method == "POST"]
    assert sent.query == "name=analytics_events_test&wait=true"
    assert json.loads(sent.body)["action"] == "page_hit"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status_code": 403}, "refuses the token"),
        ({"status_code": 404}, "PROXY_TARGET the right region"),
        ({"status_code": 400}, "does the data source analytics_events_test exist"),
        ({"status_code": 429}, "too many requests"),
        ({"status_code": 503}, "cannot be reached"),
        ({"exc": requests.ConnectTimeout}, "cannot be reached"),
        ({"status_code": 200, "json": {"quarantined_rows": 1}}, "could not fit"),
    ],
    ids=str,
)
def test_check_explains_the_problem_with_tinybird(
    answer: dict[str, Any], words: str, service: Any, tinybird: Any
) -> None:
    tinybird.post(TARGET, **answer)

    result = run(service, "check")

    assert result.exit_code == 1
    assert words in result.output
    assert "test-token" not in result.output


def test_check_reports_a_missing_spool(service: Any, tmp_path: Path) -> None:
    (service.data_dir / "spool.sqlite3").rename(tmp_path / "elsewhere")

    result = run(service, "check")

    assert result.exit_code == 1
    assert "FAIL  spool: " in result.output
    assert "ok    data directory" in result.output


def test_json_lists_every_step(service: Any, tinybird: Any) -> None:
    good = run(service, "check", "--json")
    tinybird.post(TARGET, status_code=403)
    bad = run(service, "check", "--json")

    assert (good.exit_code, bad.exit_code) == (0, 1)
    steps = json.loads(good.output)["steps"]
    assert json.loads(good.output)["ok"] is True
    assert json.loads(bad.output)["ok"] is False
    assert all(step == {"name": step["name"], "ok": True, "advice": None} for step in steps)
    (failed,) = [step for step in json.loads(bad.output)["steps"] if not step["ok"]]
    assert failed["name"] == f"Tinybird at {TARGET}"
    assert failed["advice"].startswith("refuses the token")


def test_the_version_and_health_of_a_store_are_checked(service: Any, tinybird: Any) -> None:
    tinybird.get(f"{ORIGIN}/", text=STORE_GREETING)
    for health, words in (
        ({"json": {"status": "ok", "version": __version__}}, f"ok    store at {ORIGIN}\n"),
        ({"json": {"status": "ok", "version": "0.0.9"}}, f"FAIL  store at {ORIGIN}: is version 0.0.9, and this is"),
        ({"json": {"status": "ok"}}, "is version unknown"),
        ({"status_code": 503, "json": {"error": "the disk is full"}}, "is not healthy: the disk is full"),
    ):
        tinybird.get(f"{ORIGIN}/health", **health)
        assert words in run(service, "check").output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "ok    clock (against tinybird.example)\n"), (-120, "s ahead of it"), (120, "s behind it")],
)
def test_the_clock_is_compared_with_the_date_of_the_response(
    seconds: int, words: str, service: Any, tinybird: Any
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)  # noqa: TID251
    tinybird.get(f"{ORIGIN}/", headers={"Date": date})

    assert words in run(service, "check").output


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"json": {"data": []}}, f"ok    statistics at {ORIGIN}\n"),
        ({"status_code": 403, "json": {"error": "no"}}, "refuses a token signed with TINYBIRD_ADMIN_TOKEN"),
        ({"status_code": 404, "json": {"error": "no"}}, "has no statistics"),
        ({"status_code": 503, "json": {"error": "no"}}, "cannot be queried (status 503)"),
        ({"exc": requests.ConnectTimeout}, "cannot be queried ("),
    ],
    ids=str,
)
@pytest.mark.parametrize("served", ["", ORIGIN], ids=["by Tinybird", "by the gateway"])
def test_the_admin_token_is_tried_as_ghost_uses_it(
    answer: dict[str, Any], words: str, served: str, start: Any, tinybird: Any
) -> None:
    tinybird.get(STATISTICS, **answer)

    result = run(start(STATS_TARGET=served, TINYBIRD_ADMIN_TOKEN="p.admin-token"), "check")

    assert words in result.output
    assert "p.admin-token" not in result.output
    sent = next(each for each in tinybird.request_history if "/v0/pipes/" in each.path)
    token = sent.headers["Authorization"].removeprefix("Bearer ")
    scopes = JwtVerifier("p.admin-token").verify(token, datetime.now(UTC).timestamp())  # noqa: TID251
    assert scopes.fixed_params("api_active_visitors") == {"site_uuid": TEST_SITE}


def test_without_an_admin_token_statistics_are_only_reached(start: Any, tinybird: Any) -> None:
    tinybird.get(STATISTICS, status_code=403, json={"error": "a token is needed"})

    result = run(start(STATS_TARGET=ORIGIN), "check")

    assert result.exit_code == 0
    assert "only reached: TINYBIRD_ADMIN_TOKEN is not set" in result.output


def test_tokens_of_requests_cannot_be_tried(start: Any, tinybird: Any) -> None:
    result = run(start(TINYBIRD_TRACKER_TOKEN=""), "check")

    assert result.exit_code == 0
    assert "not tried: each request brings its token" in result.output
    assert [each for each in tinybird.request_history if each.method == "POST"] == []


class Usage(NamedTuple):
    free: int


@pytest.mark.parametrize(("free_mb", "is_good"), [(63, False), (1000, False), (1088, True)])
def test_the_disk_must_hold_a_full_spool(
    free_mb: int, is_good: bool, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(free_mb * 2**20))

    output = run(service, "check").output

    assert ("ok    free disk\n" in output) == is_good
    assert (f"FAIL  free disk: {free_mb} MiB are free" in output) != is_good


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"json": {"status": "ready"}}, "ok    service at http://127.0.0.1:3000\n"),
        ({"exc": requests.ConnectionError}, "does not answer"),
        ({"status_code": 503, "json": {"message": "the spool is full"}}, "is not ready: the spool is full"),
        ({"status_code": 500, "text": "<html>"}, "is not ready: status 500"),
    ],
    ids=str,
)
def test_doctor_tries_the_running_service_and_check_does_not(
    answer: dict[str, Any], words: str, service: Any, tinybird: Any
) -> None:
    tinybird.get("http://127.0.0.1:3000/ready", **answer)

    assert words in run(service, "doctor").output
    assert "service at" not in run(service, "check").output
