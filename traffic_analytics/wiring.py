"""The one place where the parts meet."""

from __future__ import annotations

import logging
import logging.config
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from flask import Flask

from traffic_analytics import commands, logs, parts, referrer, user_agent, web
from traffic_analytics.background import Background
from traffic_analytics.hit_endpoint import HitEndpoint
from traffic_analytics.observation import Observation
from traffic_analytics.readiness import Readiness, once
from traffic_analytics.salt_guard import GuardedSalts
from traffic_analytics.tinybird import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint
    from opentelemetry.sdk.trace import SpanProcessor

    from traffic_analytics.metrics import Metrics
    from traffic_analytics.rights import Rights
    from traffic_analytics.salts import Salts, SaltStore
    from traffic_analytics.settings import Settings
    from traffic_analytics.spool import Spool


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
    watched = Observation(settings, span_processor)
    if settings.worker_mode:
        return create_worker(settings, clock, store, watched)
    return create_service(settings, clock, store, watched)


def create_service(settings: Settings, clock: Callable[[], datetime], store: SaltStore, watched: Observation) -> Flask:
    """Build the app that takes hits."""
    store.prepare()
    salts = watched.salts(store)
    plain_target = parts.make_target(settings)
    target = watched.target(plain_target, None if settings.delivery == "pubsub" else settings.proxy_target)
    spool = parts.make_spool(settings, clock)
    if spool is not None:
        spool.prepare()

    readiness = Readiness([salts_check(salts, store), *([spool.check] if spool is not None else [])], clock)
    hits = HitEndpoint(
        settings,
        clock=clock,
        salts=salts,
        delivery=parts.make_delivery(settings, target, spool, watched),
        parse_user_agent=watched.user_agents(),
        new_event_id=lambda: str(uuid4()),
        answer_error=watched.answer_error(),
    )
    app = make_app()
    register(app, web.blueprint(hits))
    register(app, web.probes(settings, readiness.check))
    if settings.stats_target is not None:
        register_statistics(app, settings, settings.stats_target, clock, watched.metrics)
    if settings.tinybird_sync_auth is not None:
        register_sync(app, settings, settings.tinybird_sync_auth, watched)
    if watched.metrics is not None:
        register_metrics(app, settings, watched.metrics, spool, clock)
    if settings.local_proxy:
        app.register_blueprint(web.local_proxy())
    app.wsgi_app = watched.requests(web.HitDoor(app.wsgi_app, hits))  # type: ignore[method-assign]
    background = make_background(app, watched)
    parts.add_sweeper(background, settings, clock, salts, store)
    parts.add_forwarder(background, settings, clock, target, watched)
    commands.register(app, settings, salts, spool, plain_target)
    # The first hit should not pay for reading the lists.
    user_agent.parse("")
    referrer.classify("https://example.com/", None, None, "")
    return app


def create_worker(settings: Settings, clock: Callable[[], datetime], store: SaltStore, watched: Observation) -> Flask:
    """Build the app of a worker: probes to answer, and messages to deliver in the background."""
    from traffic_analytics.worker import Worker  # noqa: PLC0415

    store.prepare()
    salts = watched.salts(store)
    tinybird = parts.make_tinybird(settings)
    target = watched.target(tinybird, settings.proxy_target)
    spool = parts.make_spool(settings, clock)
    assert spool is not None  # noqa: S101 - there is one wherever there is a token
    spool.prepare()
    subscription = parts.make_subscription(settings)
    aside_topic = parts.make_aside_topic(settings)
    give_up = threading.Event()  # not that of the background's end: it is to deliver while we stop
    worker = Worker(
        subscription,
        watched.batches(target, give_up),
        give_up,
        salts,
        aside_topic or spool,
        batch_size=settings.batch_size,
        flush_interval=settings.batch_flush_interval_ms / 1000,
        parse_user_agent=watched.user_agents(),
        monotonic=time.monotonic,
        show=watched.messages(),
    )
    app = make_app()
    register(app, web.probes(settings, Readiness([worker.check, salts_check(salts, store), spool.check], clock).check))
    if watched.metrics is not None:
        register_metrics(app, settings, watched.metrics, spool, clock)
    background = make_background(app, watched)
    background.add("worker", worker.tick, worker.finish, worker.hurry)
    parts.add_sweeper(background, settings, clock, salts, store)
    parts.add_forwarder(background, settings, clock, target, watched)  # for what an operator puts back
    more = {"Pub/Sub subscription": subscription.look}
    if aside_topic is not None:
        more["Pub/Sub topic for what is set aside"] = aside_topic.try_keeping
    commands.register(app, settings, salts, spool, tinybird, **more)
    return app


def salts_check(salts: Salts, store: SaltStore) -> Callable[[], None]:
    """Choose how salts count for readiness: without a store that all machines share, sites with cached salts go on."""
    return once(salts.check) if isinstance(store, GuardedSalts) else salts.check


