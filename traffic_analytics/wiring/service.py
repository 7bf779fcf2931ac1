"""Build the service: hits in, checked and enriched events out to Tinybird."""

from __future__ import annotations

import logging.config
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from traffic_analytics import cli, health
from traffic_analytics.counts.command import stats_command
from traffic_analytics.counts.file import CountFile
from traffic_analytics.counts.recorder import Recorder
from traffic_analytics.counts.tally import Tally
from traffic_analytics.hits import referrer, user_agent
from traffic_analytics.hits import routes as hit_routes
from traffic_analytics.hits.endpoint import HitEndpoint
from traffic_analytics.observability.instrumentation import Instrumentation
from traffic_analytics.runtime import logs
from traffic_analytics.runtime.paths import merge_slashes
from traffic_analytics.salts.new_sites import NewSites
from traffic_analytics.tinybird.stand_in import local_proxy
from traffic_analytics.wiring import options, parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask
    from opentelemetry.sdk.trace import SpanProcessor

    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] | None = None,
    salt_store: SaltStore | None = None,
    span_processor: SpanProcessor | None = None,
) -> Flask:
    """Build the service, or a worker, from its settings; the other arguments replace single parts.

    Opens the salts and the spool to check them (raises DamagedFile) and starts no thread: that is left to
    `app.extensions["traffic_analytics"].start()`, called in the process that runs them.
    """
    logging.config.dictConfig(
        logs.configuration(
            settings.log_level,
            settings.log_format,
            settings.google_cloud_project,
            traces=settings.otel_traces_exporter != "none",
        )
    )
    clock = clock or now_utc
    instrumentation = Instrumentation(settings, span_processor)
    if settings.worker_mode:
        from traffic_analytics.wiring.worker import create_worker  # noqa: PLC0415

        app = create_worker(settings, clock, salt_store or parts.make_salt_store(settings, clock), instrumentation)
    else:
        new_sites = NewSites(settings.max_new_sites_per_hour, clock, allowed=settings.allowed_sites or frozenset())
        store = salt_store or parts.make_salt_store(settings, clock, new_sites.admit)
        app = create_service(settings, clock, store, new_sites, instrumentation)
    app.wsgi_app = merge_slashes(app.wsgi_app)  # type: ignore[method-assign]
    return app


def create_service(
    settings: Settings,
    clock: Callable[[], datetime],
    store: SaltStore,
    new_sites: NewSites,
    instrumentation: Instrumentation,
) -> Flask:
    """Build the app that accepts hits."""
    # 1. The path of a hit: salts, target, spool, delivery, endpoint.
    store.prepare()
    salts = instrumentation.make_salts(store, new_sites)
    target = parts.make_target(settings)
    wrapped_target = instrumentation.wrap_target(
        target, None if settings.delivery == "pubsub" else settings.proxy_target
    )
    spool = parts.make_spool(settings, clock)
    if spool is not None:
        spool.prepare()
    tally, counts = Tally(), CountFile(settings.data_dir / "counts.sqlite3")
    counts.prepare()
    hits = HitEndpoint(
        settings,
        clock=clock,
        salts=salts,
        delivery=parts.make_delivery(settings, wrapped_target, spool, instrumentation),
        parse_user_agent=instrumentation.make_user_agent_parser(settings.extra_bots),
        new_event_id=lambda: str(uuid4()),
        on_outcome=instrumentation.make_outcome_callback(tally),
    )

    # 2. The app and its routes; `traced_routes` collects those to trace.
    app = parts.make_app()
    parts.register_routes(app, hit_routes.blueprint(hits))
    traced_routes = [("POST", hit_routes.HIT_PATH)]
    checks = [parts.make_salts_check(salts, store), *([spool.check] if spool is not None else [])]
    parts.register_routes(app, health.probes(settings, health.Readiness(checks, clock).check))
    if settings.stats_target is not None:
        traced_routes += options.register_statistics(
            app, settings, settings.stats_target, clock, instrumentation.metrics
        )
    if settings.tinybird_sync_auth is not None:
        traced_routes += options.register_sync(app, settings, settings.tinybird_sync_auth, instrumentation)
    if instrumentation.metrics is not None:
        options.register_metrics(app, settings, instrumentation.metrics, spool, clock)
    if settings.dashboard and settings.stats_target is not None and settings.tinybird_admin_token is not None:
        options.register_dashboard(
            app, settings, settings.stats_target, settings.tinybird_admin_token, spool, counts, clock
        )
    if settings.local_proxy:
        app.register_blueprint(local_proxy())
    wsgi_app = hit_routes.HitMiddleware(app.wsgi_app, hits)
    app.wsgi_app = instrumentation.wrap_app(wsgi_app, traced_routes)  # type: ignore[method-assign]

    # 3. The work in the background, and the command line.
    background = parts.make_background(app, instrumentation)
    parts.add_sweeper(background, settings, clock, salts, store)
    if spool is not None:
        parts.add_spool_check(background, spool)
    parts.add_forwarder(background, settings, clock, wrapped_target, instrumentation)
    recorder = Recorder(tally, counts, clock)
    background.add("counts", recorder.tick, recorder.write)
    app.extensions["traffic_analytics_counts"] = counts
    cli.register(app, settings, salts, spool, target)
    app.cli.add_command(stats_command(counts, clock))

    # Both read their lists now, before the fork, and not in the first hit.
    user_agent.parse("")
    referrer.classify("https://example.com/", "example", None, "")
    return app


def now_utc() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock
