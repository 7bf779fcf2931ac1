from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from tests.support.app import FIREFOX, SITE, TARGET, page_hit
from tests.support.fakes import UnusableSalts
from tests.support.spans import Spans
from traffic_analytics.delivery.batch_sender import BatchSender
from traffic_analytics.observability.span_export import Traces
from traffic_analytics.settings import Settings
from traffic_analytics.tinybird.events import Tinybird

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
HIT = "POST /api/v1/page_hit"
PRIVATE = "private-9d1f"
ADDRESS = "203.0.113.77"


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
