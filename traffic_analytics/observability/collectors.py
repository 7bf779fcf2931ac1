"""Collect the state of the spool and the build at each scrape; no counter holds them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from traffic_analytics import __version__
from traffic_analytics.errors import SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

    from traffic_analytics.delivery.spool import Backlog, Spool

FRESH_FOR = 1.0
"""Time for which the spool is not read again, in seconds."""


class SpoolState(Collector):
    """Read the spool's backlog; if that fails, report the spool as unreadable and no other gauge of it."""

    def __init__(
        self, spool: Spool, max_mb: int, *, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._spool = spool
        self._max_bytes = max_mb * 1024 * 1024
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._backlog: Backlog | None = None

    def collect(self) -> Iterable[Metric]:
        """Return the gauges."""
        backlog = self._cached_backlog()
        yield _gauge("spool_max_bytes", "Maximum size of the spool's content.", self._max_bytes)
        yield _gauge("spool_readable", "1 if the spool could be read, else 0.", backlog is not None)
        if backlog is None:
            return
        age = 0.0 if backlog.oldest is None else max(0.0, self._clock() - backlog.oldest)
        yield _gauge("spool_bytes", "Size of the spool's content.", backlog.bytes_used)
        yield _gauge("spool_waiting_events", "Events that wait in the spool.", backlog.waiting)
        yield _gauge("spool_oldest_event_age_seconds", "Age of the oldest waiting event; 0 if none waits.", age)
        yield _gauge("spool_set_aside_events", "Dead letters in the spool.", backlog.dead_letters)

    def _cached_backlog(self) -> Backlog | None:
        """Return the backlog, read once a second at most and by one thread at a time.

        Other threads return the previous one and wait only if there is none: hits need the threads.
        """
        if self._lock.acquire(blocking=self._backlog is None):
            try:
                if self._monotonic() - self._read_at >= FRESH_FOR:
                    self._backlog = self._read_backlog()
                    self._read_at = self._monotonic()
            finally:
                self._lock.release()
        return self._backlog

    def _read_backlog(self) -> Backlog | None:
        try:
            return self._spool.backlog()
        except SpoolUnavailable:
            return None


class BuildInfo(Collector):
    """Report the running version and the label of its build."""

    def __init__(self, label: str) -> None:
        self._label = label

    def collect(self) -> Iterable[Metric]:
        """Return the one gauge."""
        info = GaugeMetricFamily(
            "traffic_analytics_build_info",
            "Version and build label of the process; always 1.",
            labels=["version", "label"],
        )
        info.add_metric([__version__, self._label], 1)
        yield info


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"traffic_analytics_{name}", meaning, value=value)
