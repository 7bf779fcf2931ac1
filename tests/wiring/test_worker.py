"""A worker, as create_app builds it, while its Pub/Sub cannot be reached."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.app import page_hit
from tests.support.processes import Upstream, free_port
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def make_worker(target: str, data_dir: Path, **environment: str) -> Flask:
    settings = {
        "PROXY_TARGET": target,
        "TINYBIRD_TRACKER_TOKEN": "test-token",
        "DATA_DIR": str(data_dir),
        "WORKER_MODE": "true",
        "GOOGLE_CLOUD_PROJECT": "test-project",
        "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{free_port()}",
        "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": "hits",
    }
    return create_app(Settings.from_env(settings | environment))


def test_a_worker_is_alive_but_not_ready_and_accepts_no_hit(upstream: Upstream, tmp_path: Path) -> None:
    client = make_worker(upstream.url, tmp_path).test_client()

    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 503
    assert client.post("/api/v1/page_hit?name=analytics_events", json=page_hit()).status_code == 404
    assert upstream.events == []


def test_check_names_the_parts_of_a_worker_that_do_not_work(upstream: Upstream, tmp_path: Path) -> None:
    app = make_worker(upstream.url, tmp_path, PUBSUB_TOPIC_SET_ASIDE="dead-letters")

    done = app.test_cli_runner().invoke(args=["check"])

    working = [line for line in done.output.splitlines() if line.startswith("ok ")]
    broken = [line for line in done.output.splitlines() if line.startswith("FAIL ")]
    assert done.exit_code == 1
    assert len(working) == len(["settings", "data directory", "free disk", "salt store", "spool", "Tinybird", "clock"])
    assert len(broken) == 2
    assert broken[0].startswith("FAIL  Pub/Sub subscription: ")
    assert broken[1].startswith("FAIL  Pub/Sub topic ")


def test_check_names_a_data_directory_that_cannot_be_written(upstream: Upstream, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    app = make_worker(upstream.url, data_dir)
    shutil.rmtree(data_dir)
    data_dir.write_text("no directory")

    done = app.test_cli_runner().invoke(args=["check"])

    assert f"FAIL  data directory {data_dir}: cannot be written: File exists" in done.output
    assert "FAIL  salt store (sqlite): " in done.output
    assert "FAIL  spool: " in done.output
