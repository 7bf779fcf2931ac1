# ruff: noqa: N999 - the name is gunicorn's
"""Run the store under gunicorn: one worker, since one process may open the file; threads share its connections."""

import logging.config
import sys
from typing import Any

from gunicorn.http import message

from analytics_store.file_modes import restrict_new_files
from analytics_store.settings import Settings
from analytics_store.wiring import log_configuration
from traffic_analytics import __version__
from traffic_analytics.errors import AnalyticsError, ConfigurationError
from traffic_analytics.runtime.env_values import read_environment
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT

_log = logging.getLogger("analytics_store.gunicorn")

try:
    settings = Settings.from_env(read_environment())
except ConfigurationError as error:
    sys.exit(f"The analytics store cannot start, the settings hold mistakes:\n{error}")

restrict_new_files()
wsgi_app = "analytics_store.app:app"
bind = settings.bind
# gunicorn gives a Unix socket its own mask: 0600, for the store's own user.
umask = 0o177
workers = 1
worker_class = "analytics_store.worker.Worker"
threads = 16
timeout = 60
graceful_timeout = 20
keepalive = 75
message.MAX_REQUEST_LINE = limit_request_line = PARAMETERS_LIMIT
control_socket_disable = True
logconfig_dict = log_configuration(settings)
proc_name = "analytics-store"

logging.config.dictConfig(logconfig_dict)
_facts = {"version": __version__, "bind": bind, "data_dir": str(settings.data_dir.absolute())}
_log.info(
    "the analytics store starts: version %s, on %s, data dir %s",
    *_facts.values(),
    extra={"event": "StoreStarts", **_facts},
)


def post_worker_init(worker: Any) -> None:
    """Open the file before the first request needs it, and start the chores."""
    try:
        worker.wsgi.extensions["store"].open()
    except AnalyticsError as error:
        # gunicorn logs the class only, and ends.
        _log.critical("the store cannot start: %s", error, extra={"event": "StoreCannotStart"})
        raise
    worker.wsgi.extensions["background"].start()
    facts = {"bind": bind, "memory_mb": settings.memory_mb, "retention_days": settings.retention_days}
    _log.info("the store has started", extra={"event": "StoreStarted", **facts})
    if settings.open_to_all:
        _log.warning(
            "no token is set: any client on this machine may do everything", extra={"event": "StoreOpenWithoutTokens"}
        )


def pre_request(_worker: Any, request: Any) -> None:
    """Read `Connection` as a list; gunicorn itself reads the first header only, and as one option."""
    options = ",".join(value for name, value in request.headers if name == "CONNECTION")
    if "close" in (option.strip(" \t").lower() for option in options.split(",")):
        request.force_close()


def worker_exit(_server: Any, worker: Any) -> None:
    """End the chores, then write all rows to the file and close it."""
    wsgi = getattr(worker, "wsgi", None)
    if wsgi is not None:
        wsgi.extensions["background"].stop(timeout=graceful_timeout)
        wsgi.extensions["store"].close()
