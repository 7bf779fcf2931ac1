import random
from pathlib import Path

import pytest

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import Clock, hit, ndjson, read_log
from traffic_analytics.delivery.target import Verdict
from traffic_analytics.tinybird.events import to_verdict

URL = "/v0/events?name=analytics_events&wait=true"


def test_a_full_store_refuses_appends_warns_before_and_accepts_them_after_a_deletion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    app = create_app(Settings(data_dir=tmp_path, max_mb=24, memory_mb=256), clock=clock)
    client, database, rng = app.test_client(), app.extensions["store"].engine.database, random.Random(1)
    status, sent = 200, 0
    while status == 200:
        body = ndjson([hit(payload={"pathname": rng.randbytes(1_000).hex()}) for _ in range(1_000)])
        status = client.post(URL, data=body).status_code
        sent += len(body)
        assert sent < 100 * 2**20
    # The log alone reached the limit, and was written to the file, which compresses.
    assert (status, sent > 24 * 2**20) == (507, True)
    before = client.get("/v0/store/info").get_json()
    for name in ("analytics_events", "analytics_events_test"):
        refused = client.post(f"/v0/events?name={name}&wait=true", json=hit())
        assert (refused.status_code, "STORE_MAX_MB" in refused.get_json()["error"]) == (507, True)
    assert client.get("/v0/store/info").get_json() == before
    assert before["max_mb"] == 24
    assert client.get("/health").status_code == 200
    assert client.get("/v0/pipes/api_kpis.json?site_uuid=site").status_code == 200
    events = [record["event"] for record in read_log(capsys)]
    assert (events[0], events[-3:]) == ("StoreNearlyFull", ["RequestFailed"] * 3)

    with database.cursor() as cursor:
        cursor.execute("DELETE FROM hits")
    assert client.post(URL, json=hit()).status_code == 200
    database.close()


def test_rows_that_wait_in_the_journal_count_for_the_limit(tmp_path: Path, clock: Clock) -> None:
    app = create_app(Settings(data_dir=tmp_path, max_mb=24, memory_mb=256), clock=clock)
    client, status, sent = app.test_client(), 202, 0
    body = ndjson([hit(payload={"href": "x" * 15_000}) for _ in range(30)])
    while status == 202:
        status = client.post("/v0/events?name=analytics_events", data=body).status_code
        sent += len(body)
    assert (status, sent // 2**20) == (507, 24)
    # The tables need less space for the same rows, whose addresses are cut.
    app.extensions["store"].hits.apply()
    assert client.post("/v0/events?name=analytics_events", json=hit()).status_code == 202
    app.extensions["store"].close()


def test_the_service_keeps_the_events_that_a_full_store_refuses() -> None:
    assert to_verdict(507) is Verdict.LATER
