from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import requests

from tests.support import sync_rows
from tests.support.app import FIREFOX, OTHER_SITE, SITE, TARGET, Service, all_rows_fit, page_hit
from tests.support.metrics import Samples, scrape
from traffic_analytics.delivery.circuit import FAILURES_TO_OPEN
from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.observability.metric_wrappers import MeteredBatchSender, MeteredTarget
from traffic_analytics.observability.metrics import Metrics
from traffic_analytics.salts.store import MemorySalts

BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class NoSalts(MemorySalts):
    def get_or_create(self, site_uuid: str, day: Any) -> str:
        raise SaltUnavailable("from this test")


class DefectiveSalts(MemorySalts):
    def get_or_create(self, site_uuid: str, day: Any) -> str:
        raise RuntimeError("from this test")


@pytest.mark.parametrize(
    ("outcome", "rule", "hit"),
    [
        ("accepted", "", {}),
        ("bot", "", {"headers": {"User-Agent": BOT}}),
        ("invalid", "body", {"body": b"no JSON"}),
        ("invalid", "body.payload", {"body": {**page_hit(), "payload": {}}}),
        ("invalid", "body.payload.pathname", {"body": page_hit(pathname=" ")}),
        ("invalid", "body.payload.user-agent", {"body": page_hit(**{"user-agent": 7})}),
        ("invalid", "body.payload.post_type", {"body": page_hit(post_type="comment")}),
        ("invalid", "body.payload.parsedReferrer.url", {"body": page_hit(parsedReferrer={"url": 7})}),
        ("invalid", "body.version", {"body": {**page_hit(), "version": "2"}}),
        ("invalid", "headers.x-site-uuid", {"headers": {"x-site-uuid": "x"}}),
        ("invalid", "headers.user-agent", {"headers": {"User-Agent": " "}}),
        ("invalid", "headers.content-length", {"environ_overrides": {"CONTENT_LENGTH": "many"}}),
        ("invalid", "query.name", {"target": "/api/v1/page_hit?name=elsewhere"}),
        ("invalid", "query.token", {"target": "/api/v1/page_hit?name=analytics_events&token="}),
        ("ignored", "address", {"headers": {"X-Forwarded-For": "203.0.113.7"}}),
        ("ignored", "path", {"body": page_hit(pathname="/p/1/")}),
        ("spam", "", {"body": page_hit(parsedReferrer={"url": "https://semalt.com/"})}),
        ("refused", "too_large", {"body": b" " * 20_481}),
        ("refused", "media_type", {"headers": {"Content-Type": "text/plain"}}),
    ],
)
def test_each_hit_is_counted_once_by_its_outcome(outcome: str, rule: str, hit: dict[str, Any], start: Any) -> None:
    metered = start(METRICS="true", IGNORE_ADDRESSES="203.0.113.0/24", IGNORE_PATHS="/p/*")
    metered.hit(**hit)

    assert scrape(metered).counted("hits_total") == {(outcome, rule): 1}


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        ("site", {"ALLOWED_SITES": OTHER_SITE}),
        ("new_site", {"SALT_STORE_TYPE": "memory", "MAX_NEW_SITES_PER_HOUR": "1"}),
    ],
)
def test_a_hit_of_a_refused_site_is_counted_by_its_rule(rule: str, settings: dict[str, str], start: Any) -> None:
    service = start(METRICS="true", **settings)
    service.hit(headers={"x-site-uuid": OTHER_SITE})
    service.hit()

    assert scrape(service).counted("hits_total") == {("accepted", ""): 1, ("refused", rule): 1}


def test_a_hit_without_a_signature_is_counted_as_unsigned(start: Any) -> None:
    service = start(METRICS="true", HMAC_SECRET="secret")
    service.hit()

    assert scrape(service).counted("hits_total") == {("unsigned", ""): 1}


@pytest.mark.parametrize(
    ("outcome", "rule", "salts"), [("unavailable", "salt", NoSalts()), ("failed", "defect", DefectiveSalts())]
)
def test_a_missing_salt_and_a_defect_are_counted_apart(
    outcome: str, rule: str, salts: MemorySalts, tmp_path: Any, tinybird: Any
) -> None:
    service = Service(tmp_path, tinybird, salts, METRICS="true")
    service.hit()

    assert scrape(service).counted("hits_total") == {(outcome, rule): 1}


