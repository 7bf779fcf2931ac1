import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient

from analytics_store import versions
from analytics_store.errors import UnavailableError
from analytics_store.maintenance import collapse
from analytics_store.settings import Settings
from analytics_store.versions import Versions
from analytics_store.wiring import create_app
from tests.support.processes import ROOT, free_port, wait_until
from tests.support.store import NOW, Clock, ndjson, post_golden, read_log
from tests.support.store_process import HEADERS, running
from traffic_analytics.runtime import background as background_module

RUNS, STEPS = "automation_run_events", "automation_run_step_events"
SITES = ("blog", "other-blog")
Row = dict[str, Any]


def moment(second: int) -> str:
    return (NOW + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def run(number: int, updated: int = 0, site: str = "blog", automation: str = "welcome", **outside: Any) -> Row:
    payload = {"automation_id": automation, "created_at": moment(number)}
    return {"site_uuid": site, "id": f"id-{number}", "updated_at": moment(updated), "payload": payload} | outside


def step(number: int, updated: int = 0, site: str = "blog", status: str = "pending", **outside: Any) -> Row:
    payload = {"id": f"id-{number}", "automation_run_id": f"id-{number // 2}", "status": status}
    return {"site_uuid": site, "id": "", "updated_at": moment(updated), "payload": payload} | outside


def post(client: FlaskClient, name: str, rows: list[Row]) -> None:
    for start in range(0, len(rows), 1_000):
        some = rows[start : start + 1_000]
        response = client.post(f"/v0/events?name={name}&wait=true", data=ndjson(some))
        assert response.get_json() == {"successful_rows": len(some), "quarantined_rows": 0}


def stats(client: FlaskClient) -> list[Any]:
    url = "/v0/pipes/api_automation_browse_stats.json?site_uuid="
    return [client.get(url + site).get_json()["data"] for site in SITES]


def count_raw_rows(client: FlaskClient) -> int:
    rows: int = client.get("/v0/store/info").get_json()["rows_kept_whole"]
    return rows


def exported(client: FlaskClient, name: str) -> list[Row]:
    response = client.get(f"/v0/store/export?name={name}")
    rows = list(map(json.loads, response.data.splitlines()))
    assert int(response.headers["x-store-rows"]) == len(rows)
    return rows


def compacted(app: Flask) -> None:
    assert app.test_client().post("/v0/store/compact").status_code == 200


def collapsed(app: Flask) -> None:
    Versions(app.extensions["store"], room=0).collapse_if_grown()


EITHER_WAY = pytest.mark.parametrize("tidy", [compacted, collapsed])


@EITHER_WAY
@pytest.mark.parametrize("seed", range(5))
def test_only_the_newest_version_of_each_row_stays_and_no_response_changes(
    app: Flask, client: FlaskClient, clock: Clock, seed: int, tidy: Callable[[Flask], None]
) -> None:
    rng = random.Random(seed)
    newest: dict[tuple[str, str, int], tuple[tuple[int, int, int], Row]] = {}
    sent = 0
    for _ in range(8):
        # Commits that share their moment, and inserted_at of an import that lies before it.
        clock.now += rng.choice((0, 60))
        for name in (RUNS, STEPS):
            rows = []
            for _ in range(60):
                site, number, updated = rng.choice(SITES), rng.randrange(12), rng.randrange(4)
                if name == RUNS:
                    row = run(number, updated, site, rng.choice(("welcome", "farewell")))
                else:
                    row = step(number, updated, site, rng.choice(("pending", "finished")))
                inserted = int(clock.now - NOW.timestamp())
                if rng.random() < 0.3:
                    inserted = rng.randrange(120)
                    row["inserted_at"] = moment(inserted)
                rows.append(row)
                sent += 1
                version = (updated, inserted, sent)
                if (name, site, number) not in newest or newest[name, site, number][0] < version:
                    newest[name, site, number] = (version, row)
            post(client, name, rows)
    before = stats(client)
    assert before[0] != before[1]
    assert count_raw_rows(client) == sent
    tidy(app)
    assert stats(client) == before
    assert count_raw_rows(client) == len(newest)
    for name in (RUNS, STEPS):
        expected = [row for (of, _, _), (_, row) in newest.items() if of == name]
        assert sorted(exported(client, name), key=str) == sorted(expected, key=str)


@EITHER_WAY
def test_versions_that_arrive_after_a_collapse_are_ordered_by_their_age_as_before(
    app: Flask, client: FlaskClient, tidy: Callable[[Flask], None]
) -> None:
    post(client, RUNS, [run(0)])
    post(client, STEPS, [step(0, 5, status="finished"), step(0, 3)])
    tidy(app)
    post(client, STEPS, [step(0, 4)])
    assert stats(client)[0][0]["in_progress_run_count"] == 0
    post(client, STEPS, [step(0, 6)])
    assert stats(client)[0][0]["in_progress_run_count"] == 1
    tidy(app)
    assert stats(client)[0][0]["in_progress_run_count"] == 1
    # Of one age, at one moment of the clock: what came last counts, before a collapse as after it.
    post(client, STEPS, [step(0, 6, status="finished")])
    for _ in range(2):
        assert stats(client)[0][0]["in_progress_run_count"] == 0
        tidy(app)
    assert count_raw_rows(client) == 2


@EITHER_WAY
def test_other_rows_are_never_collapsed(app: Flask, client: FlaskClient, tidy: Callable[[Flask], None]) -> None:
    post_golden(client)
    event: Row = {"timestamp": moment(0), "action": "signup", "version": "1", "session_id": "s", "id": "same"}
    event |= {"updated_at": moment(0), "site_uuid": "blog", "payload": {"site_uuid": "blog", "id": "same"}}
    for name in ("analytics_events_test", "analytics_events"):
        post(client, name, [event] * 3)
    before = exported(client, "analytics_events")
    tidy(app)
    assert sorted(exported(client, "analytics_events"), key=str) == sorted(before, key=str)
    assert exported(client, "analytics_events_test") == [event] * 3


def test_a_collapse_is_due_when_the_rows_have_doubled_and_there_is_some_more(app: Flask, client: FlaskClient) -> None:
    versions = Versions(app.extensions["store"], room=50)
    post(client, RUNS, [run(number) for number in range(30)])
    post(client, RUNS, [run(number, 1) for number in range(20)])
    versions.collapse_if_grown()
    assert count_raw_rows(client) == 50
    post(client, RUNS, [run(0, 2)])
    versions.collapse_if_grown()
    assert count_raw_rows(client) == 30
    post(client, RUNS, [run(number % 30, 3) for number in range(80)])
    versions.collapse_if_grown()
    assert count_raw_rows(client) == 110
    post(client, RUNS, [run(0, 4)])
    versions.collapse_if_grown()
    assert count_raw_rows(client) == 30


def test_rows_sent_again_and_again_are_collapsed_in_the_background(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "SECONDS_BETWEEN", 0.05)
    background = app.extensions["background"]
    background.start()
    most = 0
    for resend in range(8):
        post(client, STEPS, [step(number, resend // 4) for number in range(4_000)])
        most = max(most, count_raw_rows(client))
    wait_until(lambda: count_raw_rows(client) < 18_001, 20)
    assert most < 8 * 4_000
    post(client, STEPS, [step(number, 3) for number in range(4_000)] * 4)
    wait_until(lambda: count_raw_rows(client) < 18_001, 20)
    background.stop(timeout=30)
    collapsed(app)
    assert count_raw_rows(client) == 4_000


def test_a_store_that_starts_with_many_versions_collapses_them(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path))
    post(app.test_client(), RUNS, [run(number % 3, number) for number in range(10_001)])
    before = stats(app.test_client())
    app.extensions["store"].close()
    port = free_port()
    with running(tmp_path, port):

        def get(path: str) -> Any:
            return requests.get(f"http://127.0.0.1:{port}{path}", headers=HEADERS, timeout=30).json()

        wait_until(lambda: get("/v0/store/info")["rows_kept_whole"] == 3, 20)
        assert get("/v0/pipes/api_automation_browse_stats.json?site_uuid=blog")["data"] == before[0]


# The kernel kills it after so many seconds of CPU, however busy the machine is.
COLLAPSE = """
import signal, sys
from pathlib import Path
from analytics_store.settings import Settings
from analytics_store.maintenance import collapse
from analytics_store.wiring import create_app

store = create_app(Settings(data_dir=Path(sys.argv[1]))).extensions["store"]
store.open()
signal.setitimer(signal.ITIMER_PROF, float(sys.argv[2]))
collapse(store)
signal.setitimer(signal.ITIMER_PROF, 0)
"""


@pytest.mark.e2e
def test_a_kill_in_the_middle_of_a_collapse_loses_nothing(tmp_path: Path) -> None:
    before, after = 60_000, 2_000
    app = create_app(Settings(data_dir=tmp_path))
    client, store = app.test_client(), app.extensions["store"]
    rows = [step(number % 2_000, number // 10_000, status="finished") for number in range(before)]
    for start in range(0, before, 10_000):
        post(client, STEPS, rows[start : start + 10_000])
    post(client, RUNS, [run(number) for number in range(1_000)])
    expected = stats(client)
    for cpu_seconds in (0.01, 0.02, 0.03, 0.05, 0.08):
        store.close()
        command = [sys.executable, "-c", COLLAPSE, str(tmp_path), str(cpu_seconds)]
        ended = subprocess.run(command, cwd=ROOT, check=False).returncode
        assert ended in ({-signal.SIGPROF} if cpu_seconds == 0.01 else {-signal.SIGPROF, 0})
        assert stats(client) == expected
        # All or nothing.
        assert count_raw_rows(client) - 1_000 in (before, after)
    collapse(store)
    assert (count_raw_rows(client) - 1_000, stats(client)) == (after, expected)
    store.close()


@pytest.mark.parametrize("error", [KeyError, UnavailableError])
def test_no_error_ends_the_collapse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[Exception],
) -> None:
    monkeypatch.setattr(background_module, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(versions, "SECONDS_BETWEEN", 0.05)
    failures = [error("no room"), error("no room")]

    app = create_app(Settings(data_dir=tmp_path))
    engine = app.extensions["store"].engine
    counted = engine.count_versions

    def count_versions() -> int:
        if failures:
            raise failures.pop()
        rows: int = counted()
        return rows

    monkeypatch.setattr(engine, "count_versions", count_versions)
    client = app.test_client()
    post(client, RUNS, [run(number % 3, number) for number in range(10_001)])
    background = app.extensions["background"]
    background.start()
    wait_until(lambda: count_raw_rows(client) == 3, 20)
    background.stop(timeout=30)
    app.extensions["store"].close()

    records = [record for record in read_log(capsys) if record["event"] == "ChoreFailed"]
    assert [(record["chore"], record["error"]) for record in records] == [("collapse", error.__name__)] * 2
