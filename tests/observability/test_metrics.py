from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
import requests
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import traffic_analytics
from tests.support import sync_rows
from tests.support.app import FIREFOX, NOW, OTHER_SITE, SITE, TARGET, Service, all_rows_fit, page_hit
from tests.support.processes import PATIENCE, ROOT
from traffic_analytics.delivery.circuit import FAILURES_TO_OPEN
from traffic_analytics.delivery.target import Reply, Verdict
from traffic_analytics.errors import SaltUnavailable
from traffic_analytics.hits.outcomes import ALL, PLACES
from traffic_analytics.observability.metric_wrappers import MeteredBatchSender, MeteredTarget
from traffic_analytics.observability.metrics import MessageMetrics, Metrics
from traffic_analytics.salts.store import MemorySalts
from traffic_analytics.settings import Settings
from traffic_analytics.wiring.options import register_metrics

BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
PREFIX = "traffic_analytics_"


class Samples:
    """Samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.all = {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.all.get((name, frozenset(labels.items())))

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the samples that are not zero, by the values of the labels in their alphabetical order."""
        return {
            tuple(value for _, value in sorted(labels)): number
            for (each, labels), number in self.all.items()
            if each == name and number
        }

    def label_values(self) -> set[tuple[str, str, str]]:
        return {(name, *pair) for name, labels in self.all for pair in labels}


def scrape(service: Any, path: str = "/metrics", **headers: str) -> Samples:
    answer = service.client.get(path, headers=headers)
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return Samples(answer.text)


@pytest.fixture
def metered(start: Any) -> Any:
    return start(METRICS="true")


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


def test_the_version_and_the_build_label_are_shown(start: Any) -> None:
    service = start(METRICS="true", BUILD_LABEL="v1-gabcdef")

    assert scrape(service).counted("build_info") == {("v1-gabcdef", traffic_analytics.__version__): 1}


def test_apps_in_one_process_count_apart(start: Any) -> None:
    first, second = start(METRICS="true"), start(METRICS="true")
    first.hit()

    assert scrape(first).counted("hits_total") == {("accepted", ""): 1}
    assert scrape(second).counted("hits_total") == {}


def test_the_route_answers_below_ghosts_prefix_too(metered: Any) -> None:
    assert scrape(metered, "/.ghost/analytics/metrics").families


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ({"Authorization": "Bearer let-me-see"}, 200),
        ({"Authorization": "bearer let-me-see"}, 200),
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer let-me"}, 401),
        ({"Authorization": "Bearer let-me-see-more"}, 401),
        ({"Authorization": "Basic let-me-see"}, 401),
        ({"Authorization": "let-me-see"}, 401),
        ({"Authorization": "Bearer l\xe9t-me-see"}, 401),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/.ghost/analytics/metrics"])
def test_with_a_token_only_its_bearer_reads_the_metrics(
    path: str, authorization: dict[str, str], status: int, start: Any
) -> None:
    service = start(METRICS="true", METRICS_TOKEN="let-me-see")

    answer = service.client.get(path, headers=authorization)

    assert answer.status_code == status
    if status == 401:
        assert answer.json["statusCode"] == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"traffic_analytics_" not in answer.data


