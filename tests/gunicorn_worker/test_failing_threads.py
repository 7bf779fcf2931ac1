from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import head
from tests.support.worker_app import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.processes import Running

THREADS = 2
APP = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/exit":
        raise SystemExit("private-reason")
    start_response("200 OK", [("content-length", "0")])
    return []
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serve(tmp_path, APP, THREADS) as service:
        yield service


def test_an_exception_in_a_thread_is_logged_closes_its_connection_and_ends_no_thread(running: Running) -> None:
    for _ in range(THREADS + 1):  # one more than there are threads to lose
        with running.connect() as sock:
            sock.settimeout(3.0)
            sock.sendall(head(b"Content-Length: 0\r\n\r\n", target="/exit"))
            assert sock.recv(100) == b""

    assert running.get("/").status == 200
    records = [json.loads(line) for line in running.output.splitlines()]
    failures = [record for record in records if record["event"] == "UnhandledError"]
    assert [failure["error"] for failure in failures] == ["SystemExit"] * (THREADS + 1)
    assert all(failure["stack"][-1].endswith(" app") for failure in failures)
    assert "private-reason" not in running.output
