"""Add the optional routes: metrics, statistics, dashboard, Ghost's sync. Each is imported only if it is configured."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from traffic_analytics import __version__, wsgi
from traffic_analytics.tinybird.events import Tinybird
from traffic_analytics.wiring import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from flask import Flask

    from traffic_analytics.counts.file import CountFile
    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.observability.instrumentation import Instrumentation
    from traffic_analytics.observability.metrics import Metrics
    from traffic_analytics.settings import Settings
    from traffic_analytics.statistics.access import Access


def register_metrics(
    app: Flask, settings: Settings, metrics: Metrics, spool: Spool | None, clock: Callable[[], datetime]
) -> None:
    """Add the route of the metrics, and the metrics that are read at each scrape."""
    from traffic_analytics.observability import routes  # noqa: PLC0415
    from traffic_analytics.observability.collectors import BuildInfo, SpoolState  # noqa: PLC0415

    app.extensions["traffic_analytics_metrics"] = metrics
    metrics.register(BuildInfo(settings.build_label))
    if spool is not None:
        state = SpoolState(spool, settings.spool_max_mb, clock=lambda: clock().timestamp(), monotonic=time.monotonic)
        metrics.register(state)
    parts.register_routes(app, routes.blueprint(metrics.export, settings.metrics_token))


def register_statistics(
    app: Flask, settings: Settings, target: str, clock: Callable[[], datetime], metrics: Metrics | None
) -> list[tuple[str, str]]:
    """Add the statistics; return the routes to trace."""
    from traffic_analytics.runtime.single_flight import SingleFlight  # noqa: PLC0415
    from traffic_analytics.runtime.sqlite_file import SqliteFile  # noqa: PLC0415
    from traffic_analytics.statistics import routes  # noqa: PLC0415
    from traffic_analytics.statistics.access import SharedAccess, own_access  # noqa: PLC0415
    from traffic_analytics.statistics.answer_cache import PRAGMAS, SCHEMA, AnswerCache  # noqa: PLC0415
    from traffic_analytics.statistics.gateway import Gateway  # noqa: PLC0415
    from traffic_analytics.statistics.slots import Slots  # noqa: PLC0415
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
    total = max(1, settings.threads * 3 // 4)
    pipes = Pipes(target, connections=total, monotonic=time.monotonic)
    counter = None
    if metrics is not None:
        from traffic_analytics.observability.statistics_metrics import StatisticsCounter  # noqa: PLC0415

        counter = StatisticsCounter(metrics)
    gateway = Gateway(
        pipes if counter is None else counter.note_requests(pipes),
        cache,
        SingleFlight(),
        refusals=AnswerCache(None, seconds),
        access_of=access_of,
        slots=Slots(total, unverified=max(1, total // 6), monotonic=time.monotonic),
        fresh_for=settings.stats_cache_seconds,
        realm=target,
        clock=seconds,
        sleep=time.sleep,
    )
    answer = gateway.answer if counter is None else counter.count_answers(gateway.answer)
    parts.register_routes(app, routes.blueprint(answer))
    return [("GET", "/v0/pipes/NAME.json"), ("POST", "/v0/pipes/NAME.json")]


def register_dashboard(
    app: Flask,
    settings: Settings,
    target: str,
    admin_token: str,
    spool: Spool | None,
    counts: CountFile,
    clock: Callable[[], datetime],
) -> None:
    """Mount the dashboard, and add its command."""
    from werkzeug.middleware.dispatcher import DispatcherMiddleware  # noqa: PLC0415

    from traffic_analytics.dashboard import routes  # noqa: PLC0415
    from traffic_analytics.dashboard.assets import Assets  # noqa: PLC0415
    from traffic_analytics.dashboard.attempts import Attempts  # noqa: PLC0415
    from traffic_analytics.dashboard.commands import dashboard_commands  # noqa: PLC0415
    from traffic_analytics.dashboard.health import Health  # noqa: PLC0415
    from traffic_analytics.dashboard.sessions import Sessions  # noqa: PLC0415
    from traffic_analytics.dashboard.tokens import Tokens  # noqa: PLC0415
    from traffic_analytics.tinybird.pipes import Pipes  # noqa: PLC0415

    def seconds() -> float:
        return clock().timestamp()

    def todays_outcomes() -> Mapping[tuple[str, str], int]:
        total: Counter[tuple[str, str]] = Counter()
        for kinds in counts.read(clock().date()).today.values():
            total.update(kinds)
        return total

    sessions = None if settings.dashboard_key is None else Sessions(settings.dashboard_key)
    tokens = Tokens(admin_token, settings.tinybird_workspace_id)
    health = Health(
        spool=spool,
        spool_max_mb=settings.spool_max_mb,
        data_dir=settings.data_dir,
        versions={
            "version": f"{__version__} {settings.build_label}".strip(),
            "worker processes": str(settings.web_concurrency),
        },
        pipes=Pipes(target, connections=1, monotonic=time.monotonic),
        tokens=tokens,
        admin_token=admin_token,
        clock=seconds,
        monotonic=time.monotonic,
        outcomes=todays_outcomes,
    )
    dashboard = routes.create_dashboard(
        Assets(),
        sessions,
        Attempts(time.monotonic),
        tokens,
        health,
        sites=sorted(settings.allowed_sites or ()),
        clock=seconds,
    )
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/dashboard": dashboard.wsgi_app, f"{wsgi.PREFIX}/dashboard": dashboard.wsgi_app}
    )
    app.cli.add_command(dashboard_commands(sessions, seconds))


def register_sync(app: Flask, settings: Settings, key: str, instrumentation: Instrumentation) -> list[tuple[str, str]]:
    """Add Ghost's sync; return the routes to trace."""
    from traffic_analytics.automation_sync import routes, rows  # noqa: PLC0415
    from traffic_analytics.automation_sync.auth import SYNC_PATH, SyncKey  # noqa: PLC0415
    from traffic_analytics.automation_sync.endpoint import SyncEndpoint  # noqa: PLC0415

    # Ghost sends both tables together; more at a time would occupy threads that hits need.
    slots = max(1, min(2, settings.threads // 2))
    shared_key = SyncKey(key, wsgi.PREFIX)
    # A client of its own that waits until rows are committed: Ghost deletes them once they are accepted.
    tinybird = Tinybird(settings.proxy_target, settings.tinybird_tracker_token, wait=True, connections=slots)
    target = instrumentation.wrap_target(tinybird, settings.proxy_target, rows.DATA_SOURCES)
    sync = SyncEndpoint(target, shared_key, threading.BoundedSemaphore(slots))
    parts.register_routes(app, routes.blueprint(instrumentation.wrap_sync(sync)))
    app.extensions["body_limits"] = routes.body_limits(shared_key)
    return [("POST", SYNC_PATH)]
