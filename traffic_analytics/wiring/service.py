"""Build the service: checked, enriched hits on their way to Tinybird."""

from __future__ import annotations

import logging.config
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from traffic_analytics import cli, health
from traffic_analytics.hits import referrer, user_agent
from traffic_analytics.hits import routes as hit_routes
from traffic_analytics.hits.endpoint import HitEndpoint
from traffic_analytics.observability.instrumentation import Instrumentation
from traffic_analytics.runtime import logs
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
    """Build the service, or a worker, from its settings; whatever else is given takes the place of a part.

    Opens the salts and the spool to check them (raises DamagedFile) and starts no thread: that is for
    `app.extensions["traffic_analytics"].start()`, in the process that is to run them.
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
    store = salt_store or parts.make_salt_store(settings, clock)
    watched = Instrumentation(settings, span_processor)
    if settings.worker_mode:
        from traffic_analytics.wiring.worker import create_worker  # noqa: PLC0415

        return create_worker(settings, clock, store, watched)
    return create_service(settings, clock, store, watched)


def create_service(
    settings: Settings, clock: Callable[[], datetime], store: SaltStore, watched: Instrumentation
) -> Flask:
    """Build the app that takes hits."""
    store.prepare()
    salts = watched.salts(store)
    plain_target = parts.make_target(settings)
    target = watched.target(plain_target, None if settings.delivery == "pubsub" else settings.proxy_target)
    spool = parts.make_spool(settings, clock)
    if spool is not None:
        spool.prepare()

    readiness = health.Readiness(
        [parts.salts_check(salts, store), *([spool.check] if spool is not None else [])], clock
    )
    hits = HitEndpoint(
        settings,
        clock=clock,
        salts=salts,
        delivery=parts.make_delivery(settings, target, spool, watched),
        parse_user_agent=watched.user_agents(),
        new_event_id=lambda: str(uuid4()),
        answer_error=watched.answer_error(),
    )
    app = parts.make_app()
    parts.register(app, hit_routes.blueprint(hits))
    parts.register(app, health.probes(settings, readiness.check))
    if settings.stats_target is not None:
        options.register_statistics(app, settings, settings.stats_target, clock, watched.metrics)
    if settings.tinybird_sync_auth is not None:
        options.register_sync(app, settings, settings.tinybird_sync_auth, watched)
    if watched.metrics is not None:
        options.register_metrics(app, settings, watched.metrics, spool, clock)
    if settings.local_proxy:
        app.register_blueprint(local_proxy())
    app.wsgi_app = watched.requests(hit_routes.HitMiddleware(app.wsgi_app, hits))  # type: ignore[method-assign]
    background = parts.make_background(app, watched)
    parts.add_sweeper(background, settings, clock, salts, store)
    parts.add_forwarder(background, settings, clock, target, watched)
    cli.register(app, settings, salts, spool, plain_target)
    # The first hit should not pay for reading the lists.
    user_agent.parse("")
    referrer.classify("https://example.com/", None, None, "")
    return app


def now_utc() -> datetime:
    """Say what time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock
