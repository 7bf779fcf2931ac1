"""Test that a worker survives the errors of accept()."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING

from tests.support.processes import Running

if TYPE_CHECKING:
    from pathlib import Path

ERRORS = [
    errno.ECONNABORTED,
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOPROTOOPT,
    errno.ENONET,
    errno.ETIMEDOUT,
]
APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
CONF = f"""
import os
from traffic_analytics.runtime import logs

bind = f"127.0.0.1:{{os.environ['PORT']}}"
worker_class = "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker"
threads = 2
logconfig_dict = logs.configuration("info", "json", None)

class Failing:
    def __init__(self, sock):
        self.sock = sock
        self.errors = {ERRORS}

    def accept(self):
        if os.path.exists("fail") and self.errors:
            number = self.errors.pop()
            raise OSError(number, os.strerror(number))
        return self.sock.accept()

    def __getattr__(self, name):
        return getattr(self.sock, name)

def post_worker_init(worker):
    worker.sockets[:] = [Failing(each) for each in worker.sockets]
"""


def test_a_worker_goes_on_after_every_error_of_accept_and_logs_it_once_a_minute(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(CONF)
    with Running(tmp_path, "", "-c", "gunicorn.conf.py") as service:
        before = service.get("/").body
        (tmp_path / "fail").touch()

        assert service.get("/").body == before, os.strerror(errno.ENOBUFS)
        records = [json.loads(line) for line in service.output.splitlines()]

    failures = [record for record in records if record["event"] == "AcceptFailed"]
    assert len(failures) == 1
    assert failures[0]["level"] == "error"
