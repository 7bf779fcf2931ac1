"""Labels have few values, whatever clients send."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.app import TARGET, Service, page_hit
from tests.support.metrics import scrape
from traffic_analytics.hits.outcomes import ALL, PLACES

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
