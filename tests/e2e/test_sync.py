"""Test rows of Ghost's automations from the service through the store back to Ghost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.app import OTHER_SITE, SITE
from tests.support.embedded_store import ask, ghost_token
from tests.support.processes import wait_until
from tests.support.running import running_with_store
from tests.support.sync_rows import KEY, body_of, run, step

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

FIRST, SECOND = "6920f0c1a1b2c3d4e5f60001", "6920f0c1a1b2c3d4e5f60002"


def sync(port: int, *rows: dict[str, Any], site: str = SITE) -> requests.Response:
    """Post rows as Ghost does."""
    return requests.post(
        f"http://127.0.0.1:{port}/.ghost/analytics/api/v1/tinybird-sync",
        data=body_of(*rows),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-ndjson", "x-site-uuid": site},
        timeout=60,
    )


def stats(port: int, site: str = SITE) -> dict[str, tuple[int, int, str]]:
    """Query as Ghost's list of automations does; returns runs, runs in progress and the last run of each."""
    pipe = "api_automation_browse_stats"
    response = ask(
        port, pipe, ghost_token(site, "api_kpis", pipe, "api_kpis_v2"), site_uuid=site, ghost_client="server"
    )
    response.raise_for_status()
    return {
        row["automation_id"]: (row["total_run_count"], row["in_progress_run_count"], row["last_run_created_at"])
        for row in response.json()["data"]
    }


@pytest.mark.parametrize("admin", [{}, {"TINYBIRD_ADMIN_TOKEN": ""}], ids=["service checks", "store checks"])
def test_the_list_of_automations_shows_the_rows_that_ghost_sent(tmp_path: Path, admin: dict[str, str]) -> None:
    with running_with_store(tmp_path, TINYBIRD_SYNC_AUTH=KEY, **admin) as (service, _):
        runs = [
            run(number, automation_id=SECOND if number % 4 == 0 else FIRST, note="x" * 8000) for number in range(999)
        ]
        runs.append(run(999, automation_id=FIRST, created_at="2026-11-23T01:02:03.456Z", note="x" * 49_000))
        steps = [step(number, of=number, status="pending", note="x" * 8000) for number in range(1000)]
        done = [
            step(number, of=number, status="finished", step_attempts=1, updated_at="2026-11-22T00:40:00.001Z")
            for number in range(1, 1000)
        ]
        done = [{**row, "updated_at": row["payload"]["updated_at"]} for row in done]

        for rows in (runs, steps, done, runs):  # a repeated part changes nothing
            response = sync(service.port, *rows)
            assert (response.status_code, response.json()["quarantined_rows"]) == (202, 0), response.text
        assert sync(service.port, *steps[:5]).status_code == 202  # nor does an older version that arrives late
        response = sync(service.port, runs[0], run(1000, automation_id=SECOND, note="x" * 50_000))
        assert (response.status_code, response.json()) == (202, {"rows": 2, "quarantined_rows": 1})

        assert stats(service.port) == {
            FIRST: (750, 0, "2026-11-23T01:02:03.456Z"),
            SECOND: (250, 1, "2026-11-22T00:30:13.714Z"),
        }
        assert stats(service.port, OTHER_SITE) == {}


def test_a_sync_while_the_store_is_down_gets_503_and_succeeds_later(tmp_path: Path) -> None:
    with running_with_store(tmp_path, TINYBIRD_SYNC_AUTH=KEY) as (service, store):
        store.kill()
        response = sync(service.port, run(), step())
        assert (response.status_code, response.headers["retry-after"]) == (503, "30")
        store.start()

        wait_until(lambda: sync(service.port, run(), step()).status_code == 202, 20)
        assert stats(service.port) == {FIRST: (1, 1, "2026-11-22T00:30:13.714Z")}


def test_a_token_that_may_not_append_is_reported_in_the_log(tmp_path: Path) -> None:
    with running_with_store(tmp_path, TINYBIRD_SYNC_AUTH=KEY, TINYBIRD_TRACKER_TOKEN="p.another-token") as (service, _):
        response = sync(service.port, run())

        assert response.status_code == 502
        assert '"event": "SyncMisconfigured"' in service.log
        assert "p.another-token" not in service.log + response.text
