"""The one place where the parts meet."""

from __future__ import annotations

import logging
import logging.config
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from cachetools import LRUCache, cached
from flask import Flask

from traffic_analytics import commands, logs, referrer, user_agent, web
from traffic_analytics.background import Background
from traffic_analytics.batches import Batches
from traffic_analytics.delivery import Delivery, DirectDelivery, ShownDelivery, SpoolDelivery, UnspooledDelivery
from traffic_analytics.file_lock import FileLock
from traffic_analytics.forwarder import Forwarder
from traffic_analytics.hit_endpoint import HitEndpoint
from traffic_analytics.readiness import Readiness
from traffic_analytics.salts import MemorySalts, Salts, SaltStore, SqliteSalts, Sweeper
from traffic_analytics.spool import Spool
from traffic_analytics.tinybird import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import SpanProcessor

    from traffic_analytics.delivery import Target
    from traffic_analytics.rights import Rights
    from traffic_analytics.settings import Settings
    from traffic_analytics.trace_export import Traces

CACHED_USER_AGENTS = 4096


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] | None = None,
    salt_store: SaltStore | None = None,
    span_processor: SpanProcessor | None = None,
) -> Flask:
    """Build the service from its settings; whatever else is given takes the place of a part.

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
    traces = make_traces(settings, span_processor)
    clock = clock or now_utc
    store = salt_store or make_salt_store(settings)
    store.prepare()
    salts = Salts(traces.around_salts(store) if traces else store)
    tinybird = make_tinybird(settings)
    target = traces.around_target(tinybird, settings.proxy_target) if traces else tinybird
    spool = make_spool(settings, clock)
    if spool is not None:
        spool.prepare()

    readiness = Readiness([salts.check, *([spool.check] if spool is not None else [])], clock)
    delivery = make_delivery(settings, target, spool)
    hits = HitEndpoint(
        settings,
        clock=clock,
        salts=salts,
        delivery=traces.around_delivery(delivery) if traces else delivery,
        parse_user_agent=cached(LRUCache(CACHED_USER_AGENTS), lock=threading.Lock())(user_agent.parse),
        new_event_id=lambda: str(uuid4()),
    )
    app = Flask("traffic_analytics", static_folder=None)
    # A path is a route or it is not: a redirect would cost a hit its answer.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    routes = web.blueprint(settings, hits, readiness.check)
    app.register_blueprint(routes)
    app.register_blueprint(routes, name="below_ghost", url_prefix=web.PREFIX)
    if settings.stats_target is not None:
        register_statistics(app, settings, settings.stats_target, clock)
    if settings.local_proxy:
        app.register_blueprint(web.local_proxy())
    web.handle_errors(app)
    app.wsgi_app = web.HitDoor(app.wsgi_app, hits)  # type: ignore[method-assign]
    background = app.extensions["traffic_analytics"] = make_background(settings, clock, salts, store, target)
    if traces is not None:
        app.wsgi_app = traces.around_requests(app.wsgi_app)  # type: ignore[method-assign]
        background.accompany(traces)
    commands.register(app, settings, salts, spool, tinybird)
    # The first hit should not pay for reading the lists.
    user_agent.parse("")
    referrer.classify("https://example.com/", None, None, "")
    return app


def make_traces(settings: Settings, processor: SpanProcessor | None) -> Traces | None:
    """Choose whether there are traces; OpenTelemetry is imported only if there are."""
    if settings.otel_traces_exporter == "none":
        return None
    from traffic_analytics.trace_export import Traces  # noqa: PLC0415

    traces = Traces(settings)
    if processor is not None:
        traces.start(processor)
    return traces


def make_salt_store(settings: Settings) -> SaltStore:
    """Choose the salt store."""
    if settings.salt_store_type == "memory":
        return MemorySalts()
    return SqliteSalts(settings.salt_file)


def make_tinybird(settings: Settings) -> Tinybird:
    """Describe Tinybird; nothing is opened yet."""
    return Tinybird(
        settings.proxy_target,
        settings.tinybird_tracker_token,
        wait=settings.tinybird_wait,
        connections=settings.threads + 1,
    )


def make_spool(settings: Settings, clock: Callable[[], datetime], *, room_to_work: bool = False) -> Spool | None:
    """Describe the spool; there is none without a token of our own, since senders' tokens are not stored."""
    if settings.tinybird_tracker_token is None:
        return None
    return Spool(
        settings.data_dir / "spool.sqlite3",
        sync=settings.spool_sync,
        max_mb=settings.spool_max_mb,
        clock=lambda: clock().timestamp(),
        room_to_work=room_to_work,
    )


def make_delivery(settings: Settings, target: Target, spool: Spool | None) -> Delivery:
    """Choose how events are delivered."""
    delivery: Delivery
    if spool is None:
        delivery = UnspooledDelivery(target)
    elif settings.delivery == "spool":
        delivery = SpoolDelivery(spool)
    else:
        delivery = DirectDelivery(target, spool, time.monotonic)
    return ShownDelivery(delivery) if settings.log_events else delivery


def register_statistics(app: Flask, settings: Settings, target: str, clock: Callable[[], datetime]) -> None:
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
    statistics = Statistics(
        Pipes(target, connections=slots, monotonic=time.monotonic),
        cache,
        SingleFlight(),
        rights_of=rights_of,
        slots=threading.BoundedSemaphore(slots),
        fresh_for=settings.stats_cache_seconds,
        realm=target,
        clock=seconds,
        sleep=time.sleep,
    )
    routes = stats_web.blueprint(statistics)
    app.register_blueprint(routes)
    app.register_blueprint(routes, name="statistics_below_ghost", url_prefix=web.PREFIX)


def make_background(
    settings: Settings, clock: Callable[[], datetime], salts: Salts, store: SaltStore, target: Target
) -> Background:
    """Put together what a process does beside answering."""
    background = Background()
    if settings.enable_salt_cleanup_scheduler:
        shared = isinstance(store, SqliteSalts)
        lock = FileLock(settings.salt_file.with_name(settings.salt_file.name + ".sweep.lock")) if shared else None
        background.add("salts", Sweeper(salts, clock, lock).tick)
    # Its own connection: threads that append should not wait while a batch is read.
    spool = make_spool(settings, clock, room_to_work=True)
    if spool is not None:
        forwarder = Forwarder(
            spool,
            Batches(target, monotonic=time.monotonic, stopping=background.stopping),
            FileLock(settings.data_dir / "spool.forwarder.lock"),
            batch_size=settings.batch_size,
            flush_interval=settings.batch_flush_interval_ms / 1000,
            monotonic=time.monotonic,
            clock=lambda: clock().timestamp(),
        )
        background.add("forwarder", forwarder.tick)
    return background


def now_utc() -> datetime:
    """Say what time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock
