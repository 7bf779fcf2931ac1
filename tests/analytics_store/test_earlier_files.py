"""A store opens the file of an earlier version, with all of its rows."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import GOLDEN, Clock, hit, ndjson, read_log

# Written by version 0.1 before it had a journal: the golden events, a test event, two rows in quarantine, and this hit.
FILE = GOLDEN / "store_without_journal.duckdb.gz"
EVENT_ID = "0fe04a48-5c5b-4f0a-9a55-0d3f4b2c7e11"
URL = "/v0/events?name=analytics_events&wait=true"


def unordered(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps({name: _number(row[name]) for name in sorted(row)}) for row in rows)


def _number(value: object) -> object:
    return float(value) if isinstance(value, int | float) else value


def test_a_file_without_a_journal_is_taken_over_with_all_rows(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store.duckdb").write_bytes(gzip.decompress(FILE.read_bytes()))
    app = create_app(Settings(data_dir=tmp_path), clock=clock)
    client = app.test_client()
    facts = client.get("/v0/store/info").get_json()
    counts = [facts[name] for name in ("hits", "sessions", "sites", "rows_kept_whole", "rows_in_quarantine")]
    assert counts == [33, 18, 2, 16, 2]
    assert read_log(capsys)[-1]["event"] == "StoreFileUpgraded"
    for case in map(json.loads, (GOLDEN / "pipes.jsonl").read_text().splitlines()):
        response = client.get(f"/v0/pipes/{case['pipe']}.json?{case['params']}").get_json()
        assert unordered(response.get("data", [])) == unordered(case.get("rows") or []), case["name"]

    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        sent = (GOLDEN / f"{name}.ndjson").read_bytes()
        exported = client.get(f"/v0/store/export?name={name}").data
        assert exported.count(b"\n") == sent.count(b"\n") + (name == "analytics_events")
    # A repeat of an earlier hit counts once; a hit of an earlier session belongs to it.
    client.post(URL, data=ndjson([hit(payload={"event_id": EVENT_ID}), hit(timestamp="2026-11-22T10:30:00.000Z")]))
    facts = client.get("/v0/store/info").get_json()
    assert (facts["hits"], facts["sessions"]) == (34, 18)
    app.extensions["store"].close()

    again = create_app(Settings(data_dir=tmp_path), clock=clock)
    assert again.test_client().get("/v0/store/info").get_json()["hits"] == 34
    assert "StoreFileUpgraded" not in {record["event"] for record in read_log(capsys)}
    again.extensions["store"].close()