def test_without_metrics_there_is_no_route_and_their_library_is_not_even_imported(tmp_path: Any) -> None:
    program = """
import sys
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app
import os
app = create_app(Settings.from_env(dict(os.environ)))
client = app.test_client()
assert client.get("/metrics").status_code == client.get("/.ghost/analytics/metrics").status_code == 404
here = "traffic_analytics.observability."
mine = ("prometheus_client", here + "metrics", here + "multiprocess", here + "collectors", here + "statistics")
sys.exit(str([name for name in sys.modules if name.startswith(mine)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": str(ROOT),
            "PROXY_TARGET": TARGET,
            "TINYBIRD_TRACKER_TOKEN": "t",
            "STATS_TARGET": "http://stats.example",
            "DATA_DIR": str(tmp_path / "data"),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.stderr.strip() == "[]"


def test_concurrent_scrapes_delay_no_hit(metered: Any) -> None:
    """While one thread reads the spool, the others answer with its previous backlog."""
    scrape(metered)
    failures: list[object] = []

    def ask() -> None:
        try:
            for _ in range(10):
                assert metered.app.test_client().get("/metrics").status_code == 200
        except Exception as error:  # noqa: BLE001 - asserted below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert metered.hit().status_code == 202
    for thread in threads:
        thread.join(PATIENCE)

    assert failures == []
    assert scrape(metered).counted("hits_total") == {("accepted", ""): 50}


def test_an_app_without_hits_shows_what_it_counts(tmp_path: Any) -> None:
    settings = Settings.from_env(
        {"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "METRICS": "true", "DATA_DIR": str(tmp_path)}
    )
    metrics = Metrics()
    app = Flask("worker")
    register_metrics(app, settings, metrics, None, lambda: NOW)
    messages = MessageMetrics(metrics)
    messages.received.inc(3)
    messages.held.set(2)
    messages.set_aside.inc()

    samples = Samples(app.test_client().get("/metrics").text)

    numbers = [samples(f"messages_{name}") for name in ("received_total", "held", "set_aside_total")]
    assert numbers == [3, 2, 1]
    assert samples.counted("hits_total") == {}
    assert not [name for name, _ in samples.all if name.startswith("hits")], (
        "a worker receives no hits, so it reports none"
    )


ALLOWED = {
    "outcome": {outcome for outcome, _ in ALL},
    "rule": {rule for _, rule in ALL},
    "data_source": {"analytics_events", "analytics_events_test", "other"},
    "way": {"direct", "batch"},
    "result": {"taken", "later", "too_fast", "wrong_setup", "too_large", "refused", "hit", "miss", "stale", "failed"},
    "cache": {"user_agents", "salts"},
    "version": {"0.1.0"},
    "label": {""},
}
SHREDS = st.sampled_from(
    [*PLACES, "name", "payload", "$", "`", " - at `$.payload.evil`", 'x"} 1\n', "\\", "\n", "é", "😀", "{", "}", "\x00"]
) | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | SHREDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHREDS, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def hostile_service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import requests_mock

    with requests_mock.Mocker() as mocker:
        mocker.post(TARGET, status_code=202, json={})
        yield Service(
            tmp_path_factory.mktemp("hostile"),
            mocker,
            METRICS="true",
            STATS_TARGET="http://stats.example",
            LOG_LEVEL="fatal",
        )


def test_a_field_that_cannot_be_invalid_is_no_rule() -> None:
    assert {"body.payload.href", "body.payload.parsedReferrer.url"} <= PLACES
    assert not {"body.payload.os", "body.payload.meta", "body.payload.event_id"} & PLACES


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    field=st.sampled_from(sorted({each.removeprefix("body.payload.") for each in PLACES if "payload." in each}))
    | SHREDS,
    value=JSON,
    top=st.dictionaries(SHREDS | st.sampled_from(["timestamp", "action", "version", "payload"]), JSON, max_size=2),
    name=SHREDS,
    header=SHREDS,
)
def test_nothing_that_a_client_sends_becomes_a_label(
    hostile_service: Any, field: str, value: Any, top: dict[str, Any], name: str, header: str
) -> None:
    service = hostile_service
    before = scrape(service)
    plain = "".join(c for c in header if 32 <= ord(c) < 127)
    requests_sent: list[dict[str, Any]] = [
        {"body": page_hit(**{field: value})},
        {"body": {**page_hit(), **top}},
        {"body": page_hit(parsedReferrer=value if isinstance(value, dict) else {field: value, "url": value})},
        {"body": json.dumps(value).encode()},
        {"body": header.encode("utf-8", "surrogatepass")},
        {"query_string": {"name": name, header: name}, "target": "/api/v1/page_hit"},
        {"headers": {"x-site-uuid": plain}},
        {"headers": {"User-Agent": plain}},
        {"headers": {"Content-Type": plain}},
        {"environ_overrides": {"CONTENT_LENGTH": plain}},
    ]
    for each in requests_sent:
        service.hit(**each)
    service.client.get(
        "/v0/pipes/api_kpis.json", query_string={field: name}, headers={"Authorization": f"Bearer {plain}"}
    )

    after = scrape(service)
    assert set(after.all) == set(before.all), "no new series"
    assert {
        (name, value) for _, name, value in after.label_values() if value not in ALLOWED.get(name, {value})
    } == set()
    counted = [sum(samples.counted("hits_total").values()) for samples in (before, after)]
    assert counted[1] - counted[0] == len(requests_sent), "each is counted once"
    assert after("hits_total", outcome="invalid", rule="other") == 0, "PLACES knows every place"
    assert after("hits_total", outcome="failed", rule="defect") == 0
