"""How gunicorn runs the service: `gunicorn -c gunicorn.conf.py app:app`, everything else from the settings."""

import gc
import os
import resource
import signal
import sys
import time

from traffic_analytics.errors import ConfigurationError
from traffic_analytics.gunicorn_worker.buffering_worker import ORDERS
from traffic_analytics.runtime import logs
from traffic_analytics.settings import Settings, read_environment

try:
    _settings = Settings.from_env(read_environment())
except ConfigurationError as error:
    sys.exit(f"Traffic Analytics cannot start, the settings hold mistakes:\n{error}")


def _files() -> int:
    """Ask for as many file descriptors as this user may have, and say how many there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


wsgi_app = "app:app"
preload_app = True  # a start that fails says so once, and workers share what is loaded
bind = (
    f"{'[' + _settings.listen_host + ']' if ':' in _settings.listen_host else _settings.listen_host}:{_settings.port}"
)
backlog = 2048

worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
workers = _settings.web_concurrency
threads = _settings.threads
# The rest of the file descriptors is for Tinybird, stores and logs.
worker_connections = max(threads + 32, min(4096, _files() - 2 * threads - 64))
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the heartbeat's file; on a disk it can block a worker
http_parser = "auto"

keepalive = 650  # seconds; longer than any common proxy keeps its side (nginx 60, Caddy 120, Google's balancer 600)
timeout = 30
graceful_timeout = 25  # Kubernetes kills after 30 seconds; Docker after 10, unless stop_grace_period says more
# A question about statistics may name a hundred posts, or bring Ghost's token.
limit_request_line = 8190 if _settings.stats_target else 4094
limit_request_fields = 64
limit_request_field_size = 8190

control_socket_disable = True
accesslog = None
logconfig_dict = logs.configuration(
    _settings.log_level,
    _settings.log_format,
    _settings.google_cloud_project,
    traces=_settings.otel_traces_exporter != "none",
)
proc_name = "traffic-analytics"

if _settings.metrics:
    from traffic_analytics.observability import multiprocess as metric_files

    metric_files.prepare()

    def pre_fork(server, worker):  # type: ignore[no-untyped-def]
        """Give the worker a place whose counts it goes on with."""
        # Those that were there before a reload turned metrics on have none.
        worker.place = metric_files.free_place({getattr(each, "place", None) for each in server.WORKERS.values()})

    def post_fork(server, worker):  # type: ignore[no-untyped-def] # noqa: ARG001
        """Let the worker take its place."""
        _counting(worker, lambda: metric_files.take(worker.place))

    def child_exit(server, worker):  # type: ignore[no-untyped-def] # noqa: ARG001
        """Forget what was true only of the worker that is gone."""
        metric_files.leave(getattr(worker, "place", None))


def _counting(worker, begin):  # type: ignore[no-untyped-def]
    """Let a worker begin to count, or be replaced: gunicorn would stop altogether if it just failed."""
    try:
        begin()
    except OSError as failure:
        worker.log.error("the counts' files cannot be opened: %s", failure, extra={"event": "MetricsUnavailable"})
        time.sleep(1.0)  # gunicorn starts the next one at once, which would leave no CPU to those that work
        sys.exit(1)


def on_starting(server):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Let no order to stop get lost in a worker that is just being born: it waits until the worker can take it.

    Between fork and its own handlers a worker has the master's, which only note a signal for the master's loop.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ORDERS),
    )


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Start background work in the worker: a thread started before the fork would be dead in it."""
    # What is loaded now stays: the collector need not look through it (nor write to it, which would unshare its memory
    # from the master's), and hits leave no cycles behind that would have to be looked for after every 700 objects.
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    worker.large_bodies = worker.wsgi.extensions.get("large_bodies")
    if worker.large_bodies is not None:
        from traffic_analytics.gunicorn_worker import malloc as memory  # noqa: PLC0415 - only who takes large bodies needs it

        memory.give_back_large_blocks()
    metrics = worker.wsgi.extensions.get("traffic_analytics_metrics")
    if metrics is not None:
        _counting(worker, metrics.begin)
    worker.wsgi.extensions["traffic_analytics"].start()


def worker_exit(server, worker):  # type: ignore[no-untyped-def] # noqa: ARG001
    """End background work before the worker is gone."""
    wsgi = getattr(worker, "wsgi", None)
    if wsgi is not None:
        wsgi.extensions["traffic_analytics"].stop(timeout=12.0 if _settings.worker_mode else 5.0)