def test_a_hit_that_tinybird_refuses_is_counted_as_failed_without_a_spool(start: Any, tinybird: Any) -> None:
    service = start(METRICS="true", TINYBIRD_TRACKER_TOKEN="")
    tinybird.post(TARGET, status_code=503)
    service.hit(target="/api/v1/page_hit?name=analytics_events&token=abc")

    samples = scrape(service)
    assert samples.counted("hits_total") == {("failed", "upstream"): 1}
    assert samples("spool_readable") is None, "without a spool there is none to read"


def test_a_hit_that_the_spool_cannot_store_is_counted_as_unavailable(start: Any) -> None:
    service = start(METRICS="true", DELIVERY="spool")
    (service.data_dir / "spool.sqlite3").rename(service.data_dir / "moved")
    service.hit()

    samples = scrape(service)
    assert samples.counted("hits_total") == {("unavailable", "spool"): 1}
    assert samples("spool_readable") == 0
    assert samples("spool_waiting_events") is None
    assert samples("spool_max_bytes") == 1024 * 2**20


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (202, "taken"),
        (503, "later"),
        (429, "too_fast"),
        (403, "wrong_setup"),
        (400, "refused"),
        (413, "too_large"),
    ],
)
def test_responses_of_tinybird_are_counted_by_data_source_and_timed(
    status: int, result: str, metered: Any, tinybird: Any
) -> None:
    tinybird.post(TARGET, status_code=status, json={"quarantined_rows": 1})
    metered.hit(target="/api/v1/page_hit?name=analytics_events_test")

    samples = scrape(metered)
    taken = status == 202
    assert samples.counted("sent_events_total") == {("analytics_events_test", result, "direct"): 1}
    assert samples("upstream_request_duration_seconds_count", way="direct") == 1
    assert samples.counted("quarantined_rows_total") == ({("analytics_events_test", "direct"): 1} if taken else {})
    assert samples.counted("spooled_events_total") == ({} if taken else {("analytics_events_test",): 1})
    assert samples.counted("hits_total") == {("accepted", ""): 1}


def test_the_spools_backlog_is_reported_in_events_bytes_and_age(start: Any) -> None:
    service = start(METRICS="true", DELIVERY="spool")
    service.hit()
    service.hit()
    service.now += timedelta(seconds=90)

    samples = scrape(service)
    assert samples("spool_readable") == 1
    assert samples("spool_waiting_events") == 2
    assert samples("spool_oldest_event_age_seconds") == 90
    assert samples("spool_set_aside_events") == 0
    assert 0 < (samples("spool_bytes") or 0) < (samples("spool_max_bytes") or 0)
    assert samples.counted("spooled_events_total") == {("analytics_events",): 2}


class Waiting(NamedTuple):
    event: bytes


class Refusing:
    """Accepts all events but those that are guilty."""

    NAME = WRONG_SETUP = "it"

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        return self.post_batch(data_source, list(events))

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        return Reply(Verdict.REFUSED if b"guilty" in events else Verdict.TAKEN, "from this test")


class Source:
    def __init__(self) -> None:
        self.dead_letters: list[bytes] = []

    def acknowledge(self, events: Any) -> None:
        pass

    def dead_letter(self, event: Waiting, reason: str) -> bool:
        self.dead_letters.append(event.event)
        return True

    def renew_lease(self) -> None:
        pass


@pytest.mark.parametrize(("data_source", "label"), [("analytics_events", "analytics_events"), ("unknown", "other")])
def test_batches_are_counted_by_their_events_and_each_dead_letter_once(data_source: str, label: str) -> None:
    metrics = Metrics()
    target = MeteredTarget(Refusing(), metrics, lambda: 0.0)
    sender = MeteredBatchSender(target, metrics, lambda: 0.0, threading.Event())
    source = Source()

    sender.deliver(data_source, [Waiting(b"good"), Waiting(b"guilty"), Waiting(b"fine")], source)

    samples = Samples(metrics.export().decode())
    assert samples.counted("sent_events_total") == {
        (label, "refused", "batch"): 3 + 2 + 1,
        (label, "taken", "batch"): 2,
    }
    assert samples.counted("set_aside_events_total") == {(label,): 1}
    assert source.dead_letters == [b"guilty"]
    assert samples("upstream_request_duration_seconds_count", way="batch") == 5
    assert samples("upstream_request_duration_seconds_count", way="direct") == 0


