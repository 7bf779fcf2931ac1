"""Add what is optional to an app: statistics, Ghost's sync, metrics. Each is imported only if it is configured."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from traffic_analytics import wsgi
from traffic_analytics.tinybird.events import Tinybird
from traffic_analytics.wiring import parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flask import Flask

    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.observability.instrumentation import Instrumentation
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.settings import Settings
    from traffic_analytics.statistics.access import Access


def register_metrics(
    app: Flask, settings: Settings, metrics: Metrics, spool: Spool | None, clock: Callable[[], datetime]
) -> None:
    """Add the route of the metrics to an app, whether it takes hits or not."""
    from traffic_analytics.observability import routes as metrics_web  # noqa: PLC0415
    from traffic_analytics.observability.collectors import BuildInfo, SpoolState  # noqa: PLC0415

    app.extensions["traffic_analytics_metrics"] = metrics
    metrics.show(BuildInfo(settings.build_label))
    if spool is not None:
        state = SpoolState(spool, settings.spool_max_mb, clock=lambda: clock().timestamp(), monotonic=time.monotonic)
        metrics.show(state)
    parts.register(app, metrics_web.blueprint(metrics.text, settings.metrics_token))


def register_statistics(
    app: Flask, settings: Settings, target: str, clock: Callable[[], datetime], metrics: Metrics | None
) -> None:
    """Add the statistics to the app; what they are made of is imported only here, for those who want them."""
    from traffic_analytics.runtime.single_flight import SingleFlight  # noqa: PLC0415
    from traffic_analytics.runtime.sqlite_file import SqliteFile  # noqa: PLC0415
    from traffic_analytics.statistics import routes as stats_web  # noqa: PLC0415
    from traffic_analytics.statistics.access import SharedAccess, own_access  # noqa: PLC0415
    from traffic_analytics.statistics.answer_cache import PRAGMAS, SCHEMA, AnswerCache  # noqa: PLC0415
    from traffic_analytics.statistics.gateway import Gateway  # noqa: PLC0415
    from traffic_analytics.tinybird.pipes import Pipes  # noqa: PLC0415

    def seconds() -> float:
        return clock().timestamp()

    access_of: Callable[[str, str, float], Access] = own_access
    if settings.tinybird_admin_token is not None:
        access_of = SharedAccess(settings.tinybird_admin_token).check
    file = None
    if settings.stats_cache_seconds:
        file = SqliteFile(settings.data_dir / "statistics.sqlite3", SCHEMA, PRAGMAS, busy_timeout=1.0)
    cache = AnswerCache(file, seconds)
    cache.prepare()
    slots = max(1, settings.threads * 3 // 4)
    pipes = Pipes(target, connections=slots, monotonic=time.monotonic)
    answers = None if metrics is None else metrics.statistics_answers()
    gateway = Gateway(
        pipes if answers is None else answers.watch(pipes),
        cache,
        SingleFlight(),
        access_of=access_of,
        slots=threading.BoundedSemaphore(slots),
        fresh_for=settings.stats_cache_seconds,
        realm=target,
        clock=seconds,
        sleep=time.sleep,
    )
    parts.register(app, stats_web.blueprint(gateway.answer if answers is None else answers.count(gateway.answer)))


def register_sync(app: Flask, settings: Settings, key: str, watched: Instrumentation) -> None:
    """Add Ghost's sync to the app; what it is made of is imported only here, for those who want it."""
    from traffic_analytics.automation_sync import routes as sync_web  # noqa: PLC0415
    from traffic_analytics.automation_sync import rows as sync_rows  # noqa: PLC0415
    from traffic_analytics.automation_sync.auth import SyncKey  # noqa: PLC0415
    from traffic_analytics.automation_sync.endpoint import SyncEndpoint  # noqa: PLC0415

    # Ghost sends both tables together; more at a time would take threads from hits.
    slots = max(1, min(2, settings.threads // 2))
    shared = SyncKey(key, wsgi.PREFIX)
    # Connections of its own, and answers that say what is committed: nobody waits, and Ghost forgets what was taken.
    tinybird = Tinybird(settings.proxy_target, settings.tinybird_tracker_token, wait=True, connections=slots)
    target = watched.target(tinybird, settings.proxy_target, sync_rows.DATA_SOURCES)
    sync = SyncEndpoint(target, shared, threading.BoundedSemaphore(slots))
    parts.register(app, sync_web.blueprint(watched.syncs(sync)))
    app.extensions["large_bodies"] = sync_web.large_bodies(shared)
