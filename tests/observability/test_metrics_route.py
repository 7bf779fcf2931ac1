"""Read the metrics over HTTP, on every path and with a token."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest
from flask import Flask

import traffic_analytics
from tests.support.app import NOW, TARGET
from tests.support.metrics import Samples, scrape
from tests.support.processes import PATIENCE, ROOT
from traffic_analytics.observability.metrics import MessageMetrics, Metrics
from traffic_analytics.settings import Settings
from traffic_analytics.wiring.options import register_metrics


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
