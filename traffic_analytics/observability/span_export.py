"""Spans leave in a thread of their own; whether they get through concerns no hit and no shutdown.

They wait in a bounded queue of this process (OTEL_BSP_MAX_QUEUE_SIZE). While the collector is away it fills up, and
the oldest are dropped.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from traffic_analytics import __version__
from traffic_analytics.observability.tracing import (
    Spans,
    TracedDelivery,
    TracedRequests,
    TracedSalts,
    TracedTarget,
    parent_of_request,
    routes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from traffic_analytics.delivery.target import Delivery, Target
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 3.0
"""Most that a process waits at its end for the collector to take what is left."""


class Traces:
    """What of this process is traced, and where its spans go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._make_exporter = exporter_for(settings)
        self._spans = Spans()
        self._provider: TracerProvider | None = None

    def around_requests(self, app: Callable[..., Iterable[bytes]]) -> TracedRequests:
        """Trace what a WSGI application answers."""
        return TracedRequests(app, self._spans, routes(self._settings), parent_of_request(self._settings))

    def around_delivery(self, delivery: Delivery) -> TracedDelivery:
        """Trace what becomes of a hit's event."""
        return TracedDelivery(delivery)

    def around_target(self, target: Target, url: str | None = None) -> TracedTarget:
        """Trace what is sent to a target; `url` is where it is, if it is reached over HTTP."""
        return TracedTarget(target, self._spans, url)

    def around_salts(self, store: SaltStore) -> TracedSalts:
        """Trace what a salt store is asked."""
        return TracedSalts(store, self._spans, self._settings.salt_store_type)

    def start(self, processor: SpanProcessor | None = None) -> None:
        """Begin to send spans, or to hand them to `processor`; call it in the process that has them, after any fork."""
        if self._provider is not None:
            return
        try:
            processor = processor or BatchSpanProcessor(LazyExporter(self._make_exporter))
            # Not the global provider, and no atexit: there may be several apps in a process, each with its own end.
            self._provider = TracerProvider(resource=resource(self._settings), shutdown_on_exit=False)
        except ValueError as error:  # numbers that do not go together
            _log.critical("the OTEL_ variables hold a mistake: %s", error, extra={"event": "TracesFailed"})
            raise
        self._provider.add_span_processor(processor)
        self._spans.tracer = self._provider.get_tracer("traffic_analytics", __version__)

    def stop(self, timeout: float) -> None:
        """Send what is left, as far as that is possible within `timeout` seconds and FLUSH_SECONDS."""
        if self._provider is not None:
            # The SDK itself would wait for half a minute.
            flush = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
            flush.start()
            flush.join(min(timeout, FLUSH_SECONDS))


def resource(settings: Settings) -> Resource:
    """Say who sends the spans; OTEL_RESOURCE_ATTRIBUTES outranks what is said here."""
    build = f"+{settings.build_label}" if settings.build_label else ""
    ours = {
        SERVICE_NAME: "analytics-worker" if settings.worker_mode else "analytics-service",
        SERVICE_VERSION: f"{__version__}{build}",
    }
    said = dict(OTELResourceDetector().detect().attributes)
    if settings.otel_service_name is not None:
        said[SERVICE_NAME] = settings.otel_service_name
    return Resource.create({**ours, **said})


def exporter_for(settings: Settings) -> Callable[[], SpanExporter]:
    """Choose how spans are sent; nothing is opened yet."""
    if settings.otel_traces_exporter == "gcp":
        return lambda: _google(settings.google_cloud_project)
    # Before the fork, so that workers share it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    # As settings say it, for they know more names than OpenTelemetry does.
    base = settings.otel_exporter_otlp_endpoint
    endpoint = settings.otel_exporter_otlp_traces_endpoint or (f"{base}/v1/traces" if base else None)
    return lambda: OTLPSpanExporter(endpoint)


def _google(project: str | None) -> SpanExporter:
    # After the fork, since gRPC does not go well with one.
    from opentelemetry.exporter.cloud_trace import CloudTraceSpanExporter  # noqa: PLC0415

    make: Callable[..., SpanExporter] = CloudTraceSpanExporter
    return make(project_id=project)


class LazyExporter(SpanExporter):
    """An exporter that is made when there are spans, in the thread that sends them.

    Google's asks for credentials when it is made, which may take long or fail for a while; no start waits for that.
    """

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; those that are not taken are gone."""
        if self._exporter is None:
            self._exporter = self._make()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """End what is being sent."""
        if self._exporter is not None:
            self._exporter.shutdown()
