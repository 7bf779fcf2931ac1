"""Hold dashboard, alerts and the page on monitoring against the metrics that the service exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from traffic_analytics.delivery.spool import Spool
from traffic_analytics.observability.collectors import BuildInfo, SpoolState
from traffic_analytics.observability.metrics import MessageMetrics, Metrics

PROJECT = Path(__file__).parents[2]
DASHBOARD = PROJECT / "docs" / "operate" / "monitoring" / "grafana-dashboard.json"
ALERTS = PROJECT / "docs" / "operate" / "monitoring" / "alerts.yaml"
PAGE = PROJECT / "docs" / "operate" / "monitoring.md"


@pytest.fixture
def exported(tmp_path: Path) -> dict[str, set[str]]:
    """Return the names of all metrics, as queries name them, with their labels."""
    spool = Spool(tmp_path / "spool.sqlite3", sync="normal", max_mb=1, clock=lambda: 0.0)
    spool.prepare()
    metrics = Metrics()
    MessageMetrics(metrics)
    metrics.register(BuildInfo(""))
    metrics.register(SpoolState(spool, 1, clock=lambda: 0.0, monotonic=lambda: 0.0))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", metrics.export().decode(), re.MULTILINE))
    declared = {
        each._name + ("_total" if each._type == "counter" else ""): set(each._labelnames)
        for each in {*metrics.registry._collector_to_names}
        if isinstance(each, MetricWrapperBase)
    }
    return {name: declared.get(name, {"version", "label"} if name.endswith("_info") else set()) for name in kinds}


def queries(panels: list[dict[str, Any]]) -> list[str]:
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def expressions() -> list[str]:
    """Return the alerts' expressions."""
    text = re.sub(r"\n {10,}", " ", ALERTS.read_text(encoding="utf-8"))
    return re.findall(r"^ +expr: (?:>-)?(.*)$", text, re.MULTILINE)


def named(text: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\btraffic_analytics_\w+", text)}


def test_what_the_dashboard_and_the_alerts_name_is_exported_and_all_of_it_is_shown(
    exported: dict[str, set[str]],
) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))

    assert named(" ".join(queries(dashboard["panels"]))) == set(exported)
    assert named(" ".join(expressions())) <= set(exported)
    assert named(ALERTS.read_text(encoding="utf-8")) <= set(exported)


def test_the_page_lists_every_metric_with_its_labels(exported: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `(traffic_analytics_\w+)` \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == exported


def test_queries_use_labels_that_exist(exported: dict[str, set[str]]) -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    of_prometheus = {"job", "instance", "le"}
    for query in [*queries(dashboard["panels"]), *expressions()]:
        known = of_prometheus.union(*(exported[name] for name in named(query) if name in exported))
        asked = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in group.split(", ")}
        asked |= set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))

        assert asked <= known, query


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    cells = [
        (column, line)
        for each in panels
        for column in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for line in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    ]

    assert dashboard["id"] is None
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    assert {each["datasource"]["uid"] for each in panels if "targets" in each} == {"${datasource}"}
    assert len({each["id"] for each in panels}) == len(panels)
    assert len(cells) == len(set(cells)), "no panel lies on another"
    assert max(column for column, _ in cells) < 24
    assert all(each["description"] for each in panels if "targets" in each)


def test_every_alert_describes_the_fault_and_the_action() -> None:
    alerts = ALERTS.read_text(encoding="utf-8").split("- alert: ")[1:]

    assert alerts
    for alert in alerts:
        for each in ("severity: ", "summary: ", "description: ", "action: "):
            assert alert.count(each) == 1, alert.splitlines()[0]
    names = [alert.split("\n", 1)[0] for alert in alerts]
    tested = (PROJECT / "tests" / "alerts_test.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'alertname="(\w+)"', tested)) == set(names)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_each_alert_fires_when_it_should() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", "tests/alerts_test.yaml"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
