"""A trace is of one request or of one batch; what its spans say is ours, never the client's.

| span | of | parent |
|---|---|---|
| `POST /api/v1/page_hit` and the like | a request, from its headers to its answer | what the proxy in front named |
| `ask the salt store` | a salt that this process does not have yet | the request; none in a worker |
| `send to Tinybird` | one event | the request |
| `send a batch to Tinybird` | several events | none, or the request that brought them: Ghost's sync |

No attribute holds an address, a user agent, a token, a body, a query, or a path that is no route. Errors are told by
their class, since their messages may quote any of these. Nothing of a trace travels on to Tinybird.

Each class here stands around a part and is put there by observation.py, only if traces are wanted.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from traffic_analytics.delivery.target import Verdict, count_events
from traffic_analytics.errors import AnalyticsError
from traffic_analytics.hits.routes import HIT_PATH
from traffic_analytics.wsgi import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from traffic_analytics.delivery.target import Delivery, Reply, Target
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings

OUTCOME = "traffic_analytics.outcome"
PIPE = "traffic_analytics.pipe"
DATA_SOURCE = "traffic_analytics.data_source"
EVENTS = "traffic_analytics.events"
VERDICT = "traffic_analytics.verdict"
SALT_STORE = "traffic_analytics.salt_store"

_PIPES = "/v0/pipes/"
_PIPE = _PIPES + "NAME.json"
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})/([0-9]{1,20});o=([01])", re.IGNORECASE)


class Spans:
    """Where spans are begun: nowhere, until the process that is to send them has started."""

    def __init__(self) -> None:
        self.tracer: Tracer = trace.NoOpTracer()

    @contextmanager
    def span(self, name: str, kind: SpanKind, attributes: Mapping[str, str | int]) -> Iterator[Span]:
        """Begin a span within the current one, if there is one; an error ends it and is told by its class."""
        span = self.tracer.start_span(name, kind=kind, attributes=attributes)
        with current(span):
            try:
                yield span
            except Exception as error:
                fail(span, type(error).__name__)
                raise


def fail(span: Span, cause: str) -> None:
    """Mark a span as failed. The cause is a class, a status or a verdict, and quotes nothing."""
    span.set_attribute(ERROR_TYPE, cause)
    span.set_status(StatusCode.ERROR, cause)


class current:  # noqa: N801 - reads like contextlib's
    """Make a span the current one for a block, and end it. OpenTelemetry's own would quote errors, and costs more."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token = context.attach(trace.set_span_in_context(self._span))

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)
        self._span.end()


class Route(NamedTuple):
    """A route whose requests have spans, and the outcome of those that nobody says more of."""

    name: str
    attributes: dict[str, str]
    outcome: str


def routes(settings: Settings) -> dict[tuple[str, str], Route]:
    """List the routes whose requests have spans: none that is asked for by balancers, scrapers and scanners."""
    traced = [("POST", HIT_PATH, "bot")]
    if settings.tinybird_sync_auth is not None:
        traced.append(("POST", "/api/v1/tinybird-sync", "answered"))
    if settings.stats_target is not None:
        traced.append(("GET", _PIPE, "answered"))
    return {
        (method, path): Route(f"{method} {path}", {HTTP_REQUEST_METHOD: method, HTTP_ROUTE: path}, outcome)
        for method, path, outcome in traced
    }


class TracedRequests:
    """WSGI middleware: a span for each request to one of the routes, others pass by."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        spans: Spans,
        traced: Mapping[tuple[str, str], Route],
        parent_of: Callable[[Mapping[str, Any]], Context | None],
    ) -> None:
        self._app = app
        self._spans = spans
        self._routes = traced
        self._parent_of = parent_of

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        path = environ.get("PATH_INFO", "").removeprefix(PREFIX).removesuffix("/")
        is_pipe = path.startswith(_PIPES)
        route = self._routes.get((environ["REQUEST_METHOD"], _PIPE if is_pipe else path))
        if route is None:
            return self._app(environ, start_response)
        status = 500

        def note_status(line: str, *more: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, *more)

        span = self._spans.tracer.start_span(route.name, self._parent_of(environ), SpanKind.SERVER, route.attributes)
        with current(span):
            try:
                return self._app(environ, note_status)
            finally:
                if isinstance(span, ReadableSpan):
                    _conclude(span, status, route.outcome)
                    if is_pipe and status == 200:  # only then is the name one of the target's
                        span.set_attribute(PIPE, path[len(_PIPES) :].removesuffix(".json"))


def _conclude(span: Any, status: int, outcome: str) -> None:
    span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    if status >= 500:
        span.set_attribute(OUTCOME, "failed")
        if span.status.status_code is StatusCode.UNSET:
            fail(span, str(status))
    elif status >= 400:
        span.set_attribute(OUTCOME, "refused")
    elif OUTCOME not in span.attributes:
        span.set_attribute(OUTCOME, outcome)


class TracedDelivery:
    """Tells the request's span what became of its event."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def accept(self, data_source: str, event: bytes, token: str | None) -> Reply | None:
        """Deliver an event or see that it will be."""
        span = trace.get_current_span()
        try:
            reply = self._delivery.accept(data_source, event, token)
        except AnalyticsError as error:
            fail(span, type(error).__name__)
            raise
        span.set_attribute(OUTCOME, "kept" if reply is None else "delivered")
        return reply


