"""Exported files hold the events as they were sent, and can be imported."""

import json
import os
import threading
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from analytics_store.duckdb_engine import engine as engine_module
from analytics_store.settings import Settings
from analytics_store.wiring import create_app
from tests.support.store import GOLDEN, Clock, post_golden

URL = "/v0/events?name=analytics_events&wait=true"


def test_an_export_posted_to_another_store_gives_the_same_rows(
    client: FlaskClient, tmp_path: Path, clock: Clock
) -> None:
    post_golden(client)
    other = create_app(Settings(data_dir=tmp_path / "other"), clock=clock)
    for name in ("analytics_events", "automation_run_events", "automation_run_step_events"):
        exported = client.get(f"/v0/store/export?name={name}")
        assert int(exported.headers["x-store-rows"]) == exported.data.count(b"\n") > 0
        response = other.test_client().post(f"/v0/events?name={name}&wait=true", data=exported.data)
        assert response.get_json()["quarantined_rows"] == 0
    for case in map(json.loads, (GOLDEN / "pipes.jsonl").read_text().splitlines()):
        url = f"/v0/pipes/{case['pipe']}.json?{case['params']}"
        assert other.test_client().get(url).get_json().get("data") == client.get(url).get_json().get("data")
    other.extensions["store"].close()


def test_an_export_returns_the_event_that_was_sent(client: FlaskClient) -> None:
    texts = {
        "event_id": "0FE04A48-not-a-canonical-uuid", "site_uuid": "site", "member_uuid": "m", "member_status": "free",
        "post_uuid": "p", "post_type": "post", "gift_link": "g", "locale": "en-US", "location": "DE",
        "pathname": "/\"\\/", "href": "https://blog.example/", "device": "desktop", "os": "macos", "browser": "chrome",
        "user-agent": "Mozilla", "utm_source": None,
        "utm_medium": "m", "utm_campaign": "c", "utm_term": "t", "utm_content": None,
    }  # fmt: skip
    event = {
        "timestamp": "2026-11-22T00:30:13.714Z",
        "action": "page_hit",
        "version": "1",
        "site_uuid": "site",
        "session_id": "abc",
        "inserted_at": "2026-11-22T00:30:14.000Z",
        "payload": texts
        | {
            "parsedReferrer": {"url": "https://t.co/", "source": None, "medium": None},
            "referrerUrl": "https://t.co/",
            "referrerSource": "Twitter",
            "referrerMedium": None,
            "meta": {"received_timestamp": "2026-11-22T00:30:13.700Z", "more": [1, {"a": None}]},
            "unknown": {"nested": [True, 1.5, "\u00e4"]},
        },
    }
    client.post(URL, json=event)
    assert json.loads(client.get("/v0/store/export?name=analytics_events").data) == event


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.ndjson.gz", "rows.parquet"])
def test_a_file_that_was_exported_can_be_imported(
    app: Flask, client: FlaskClient, tmp_path: Path, clock: Clock, name: str
) -> None:
    post_golden(client)
    other = create_app(Settings(data_dir=tmp_path / "other", bind=app.extensions["store"].settings.bind), clock=clock)
    for source in ("analytics_events", "automation_run_events"):
        file = str(tmp_path / f"{source}-{name}")
        done = app.test_cli_runner().invoke(args=["store", "export", "--name", source, file])
        assert (done.exit_code, done.exception) == (0, None), done.output
        done = other.test_cli_runner().invoke(args=["store", "import", "--name", source, file])
        assert (done.exit_code, done.exception) == (0, None), done.output
        exports = [side.test_client().get(f"/v0/store/export?name={source}").data for side in (app, other)]
        assert sorted(exports[0].splitlines()) == sorted(exports[1].splitlines())
    other.extensions["store"].close()


@pytest.mark.parametrize("name", ["rows.ndjson", "rows.ndjson.gz", "rows.parquet"])
def test_an_export_that_breaks_off_leaves_the_older_file(
    app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    post_golden(client)
    file = tmp_path / name
    file.write_bytes(b"older")
    (tmp_path / f"link-{name}").symlink_to(file)
    for path in (file, tmp_path / f"link-{name}"):
        with monkeypatch.context() as patched:
            patched.setattr(engine_module, "count", lambda *_: 1_000_000)
            done = app.test_cli_runner().invoke(args=["store", "export", str(path)])
        assert "broke off" in done.output
        assert file.read_bytes() == b"older"
    assert app.test_cli_runner().invoke(args=["store", "export", str(path)]).exit_code == 0
    assert path.is_symlink()
    assert file.read_bytes() not in (b"", b"older")


def test_an_export_may_be_written_to_a_pipe(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    post_golden(client)
    pipe = tmp_path / "rows"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert app.test_cli_runner().invoke(args=["store", "export", str(pipe)]).exit_code == 0
    reader.join(30)
    assert received[0].count(b"\n") == 32
    assert pipe.is_fifo()
