"""Measure hits while a backlog drains: latency of 500 hits per second, and the rate of draining.

    make bench-backlog BENCH="--rate 500 --backlog 100000"

The service runs with DELIVERY=spool and a filled spool. The clock paces the stream, not the responses, so that a hit
that waits counts as late.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.hits import mixed_hits, running_nginx, running_service, share_cpus, tool
from tests.support.processes import free_port
from traffic_analytics.delivery.spool import Spool

CLIENTS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of hits while a backlog drains.")
    parser.add_argument("--rate", type=int, default=500, help="hits per second")
    parser.add_argument("--seconds", type=int, default=10, help="duration of the stream")
    parser.add_argument("--backlog", type=int, default=100_000, help="events in the spool at the start")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the service")
    options = parser.parse_args()
    nginx = tool("nginx")
    service_cpus, other_cpus = share_cpus()
    with tempfile.TemporaryDirectory(prefix="traffic-analytics-bench-") as name, contextlib.ExitStack() as stack:
        work = Path(name)
        os.environ["DELIVERY"] = "spool"
        spool = work / "data" / "spool.sqlite3"
        lines = [line.split("\t") for line in mixed_hits(random.Random(20))]
        fill(spool, options.backlog, [fields[-1].strip().encode() for fields in lines])
        upstream, port = free_port(), free_port()
        stack.enter_context(running_nginx(nginx, work, upstream, other_cpus))
        started = time.monotonic()
        stack.enter_context(running_service(work, work / "log", port, upstream, options.workers, service_cpus))
        drained = threading.Thread(target=watch, args=[spool, options.backlog, started])
        drained.start()
        latencies = sorted(stream(port, lines, options.rate, options.seconds))
        drained.join()
    print(
        f"{len(latencies)} hits at {options.rate}/s: p50 {latencies[len(latencies) // 2] * 1e3:.1f} ms  "
        f"p99 {latencies[len(latencies) * 99 // 100] * 1e3:.1f} ms  worst {latencies[-1] * 1e3:.1f} ms"
    )


def fill(path: Path, count: int, events: list[bytes]) -> None:
    spool = Spool(path, sync="normal", max_mb=4096, clock=time.time)
    spool.prepare()
    connection = sqlite3.connect(path)
    connection.executemany(
        "INSERT INTO events VALUES (?, 'analytics_events', ?, ?)",
        ((n + 1, 0.0, events[n % len(events)]) for n in range(count)),
    )
    connection.commit()
    connection.close()


def watch(path: Path, count: int, started: float) -> None:
    """Wait until the first `count` events are delivered; prints their rate."""
    connection = sqlite3.connect(path)
    while connection.execute("SELECT EXISTS (SELECT 1 FROM events WHERE id <= ?)", (count,)).fetchone()[0]:
        if time.monotonic() - started > 120:
            print("the backlog did not drain within two minutes")
            return
        time.sleep(0.05)
    seconds = time.monotonic() - started
    print(f"{count} events drained in {seconds:.1f} s ({count / seconds:.0f}/s, including the start of the service)")


def stream(port: int, lines: list[list[str]], rate: int, seconds: int) -> list[float]:
    """Send hits on schedule from a few connections; returns the seconds from due time to response."""
    requests = [request(*fields) for fields in lines]
    latencies: list[float] = []
    start = time.monotonic() + 0.2

    def client(first: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for n in range(first, rate * seconds, CLIENTS):
                due = start + n / rate
                time.sleep(max(0.0, due - time.monotonic()))
                sock.sendall(requests[n % len(requests)])
                response = sock.recv(65536)
                assert response.startswith(b"HTTP/1.1 202"), response
                latencies.append(time.monotonic() - due)

    threads = [threading.Thread(target=client, args=[n]) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def request(user_agent: str, site: str, address: str, body: str) -> bytes:
    body = body.strip()
    return (
        "POST /api/v1/page_hit?name=analytics_events HTTP/1.1\r\nHost: blog.example\r\n"
        f"Content-Type: application/json\r\nx-site-uuid: {site}\r\n"
        f"User-Agent: {user_agent}\r\nX-Forwarded-For: {address}\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()


if __name__ == "__main__":
    main()
