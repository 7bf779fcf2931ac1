"""How a steady stream of hits fares while a backlog drains: latency of 500 hits a second, and the rate of the draining.

    make bench-backlog BENCH="--rate 500 --backlog 100000"

The service runs with DELIVERY=spool and a spool that holds events already. The stream is paced by the clock, not by the
answers, so that a hit that waits counts as late.
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

from tests.bench.hits import free_port, mixed_hits, running_nginx, running_service, share_cpus, tool
from traffic_analytics.delivery.spool import Spool

CLIENTS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of hits while a backlog drains.")
    parser.add_argument("--rate", type=int, default=500, help="hits a second")
    parser.add_argument("--seconds", type=int, default=10, help="how long the stream lasts")
    parser.add_argument("--backlog", type=int, default=100_000, help="events that wait at the start")
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
        took = sorted(stream(port, lines, options.rate, options.seconds))
        drained.join()
    print(
        f"{len(took)} hits at {options.rate}/s: p50 {took[len(took) // 2] * 1e3:.1f} ms  "
        f"p99 {took[len(took) * 99 // 100] * 1e3:.1f} ms  worst {took[-1] * 1e3:.1f} ms"
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
    spool.close()


def watch(path: Path, count: int, started: float) -> None:
    """Wait until the events that were there first are gone."""
    connection = sqlite3.connect(path)
    while connection.execute("SELECT EXISTS (SELECT 1 FROM events WHERE id <= ?)", (count,)).fetchone()[0]:
        if time.monotonic() - started > 120:
            print("the backlog did not drain within two minutes")
            return
        time.sleep(0.05)
    took = time.monotonic() - started
    print(f"{count} waiting events drained in {took:.1f} s ({count / took:.0f}/s, start of the service included)")


def stream(port: int, lines: list[list[str]], rate: int, seconds: int) -> list[float]:
    """Send hits at their times from a few connections; returns how long after its time each was answered."""
    requests = [request(*fields) for fields in lines]
    took: list[float] = []
    begin = time.monotonic() + 0.2

    def client(first: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for n in range(first, rate * seconds, CLIENTS):
                due = begin + n / rate
                time.sleep(max(0.0, due - time.monotonic()))
                sock.sendall(requests[n % len(requests)])
                answer = sock.recv(65536)
                assert answer.startswith(b"HTTP/1.1 202"), answer
                took.append(time.monotonic() - due)

    threads = [threading.Thread(target=client, args=[n]) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


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
