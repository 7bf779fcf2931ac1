"""Trace requests, salt look-ups and requests to a target.

| span | of | parent |
|---|---|---|
| `POST /api/v1/page_hit` and the like | a request, from headers to response | the span that a proxy in front named |
| `ask the salt store` | a salt that this process has not cached | the request; none in a worker |
| `send to Tinybird` | one event, or several of requests that wait together | the request of one of them |
| `send a batch to Tinybird` | several events | none, or the request that brought them: Ghost's sync |

No attribute holds an address, user agent, token, body or query, or a path that is no route. Errors are recorded by
their class, since their messages may quote any of these. Nothing of a trace is forwarded to Tinybird.

Instrumentation wraps these classes around the parts of the app, only if traces are on.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import trace
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
from traffic_analytics.wsgi import PREFIX, STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from traffic_analytics.delivery.target import Reply, Target
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings

OUTCOME = "traffic_analytics.outcome"
PIPE = "traffic_analytics.pipe"
DATA_SOURCE = "traffic_analytics.data_source"
EVENTS = "traffic_analytics.events"
VERDICT = "traffic_analytics.verdict"
SALT_STORE = "traffic_analytics.salt_store"

PLACEHOLDER = "NAME.json"
"""Placeholder in a route for the name of a pipe."""

_HIT_OUTCOMES = {"delivered": "delivered", "spooled": "kept", "bot": "bot", "ignored": "ignored", "spam": "spam"}
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})/([0-9]{1,20});o=([01])", re.IGNORECASE)


class Spans:
    """Start spans. They are dropped until the process that sends them has started."""

    def __init__(self) -> None:
        self.tracer: Tracer = trace.NoOpTracer()

    @contextmanager
    def start(self, name: str, kind: SpanKind, attributes: Mapping[str, str | int]) -> Iterator[Span]:
        """Run a block in a span below the current one; an error marks it as failed, by the error's class."""
        span = self.tracer.start_span(name, kind=kind, attributes=attributes)
        with make_current(span):
            try:
                yield span
            except Exception as error:
                mark_failed(span, type(error).__name__)
                raise


def make_current(span: Span) -> AbstractContextManager[Span]:
    """Make a span the current one for a block and end it then; the error of the block is not recorded."""
    return trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False)


def mark_failed(span: Span, cause: str) -> None:
    """Mark a span as failed. The cause is a class, a status or a verdict, and quotes nothing."""
    span.set_attribute(ERROR_TYPE, cause)
    span.set_status(StatusCode.ERROR, cause)


def record_outcome(
    outcome: str,
    data_source: str = "",  # noqa: ARG001
    error: Exception | None = None,
    **_rule_and_site: str,
) -> None:
    """Record a hit's outcome in the request's span; an `OnOutcome` of hits.outcomes. No site is recorded."""
    span = trace.get_current_span()
    if error is None:
        span.set_attribute(OUTCOME, _HIT_OUTCOMES[outcome])
    elif isinstance(error, AnalyticsError) and STATUS.get(type(error), (0, ""))[0] >= 500:
        mark_failed(span, type(error).__name__)


class Route(NamedTuple):
    """A route whose requests have spans."""

    name: str
    attributes: dict[str, str]


