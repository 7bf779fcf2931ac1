"""Read the settings of the service once, into a frozen object; report all mistakes together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields, replace
from typing import Any

from traffic_analytics.errors import ConfigurationError
from traffic_analytics.runtime.env_names import misspelled
from traffic_analytics.runtime.env_values import mistakes_of_file, read_variables, set_variables
from traffic_analytics.runtime.worker_count import WorkerCount, choose_worker_count, read_limits
from traffic_analytics.settings.contradictions import contradictions
from traffic_analytics.settings.optional_packages import missing_packages
from traffic_analytics.settings.variables import Variables


@dataclass(frozen=True, slots=True)
class Settings(Variables):
    """All settings of the service, free of contradictions."""

    @classmethod
    def from_env(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings from a mapping like os.environ; raises ConfigurationError with every mistake.

        A variable that is set to the empty string counts as not set.
        """
        given = set_variables(environment)
        values, mistakes = read_variables(cls, given)
        known = {each.metadata["name"] for each in fields(cls)}
        mistakes = [*mistakes_of_file(environment), *mistakes, *misspelled(given.keys(), known)]
        _settle(values, given.keys())
        settings = cls(**values)
        settings = replace(settings, web_concurrency=settings.web_concurrency or default_worker_count(settings).number)
        mistakes += [*contradictions(settings, given.keys()), *missing_packages(settings)]
        if mistakes:
            raise ConfigurationError(mistakes)
        return settings


def default_worker_count(settings: Settings) -> WorkerCount:
    """Return the number of worker processes where WEB_CONCURRENCY is not set."""
    if settings.worker_mode:
        return WorkerCount(1, "WORKER_MODE is set")
    if settings.salt_store_type == "memory":
        return WorkerCount(1, "the salts are in memory")
    return choose_worker_count(len(os.sched_getaffinity(0)), read_limits())


def _settle(values: dict[str, Any], given: Set[str]) -> None:
    """Set the defaults that depend on other variables."""
    if "pubsub_topic_page_hits_raw" in values:
        values.setdefault("delivery", "pubsub")
    if given & {"K_SERVICE", "GAE_SERVICE", "GOOGLE_CLOUD_PROJECT"}:
        values.setdefault("log_format", "gcp")
    if values.get("salt_store_type") in ("redis", "firestore"):
        values.setdefault("max_new_sites_per_hour", 10_000)
    if "otel_trace_exporter" in values:
        named = "gcp" if values["otel_trace_exporter"] == "gcp" else "otlp"
        values.setdefault("otel_traces_exporter", named)
        if named == "otlp" and "otel_exporter_otlp_traces_endpoint" not in values:
            values.setdefault("otel_exporter_otlp_endpoint", "http://jaeger:4318")
    if {"otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"} & set(values):
        values.setdefault("otel_traces_exporter", "otlp")