def make_app() -> Flask:
    """Make an app without routes, whose errors are JSON."""
    app = Flask("traffic_analytics", static_folder=None)
    # A path is a route or it is not: a redirect would cost a hit its answer.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    web.handle_errors(app)
    return app


def make_background(app: Flask, watched: Observation) -> Background:
    """Give an app what it does beside answering, which is nothing yet."""
    background = Background()
    if watched.traces is not None:
        background.accompany(watched.traces)
    app.extensions["traffic_analytics"] = background
    return background


def register(app: Flask, routes: Blueprint) -> None:
    """Let an app answer routes, below Ghost's prefix too."""
    app.register_blueprint(routes)
    app.register_blueprint(routes, name=f"{routes.name}_below_ghost", url_prefix=web.PREFIX)


def register_metrics(
    app: Flask, settings: Settings, metrics: Metrics, spool: Spool | None, clock: Callable[[], datetime]
) -> None:
    """Add the route of the metrics to an app, whether it takes hits or not."""
    from traffic_analytics import metrics_web  # noqa: PLC0415
    from traffic_analytics.scrape import BuildInfo, SpoolState  # noqa: PLC0415

    app.extensions["traffic_analytics_metrics"] = metrics
    metrics.show(BuildInfo(settings.build_label))
    if spool is not None:
        state = SpoolState(spool, settings.spool_max_mb, clock=lambda: clock().timestamp(), monotonic=time.monotonic)
        metrics.show(state)
    register(app, metrics_web.blueprint(metrics.text, settings.metrics_token))


def register_statistics(
    app: Flask, settings: Settings, target: str, clock: Callable[[], datetime], metrics: Metrics | None
) -> None:
    """Add the statistics to the app; what they are made of is imported only here, for those who want them."""
    from traffic_analytics import stats_web  # noqa: PLC0415
    from traffic_analytics.answer_cache import PRAGMAS, SCHEMA, AnswerCache  # noqa: PLC0415
    from traffic_analytics.pipes import Pipes  # noqa: PLC0415
    from traffic_analytics.rights import own_rights  # noqa: PLC0415
    from traffic_analytics.single_flight import SingleFlight  # noqa: PLC0415
    from traffic_analytics.sqlite_file import SqliteFile  # noqa: PLC0415
    from traffic_analytics.statistics import Statistics  # noqa: PLC0415

    def seconds() -> float:
        return clock().timestamp()

    rights_of: Callable[[str, str, float], Rights] = own_rights
    if settings.tinybird_admin_token is not None:
        from traffic_analytics.ghost_token import GhostTokens  # noqa: PLC0415

        rights_of = GhostTokens(settings.tinybird_admin_token).rights
    file = None
    if settings.stats_cache_seconds:
        file = SqliteFile(settings.data_dir / "statistics.sqlite3", SCHEMA, PRAGMAS, busy_timeout=1.0)
    cache = AnswerCache(file, seconds)
    cache.prepare()
    slots = max(1, settings.threads * 3 // 4)
    pipes = Pipes(target, connections=slots, monotonic=time.monotonic)
    answers = None if metrics is None else metrics.statistics_answers()
    statistics = Statistics(
        pipes if answers is None else answers.watch(pipes),
        cache,
        SingleFlight(),
        rights_of=rights_of,
        slots=threading.BoundedSemaphore(slots),
        fresh_for=settings.stats_cache_seconds,
        realm=target,
        clock=seconds,
        sleep=time.sleep,
    )
    register(app, stats_web.blueprint(statistics.answer if answers is None else answers.count(statistics.answer)))


def register_sync(app: Flask, settings: Settings, key: str, watched: Observation) -> None:
    """Add Ghost's sync to the app; what it is made of is imported only here, for those who want it."""
    from traffic_analytics import sync_rows, sync_web  # noqa: PLC0415
    from traffic_analytics.sync_endpoint import SyncEndpoint  # noqa: PLC0415
    from traffic_analytics.sync_key import SyncKey  # noqa: PLC0415

    # Ghost sends both tables together; more at a time would take threads from hits.
    slots = max(1, min(2, settings.threads // 2))
    shared = SyncKey(key, web.PREFIX)
    # Connections of its own, and answers that say what is committed: nobody waits, and Ghost forgets what was taken.
    tinybird = Tinybird(settings.proxy_target, settings.tinybird_tracker_token, wait=True, connections=slots)
    target = watched.target(tinybird, settings.proxy_target, sync_rows.DATA_SOURCES)
    sync = SyncEndpoint(target, shared, threading.BoundedSemaphore(slots))
    register(app, sync_web.blueprint(watched.syncs(sync)))
    app.extensions["large_bodies"] = sync_web.large_bodies(shared)


def now_utc() -> datetime:
    """Say what time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock
