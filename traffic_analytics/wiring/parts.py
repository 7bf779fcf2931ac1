"""Make the parts on a hit's way from the settings; what is optional is imported only if it is chosen."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask

from traffic_analytics import wsgi
from traffic_analytics.delivery.forwarder import Forwarder
from traffic_analytics.delivery.modes import DirectDelivery, LoggedDelivery, SpoolDelivery, UnspooledDelivery
from traffic_analytics.delivery.spool import Spool
from traffic_analytics.health import once
from traffic_analytics.runtime.background import Background
from traffic_analytics.runtime.file_lock import FileLock
from traffic_analytics.salts.circuit_breaker import SaltCircuitBreaker
from traffic_analytics.salts.sqlite import SqliteSalts
from traffic_analytics.salts.store import MemorySalts
from traffic_analytics.salts.sweeper import Sweeper
from traffic_analytics.tinybird.events import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flask import Blueprint

    from traffic_analytics.delivery.target import Delivery, Target
    from traffic_analytics.observability.instrumentation import Instrumentation
    from traffic_analytics.pubsub.topic import PubsubTopic
    from traffic_analytics.salts.cache import Salts
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings


def make_salt_store(settings: Settings, clock: Callable[[], datetime]) -> SaltStore:
    """Choose the salt store; what the shared ones are made of is imported only here, for those who want them."""
    if settings.salt_store_type == "memory":
        return MemorySalts()
    if settings.salt_store_type == "redis":
        from traffic_analytics.salts.redis import RedisSalts, redis_client  # noqa: PLC0415

        return SaltCircuitBreaker(RedisSalts(redis_client(settings.redis_url or ""), clock))
    if settings.salt_store_type == "firestore":
        from traffic_analytics.salts.firestore import FirestoreSalts, firestore_client  # noqa: PLC0415

        open_client = partial(firestore_client, settings.google_cloud_project, settings.firestore_database_id)
        return SaltCircuitBreaker(FirestoreSalts(open_client, clock, batch_size=settings.firestore_cleanup_batch_size))
    return SqliteSalts(settings.salt_file)


def make_target(settings: Settings) -> Target:
    """Choose what takes events; nothing is opened yet."""
    if settings.delivery != "pubsub":
        return make_tinybird(settings)
    return make_topic(str(settings.pubsub_topic_page_hits_raw), settings)


def make_topic(topic: str, settings: Settings) -> PubsubTopic:
    """Describe a Pub/Sub topic; nothing is opened yet."""
    from traffic_analytics.pubsub.topic import PubsubTopic  # noqa: PLC0415

    return PubsubTopic(topic, str(settings.google_cloud_project), settings.pubsub_emulator_host)


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


def make_delivery(settings: Settings, target: Target, spool: Spool | None, watched: Instrumentation) -> Delivery:
    """Choose how events are delivered."""
    delivery: Delivery
    if spool is None:
        delivery = UnspooledDelivery(target)
    elif settings.delivery == "spool":
        delivery = SpoolDelivery(spool)
    else:
        delivery = DirectDelivery(target, spool, time.monotonic, watched.circuits())
    return watched.delivery(LoggedDelivery(delivery) if settings.log_events else delivery)


def add_sweeper(
    background: Background, settings: Settings, clock: Callable[[], datetime], salts: Salts, store: SaltStore
) -> None:
    """Add the deletion of past salts to what a process does beside answering."""
    sweeper = Sweeper(salts, clock, sweep_lock(settings, store), deletes=settings.enable_salt_cleanup_scheduler)
    background.add("salts", sweeper.tick)
    if isinstance(store, SaltCircuitBreaker):
        background.add("salt store", store.tick)


def add_forwarder(
    background: Background, settings: Settings, clock: Callable[[], datetime], target: Target, watched: Instrumentation
) -> None:
    """Add the forwarder to what a process does beside answering, if there is a spool."""
    # Its own connection: threads that append should not wait while a batch is read.
    spool = make_spool(settings, clock, room_to_work=True)
    if spool is None:
        return
    forwarder = Forwarder(
        spool,
        watched.batches(target, background.stopping),
        FileLock(settings.data_dir / "spool.forwarder.lock"),
        batch_size=settings.batch_size,
        flush_interval=settings.batch_flush_interval_ms / 1000,
        monotonic=time.monotonic,
        clock=lambda: clock().timestamp(),
    )
    background.add("forwarder", forwarder.tick)


def sweep_lock(settings: Settings, store: SaltStore) -> FileLock | None:
    """Let one process of the machine delete salts from a store that its processes share."""
    if not isinstance(store, SqliteSalts | SaltCircuitBreaker):
        return None
    path = settings.salt_file.with_name(settings.salt_file.name + ".sweep.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # salts across the network need no disk; then every process sweeps, which harms nothing
        return None
    return FileLock(path)


def salts_check(salts: Salts, store: SaltStore) -> Callable[[], None]:
    """Choose how salts count for readiness: without a store that all machines share, sites with cached salts go on."""
    return once(salts.check) if isinstance(store, SaltCircuitBreaker) else salts.check


def make_app() -> Flask:
    """Make an app without routes, whose errors are JSON."""
    app = Flask("traffic_analytics", static_folder=None)
    # A path is a route or it is not: a redirect would cost a hit its answer.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    wsgi.handle_errors(app)
    return app


def make_background(app: Flask, watched: Instrumentation) -> Background:
    """Give an app what it does beside answering, which is nothing yet."""
    background = Background()
    if watched.traces is not None:
        background.add_service(watched.traces)
    app.extensions["traffic_analytics"] = background
    return background


def register(app: Flask, routes: Blueprint) -> None:
    """Let an app answer routes, below Ghost's prefix too."""
    app.register_blueprint(routes)
    app.register_blueprint(routes, name=f"{routes.name}_below_ghost", url_prefix=wsgi.PREFIX)
