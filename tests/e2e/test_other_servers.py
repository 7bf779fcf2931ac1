"""Test that the service works under other WSGI servers, where the code that runs them starts the background."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import COVERAGE, PATIENCE, ROOT, Answer, Upstream, free_port, hit, read_answer, wait_until

if TYPE_CHECKING:
    from pathlib import Path

GTHREAD = """
import os

bind = f"127.0.0.1:{os.environ['PORT']}"
worker_class = "gthread"
threads = 8

def post_worker_init(worker):
    worker.wsgi.extensions["traffic_analytics"].start()

def worker_exit(server, worker):
    worker.wsgi.extensions["traffic_analytics"].stop(timeout=5.0)
"""
WSGIREF = """
import os
import signal
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from app import app

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

background = app.extensions["traffic_analytics"]
background.start()
server = make_server("127.0.0.1", int(os.environ["PORT"]), app, Server)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.1)
background.stop(timeout=5.0)
"""
SERVERS = {"gthread": (GTHREAD, ["-m", "gunicorn", "-c", "server.py", "app:app"]), "wsgiref": (WSGIREF, ["server.py"])}
HITS = 20


def say(port: int, data: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock, sock.makefile("rb") as stream:
        sock.sendall(data)
        return read_answer(stream)


def is_ready(port: int) -> bool:
    try:
        return say(port, b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status == 200
    except OSError:
        return False


@pytest.mark.e2e
@pytest.mark.parametrize("delivery", ["direct", "spool"])
@pytest.mark.parametrize("server", SERVERS)
def test_hits_are_answered_and_delivered_under_another_server(server: str, delivery: str, tmp_path: Path) -> None:
    script, arguments = SERVERS[server]
    (tmp_path / "server.py").write_text(script)
    port = free_port()
    with Upstream() as upstream, (tmp_path / "log").open("wb") as log:
        environment = {
            "PATH": os.defpath,
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "PORT": str(port),
            "PROXY_TARGET": upstream.url,
            "TINYBIRD_TRACKER_TOKEN": "test-token",
            "DELIVERY": delivery,
            "DATA_DIR": str(tmp_path / "data"),
            **COVERAGE,
        }
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: is_ready(port))
            hits = [hit(b"Connection: close\r\n", event_id=f"hit-{number}") for number in range(HITS)]
            with ThreadPoolExecutor(HITS) as clients:
                answers = list(clients.map(lambda data: say(port, data), hits))

            assert [answer.status for answer in answers] == [202] * HITS
            assert say(port, hit(b"Connection: close\r\n", pathname="")).status == 400
            wait_until(lambda: len(upstream.events) == HITS)
            assert {event["payload"]["event_id"] for event in upstream.events} == {f"hit-{n}" for n in range(HITS)}
        finally:
            process.terminate()
            code = process.wait(PATIENCE)
        assert code == 0
