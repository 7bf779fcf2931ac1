"""Find the optional packages that the settings need and that are not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traffic_analytics.settings.variables import Variables


def missing_packages(settings: Variables) -> Iterator[str]:
    """Yield the optional packages that the settings need and that are not installed."""
    pubsub = ("google.cloud.pubsub_v1", "google-cloud-pubsub", "gcp")
    traces = "OTEL_TRACES_EXPORTER"
    for needed, name, (module, package, extra) in (
        (settings.stats_target and settings.tinybird_admin_token, "TINYBIRD_ADMIN_TOKEN", ("jwt", "PyJWT", "stats")),
        (settings.worker_mode, "WORKER_MODE", pubsub),
        (settings.publishes, "DELIVERY", pubsub),
        (
            settings.salt_store_type == "firestore",
            "SALT_STORE_TYPE",
            ("google.cloud.firestore_v1", "google-cloud-firestore", "gcp"),
        ),
        (settings.salt_store_type == "redis", "SALT_STORE_TYPE", ("redis", "redis", "redis")),
        (settings.metrics, "METRICS", ("prometheus_client", "prometheus-client", "metrics")),
        (settings.otel_traces_exporter != "none", traces, ("opentelemetry.sdk", "opentelemetry-sdk", "otel")),
        (
            settings.otel_traces_exporter == "otlp",
            traces,
            ("opentelemetry.exporter.otlp.proto.http", "opentelemetry-exporter-otlp-proto-http", "otel"),
        ),
        (
            settings.otel_traces_exporter == "gcp",
            traces,
            ("opentelemetry.exporter.cloud_trace", "opentelemetry-exporter-gcp-trace", "otel,gcp"),
        ),
    ):
        if needed and not _is_installed(module):
            yield (
                f"{name}: needs {package} (extra {extra}): pip install -r requirements-full.txt, "
                "or build the image with REQUIREMENTS=requirements-full.txt"
            )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing too
        return False
