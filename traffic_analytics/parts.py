"""The parts on the way of a hit are made here from the settings; which of its siblings each is, is chosen here.

What is optional is imported only when it is chosen. What only one route has, wiring.py makes itself.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from traffic_analytics.batches import MAX_BATCH_BYTES
from traffic_analytics.delivery import Delivery, DirectDelivery, ShownDelivery, SpoolDelivery, UnspooledDelivery
from traffic_analytics.file_lock import FileLock
from traffic_analytics.forwarder import Forwarder
from traffic_analytics.salt_guard import GuardedSalts
from traffic_analytics.salts import MemorySalts, Salts, SaltStore, SqliteSalts, Sweeper
from traffic_analytics.spool import Spool
from traffic_analytics.tinybird import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from traffic_analytics.background import Background
    from traffic_analytics.delivery import Target
    from traffic_analytics.observation import Observation
    from traffic_analytics.pubsub_topic import PubsubTopic
    from traffic_analytics.settings import Settings
    from traffic_analytics.subscription import Subscription


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
    return _make_topic(str(settings.pubsub_topic_page_hits_raw), settings)


def make_aside_topic(settings: Settings) -> PubsubTopic | None:
    """Describe where a worker publishes what it cannot deliver, if not into its spool."""
    return _make_topic(settings.pubsub_topic_set_aside, settings) if settings.pubsub_topic_set_aside else None


def _make_topic(topic: str, settings: Settings) -> PubsubTopic:
    from traffic_analytics.pubsub_topic import PubsubTopic  # noqa: PLC0415

    return PubsubTopic(topic, str(settings.google_cloud_project), settings.pubsub_emulator_host)


def make_subscription(settings: Settings) -> Subscription:
    """Describe what a worker takes messages from; nothing is opened yet."""
    from traffic_analytics.subscription import Subscription  # noqa: PLC0415

    return Subscription(
        str(settings.pubsub_subscription_page_hits_raw),
        str(settings.google_cloud_project),
        settings.pubsub_emulator_host,
        most_messages=max(1000, 4 * settings.batch_size),
        most_bytes=4 * MAX_BATCH_BYTES,
        monotonic=time.monotonic,
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


def make_delivery(settings: Settings, target: Target, spool: Spool | None, watched: Observation) -> Delivery:
    """Choose how events are delivered."""
    delivery: Delivery
    if spool is None:
        delivery = UnspooledDelivery(target)
    elif settings.delivery == "spool":
        delivery = SpoolDelivery(spool)
    else:
        delivery = DirectDelivery(target, spool, time.monotonic, watched.circuits())
    return watched.delivery(ShownDelivery(delivery) if settings.log_events else delivery)


def add_sweeper(
    background: Background, settings: Settings, clock: Callable[[], datetime], salts: Salts, store: SaltStore
) -> None:
    """Add the deletion of past salts to what a process does beside answering."""
    sweeper = Sweeper(salts, clock, sweep_lock(settings, store), deletes=settings.enable_salt_cleanup_scheduler)
    background.add("salts", sweeper.tick)
    if isinstance(store, GuardedSalts):
        background.add("salt store", store.tick)


def add_forwarder(
    background: Background, settings: Settings, clock: Callable[[], datetime], target: Target, watched: Observation
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
    if not isinstance(store, SqliteSalts | GuardedSalts):
        return None
    path = settings.salt_file.with_name(settings.salt_file.name + ".sweep.lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:  # salts across the network need no disk; then every process sweeps, which harms nothing
        return None
    return FileLock(path)
