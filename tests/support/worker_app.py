"""Run a WSGI application of a test under the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.processes import Running

if TYPE_CHECKING:
    from pathlib import Path

CONF = """
import os
from traffic_analytics.runtime import logs

bind = f"127.0.0.1:{os.environ['PORT']}"
worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
threads = int(os.environ["THREADS"])
logconfig_dict = logs.configuration("info", "json", None)
"""


def serve(directory: Path, app: str, threads: int) -> Running:
    """Write the module of an application, and run it with so many threads."""
    (directory / "app.py").write_text(app)
    (directory / "gunicorn.conf.py").write_text(CONF)
    return Running(directory, "", "-c", "gunicorn.conf.py", THREADS=str(threads))
