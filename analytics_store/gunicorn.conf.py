# ruff: noqa: N999 - the name is gunicorn's
"""One process has the file, so there is one worker; threads share its connections."""

import logging
import sys
from typing import Any

from analytics_store.chores import chores_of
from analytics_store.errors import SettingsError
from analytics_store.logs import configuration, say
from analytics_store.settings import Settings, read_environment

try:
    settings = Settings.from_env(read_environment())
except SettingsError as error:
    for mistake in error.mistakes:
        sys.stderr.write(f"{mistake}\n")
    raise SystemExit(2) from None

wsgi_app = "analytics_store.app:app"
bind = settings.bind
workers = 1
worker_class = "gthread"
threads = 16
timeout = 60
graceful_timeout = 20
keepalive = 75
control_socket_disable = True
logconfig_dict = configuration(settings.log_level, settings.log_format)
proc_name = "analytics-store"


def post_worker_init(worker: Any) -> None:
    """Open the file before the first request needs it, and start what runs beside the requests."""
    store = worker.wsgi.extensions["store"]
    store.database.open()
    worker.chores = chores_of(store)
    for chore in worker.chores:
        chore.start()
    say(logging.INFO, "store.started", bind=bind, memory_mb=settings.memory_mb, retention_days=settings.retention_days)
    if settings.open_to_all:
        say(
            logging.WARNING,
            "store.open_without_tokens",
            reason="no token is set: loopback only, and whoever can reach it",
        )


def worker_exit(_server: Any, worker: Any) -> None:
    """Write everything to the file and let it go."""
    chores = getattr(worker, "chores", None)
    if chores is not None:
        for chore in chores:
            chore.stop()
        worker.wsgi.extensions["store"].database.close()
