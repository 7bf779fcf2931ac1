"""An export is one snapshot, whatever is written meanwhile."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from analytics_store.duckdb_engine import database as database_module
from analytics_store.duckdb_engine import export as export_module
from analytics_store.duckdb_engine.pieces import Piece, split
from tests.support.store import hit, post_golden

URL = "/v0/events?name=analytics_events&wait=true"
SITE = "c431ed34-e1de-4c2a-a9be-bc96c06dff2e"
OF_SITE = {"site_uuid": SITE}


@pytest.mark.parametrize("site", ["", f"&site={SITE}"])
def test_an_export_and_its_number_of_rows_are_of_one_snapshot(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    def split_while_hits_arrive(*args: Any) -> Iterator[Piece]:
        assert client.post(URL, json=hit(payload=OF_SITE)).status_code == 200
        return split(*args)

    for _ in range(3):
        client.post(URL, json=hit(payload=OF_SITE))
    monkeypatch.setattr(export_module, "split", split_while_hits_arrive)
    exported = client.get(f"/v0/store/export?name=analytics_events{site}")
    assert (exported.headers["x-store-rows"], exported.data.count(b"\n")) == ("3", 3)


def test_an_export_that_is_not_read_to_the_end_leaves_no_cursor(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(export_module, "LINES_AT_ONCE", 1)
    post_golden(client)
    for query in ("analytics_events", "automation_run_events", "analytics_events_test"):
        client.get(f"/v0/store/export?name={query}", buffered=False).close()
    assert client.post("/v0/store/compact").status_code == 200