class TracedTarget:
    """A span for each request to the target. `url` is where it is, if it is reached over HTTP."""

    def __init__(self, target: Target, spans: Spans, url: str | None = None) -> None:
        self.NAME = target.NAME
        self.WRONG_SETUP = target.WRONG_SETUP
        self._target = target
        self._spans = spans
        self._kind = SpanKind.PRODUCER if url is None else SpanKind.CLIENT
        self._where: dict[str, str | int] = {}
        if url is not None:
            parts = urlsplit(url)
            self._where = {
                HTTP_REQUEST_METHOD: "POST",
                SERVER_ADDRESS: parts.hostname or "",
                SERVER_PORT: parts.port or (443 if parts.scheme == "https" else 80),
            }

    def post(self, data_source: str, event: bytes, token: str | None = None) -> Reply:
        """Send one event while a browser waits for it."""
        within = trace.get_current_span()
        if not within.is_recording() and within.get_span_context().is_valid:
            # This span would not be sampled either, and most are not where only a share of requests is.
            return self._target.post(data_source, event, token)
        with self._span(f"send to {self.NAME}", data_source, 1) as span:
            reply = self._target.post(data_source, event, token)
            self._note(span, reply)
        return reply

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send events for which nobody waits."""
        with self._span(f"send a batch to {self.NAME}", data_source, count_events(events)) as span:
            reply = self._target.post_batch(data_source, events)
            self._note(span, reply)
        return reply

    def _span(self, name: str, data_source: str, events: int) -> Any:
        about = {**self._where, DATA_SOURCE: data_source, EVENTS: events}
        return self._spans.span(name, self._kind, about)

    def _note(self, span: Span, reply: Reply) -> None:
        span.set_attribute(VERDICT, reply.verdict.name.lower())
        if self._where and reply.status:
            span.set_attribute(HTTP_RESPONSE_STATUS_CODE, reply.status)
        if reply.verdict is not Verdict.TAKEN:
            fail(span, str(reply.status or reply.reason))


class TracedSalts:
    """A span for each salt that is not in memory, and so is asked of the store."""

    def __init__(self, store: SaltStore, spans: Spans, name: str) -> None:
        self._store = store
        self._spans = spans
        self._about = {SALT_STORE: name}
        self.prepare = store.prepare
        self.forget_before = store.forget_before
        self.check = store.check

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        request = trace.get_current_span()
        try:
            with self._spans.span("ask the salt store", SpanKind.INTERNAL, self._about):
                return self._store.get_or_create(site_uuid, day)
        except AnalyticsError as error:
            fail(request, type(error).__name__)
            raise


def parent_of_request(settings: Settings) -> Callable[[Mapping[str, Any]], Context | None]:
    """Choose who may say which trace a request belongs to.

    With TRUST_PROXY=false or 0 nothing stands between visitors and us that could know of a trace, and what a visitor
    says of one is not heard. Behind a proxy its word counts, which may be the visitor's, unless it is told to drop it.
    """
    if not settings.trust_proxy:
        return lambda _environ: None
    if settings.otel_traces_exporter == "gcp":
        return lambda environ: _from_traceparent(environ) or _from_cloud_trace(environ)
    return _from_traceparent


class _Traceparent:
    """Shows OpenTelemetry the one header of a request that holds no free text; `tracestate` would be sent on."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        return [carrier["HTTP_TRACEPARENT"]] if key == "traceparent" else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:  # noqa: ARG002
        return ["traceparent"]


_W3C = TraceContextTextMapPropagator()
_TRACEPARENT: Any = _Traceparent()


def _from_traceparent(environ: Mapping[str, Any]) -> Context | None:
    if "HTTP_TRACEPARENT" not in environ:
        return None
    return _W3C.extract(environ, getter=_TRACEPARENT) or None


def _from_cloud_trace(environ: Mapping[str, Any]) -> Context | None:
    """Read Google's own header: trace in hex, span in decimal, and whether Google samples it."""
    match = _CLOUD_TRACE.fullmatch(environ.get("HTTP_X_CLOUD_TRACE_CONTEXT", ""))
    if match is None:
        return None
    named = SpanContext(int(match[1], 16), int(match[2]), is_remote=True, trace_flags=TraceFlags(int(match[3])))
    return trace.set_span_in_context(NonRecordingSpan(named)) if named.is_valid else None
