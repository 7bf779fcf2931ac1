"""The one place where the parts meet."""

from __future__ import annotations

import logging
import logging.config
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from cachetools import LRUCache, cached
from flask import Flask

from traffic_analytics import commands, logs, referrer, user_agent, web
from traffic_analytics.background import Background
from traffic_analytics.batches import MAX_BATCH_BYTES, Batches
from traffic_analytics.delivery import Delivery, DirectDelivery, ShownDelivery, SpoolDelivery, UnspooledDelivery
from traffic_analytics.file_lock import FileLock
from traffic_analytics.forwarder import Forwarder
from traffic_analytics.hit_endpoint import HitEndpoint
from traffic_analytics.readiness import Readiness
from traffic_analytics.salt_guard import GuardedSalts
from traffic_analytics.salts import MemorySalts, Salts, SaltStore, SqliteSalts, Sweeper
from traffic_analytics.spool import Spool
from traffic_analytics.tinybird import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Blueprint

    from traffic_analytics.delivery import Target
    from traffic_analytics.rights import Rights
    from traffic_analytics.settings import Settings

CACHED_USER_AGENTS = 4096


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] | None = None,
    salt_store: SaltStore | None = None,
) -> Flask:
    """Build the service from its settings; whatever else is given takes the place of a part.

    Opens the salts and the spool to check them (raises DamagedFile) and starts no thread: that is for
    `app.extensions["traffic_analytics"].start()`, in the process that is to run them.
    """
    logging.config.dictConfig(
        logs.configuration(settings.log_level, settings.log_format, settings.google_cloud_project)
    )
    clock = clock or now_utc
    if settings.worker_mode:
        return create_worker(settings, clock, salt_store or make_salt_store(settings, clock))
    store = salt_store or make_salt_store(settings, clock)
    store.prepare()
    salts = Salts(store)
    target = make_target(settings)
    spool = make_spool(settings, clock)
    if spool is not None:
        spool.prepare()

    readiness = Readiness([salts.check, *([spool.check] if spool is not None else [])], clock)
    hits = HitEndpoint(
        settings,
        clock=clock,
        salts=salts,
        delivery=make_delivery(settings, target, spool),
        parse_user_agent=cached(LRUCache(CACHED_USER_AGENTS), lock=threading.Lock())(user_agent.parse),
        new_event_id=lambda: str(uuid4()),
    )
    app = make_app(web.blueprint(hits), web.probes(settings, readiness.check))
    if settings.stats_target is not None:
        register_statistics(app, settings, settings.stats_target, clock)
    if settings.tinybird_sync_auth is not None:
        register_sync(app, settings, settings.tinybird_sync_auth)
    if settings.local_proxy:
        app.register_blueprint(web.local_proxy())
    web.handle_errors(app)
    app.wsgi_app = web.HitDoor(app.wsgi_app, hits)  # type: ignore[method-assign]
    app.extensions["traffic_analytics"] = background = Background()
    add_sweeper(background, settings, clock, salts, store)
    add_forwarder(background, settings, clock, target)
    commands.register(app, settings, salts, spool, target)
    # The first hit should not pay for reading the lists.
    user_agent.parse("")
    referrer.classify("https://example.com/", None, None, "")
    return app


def create_worker(settings: Settings, clock: Callable[[], datetime], store: SaltStore) -> Flask:
    """Build the app of a worker: probes to answer, and messages to deliver in the background."""
    from traffic_analytics.pubsub_topic import PubsubTopic  # noqa: PLC0415
    from traffic_analytics.subscription import Subscription  # noqa: PLC0415
    from traffic_analytics.worker import Worker  # noqa: PLC0415

    store.prepare()
    salts = Salts(store)
    tinybird = make_tinybird(settings)
    spool = make_spool(settings, clock)
    assert spool is not None  # noqa: S101 - there is one wherever there is a token
    spool.prepare()
    project, emulator = str(settings.google_cloud_project), settings.pubsub_emulator_host
    most_messages = max(1000, 4 * settings.batch_size)
    subscription = Subscription(
        str(settings.pubsub_subscription_page_hits_raw),
        project,
        emulator,
        most_messages=most_messages,
        most_bytes=4 * MAX_BATCH_BYTES,
    )
    worker = Worker(
        subscription,
        Batches(tinybird, monotonic=time.monotonic, stopping=threading.Event()),  # it is to deliver while we stop
        salts,
        PubsubTopic(settings.pubsub_topic_set_aside, project, emulator) if settings.pubsub_topic_set_aside else spool,
        batch_size=settings.batch_size,
        flush_interval=settings.batch_flush_interval_ms / 1000,
        most_messages=most_messages,
        parse_user_agent=cached(LRUCache(CACHED_USER_AGENTS))(user_agent.parse),
        new_event_id=lambda: str(uuid4()),
        monotonic=time.monotonic,
    )
    readiness = Readiness([worker.check, salts.check, spool.check], clock)
    app = make_app(web.probes(settings, readiness.check))
    web.handle_errors(app)
    app.extensions["traffic_analytics"] = background = Background()
    background.add("worker", worker.tick, worker.finish)
    add_sweeper(background, settings, clock, salts, store)
    add_forwarder(background, settings, clock, tinybird)  # for what an operator puts back
    commands.register(app, settings, salts, spool, tinybird, **{"Pub/Sub subscription": subscription.look})
    return app


