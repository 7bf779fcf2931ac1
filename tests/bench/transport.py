"""Measure the CPU of one request: requests' own adapter against the project's transport.

The server runs in a process of its own, so that only the client's CPU is counted. The rounds alternate, because a
machine's speed drifts; the lowest round of each client counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socketserver
import time
from typing import TYPE_CHECKING, Any

import requests

from traffic_analytics.tinybird.events import Tinybird

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

BODY = b'{"timestamp":"2026-11-22T12:30:15.000Z","payload":"' + b"x" * 700 + b'"}'
RESPONSE_BODY = b'{"successful_rows":1,"quarantined_rows":0}'
RESPONSE = (
    b"HTTP/1.1 202 Accepted\r\n"
    b"content-type: application/json; charset=utf-8\r\n"
    b"date: Sun, 22 Nov 2026 12:30:15 GMT\r\n"
    b"x-request-id: 0123456789abcdef\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(RESPONSE_BODY), RESPONSE_BODY)
)


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(RESPONSE)


def serve(port: Connection) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        port.send(server.server_address[1])
        server.serve_forever()


def with_requests(url: str) -> Callable[[], Any]:
    """Post as a program does that uses requests plainly, with a session that keeps connections alive."""
    session = requests.Session()
    headers = {"Content-Type": "application/json", "User-Agent": "traffic-analytics", "Authorization": "Bearer token"}
    target = f"{url}/v0/events?name=analytics_events"
    prepared = requests.Request("POST", target, headers).prepare()
    environment = session.merge_environment_settings(target, {}, False, None, None)

    def post() -> int:
        request = prepared.copy()
        request.prepare_body(BODY, None)
        return session.send(request, timeout=(1.0, 4.0), allow_redirects=False, **environment).status_code

    return post


def with_transport(url: str) -> Callable[[], Any]:
    client = Tinybird(url, "token", wait=False, connections=1)
    return lambda: client.post("analytics_events", [BODY]).status


def measure(post: Callable[[], Any], count: int) -> float:
    """Return the CPU of one request, in microseconds."""
    assert post() == 202
    started = time.process_time()
    for _ in range(count):
        post()
    return (time.process_time() - started) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="requests in each round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=[theirs], daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}"
    clients = {"requests' own adapter": with_requests(url), "tinybird/transport.py": with_transport(url)}
    rounds: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(options.rounds):
        for name, post in clients.items():
            rounds[name].append(measure(post, options.requests))
    server.terminate()
    for name, figures in rounds.items():
        print(f"{name:24} {min(figures):6.0f} µs of CPU per request (lowest of {len(figures)} rounds)")


if __name__ == "__main__":
    main()