def post_sync(service: Service, *rows: Any, key: str = sync_rows.KEY) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson", "x-site-uuid": SITE}
    return service.client.post(sync_rows.PATH, data=sync_rows.body_of(*rows), headers=headers)


def test_the_rows_of_ghosts_sync_are_counted_by_their_data_source(start: Any, tinybird: Any) -> None:
    service = start(METRICS="true", TINYBIRD_SYNC_AUTH=sync_rows.KEY)
    assert post_sync(service, sync_rows.run(1), sync_rows.run(2), sync_rows.step(1)).status_code == 202
    tinybird.post(TARGET, json={"successful_rows": 1, "quarantined_rows": 1})
    assert post_sync(service, sync_rows.step(1), sync_rows.step(2)).status_code == 202

    samples = scrape(service)
    assert samples.counted("sent_events_total") == {
        ("automation_run_events", "taken", "batch"): 2,
        ("automation_run_step_events", "taken", "batch"): 1 + 2,
    }
    assert samples.counted("quarantined_rows_total") == {("automation_run_step_events", "batch"): 1}


@pytest.mark.parametrize(
    ("tinybird_status", "rows", "key", "result"),
    [
        (202, sync_rows.run(), sync_rows.KEY, "taken"),
        (202, b"{}", sync_rows.KEY, "invalid"),
        (202, sync_rows.run(), "another", "unauthorized"),
        (400, sync_rows.run(), sync_rows.KEY, "failed"),
        (503, sync_rows.run(), sync_rows.KEY, "delayed"),
    ],
)
def test_syncs_are_counted_by_their_result(
    tinybird_status: int, rows: Any, key: str, result: str, start: Any, tinybird: Any
) -> None:
    service = start(METRICS="true", TINYBIRD_SYNC_AUTH=sync_rows.KEY)
    tinybird.post(TARGET, status_code=tinybird_status, json=all_rows_fit)

    post_sync(service, rows, key=key)

    assert scrape(service).counted("sync_requests_total") == {(result,): 1}


def test_an_open_circuit_is_shown_for_its_data_source(metered: Any, tinybird: Any) -> None:
    tinybird.post(TARGET, exc=requests.ConnectTimeout)
    for _ in range(FAILURES_TO_OPEN):
        assert scrape(metered).counted("circuit_open") == {}
        metered.hit()

    assert scrape(metered).counted("circuit_open") == {("analytics_events",): 1}


def test_hits_and_misses_of_the_caches_are_counted(metered: Any) -> None:
    for agent in (FIREFOX, FIREFOX, BOT, BOT, FIREFOX):
        metered.hit(headers={"User-Agent": agent})

    assert scrape(metered).counted("cache_lookups_total") == {
        ("salts", "hit"): 2,
        ("salts", "miss"): 1,
        ("user_agents", "hit"): 3,
        ("user_agents", "miss"): 2,
    }


def test_statistics_are_counted_by_where_they_came_from(start: Any, tinybird: Any) -> None:
    service = start(METRICS="true", STATS_TARGET="http://stats.example", WEB_CONCURRENCY="1")
    pipe = "http://stats.example/v0/pipes/api_kpis.json"

    def ask(site: str = SITE, token: str = "t") -> int:
        answer = service.client.get(
            f"/v0/pipes/api_kpis.json?site_uuid={site}", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        return int(answer.status_code)

    tinybird.get(pipe, json={"data": []})
    assert [ask(), ask(), ask()] == [200, 200, 200]
    assert ask(token="") == 403
    service.now += timedelta(seconds=61)
    tinybird.get(pipe, status_code=503, json={})
    assert ask() == 200
    assert ask("11111111-1111-4111-8111-111111111111") == 503

    assert scrape(service).counted("statistics_answers_total") == {
        ("miss",): 1,
        ("hit",): 2,
        ("stale",): 1,
        ("failed",): 1,
        ("refused",): 1,
    }