def make_app(*blueprints: Blueprint) -> Flask:
    """Make an app whose routes answer below Ghost's prefix too."""
    app = Flask("traffic_analytics", static_folder=None)
    # A path is a route or it is not: a redirect would cost a hit its answer.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    for each in blueprints:
        app.register_blueprint(each)
        app.register_blueprint(each, name=f"{each.name}_below_ghost", url_prefix=web.PREFIX)
    return app


def make_salt_store(settings: Settings, clock: Callable[[], datetime]) -> SaltStore:
    """Choose the salt store; what the shared ones are made of is imported only here, for those who want them."""
    if settings.salt_store_type == "memory":
        return MemorySalts()
    if settings.salt_store_type == "redis":
        from traffic_analytics import redis_salts  # noqa: PLC0415

        return GuardedSalts(redis_salts.RedisSalts(redis_salts.client_of(settings.redis_url or ""), clock))
    if settings.salt_store_type == "firestore":
        from traffic_analytics import firestore_salts  # noqa: PLC0415

        open_client = partial(firestore_salts.client_of, settings.google_cloud_project, settings.firestore_database_id)
        return GuardedSalts(
            firestore_salts.FirestoreSalts(open_client, clock, batch_size=settings.firestore_cleanup_batch_size)
        )
    return SqliteSalts(settings.salt_file)


def make_target(settings: Settings) -> Target:
    """Choose what takes events; nothing is opened yet."""
    if settings.delivery != "pubsub":
        return make_tinybird(settings)
    from traffic_analytics.pubsub_topic import PubsubTopic  # noqa: PLC0415

    return PubsubTopic(
        str(settings.pubsub_topic_page_hits_raw), str(settings.google_cloud_project), settings.pubsub_emulator_host
    )


def make_tinybird(settings: Settings) -> Tinybird:
    """Describe Tinybird; nothing is opened yet."""
    return Tinybird(
        settings.proxy_target,
        settings.tinybird_tracker_token,
        wait=settings.tinybird_wait,
        connections=settings.threads + 1,
    )


def make_spool(settings: Settings, clock: Callable[[], datetime], *, room_to_work: bool = False) -> Spool | None:
    """Describe the spool; there is none if events need senders' tokens, which are not stored."""
    if settings.tinybird_tracker_token is None and settings.delivery != "pubsub":
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


def register_sync(app: Flask, settings: Settings, key: str) -> None:
    """Add Ghost's sync to the app; what it is made of is imported only here, for those who want it."""
    from traffic_analytics import sync_web  # noqa: PLC0415
    from traffic_analytics.sync_endpoint import SyncEndpoint  # noqa: PLC0415
    from traffic_analytics.sync_key import SyncKey  # noqa: PLC0415

    # Ghost sends both tables together; more at a time would take threads from hits.
    slots = max(1, min(2, settings.threads // 2))
    shared = SyncKey(key, web.PREFIX)
    # Connections of its own, and answers that say what is committed: nobody waits, and Ghost forgets what was taken.
    tinybird = Tinybird(settings.proxy_target, settings.tinybird_tracker_token, wait=True, connections=slots)
    routes = sync_web.blueprint(SyncEndpoint(tinybird, shared, threading.BoundedSemaphore(slots)))
    app.register_blueprint(routes)
    app.register_blueprint(routes, name="sync_below_ghost", url_prefix=web.PREFIX)
    app.extensions["large_bodies"] = sync_web.large_bodies(shared)


def add_sweeper(
    background: Background, settings: Settings, clock: Callable[[], datetime], salts: Salts, store: SaltStore
) -> None:
    """Add the deletion of past salts to what a process does beside answering."""
    sweeper = Sweeper(salts, clock, sweep_lock(settings, store), deletes=settings.enable_salt_cleanup_scheduler)
    background.add("salts", sweeper.tick)
    if isinstance(store, GuardedSalts):
        background.add("salt store", store.tick)


def add_forwarder(background: Background, settings: Settings, clock: Callable[[], datetime], target: Target) -> None:
    """Add the forwarder to what a process does beside answering, if there is a spool."""
    # Its own connection: threads that append should not wait while a batch is read.
    spool = make_spool(settings, clock, room_to_work=True)
    if spool is None:
        return
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


def sweep_lock(settings: Settings, store: SaltStore) -> FileLock | None:
    """Let one process of the machine delete salts from a store that its processes share."""
    if not isinstance(store, SqliteSalts | GuardedSalts):
        return None
    path = settings.salt_file.with_name(settings.salt_file.name + ".sweep.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # salts across the network need no disk; then every process sweeps, which harms nothing
        return None
    return FileLock(path)


def now_utc() -> datetime:
    """Say what time it is."""
    return datetime.now(UTC)  # noqa: TID251 - the one clock
