"""Compare the worker with gunicorn's gthread: CPU per request, and hits served during 400 slow clients.

    make bench-worker BENCH="--rounds 7"

A bare WSGI callable answers the hits of tests/bench/hits.py with 202. The two workers are measured in turn, each round
in a gunicorn of its own with one process and 16 threads; compare the medians, as the machine may be shared. A slow
client sends one byte a second: 200 of them never finish their headers, 200 their body. Meanwhile a client sends a hit
on a new connection every 100 ms and waits for the response for at most 2 s.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.hits import cpu_seconds, mixed_hits, run_wrk, running, share_cpus, tool, wait_for
from tests.support.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = {
    "gthread": "gthread",
    "BufferingWorker": "traffic_analytics.gunicorn_worker.buffering_worker.BufferingWorker",
}
APP = """
BODY = b'{"successful_rows":1,"quarantined_rows":0}'
HEADERS = [("content-type", "application/json"), ("content-length", str(len(BODY)))]

def app(environ, start_response):
    environ["wsgi.input"].read()
    start_response("202 Accepted", HEADERS)
    return [BODY]
"""
CONF = """
preload_app = True
threads = 16
worker_connections = 4096
worker_tmp_dir = "/dev/shm"
keepalive = 650
graceful_timeout = 3
control_socket_disable = True
errorlog = "/dev/null"
"""
HEAD = b"POST /api/v1/page_hit HTTP/1.1\r\nHost: x\r\n"
HIT = HEAD + b"Content-Length: 2\r\n\r\n{}"
SLOW_CLIENTS = 400
PATIENCE = 2.0
PROJECT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each worker")
    parser.add_argument("--seconds", type=int, default=4, help="load per measurement")
    parser.add_argument("--connections", type=int, default=32, help="clients at a time")
    options = parser.parse_args()
    wrk = tool("wrk")
    service_cpus, other_cpus = share_cpus()
    costs: dict[str, list[float]] = {name: [] for name in WORKERS}
    with tempfile.TemporaryDirectory(prefix="traffic-analytics-bench-") as directory:
        work = Path(directory)
        mix = work / "mix.tsv"
        mix.write_text("".join(mixed_hits(random.Random(20))))
        (work / "bare.py").write_text(APP)
        (work / "conf.py").write_text(CONF)
        for _ in range(options.rounds):
            for name in WORKERS:
                with running_worker(work, name, service_cpus) as (master, port):
                    url = f"http://127.0.0.1:{port}"
                    run_wrk(wrk, mix, url, 1, options.connections, other_cpus)
                    before = cpu_seconds(master)
                    result = run_wrk(wrk, mix, url, options.seconds, options.connections, other_cpus)
                    costs[name].append((cpu_seconds(master) - before) / result["hits"] * 1e6)
        for name, each in costs.items():
            print(f"{name:16} {statistics.median(each):6.0f} µs CPU/request (median of {len(each)})")
        pairs = zip(*costs.values(), strict=True)
        print(f"BufferingWorker / gthread: {statistics.median(ours / theirs for theirs, ours in pairs):.2f}")
        for name in WORKERS:
            with running_worker(work, name, service_cpus) as (_, port):
                times = hit_during_slow_clients(port, 10.0)
            served = sorted(each for each in times if each is not None)
            slowest = (
                f", median {served[len(served) // 2] * 1e3:.0f} ms, worst {served[-1] * 1e3:.0f} ms" if served else ""
            )
            print(f"{name:16} {len(served)} of {len(times)} served during {SLOW_CLIENTS} slow clients{slowest}")


@contextlib.contextmanager
def running_worker(work: Path, name: str, cpus: set[int]) -> Iterator[tuple[int, int]]:
    """Run the bare callable; yields the process id of gunicorn's master, and the port."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-k", WORKERS[name], "-b", f"127.0.0.1:{port}"]
    environment = os.environ | {"PYTHONPATH": f"{work}:{PROJECT}"}
    with running([*command, "bare:app"], cpus, cwd=work, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_for(process, f"http://127.0.0.1:{port}/")
        yield process.pid, port


def hit_during_slow_clients(port: int, seconds: float) -> list[float | None]:
    """Return the seconds that each hit took; None for a hit without a response."""
    slow = [connect(port) for _ in range(SLOW_CLIENTS)]
    for sock in slow[::2]:
        sock.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
    over = threading.Event()

    def drip() -> None:
        while not over.wait(1.0):
            for number, sock in enumerate(slow):
                with contextlib.suppress(OSError):
                    sock.send(b"{" if number % 2 == 0 else b"P")

    dripping = threading.Thread(target=drip)
    dripping.start()
    time.sleep(2)
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(timed_hit(port))
        time.sleep(0.1)
    over.set()
    dripping.join()
    for sock in slow:
        sock.close()
    return times


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def timed_hit(port: int) -> float | None:
    started = time.monotonic()
    with contextlib.suppress(OSError), connect(port) as sock:
        sock.sendall(HIT)
        if sock.recv(12) == b"HTTP/1.1 202":
            return time.monotonic() - started
    return None


if __name__ == "__main__":
    main()
