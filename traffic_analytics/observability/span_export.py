"""Send spans to a collector from a thread of its own; no hit and no shutdown waits for the collector.

Spans wait in a bounded queue of this process (OTEL_BSP_MAX_QUEUE_SIZE). While the collector is unavailable it fills up,
and the oldest are dropped.
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
    TracedRequests,
    TracedSaltStore,
    TracedTarget,
    parent_of_request,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from traffic_analytics.delivery.target import Target
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 3.0
"""Longest wait at the end of a process for the collector to accept the remaining spans, in seconds."""


class Traces:
    """Trace the parts of one app and send the spans of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._make_exporter = exporter_for(settings)
        self._spans = Spans()
        self._provider: TracerProvider | None = None

    def wrap_app(
        self, app: Callable[..., Iterable[bytes]], routes: Iterable[tuple[str, str]]
    ) -> Callable[..., Iterable[bytes]]:
        """Trace a WSGI application's requests to these routes, each a method and a path."""
        return TracedRequests(app, self._spans, routes, parent_of_request(self._settings))

    def wrap_target(self, target: Target, url: str | None = None) -> Target:
        """Trace requests to a target; `url` is its address if it is reached over HTTP."""
        return TracedTarget(target, self._spans, url)

    def wrap_salt_store(self, store: SaltStore) -> SaltStore:
        """Trace the salts that are read from a store."""
        return TracedSaltStore(store, self._spans, self._settings.salt_store_type)

    def start(self, processor: SpanProcessor | None = None) -> None:
        """Start to send spans, or to pass them to `processor`; called after any fork."""
        if self._provider is not None:
            return
        try:
            processor = processor or BatchSpanProcessor(LazyExporter(self._make_exporter))
            # Not the global provider, and no atexit: a process may hold several apps, and each is stopped by itself.
            self._provider = TracerProvider(resource=resource(self._settings), shutdown_on_exit=False)
        except ValueError as error:  # such as a batch larger than the queue
            _log.critical("the OTEL_ variables hold a mistake: %s", error, extra={"event": "TracesFailed"})
            raise
        self._provider.add_span_processor(processor)
        self._spans.tracer = self._provider.get_tracer("traffic_analytics", __version__)

    def stop(self, timeout: float) -> None:
        """Send the remaining spans, for at most `timeout` seconds and at most FLUSH_SECONDS."""
        if self._provider is not None:
            # The SDK itself waits for up to 30 seconds.
            flush = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
            flush.start()
            flush.join(min(timeout, FLUSH_SECONDS))


def resource(settings: Settings) -> Resource:
    """Describe the sender of the spans; OTEL_RESOURCE_ATTRIBUTES takes precedence."""
    build = f"+{settings.build_label}" if settings.build_label else ""
    defaults = {
        SERVICE_NAME: "analytics-worker" if settings.worker_mode else "analytics-service",
        SERVICE_VERSION: f"{__version__}{build}",
    }
    configured = dict(OTELResourceDetector().detect().attributes)
    if settings.otel_service_name is not None:
        configured[SERVICE_NAME] = settings.otel_service_name
    return Resource.create({**defaults, **configured})


def exporter_for(settings: Settings) -> Callable[[], SpanExporter]:
    """Choose the exporter and return its factory; nothing is opened yet."""
    if settings.otel_traces_exporter == "gcp":
        return lambda: _google(settings.google_cloud_project)
    # Imported before the fork, so that workers share its memory.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    # From the settings, which know more variables than OpenTelemetry does.
    base = settings.otel_exporter_otlp_endpoint
    endpoint = settings.otel_exporter_otlp_traces_endpoint or (f"{base}/v1/traces" if base else None)
    return lambda: OTLPSpanExporter(endpoint)


def _google(project: str | None) -> SpanExporter:
    # Imported after the fork, which gRPC does not survive.
    from opentelemetry.exporter.cloud_trace import CloudTraceSpanExporter  # noqa: PLC0415

    make: Callable[..., SpanExporter] = CloudTraceSpanExporter
    return make(project_id=project)


class LazyExporter(SpanExporter):
    """Make the exporter with the first spans, in the thread that sends them.

    Google's exporter requests credentials when it is made. That may take long or fail, and no start waits for it.
    """

    def __init__(self, make: Callable[[], SpanExporter]) -> None:
        self._make = make
        self._exporter: SpanExporter | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; spans that the collector does not accept are lost."""
        if self._exporter is None:
            self._exporter = self._make()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """Close the exporter if it was made."""
        if self._exporter is not None:
            self._exporter.shutdown()
