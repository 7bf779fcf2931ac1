"""Build a worker: messages from Pub/Sub on their way to Tinybird."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from traffic_analytics import cli, health
from traffic_analytics.delivery.batch_sender import MAX_BATCH_BYTES
from traffic_analytics.pubsub.subscription import Subscription
from traffic_analytics.pubsub.worker import Worker
from traffic_analytics.wiring import options, parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flask import Flask

    from traffic_analytics.observability.instrumentation import Instrumentation
    from traffic_analytics.pubsub.topic import PubsubTopic
    from traffic_analytics.salts.store import SaltStore
    from traffic_analytics.settings import Settings


def create_worker(
    settings: Settings, clock: Callable[[], datetime], store: SaltStore, watched: Instrumentation
) -> Flask:
    """Build the app of a worker: probes to answer, and messages to deliver in the background."""
    store.prepare()
    salts = watched.salts(store)
    tinybird = parts.make_tinybird(settings)
    target = watched.target(tinybird, settings.proxy_target)
    spool = parts.make_spool(settings, clock)
    assert spool is not None  # noqa: S101 - there is one wherever there is a token
    spool.prepare()
    subscription = make_subscription(settings)
    aside_topic = make_aside_topic(settings)
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
    app = parts.make_app()
    parts.register(
        app,
        health.probes(
            settings, health.Readiness([worker.check, parts.salts_check(salts, store), spool.check], clock).check
        ),
    )
    if watched.metrics is not None:
        options.register_metrics(app, settings, watched.metrics, spool, clock)
    background = parts.make_background(app, watched)
    background.add("worker", worker.tick, worker.finish, worker.hurry)
    parts.add_sweeper(background, settings, clock, salts, store)
    parts.add_forwarder(background, settings, clock, target, watched)  # for what an operator puts back
    more = {"Pub/Sub subscription": subscription.look}
    if aside_topic is not None:
        more["Pub/Sub topic for what is set aside"] = aside_topic.try_keeping
    cli.register(app, settings, salts, spool, tinybird, **more)
    return app


def make_aside_topic(settings: Settings) -> PubsubTopic | None:
    """Describe where a worker publishes what it cannot deliver, if not into its spool."""
    return parts.make_topic(settings.pubsub_topic_set_aside, settings) if settings.pubsub_topic_set_aside else None


def make_subscription(settings: Settings) -> Subscription:
    """Describe what a worker takes messages from; nothing is opened yet."""
    return Subscription(
        str(settings.pubsub_subscription_page_hits_raw),
        str(settings.google_cloud_project),
        settings.pubsub_emulator_host,
        most_messages=max(1000, 4 * settings.batch_size),
        most_bytes=4 * MAX_BATCH_BYTES,
        monotonic=time.monotonic,
    )
