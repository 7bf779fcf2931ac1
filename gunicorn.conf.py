"""Configure gunicorn from the service's settings: `gunicorn -c gunicorn.conf.py app:app`."""

import gc
import logging.config
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.http import message

from traffic_analytics import __version__
from traffic_analytics.errors import ConfigurationError
from traffic_analytics.gunicorn_worker.buffering_worker import STOP_SIGNALS
from traffic_analytics.runtime import logs
from traffic_analytics.runtime.env_values import read_environment
from traffic_analytics.runtime.query_parameters import PARAMETERS_LIMIT
from traffic_analytics.runtime.worker_count import WorkerCount
from traffic_analytics.salts.circuit_breaker import WAITING_HITS
from traffic_analytics.settings import Settings, default_worker_count

_environment = read_environment()
os.environ.update(_environment)  # noqa: TID251 - for prometheus-client and the other libraries that read it
try:
    _settings = Settings.from_env(_environment)
except ConfigurationError as error:
    sys.exit(f"Traffic Analytics cannot start, the settings hold mistakes:\n{error}")


def _raise_file_limit() -> int:
    """Raise the limit of open files as far as this user may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)


wsgi_app = "app:app"
preload_app = True  # a start that fails is logged once, and workers share the loaded memory
bind = (
    f"{'[' + _settings.listen_host + ']' if ':' in _settings.listen_host else _settings.listen_host}:{_settings.port}"
)
backlog = 2048

worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
workers = _settings.web_concurrency
threads = _settings.threads
if _settings.salt_store_type in ("redis", "firestore"):
    threads += WAITING_HITS  # hits that wait for the store leave the other threads free
# The remaining file descriptors are for Tinybird, stores and logs.
worker_connections = max(threads + 32, min(4096, _raise_file_limit() - 2 * threads - 64))
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the heartbeat's file; a slow disk would block the worker
http_parser = "auto"

keepalive = 650  # seconds; longer than common proxies keep a connection (nginx 60, Caddy 120, Google's balancer 600)
timeout = 30
graceful_timeout = 25  # seconds; Kubernetes kills after 30, Docker after 10 unless stop_grace_period is longer
message.MAX_REQUEST_LINE = PARAMETERS_LIMIT
limit_request_line = PARAMETERS_LIMIT if _settings.stats_target else 4094
# Readers' browsers send the cookies of the blog; gunicorn_worker/request_head.py limits all headers together.
limit_request_fields = 100
limit_request_field_size = 16_384

control_socket_disable = True
accesslog = None
logconfig_dict = logs.configuration(
    _settings.log_level,
    _settings.log_format,
    _settings.google_cloud_project,
    traces=_settings.otel_traces_exporter != "none",
)
proc_name = "traffic-analytics"


def _log_settings() -> None:
    """Log the settings that tell one installation from another; gunicorn's own records follow."""
    facts = {
        "version": __version__,
        "mode": "worker" if _settings.worker_mode else "service",
        "target": _settings.target_name,
        "data_dir": str(_settings.data_dir.absolute()),
        "delivery": _settings.delivery,
        "sites": len(_settings.allowed_sites) if _settings.allowed_sites is not None else "any",
    }
    logging.config.dictConfig(logconfig_dict)
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    logging.getLogger("traffic_analytics").info(
        "Traffic Analytics starts: %s", text, extra={"event": "ServiceStarts", **facts}
    )


_log_settings()

if _settings.metrics:
    from traffic_analytics.observability import multiprocess

    multiprocess.prepare_directory()

    def pre_fork(server: Any, worker: Any) -> None:
        """Choose the slot whose counts the worker continues."""
        # Workers from before a reload that turned metrics on have no slot.
        worker.slot = multiprocess.free_slot({getattr(each, "slot", None) for each in server.WORKERS.values()})

    def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
        """Open the slot in the worker."""
        _replace_on_error(worker, lambda: multiprocess.use_slot(worker.slot))

    def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
        """Drop the gauges of a worker that has ended."""
        multiprocess.drop_live_gauges(getattr(worker, "slot", None))


def _replace_on_error(worker: Any, open_files: Callable[[], None]) -> None:
    """Open a worker's count files; if that fails, end the worker so that gunicorn replaces it.

    Any other error at this point stops gunicorn.
    """
    try:
        open_files()
    except OSError as failure:
        worker.log.error("the count files cannot be opened: %s", failure, extra={"event": "MetricsUnavailable"})
        time.sleep(1.0)  # gunicorn starts the next worker at once; without a pause it would use all of the CPU
        sys.exit(1)


def on_starting(server: Any) -> None:
    """Begin the counts of this start, and log the number of workers; block the signals that stop a worker.

    A worker unblocks them once it has set its handlers. Until then a forked worker has the master's handlers, which
    only queue a signal for the master's loop.
    """
    is_given = _environment.get("WEB_CONCURRENCY", "").strip()
    count = WorkerCount(workers, "WEB_CONCURRENCY is set") if is_given else default_worker_count(_settings)
    counts = server.app.wsgi().extensions.get("traffic_analytics_counts")
    if counts is not None:
        counts.begin(datetime.now(UTC))  # noqa: TID251 - an entry point
    server.log.info("worker processes: %d; %s", *count, extra={"event": "WorkersChosen", "workers": count.number})
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS),
    )


def post_worker_init(worker: Any) -> None:
    """Start the background in the worker; a thread started before the fork would not exist in it."""
    # Frozen objects are not scanned, so their memory stays shared with the master. Hits leave no cycles to collect;
    # by default Python would search for some after every 700 objects.
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    worker.body_limits = worker.wsgi.extensions.get("body_limits")
    # Behind a proxy all connections are its own.
    worker.limit_peers = not _settings.trust_proxy
    if worker.body_limits is not None:
        from traffic_analytics.gunicorn_worker import malloc  # noqa: PLC0415 - only large bodies need it

        malloc.return_large_blocks()
    metrics = worker.wsgi.extensions.get("traffic_analytics_metrics")
    if metrics is not None:
        _replace_on_error(worker, metrics.open_files)
    worker.wsgi.extensions["traffic_analytics"].start(on_damage=lambda: os.kill(os.getpid(), signal.SIGTERM))


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    """Stop the background before the worker ends; a damaged file stops the whole service."""
    wsgi = getattr(worker, "wsgi", None)
    if wsgi is not None:
        background = wsgi.extensions["traffic_analytics"]
        background.stop(timeout=12.0 if _settings.worker_mode else 5.0)
        if background.damage is not None:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # gunicorn stops instead of replacing the worker
