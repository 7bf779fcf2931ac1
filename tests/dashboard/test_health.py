"""The health of the service, as operators read it."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests

from tests.support.app import TARGET
from tests.support.dashboard import STATS, Dashboard
from tests.support.tokens import ADMIN
from traffic_analytics.dashboard.health import LONGEST_WAIT, Health
from traffic_analytics.dashboard.tokens import Tokens
from traffic_analytics.tinybird.pipes import Reply

if TYPE_CHECKING:
    from pathlib import Path

    import requests_mock

Facts = dict[str, tuple[str, str]]


def report(dashboard: Dashboard) -> dict[str, Facts]:
    """Return value and advice of each fact, by group."""
    dashboard.log_in()
    groups = dashboard.get("health.json").get_json()["groups"]
    for fact in (fact for group in groups for fact in group["facts"]):
        assert fact["is_good"] == (fact["advice"] == "")
    return {each["name"]: {fact["name"]: (fact["value"], fact["advice"]) for fact in each["facts"]} for each in groups}


def test_a_healthy_service_has_nothing_to_do(dashboard: Dashboard) -> None:
    facts = report(dashboard)

    assert {group: [name for name, (_, advice) in each.items() if advice] for group, each in facts.items()} == {
        "Hits today": [],
        "Delivery": [],
        "Statistics": [],
        "Machine": [],
    }
    assert facts["Hits today"] == {"accepted": ("0", ""), "dropped as bots": ("0", "")}
    assert facts["Delivery"]["waiting in the spool"] == ("0", "")
    assert facts["Statistics"]["hits in the store"] == ("12,345", "")
    assert facts["Statistics"]["store's size"] == ("5 MB", "")
    assert facts["Machine"]["version"][0]


def test_hits_are_counted_by_outcome(dashboard: Dashboard, upstream: requests_mock.Mocker) -> None:
    upstream.post(TARGET, json={"successful_rows": 1, "quarantined_rows": 0}, status_code=202)
    dashboard.hit()
    dashboard.hit(headers={"User-Agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"})
    dashboard.hit({"version": "2"})
    dashboard.record_counts()

    hits = report(dashboard)["Hits today"]

    assert (hits.pop("accepted"), hits.pop("dropped as bots")) == (("1", ""), ("1", ""))
    assert list(hits.values()) == [("1", "")]


def test_counts_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    def fail() -> dict[tuple[str, str], int]:
        raise sqlite3.OperationalError("disk I/O error")

    (hits, *_) = standalone(tmp_path, outcomes=fail)()["groups"]

    assert [fact["value"] for fact in hits["facts"]] == ["cannot be read: disk I/O error"]


def test_events_that_wait_are_reported_once_they_wait_for_long(
    dashboard: Dashboard, upstream: requests_mock.Mocker
) -> None:
    upstream.post(TARGET, status_code=503)
    dashboard.hit()
    assert report(dashboard)["Delivery"]["waiting in the spool"] == ("1", "")

    dashboard.now += timedelta(seconds=LONGEST_WAIT + 60)
    restarted = Dashboard(dashboard.data_dir, upstream)
    restarted.now = dashboard.now

    value, advice = report(restarted)["Delivery"]["waiting for"]
    assert (value, "does not accept events" in advice) == ("6 minutes", True)


@pytest.mark.parametrize(
    ("status", "advice"),
    [(403, "TINYBIRD_ADMIN_TOKEN"), (404, "STATS_TARGET"), (429, "STATS_CACHE_SECONDS"), (500, "STATS_TARGET")],
)
def test_a_target_that_refuses_queries_is_explained(
    dashboard: Dashboard, upstream: requests_mock.Mocker, status: int, advice: str
) -> None:
    upstream.get(f"{STATS}/v0/pipes/api_active_visitors.json", status_code=status, json={"error": "no"})

    facts = report(dashboard)

    assert "Blogs" not in facts
    value, text = facts["Statistics"]["target"]
    assert (value, advice in text) == (f"status {status}", True)


def test_a_target_that_cannot_be_reached_is_explained(dashboard: Dashboard, upstream: requests_mock.Mocker) -> None:
    upstream.get(f"{STATS}/v0/pipes/api_active_visitors.json", exc=requests.ConnectionError)

    assert "STATS_TARGET" in report(dashboard)["Statistics"]["target"][1]


def test_rows_in_quarantine_and_silent_blogs_are_reported(dashboard: Dashboard, upstream: requests_mock.Mocker) -> None:
    rows = [
        {"site_uuid": "a", "host": "busy.example", "last_hit": "2026-11-22T12:30:05.000Z"},
        {"site_uuid": "b", "host": "silent.example", "last_hit": "2026-11-20T12:00:00.000Z"},
        {"site_uuid": "nameless", "host": "", "last_hit": "2026-11-22T10:00:00.000Z"},
    ]
    upstream.get(f"{STATS}/v0/pipes/api_sites.json", json={"data": rows})
    upstream.get(f"{STATS}/v0/store/info", json={"hits": 1, "rows_in_quarantine": 3, "bytes_on_disk": 1})
    reasons = ["timestamp: is missing", "session_id: is too long", "timestamp: is missing"]
    upstream.get(f"{STATS}/v0/store/quarantine", json={"rows": [{"reason": reason} for reason in reasons]})

    facts = report(dashboard)

    assert facts["Statistics"]["rows in quarantine"][0] == "3"
    assert "store quarantine list" in facts["Statistics"]["rows in quarantine"][1]
    assert facts["Statistics"]["quarantine: timestamp: is missing"][0] == "2"
    assert facts["Statistics"]["quarantine: session_id: is too long"][0] == "1"
    assert list(facts["Blogs"]) == ["silent.example", "nameless", "busy.example"]
    assert facts["Blogs"]["silent.example"][0] == "2 days ago"
    assert "open the blog" in facts["Blogs"]["silent.example"][1]
    assert facts["Blogs"]["busy.example"] == ("10 seconds ago", "")


def test_tinybird_has_no_facts_of_a_store(dashboard: Dashboard, upstream: requests_mock.Mocker) -> None:
    upstream.get(f"{STATS}/v0/store/info", status_code=404, json={"error": "not found"})
    upstream.get(f"{STATS}/v0/pipes/api_sites.json", status_code=404, json={"error": "not found"})

    facts = report(dashboard)

    assert list(facts["Statistics"]) == ["latency of the target"]
    assert "Blogs" not in facts


def test_without_a_tracker_token_the_missing_spool_is_reported(tmp_path: Path, upstream: requests_mock.Mocker) -> None:
    dashboard = Dashboard(tmp_path, upstream, TINYBIRD_TRACKER_TOKEN="")

    assert "TINYBIRD_TRACKER_TOKEN" in report(dashboard)["Delivery"]["spool"][1]


def test_a_disk_without_room_is_reported(tmp_path: Path) -> None:
    class Disk(NamedTuple):
        total: int
        free: int

    (*_, machine) = standalone(tmp_path, disk_usage=lambda _: Disk(10**12, 10**8))()["groups"]

    (free,) = machine["facts"]
    assert (free["value"], free["is_good"]) == ("100 MB of 1.0 TB", False)
    assert "Free space" in free["advice"]


def test_queries_for_the_report_use_a_token_of_no_site_and_are_not_repeated(
    dashboard: Dashboard, upstream: requests_mock.Mocker
) -> None:
    assert report(dashboard) == report(dashboard)

    assert len(upstream.request_history) == 3
    assert ADMIN not in json.dumps(dashboard.get("health.json").get_json())


class Silent:
    """Target that has no pipes."""

    def get(self, _path: str, _token: str) -> Reply:
        """Answer 404."""
        return Reply(404, b"{}", "status 404")


def standalone(data_dir: Path, **parts: Any) -> Any:
    parts = {"outcomes": dict[tuple[str, str], int]} | parts
    return Health(
        spool=None,
        spool_max_mb=1,
        data_dir=data_dir,
        versions={},
        pipes=Silent(),
        tokens=Tokens(ADMIN, "self-hosted"),
        admin_token=ADMIN,
        clock=lambda: 0.0,
        monotonic=lambda: 0.0,
        **parts,
    )


def test_hits_are_shown_by_outcome(tmp_path: Path) -> None:
    outcomes = {("accepted", ""): 1200, ("bot", ""): 7, ("invalid", "body.payload.href"): 2, ("refused", "site"): 1}

    (hits, *_) = standalone(tmp_path, outcomes=lambda: outcomes)()["groups"]

    assert [(fact["name"], fact["value"], fact["is_good"]) for fact in hits["facts"]] == [
        ("accepted", "1,200", True),
        ("dropped as bots", "7", True),
        ("invalid body.payload.href", "2", True),
        ("refused site", "1", False),
    ]
