"""Make the parts of the service and of a worker; a backend is imported only if it is configured."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from flask import Flask

from traffic_analytics import wsgi
from traffic_analytics.app_commands import AppCommands
from traffic_analytics.delivery.forwarder import Forwarder
from traffic_analytics.delivery.modes import (
    DirectDelivery,
    LoggedDelivery,
    Pace,
    SpoolDelivery,
    UnspooledDelivery,
    make_pace,
)
from traffic_analytics.delivery.spool import Spool
from traffic_analytics.health import once
from traffic_analytics.runtime.background import Background
from traffic_analytics.runtime.file_lock import FileLock
from traffic_analytics.salts.circuit_breaker import SaltCircuitBreaker
from traffic_analytics.salts.new_sites import admit_all
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


def make_salt_store(
    settings: Settings, clock: Callable[[], datetime], admit: Callable[[str], None] = admit_all
) -> SaltStore:
    """Choose the salt store, which calls `admit` before it creates a salt; nothing is opened yet."""
    if settings.salt_store_type == "memory":
        return MemorySalts(admit)
    if settings.salt_store_type == "redis":
        from traffic_analytics.salts.redis import RedisSalts, redis_client  # noqa: PLC0415

        return SaltCircuitBreaker(RedisSalts(redis_client(settings.redis_url or ""), clock, admit))
    if settings.salt_store_type == "firestore":
        from traffic_analytics.salts.firestore import FirestoreSalts, firestore_client  # noqa: PLC0415

        open_client = partial(firestore_client, settings.google_cloud_project, settings.firestore_database_id)
        batch_size = settings.firestore_cleanup_batch_size
        return SaltCircuitBreaker(FirestoreSalts(open_client, clock, batch_size=batch_size, admit=admit))
    return SqliteSalts(settings.salt_file, admit)


def make_target(settings: Settings) -> Target:
    """Choose the target of events; nothing is opened yet."""
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
    """Describe the spool; there is none if events need the tokens of their requests, which are not stored."""
    if settings.tinybird_tracker_token is None and settings.delivery != "pubsub":
        return None
    return Spool(
        settings.data_dir / "spool.sqlite3",
        sync=settings.spool_sync,
        max_mb=settings.spool_max_mb,
        clock=lambda: clock().timestamp(),
        room_to_work=room_to_work,
    )


def make_delivery(
    settings: Settings, target: Target, spool: Spool | None, instrumentation: Instrumentation
) -> Delivery:
    """Choose how events are delivered."""
    delivery: Delivery
    if spool is None:
        delivery = UnspooledDelivery(target, make_pace(settings.web_concurrency), time.monotonic)
    elif settings.delivery == "spool":
        delivery = SpoolDelivery(spool)
    else:
        # Pub/Sub has no limit of requests, but each one costs CPU.
        pace = Pace(1, 0.0) if settings.delivery == "pubsub" else make_pace(settings.web_concurrency)
        delivery = DirectDelivery(target, spool, pace, time.monotonic, instrumentation.make_circuit_callback())
    return LoggedDelivery(delivery) if settings.log_events else delivery


def add_sweeper(
    background: Background, settings: Settings, clock: Callable[[], datetime], salts: Salts, store: SaltStore
) -> None:
    """Add the deletion of past salts, and the store's own chore if it has one."""
    sweeper = Sweeper(salts, clock, make_sweep_lock(settings, store), deletes=settings.enable_salt_cleanup_scheduler)
    background.add("salts", sweeper.tick)
    if store.chore is not None:
        background.add("salt store", store.chore)


def add_forwarder(
    background: Background,
    settings: Settings,
    clock: Callable[[], datetime],
    target: Target,
    instrumentation: Instrumentation,
) -> None:
    """Add the forwarder, if there is a spool."""
    # A connection of its own: threads that append do not wait while a batch is read.
    spool = make_spool(settings, clock, room_to_work=True)
    if spool is None:
        return
    forwarder = Forwarder(
        spool,
        instrumentation.make_batch_sender(target, background.stopping),
        FileLock(settings.data_dir / "spool.forwarder.lock"),
        batch_size=settings.batch_size,
        flush_interval=settings.batch_flush_interval_ms / 1000,
        monotonic=time.monotonic,
        clock=lambda: clock().timestamp(),
    )
    background.add("forwarder", forwarder.tick)


def add_spool_check(background: Background, spool: Spool) -> None:
    """Add the check of a spool that was too large to be checked before the start."""
    if spool.chore is not None:
        background.add("spool check", spool.chore)


def make_sweep_lock(settings: Settings, store: SaltStore) -> FileLock | None:
    """Return the lock with which one process of the machine deletes salts; None if each deletes its own."""
    if store.scope == "process":
        return None
    path = settings.salt_file.with_name(settings.salt_file.name + ".sweep.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # a store across the network needs no disk; each process sweeps it then, which does no harm
        return None
    return FileLock(path)


def make_salts_check(salts: Salts, store: SaltStore) -> Callable[[], None]:
    """Choose how the salt store counts for readiness.

    A store across the network must have answered once. Without it sites with cached salts are still served, and its
    absence must not put all machines out of service.
    """
    return once(salts.check) if store.scope == "network" else salts.check


def make_app() -> Flask:
    """Make an app without routes, whose errors are JSON."""
    app = Flask("traffic_analytics", static_folder=None)
    # Without these, Flask answers some paths with a redirect, and browsers lose the hit.
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    wsgi.answer_preflights(app)
    wsgi.handle_errors(app)
    app.cli = AppCommands()
    return app


def make_background(app: Flask, instrumentation: Instrumentation) -> Background:
    """Make an app's background, which runs nothing yet but the sender of traces."""
    background = Background()
    if instrumentation.traces is not None:
        background.add_service(instrumentation.traces)
    app.extensions["traffic_analytics"] = background
    return background


def register_routes(app: Flask, routes: Blueprint) -> None:
    """Add routes to an app, at the root and below Ghost's prefix."""
    app.register_blueprint(routes)
    app.register_blueprint(routes, name=f"{routes.name}_below_ghost", url_prefix=wsgi.PREFIX)
