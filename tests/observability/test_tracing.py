from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from tests.support.app import FIREFOX, SITE, TARGET, Log, page_hit
from tests.support.fakes import UnusableSalts
from tests.support.processes import PATIENCE, ROOT, wait_until
from traffic_analytics import __version__
from traffic_analytics.delivery.batch_sender import BatchSender
from traffic_analytics.observability.span_export import FLUSH_SECONDS, LazyExporter, Traces, exporter_for, resource
from traffic_analytics.settings import Settings
from traffic_analytics.tinybird.events import Tinybird
from traffic_analytics.wiring import create_app

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
HIT = "POST /api/v1/page_hit"
PRIVATE = "private-9d1f"
ADDRESS = "203.0.113.77"


class Spans:
    """The finished spans, in the order of their ends."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.processor = SimpleSpanProcessor(self._exporter)

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> Any:
        """Return the last span of a name."""
        return [span for span in self.all if span.name == name][-1]


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(start: Any, spans: Spans) -> Any:
    """Start a service whose traces are on."""
    return lambda **environment: start(
        **{"span_processor": spans.processor, "OTEL_TRACES_EXPORTER": "otlp", **environment}
    )


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_hit_is_a_trace_of_request_salt_and_forward(traced: Any, spans: Spans) -> None:
    assert traced().hit().status_code == 202

    assert spans.names == ["ask the salt store", "send to Tinybird", HIT]
    salt, forward, request = spans.all
    assert (request.kind, request.parent) == (SpanKind.SERVER, None)
    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/api/v1/page_hit",
        "http.response.status_code": 202,
        "traffic_analytics.outcome": "delivered",
    }
    assert forward.kind is SpanKind.CLIENT
    assert attributes(forward) == {
        "http.request.method": "POST",
        "server.address": "tinybird.example",
        "server.port": 80,
        "http.response.status_code": 202,
        "traffic_analytics.data_source": "analytics_events",
        "traffic_analytics.events": 1,
        "traffic_analytics.verdict": "taken",
    }
    assert attributes(salt) == {"traffic_analytics.salt_store": "sqlite"}
    assert {span.parent.span_id for span in (salt, forward) if span.parent} == {request.context.span_id}
    assert {span.context.trace_id for span in spans.all} == {request.context.trace_id}
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}


def test_a_cached_salt_has_no_span(traced: Any, spans: Spans) -> None:
    service = traced()
    service.hit()
    service.hit()

    assert spans.names.count("ask the salt store") == 1
    assert spans.names.count(HIT) == 2


@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_route_has_one_name_wherever_it_is_reached(prefix: str, slash: str, traced: Any, spans: Spans) -> None:
    assert traced().hit(target=f"{prefix}/api/v1/page_hit{slash}?name=analytics_events").status_code == 202

    assert attributes(spans.named(HIT))["http.route"] == "/api/v1/page_hit"


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/info", "/metrics", "/wp-login.php", "/v0/pipes/a.json"])
@pytest.mark.parametrize("prefix", ["", "/.ghost/analytics"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_requests_of_balancers_scrapers_and_scanners_are_not_traced(
    path: str, prefix: str, method: str, traced: Any, spans: Spans
) -> None:
    traced().client.open(prefix + path, method=method)

    assert spans.all == ()


def test_a_preflight_is_not_traced(traced: Any, spans: Spans) -> None:
    assert traced().client.options("/api/v1/page_hit").status_code == 204

    assert spans.all == ()


@pytest.mark.parametrize(
    ("change", "status", "outcome", "error"),
    [
        ({"headers": {"User-Agent": GOOGLEBOT}}, 202, "bot", None),
        ({"body": {"payload": {}}}, 400, "refused", None),
        ({"headers": {"Content-Type": "text/plain"}}, 415, "refused", None),
        ({"body": b"x" * 30_000}, 413, "refused", None),
    ],
)
def test_a_request_has_its_outcome(
    change: dict[str, Any], status: int, outcome: str, error: str | None, traced: Any, spans: Spans
) -> None:
    assert traced().hit(**change).status_code == status

    (request,) = spans.all
    assert attributes(request)["traffic_analytics.outcome"] == outcome
    assert attributes(request)["http.response.status_code"] == status
    assert request.status.status_code is StatusCode.UNSET


def test_an_event_that_tinybird_refuses_fails_the_forward_alone(traced: Any, spans: Spans, tinybird: Any) -> None:
    tinybird.post(TARGET, status_code=503)

    assert traced().hit().status_code == 202
    assert attributes(spans.named(HIT))["traffic_analytics.outcome"] == "kept"
    assert spans.named(HIT).status.status_code is StatusCode.UNSET
    forward = spans.named("send to Tinybird")
    assert (forward.status.status_code, forward.status.description) == (StatusCode.ERROR, "503")
    assert attributes(forward)["traffic_analytics.verdict"] == "later"


def test_a_forward_without_response_records_the_class_of_the_error(traced: Any, spans: Spans, tinybird: Any) -> None:
    tinybird.post(TARGET, exc=requests.ReadTimeout(PRIVATE))
    traced().hit()

    forward = spans.named("send to Tinybird")
    assert forward.status.description == attributes(forward)["error.type"] == "ReadTimeout"
    assert "http.response.status_code" not in attributes(forward)


def test_a_hit_that_fails_records_the_class_of_the_error(traced: Any, spans: Spans, tinybird: Any) -> None:
    assert traced(salts=UnusableSalts()).hit().status_code == 503
    salt, request = spans.all[-2:]
    for span in (salt, request):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "SaltUnavailable")
        assert attributes(span)["error.type"] == "SaltUnavailable"
    assert attributes(request)["traffic_analytics.outcome"] == "failed"

    tinybird.post(TARGET, status_code=500)
    assert traced(TINYBIRD_TRACKER_TOKEN="").hit().status_code == 502
    assert spans.named(HIT).status.description == "UpstreamFailed"


def test_metrics_and_traces_both_receive_each_outcome(traced: Any, spans: Spans) -> None:
    service = traced(METRICS="true")
    assert service.hit().status_code == 202
    assert service.hit(headers={"User-Agent": GOOGLEBOT}).status_code == 202

    outcomes = [attributes(span)["traffic_analytics.outcome"] for span in spans.all if span.name == HIT]
    assert outcomes == ["delivered", "bot"]
    metrics = service.client.get("/metrics").text
    for outcome in ("accepted", "bot"):
        assert f'traffic_analytics_hits_total{{outcome="{outcome}",rule=""}} 1.0' in metrics


def test_a_defect_records_its_status(traced: Any, spans: Spans) -> None:
    service = traced()
    service.now = PRIVATE

    assert service.hit().status_code == 500
    assert spans.named(HIT).status.description == "500"


def test_a_query_of_statistics_names_its_pipe_if_the_target_knows_it(traced: Any, spans: Spans, tinybird: Any) -> None:
    service = traced(STATS_TARGET="http://stats.example", STATS_CACHE_SECONDS="0")
    tinybird.get("http://stats.example/v0/pipes/api_kpis.json", json={"data": []})
    tinybird.get(f"http://stats.example/v0/pipes/{PRIVATE.replace('-', '_')}.json", status_code=404)
    known = service.client.get(f"/v0/pipes/api_kpis.json?site_uuid={SITE}&token=t")
    unknown = service.client.get(f"/v0/pipes/{PRIVATE.replace('-', '_')}.json?token=t")

    assert (known.status_code, unknown.status_code) == (200, 404)
    assert spans.names == ["GET /v0/pipes/NAME.json"] * 2
    assert attributes(spans.all[0]) == {
        "http.request.method": "GET",
        "http.route": "/v0/pipes/NAME.json",
        "http.response.status_code": 200,
        "traffic_analytics.outcome": "answered",
        "traffic_analytics.pipe": "api_kpis",
    }
    assert "traffic_analytics.pipe" not in attributes(spans.all[1])


class Source:
    """Ignores the results of its events."""

    def acknowledge(self, events: Sequence[Event]) -> None: ...
    def dead_letter(self, event: Event, reason: str) -> bool:
        return True

    def renew_lease(self) -> None: ...


def test_a_batch_is_a_trace_of_its_own(spans: Spans, tinybird: Any) -> None:
    settings = Settings.from_env(
        {"PROXY_TARGET": TARGET, "TINYBIRD_TRACKER_TOKEN": "p.token", "OTEL_TRACES_EXPORTER": "otlp"}
    )
    traces = Traces(settings)
    traces.start(spans.processor)
    target = traces.wrap_target(Tinybird(TARGET, "t", wait=False, connections=1), "https://tinybird.example")
    sender = BatchSender(target, monotonic=lambda: 1000.0, stopping=threading.Event())

    assert sender.deliver("analytics_events", [Event(b'{"a":1}'), Event(b'{"a":2}')], Source())

    (batch,) = spans.all
    assert (batch.name, batch.kind, batch.parent) == ("send a batch to Tinybird", SpanKind.CLIENT, None)
    assert attributes(batch)["traffic_analytics.events"] == 2
    assert attributes(batch)["traffic_analytics.data_source"] == "analytics_events"
    assert attributes(batch)["server.port"] == 443
    assert (target.NAME, target.WRONG_SETUP) == (Tinybird.NAME, Tinybird.WRONG_SETUP)


class Event:
    def __init__(self, event: bytes) -> None:
        self.event = event


def test_nothing_of_a_trace_is_sent_to_tinybird(traced: Any, start: Any, tinybird: Any) -> None:
    start().hit(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    traced().hit(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})

    without, with_traces = (dict(request.headers) for request in tinybird.request_history)
    assert with_traces.keys() == without.keys()
    assert TRACE not in str(with_traces)


@pytest.mark.parametrize("token", ["", f"ours-{PRIVATE}"])
def test_no_span_holds_anything_of_a_visitor(token: str, traced: Any, spans: Spans, tinybird: Any) -> None:
    service = traced(TINYBIRD_TRACKER_TOKEN=token, STATS_TARGET="http://stats.example")
    headers = {
        "User-Agent": f"{FIREFOX} {PRIVATE}",
        "X-Forwarded-For": ADDRESS,
        "Cookie": f"a={PRIVATE}",
        "Authorization": f"Bearer {PRIVATE}",
        "Referer": f"https://{PRIVATE}.example/",
        "traceparent": f"00-{TRACE}-{SPAN}-01",
        "tracestate": f"a={PRIVATE}",
        "baggage": f"a={PRIVATE}",
    }
    target = f"/api/v1/page_hit?name=analytics_events&token={PRIVATE}"

    def hit(body: Any = None, **more: str) -> None:
        body = page_hit(pathname=f"/{PRIVATE}/") if body is None else body
        service.hit(body, target, headers=headers | more, environ_overrides={"REMOTE_ADDR": "203.0.113.78"})

    hit()
    hit({"payload": PRIVATE})
    hit(**{"Content-Type": PRIVATE})
    for failure in (requests.ConnectionError(PRIVATE), requests.ReadTimeout(PRIVATE), OSError(PRIVATE)):
        tinybird.post(TARGET, exc=failure)
        hit()
    tinybird.post(TARGET, status_code=403, text=PRIVATE, reason=PRIVATE)
    hit()
    service.now = PRIVATE
    hit()
    service.client.get(f"/v0/pipes/{PRIVATE}/?{PRIVATE}", headers=headers)
    service.client.get(f"/v0/pipes/a.json?token={PRIVATE}&site_uuid={SITE}", headers=headers)

    assert len(spans.all) > 10
    text = " ".join(
        span.to_json() + repr(span.attributes) + repr(span.events) + repr(span.links) + repr(span.context)
        for span in spans.all
    )
    for private in (PRIVATE, ADDRESS, "203.0.113.78", "Firefox", SITE, "about", "blog.example"):
        assert private not in text


@pytest.mark.parametrize(
    ("header", "settings", "parent"),
    [
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {}, SPAN),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"TRUST_PROXY": "1"}, SPAN),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"TRUST_PROXY": "false"}, None),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {"TRUST_PROXY": "0"}, None),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, {}, None),
        ({"traceparent": "x" * 600}, {}, None),
        ({"traceparent": ""}, {}, None),
        ({"x-cloud-trace-context": f"{TRACE}/{int(SPAN, 16)};o=1"}, {}, None),
        ({"x-cloud-trace-context": f"{TRACE}/{int(SPAN, 16)};o=1"}, {"OTEL_TRACES_EXPORTER": "gcp"}, SPAN),
        ({"x-cloud-trace-context": f"{TRACE}/0;o=1"}, {"OTEL_TRACES_EXPORTER": "gcp"}, None),
        ({"x-cloud-trace-context": f"{TRACE}/{'9' * 20};o=1"}, {"OTEL_TRACES_EXPORTER": "gcp"}, None),
        ({"x-cloud-trace-context": TRACE}, {"OTEL_TRACES_EXPORTER": "gcp"}, None),
        (
            {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-cloud-trace-context": f"{TRACE}/1;o=0"},
            {"OTEL_TRACES_EXPORTER": "gcp"},
            SPAN,
        ),
    ],
)
def test_a_request_belongs_to_the_trace_that_a_proxy_names(
    header: dict[str, str], settings: dict[str, str], parent: str | None, traced: Any, spans: Spans
) -> None:
    assert traced(**settings).hit(headers=header).status_code == 202

    request = spans.named(HIT)
    assert (request.parent and format_span_id(request.parent.span_id)) == parent
    assert (format_trace_id(request.context.trace_id) == TRACE) is (parent is not None)


@pytest.mark.parametrize(
    "header",
    [
        {"traceparent": f"00-{TRACE}-{SPAN}-00"},
        {"x-cloud-trace-context": f"{TRACE}/{int(SPAN, 16)};o=0"},
    ],
)
def test_what_a_proxy_does_not_sample_is_not_sampled(header: dict[str, str], traced: Any, spans: Spans) -> None:
    assert traced(OTEL_TRACES_EXPORTER="gcp").hit(headers=header).status_code == 202

    assert spans.all == ()


def refuse_signature(service: Any, **headers: str) -> None:
    """Provoke one record within a request."""
    assert service.hit(headers=headers).status_code == 401


@pytest.mark.parametrize(("flag", "exported"), [("01", 1), ("00", 0)])
def test_a_record_names_the_span_it_was_written_in(
    flag: str, exported: int, traced: Any, spans: Spans, log: Log
) -> None:
    refuse_signature(traced(HMAC_SECRET="k"), traceparent=f"00-{TRACE}-{SPAN}-{flag}")

    (record,) = log.records
    assert record["trace_id"] == TRACE
    assert len(record["span_id"]) == 16
    assert record["span_id"] != SPAN
    assert "trace_sampled" not in record
    assert [format_span_id(span.context.span_id) for span in spans.all] == [record["span_id"]] * exported


def test_a_pretty_record_names_the_span_too(traced: Any, log: Log) -> None:
    refuse_signature(traced(HMAC_SECRET="k", LOG_FORMAT="pretty"), traceparent=f"00-{TRACE}-{SPAN}-01")

    assert f"\n    trace_id: {TRACE}\n    span_id: " in log.text


def test_a_gcp_record_belongs_to_our_span_rather_than_to_the_headers(traced: Any, spans: Spans, log: Log) -> None:
    service = traced(HMAC_SECRET="k", LOG_FORMAT="gcp", GOOGLE_CLOUD_PROJECT="my-project")
    refuse_signature(service, **{"x-cloud-trace-context": f"{'1' * 32}/12345;o=1"})

    (record,) = log.records
    (request,) = spans.all
    trace_id = format_trace_id(request.context.trace_id)
    assert record["logging.googleapis.com/trace"] == f"projects/my-project/traces/{trace_id}"
    assert record["logging.googleapis.com/spanId"] == format_span_id(request.context.span_id)
    assert record["logging.googleapis.com/trace_sampled"] is True
    assert not record.keys() & {"trace_id", "span_id", "trace_sampled"}


def test_a_log_record_outside_of_any_span_names_none(traced: Any, log: Log) -> None:
    traced()
    logging.getLogger("traffic_analytics.any").error("a message", extra={"event": "Any"})

    (record,) = log.records
    assert not record.keys() & {"trace_id", "span_id", "trace_sampled"}


def test_log_records_of_opentelemetry_are_redacted_and_not_repeated(traced: Any, log: Log) -> None:
    traced()
    logger = logging.getLogger("opentelemetry.exporter.any")
    for error in (ValueError(PRIVATE), KeyError(PRIVATE)):
        logger.warning("Transient error %s for %s, code %d", error, f"https://{PRIVATE}/", 503)
    try:
        json.loads(PRIVATE)
    except ValueError as error:
        logger.error("Error while writing", exc_info=error)

    first, second = log.records
    assert (first["event"], first["message"]) == ("TracesFailed", "Transient error ValueError for …, code 503")
    assert (second["event"], second["error"]) == ("TracesFailed", "JSONDecodeError")
    assert PRIVATE not in log.text


def test_with_traces_the_rate_of_records_is_limited_as_without(traced: Any, log: Log) -> None:
    traced()
    for _ in range(3):
        logging.getLogger("traffic_analytics.any").error("no salt", extra={"event": "SaltUnavailable"})

    assert [record["event"] for record in log.records] == ["SaltUnavailable"]


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
