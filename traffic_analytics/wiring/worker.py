"""Build a worker: messages from Pub/Sub in, events out to Tinybird."""

from __future__ import annotations

import threading
import time
from functools import partial
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
    settings: Settings, clock: Callable[[], datetime], store: SaltStore, instrumentation: Instrumentation
) -> Flask:
    """Build the app of a worker: probes to answer, and messages to deliver in the background."""
    # 1. The path of a message: salts, target, spool, subscription, worker.
    store.prepare()
    salts = instrumentation.make_salts(store)
    target = parts.make_tinybird(settings)
    wrapped_target = instrumentation.wrap_target(target, settings.proxy_target)
    spool = parts.make_spool(settings, clock)
    assert spool is not None  # noqa: S101 - a worker has a token, and so a spool
    spool.prepare()
    subscription = make_subscription(settings)
    dead_letter_topic = make_dead_letter_topic(settings)
    give_up = threading.Event()  # not the background's own: the worker still delivers while that stops
    worker = Worker(
        subscription,
        instrumentation.make_batch_sender(wrapped_target, give_up),
        give_up,
        salts,
        dead_letter_topic or spool,
        batch_size=settings.batch_size,
        flush_interval=settings.batch_flush_interval_ms / 1000,
        parse_user_agent=instrumentation.make_user_agent_parser(settings.extra_bots),
        monotonic=time.monotonic,
        report=instrumentation.make_messages_callback(),
        on_bot=partial(instrumentation.make_outcome_callback(), "bot"),
    )

    # 2. The app and its routes.
    app = parts.make_app()
    checks = [worker.check, parts.make_salts_check(salts, store), spool.check]
    parts.register_routes(app, health.probes(settings, health.Readiness(checks, clock).check))
    if instrumentation.metrics is not None:
        options.register_metrics(app, settings, instrumentation.metrics, spool, clock)

    # 3. The work in the background, and the command line.
    background = parts.make_background(app, instrumentation)
    background.add("worker", worker.tick, worker.finish, worker.prepare_stop)
    parts.add_sweeper(background, settings, clock, salts, store)
    parts.add_spool_check(background, spool)
    parts.add_forwarder(background, settings, clock, wrapped_target, instrumentation)  # for `spool retry`
    checked = {"Pub/Sub subscription": subscription.check}
    if dead_letter_topic is not None:
        checked["Pub/Sub topic for what is set aside"] = dead_letter_topic.check
    cli.register(app, settings, salts, spool, target, **checked)
    return app


def make_dead_letter_topic(settings: Settings) -> PubsubTopic | None:
    """Describe the topic for dead letters, if they do not go to the spool; nothing is opened yet."""
    return parts.make_topic(settings.pubsub_topic_set_aside, settings) if settings.pubsub_topic_set_aside else None


def make_subscription(settings: Settings) -> Subscription:
    """Describe the subscription that the worker reads; nothing is opened yet."""
    return Subscription(
        str(settings.pubsub_subscription_page_hits_raw),
        str(settings.google_cloud_project),
        settings.pubsub_emulator_host,
        max_messages=max(1000, 4 * settings.batch_size),
        max_bytes=4 * MAX_BATCH_BYTES,
        monotonic=time.monotonic,
    )
