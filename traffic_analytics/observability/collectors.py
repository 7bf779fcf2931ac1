"""What no counter holds is found out when somebody asks."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from traffic_analytics import __version__
from traffic_analytics.errors import SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from traffic_analytics.delivery.spool import Backlog, Spool

GOOD_FOR = 1.0
"""Seconds for which what waits in the spool is not counted again, however many ask."""


class SpoolState(Collector):
    """What waits in the spool, found out when somebody asks; if it cannot be found out, that is what is said."""

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
        backlog = self._read()
        yield _gauge("spool_max_bytes", "Most that the spool may hold.", self._max_bytes)
        yield _gauge("spool_readable", "Whether the spool could be looked into; 0 if not.", backlog is not None)
        if backlog is None:
            return
        age = 0.0 if backlog.oldest is None else max(0.0, self._clock() - backlog.oldest)
        yield _gauge("spool_bytes", "What the spool holds.", backlog.bytes_used)
        yield _gauge("spool_waiting_events", "Events that wait in the spool to be sent.", backlog.waiting)
        yield _gauge("spool_oldest_event_age_seconds", "How long the oldest event has waited; 0 if none waits.", age)
        yield _gauge("spool_set_aside_events", "Events that were set aside and are still there.", backlog.dead_letters)

    def _read(self) -> Backlog | None:
        """Count what waits, once a second at most and one at a time.

        Who comes meanwhile takes what was found before and waits only if nothing was: threads are for hits.
        """
        if self._lock.acquire(blocking=self._backlog is None):
            try:
                if self._monotonic() - self._read_at >= GOOD_FOR:
                    self._backlog = self._look()
                    self._read_at = self._monotonic()
            finally:
                self._lock.release()
        return self._backlog

    def _look(self) -> Backlog | None:
        try:
            return self._spool.backlog()
        except SpoolUnavailable:
            return None


class BuildInfo(Collector):
    """Which version runs, and what its build is called."""

    def __init__(self, label: str) -> None:
        self._label = label

    def collect(self) -> Iterable[Metric]:
        """Return the one gauge."""
        info = GaugeMetricFamily(
            "traffic_analytics_build_info", "The version that runs, as labels; always 1.", labels=["version", "label"]
        )
        info.add_metric([__version__, self._label], 1)
        yield info


class CountsOfAll(Collector):
    """What all processes have counted, from their files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Add up."""
        # A file is empty for a moment when it is made. The master has some, too, and counts nothing in them: its zeros
        # would be the least of each gauge.
        files = [str(file) for file in self._directory.glob("*_[0-9]*.db") if _size(file)]
        summed: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return summed


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # that of a worker that has just gone
        return 0


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"traffic_analytics_{name}", meaning, value=value)