class TracedRequests:
    """WSGI middleware: a span for each request to one of `routes`, which are methods and paths.

    Other requests have no span: balancers, scrapers and scanners send most of them.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        spans: Spans,
        routes: Iterable[tuple[str, str]],
        parent_of: Callable[[Mapping[str, Any]], Context | None],
    ) -> None:
        self._app = app
        self._spans = spans
        self._parent_of = parent_of
        self._exact: dict[tuple[str, str], Route] = {}
        self._named: dict[tuple[str, str], Route] = {}
        for method, path in routes:
            known = self._named if path.endswith(PLACEHOLDER) else self._exact
            known[method, path.removesuffix(PLACEHOLDER)] = Route(
                f"{method} {path}", {HTTP_REQUEST_METHOD: method, HTTP_ROUTE: path}
            )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        method = environ["REQUEST_METHOD"]
        path = environ.get("PATH_INFO", "").removeprefix(PREFIX).removesuffix("/")
        pipe = ""
        route = self._exact.get((method, path))
        if route is None:
            route, pipe = self._find_named(method, path)
        if route is None:
            return self._app(environ, start_response)
        status = 500

        def note_status(line: str, *more: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, *more)

        span = self._spans.tracer.start_span(route.name, self._parent_of(environ), SpanKind.SERVER, route.attributes)
        with make_current(span):
            try:
                response = self._app(environ, note_status)
                if hasattr(response, "on_ready"):  # not started yet; wait, so that the span covers the delivery
                    response = _read(response)
                return response
            finally:
                if isinstance(span, ReadableSpan):
                    _record_response(span, status)
                    if pipe and status == 200:  # only then is the name one of the target's
                        span.set_attribute(PIPE, pipe)

    def _find_named(self, method: str, path: str) -> tuple[Route | None, str]:
        for (of_method, folder), route in self._named.items():
            if method == of_method and path.startswith(folder):
                return route, path[len(folder) :].removesuffix(".json")
        return None, ""


def _read(response: Any) -> list[bytes]:
    try:
        return list(response)
    finally:
        response.close()


def _record_response(span: Any, status: int) -> None:
    span.set_attribute(HTTP_RESPONSE_STATUS_CODE, status)
    if status >= 500:
        span.set_attribute(OUTCOME, "failed")
        if span.status.status_code is StatusCode.UNSET:
            mark_failed(span, str(status))
    elif status >= 400:
        span.set_attribute(OUTCOME, "refused")
    elif OUTCOME not in span.attributes:
        span.set_attribute(OUTCOME, "answered")


class TracedTarget:
    """A span for each request to the target. `url` is its address if it is reached over HTTP."""

    def __init__(self, target: Target, spans: Spans, url: str | None = None) -> None:
        self.NAME = target.NAME
        self.WRONG_SETUP = target.WRONG_SETUP
        self._target = target
        self._spans = spans
        self._kind = SpanKind.PRODUCER if url is None else SpanKind.CLIENT
        self._address: dict[str, str | int] = {}
        if url is not None:
            parts = urlsplit(url)
            self._address = {
                HTTP_REQUEST_METHOD: "POST",
                SERVER_ADDRESS: parts.hostname or "",
                SERVER_PORT: parts.port or (443 if parts.scheme == "https" else 80),
            }

    def post(self, data_source: str, events: Sequence[bytes], token: str | None = None) -> Reply:
        """Send events within the request of one of them."""
        request = trace.get_current_span()
        if not request.is_recording() and request.get_span_context().is_valid:
            # This span would not be sampled either, and most are not where only a share of requests is.
            return self._target.post(data_source, events, token)
        with self._start(f"send to {self.NAME}", data_source, len(events)) as span:
            reply = self._target.post(data_source, events, token)
            self._record(span, reply)
        return reply

    def post_batch(self, data_source: str, events: list[bytes]) -> Reply:
        """Send several events."""
        with self._start(f"send a batch to {self.NAME}", data_source, count_events(events)) as span:
            reply = self._target.post_batch(data_source, events)
            self._record(span, reply)
        return reply

    def _start(self, name: str, data_source: str, events: int) -> AbstractContextManager[Span]:
        return self._spans.start(name, self._kind, {**self._address, DATA_SOURCE: data_source, EVENTS: events})

    def _record(self, span: Span, reply: Reply) -> None:
        span.set_attribute(VERDICT, reply.verdict.name.lower())
        if self._address and reply.status:
            span.set_attribute(HTTP_RESPONSE_STATUS_CODE, reply.status)
        if reply.verdict is not Verdict.TAKEN:
            mark_failed(span, str(reply.status or reply.reason))


class TracedSaltStore:
    """A span for each salt that is read from the store because it is not cached."""

    def __init__(self, store: SaltStore, spans: Spans, name: str) -> None:
        self._store = store
        self._spans = spans
        self._attributes = {SALT_STORE: name}
        self.scope = store.scope
        self.chore = store.chore
        self.prepare = store.prepare
        self.forget_before = store.forget_before
        self.check = store.check

    def get_or_create(self, site_uuid: str, day: date) -> str:
        """Return the salt of a site and day."""
        with self._spans.start("ask the salt store", SpanKind.INTERNAL, self._attributes):
            return self._store.get_or_create(site_uuid, day)


def parent_of_request(settings: Settings) -> Callable[[Mapping[str, Any]], Context | None]:
    """Choose the header from which the parent of a request's span is read.

    With TRUST_PROXY=false or 0 no proxy stands in front, so the header is a visitor's and ignored. Behind a proxy the
    header counts; it is the visitor's own unless the proxy drops or replaces it.
    """
    if not settings.trust_proxy:
        return lambda _environ: None
    if settings.otel_traces_exporter == "gcp":
        return lambda environ: _from_traceparent(environ) or _from_cloud_trace(environ)
    return _from_traceparent


class _Traceparent:
    """Getter of the one header that holds no free text; `tracestate` would be forwarded."""

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
    parent = SpanContext(int(match[1], 16), int(match[2]), is_remote=True, trace_flags=TraceFlags(int(match[3])))
    return trace.set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else None
