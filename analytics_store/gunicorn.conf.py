# ruff: noqa: N999 - the name is gunicorn's
"""One process has the file, so there is one worker; threads share its connections."""

import logging
import os
from typing import Any

from analytics_store.logs import say, set_up
from analytics_store.retention import Retention
from analytics_store.settings import Settings

settings = Settings.from_env(os.environ)  # noqa: TID251 - this is the edge

bind = settings.bind
workers = 1
worker_class = "gthread"
threads = 16
timeout = 60
graceful_timeout = 20
keepalive = 75
control_socket_disable = True
loglevel = settings.log_level.lower()


def post_worker_init(worker: Any) -> None:
    """Open the file before the first request needs it, and start what runs beside the requests."""
    set_up(settings.log_level)
    store = worker.wsgi.extensions["store"]
    store.database.open()
    worker.retention = Retention(store)
    worker.retention.start()
    say(logging.INFO, "store.started", bind=bind, memory_mb=settings.memory_mb, retention_days=settings.retention_days)
    if settings.open_to_all:
        say(
            logging.WARNING,
            "store.open_without_tokens",
            reason="no token is set: loopback only, and whoever can reach it",
        )


def worker_exit(_server: Any, worker: Any) -> None:
    """Write everything to the file and let it go."""
    retention = getattr(worker, "retention", None)
    if retention is not None:
        retention.stop()
        worker.wsgi.extensions["store"].database.close()
