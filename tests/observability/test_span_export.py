"""Spans are exported by the process that made them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tests.support.app import TARGET, Log
from tests.support.processes import PATIENCE, ROOT, wait_until
from tests.support.spans import Spans
from traffic_analytics import __version__
from traffic_analytics.observability.span_export import FLUSH_SECONDS, LazyExporter, exporter_for, resource
from traffic_analytics.settings import Settings
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

HIT = "POST /api/v1/page_hit"
PRIVATE = "private-9d1f"


def test_without_traces_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    program = """
import sys
from app import app
answer = app.test_client().get("/health")
assert answer.status_code == 200
loaded = [name for name in sys.modules if name.startswith(("opentelemetry", "traffic_analytics.observability.trac"))]
assert bool(loaded) is (len(sys.argv) > 1), loaded
"""
    common = {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "PROXY_TARGET": TARGET,
        "REQUEST_TOKENS": "true",
        "DATA_DIR": str(tmp_path),
    }
    for more, arguments in (({}, []), ({"OTEL_TRACES_EXPORTER": "otlp"}, ["on"])):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={**common, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr


def test_traces_start_in_the_process_that_sends_them(tmp_path: Path) -> None:
    """With preloading, a thread of the master would be dead in every worker."""
    before = set(threading.enumerate())
    environment = {
        "PROXY_TARGET": TARGET,
        "REQUEST_TOKENS": "true",
        "DATA_DIR": str(tmp_path),
        "ENABLE_SALT_CLEANUP_SCHEDULER": "false",
    }
    app = create_app(Settings.from_env(environment | {"OTEL_TRACES_EXPORTER": "otlp"}))
    assert set(threading.enumerate()) <= before

    background = app.extensions["traffic_analytics"]
    background.start()
    try:
        (sender,) = [each for each in set(threading.enumerate()) - before if each.name not in {"counts", "salts"}]
        assert sender.name == "OtelBatchSpanRecordProcessor"
    finally:
        background.stop(timeout=PATIENCE)
    assert not sender.is_alive()


def test_a_given_processor_replaces_the_exporter(start: Any, spans: Spans) -> None:
    no_chores = {"ENABLE_SALT_CLEANUP_SCHEDULER": "false", "TINYBIRD_TRACKER_TOKEN": ""}
    service = start(OTEL_TRACES_EXPORTER="otlp", span_processor=spans.processor, **no_chores)
    background = service.app.extensions["traffic_analytics"]
    before = set(threading.enumerate())
    background.start()
    try:
        assert {each.name for each in set(threading.enumerate()) - before} <= {"counts", "salts"}
        service.hit()
        assert HIT in spans.names
    finally:
        background.stop(timeout=PATIENCE)


def test_contradictory_queue_sizes_stop_the_start(start: Any, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    service = start(OTEL_TRACES_EXPORTER="otlp", ENABLE_SALT_CLEANUP_SCHEDULER="false")

    with pytest.raises(ValueError, match="max_queue_size"):
        service.app.extensions["traffic_analytics"].start()
    assert "max_queue_size" in log.records[0]["message"]


@pytest.mark.parametrize(
    ("environment", "name", "version"),
    [
        ({}, "analytics-service", __version__),
        ({"OTEL_SERVICE_NAME": "hits", "BUILD_LABEL": "b1"}, "hits", f"{__version__}+b1"),
    ],
)
def test_spans_name_their_service_and_version(environment: dict[str, str], name: str, version: str) -> None:
    attributes = resource(
        Settings.from_env({"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", **environment})
    ).attributes

    assert (attributes["service.name"], attributes["service.version"]) == (name, version)


def test_a_worker_has_a_name_of_its_own() -> None:
    assert resource(Settings(worker_mode=True)).attributes["service.name"] == "analytics-worker"


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/x/"}, "http://c:1/x/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/x"}, "http://c:1/x"),
        ({"OTEL_TRACE_EXPORTER": "jaeger"}, "http://jaeger:4318/v1/traces"),
    ],
)
def test_spans_are_sent_to_the_endpoint_of_the_settings(environment: dict[str, str], endpoint: str) -> None:
    exporter: Any = exporter_for(
        Settings.from_env({"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", **environment})
    )()

    assert exporter._endpoint == endpoint
    exporter.shutdown()


def test_spans_for_google_are_sent_to_the_configured_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "another")  # or Google's library complains
    settings = {
        "PROXY_TARGET": TARGET,
        "TINYBIRD_TRACKER_TOKEN": "p.token",
        "OTEL_TRACES_EXPORTER": "gcp",
        "GOOGLE_CLOUD_PROJECT": "my-project",
    }

    make = exporter_for(Settings.from_env(settings))
    with pytest.warns(DeprecationWarning, match="migration"):  # Google's advice is OTLP, one day
        exporter: Any = make()

    assert type(exporter).__name__ == "CloudTraceSpanExporter"
    assert exporter.project_id == "my-project"
    exporter.client.transport.close()


class Refusing(SpanExporter):
    """An exporter that cannot be made at first, for want of credentials."""

    def __init__(self) -> None:
        self.makes = 0
        self.spans: list[ReadableSpan] = []

    def make(self) -> SpanExporter:
        self.makes += 1
        if self.makes == 1:
            raise OSError(PRIVATE)
        return self

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def test_an_exporter_that_cannot_be_made_is_made_later(start: Any, log: Log) -> None:
    refusing = Refusing()
    processor = BatchSpanProcessor(LazyExporter(refusing.make), schedule_delay_millis=10)
    service = start(OTEL_TRACES_EXPORTER="otlp", span_processor=processor)

    def arrived() -> bool:
        assert service.hit().status_code == 202
        return bool(refusing.spans)

    wait_until(arrived)
    processor.shutdown()  # type: ignore[no-untyped-call]
    (record,) = log.records
    assert (record["event"], record["error"]) == ("TracesFailed", "OSError")


class Stuck(SpanExporter):
    """A collector that never responds."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.end = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.end.wait()
        return SpanExportResult.FAILURE


def test_a_silent_collector_delays_neither_hits_nor_the_end(start: Any) -> None:
    stuck = Stuck()
    processor = BatchSpanProcessor(stuck, max_queue_size=4, max_export_batch_size=2)
    service = start(OTEL_TRACES_EXPORTER="otlp", span_processor=processor)
    with contextlib.ExitStack() as stack:
        stack.callback(stuck.end.set)
        for _ in range(20):
            assert service.hit().status_code == 202
        assert stuck.asked.wait(PATIENCE)
        done = threading.Event()

        def stop() -> None:
            service.app.extensions["traffic_analytics"].stop(0.1)
            done.set()

        threading.Thread(target=stop, daemon=True).start()
        assert done.wait(FLUSH_SECONDS + PATIENCE)
