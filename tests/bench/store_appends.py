"""Measure appends to the store, and an import, at a number of hits in its tables.

    python -m tests.bench.store_appends [--hits 1000000] [--seconds 8] [--baseline CHECKOUT]

Each line is a kind of sender: events per second until queries see all of them, the store's CPU time for each request,
and the waits for responses. Dashboards read five pipes every two seconds. With a baseline, another checkout of this
project is measured in the same run, and the ratio follows.
"""

import argparse
import http.client
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import requests

from tests.bench.hits import cpu_seconds
from tests.bench.store import LAST, SITE, Server, event

ROOT = Path(__file__).parents[2]
DAYS = 91
PIPES = ("api_kpis", "api_top_pages", "api_top_sources", "api_top_locations", "api_active_visitors")
PAUSE = 2.0
"""Seconds between two reads of a dashboard."""
IMPORTED = 100_000
LOAD = "import sys; from pathlib import Path; from tests.bench.store import load; load(Path(sys.argv[1]), {}, {})"


@dataclass(frozen=True)
class Kind:
    """A way of sending: events of a request, connections, and dashboards that are read meanwhile."""

    name: str
    size: int
    senders: int
    dashboards: int
    most: int
    """Events that are prepared for a second."""


KINDS = (
    Kind("one by one, 1 connection", 1, 1, 0, 2_000),
    Kind("one by one, 8 connections", 1, 8, 0, 2_000),
    Kind("one by one, 8 connections, 8 dashboards", 1, 8, 8, 2_000),
    Kind("500 at a time, 4 connections", 500, 4, 0, 16_000),
    Kind("500 at a time, 4 connections, 8 dashboards", 500, 4, 8, 16_000),
)


@dataclass
class Measured:
    """Events per second, CPU milliseconds of a request, and waits in milliseconds."""

    rate: float
    cpu_ms: float
    median: float = 0.0
    p99: float = 0.0


def send(server: Server, kind: Kind, seconds: float) -> Measured:
    """Send events of one kind for some seconds."""
    stop = threading.Event()
    waits: list[float] = []
    now_ms = int(time.time() * 1000)
    count = int(seconds * kind.most / kind.size / kind.senders) + 1
    bodies = [
        [b"\n".join(json.dumps(event(now_ms + n)).encode() for n in range(kind.size)) for _ in range(count)]
        for _ in range(kind.senders)
    ]

    def sender(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for body in bodies[number]:
            status = 503
            while status == 503 and not stop.is_set():
                started = time.perf_counter()
                connection.request("POST", "/v0/events?name=analytics_events", body)
                response = connection.getresponse()
                response.read()
                status = response.status
                waits.append(1000 * (time.perf_counter() - started))
            assert stop.is_set() or status == 202, status

    def dashboard() -> None:
        session = requests.Session()
        while not stop.is_set():
            for pipe in PIPES:
                query = f"site_uuid={SITE}&date_from={LAST - timedelta(days=29)}&date_to={LAST}"
                session.get(f"{server.url}/v0/pipes/{pipe}.json?{query}", timeout=60).raise_for_status()
            stop.wait(PAUSE)

    senders = [threading.Thread(target=sender, args=(number,)) for number in range(kind.senders)]
    dashboards = [threading.Thread(target=dashboard) for _ in range(kind.dashboards)]
    before, started = cpu_seconds(server.process.pid), time.perf_counter()
    for thread in (*senders, *dashboards):
        thread.start()
    for thread in senders:
        thread.join(max(0.0, started + seconds - time.perf_counter()))
    stop.set()
    for thread in (*senders, *dashboards):
        thread.join()
    # Writes what is in the journal.
    requests.get(f"{server.url}/v0/store/info", timeout=60).raise_for_status()
    elapsed = time.perf_counter() - started
    waits.sort()
    return Measured(
        len(waits) * kind.size / elapsed,
        1000 * (cpu_seconds(server.process.pid) - before) / len(waits),
        statistics.median(waits),
        waits[int(len(waits) * 0.99)],
    )


def measure_import(checkout: Path, directory: Path) -> Measured:
    """Import a file into an empty store, and count the CPU time of the command."""
    file = directory / "hits.ndjson"
    if not file.exists():
        now_ms = int(time.time() * 1000)
        file.write_text("".join(json.dumps(event(now_ms + 100 * n)) + "\n" for n in range(IMPORTED)))
    environment = os.environ | {"STORE_DATA_DIR": str(directory / "imported"), "STORE_BIND": "unix:/nowhere"}
    command = [sys.executable, "-m", "flask", "--app", "analytics_store.app", "store", "import", str(file)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    elapsed = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    shutil.rmtree(directory / "imported")
    return Measured(IMPORTED / elapsed, 1000 * cpu / IMPORTED)


def measure(checkout: Path, directory: Path, hits: int, seconds: float) -> dict[str, Measured]:
    """Load, start and measure the store of one checkout."""
    data_dir = directory / "store"
    data_dir.mkdir()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    load = [sys.executable, "-c", LOAD.format(hits, DAYS), str(data_dir)]
    subprocess.run(load, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Measured] = {}

    def add(name: str, one: Callable[[], Measured]) -> None:
        found[name] = measured = one()
        print(
            f"{name:<44}{measured.rate:>9.0f} events/s{measured.cpu_ms:>9.3f} ms CPU"
            f"{measured.median:>8.1f} ms median{measured.p99:>8.1f} ms p99",
            flush=True,
        )

    started = time.perf_counter()
    server = Server(data_dir, checkout)
    try:
        print(f"{checkout}: {hits} hits, start {time.perf_counter() - started:.1f} s", flush=True)
        for kind in KINDS:
            add(kind.name, lambda: send(server, kind, seconds))  # noqa: B023 - called at once
        print(f"memory of the worker: {server.memory_mb():.0f} MB")
    finally:
        server.stop()
    add("import", lambda: measure_import(checkout, directory))
    return found


def main() -> None:
    """Measure this checkout, and the baseline before it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--baseline", type=Path)
    arguments = parser.parse_args()
    results = []
    for checkout in filter(None, (arguments.baseline, ROOT)):
        with tempfile.TemporaryDirectory() as directory:
            results.append(measure(checkout.resolve(), Path(directory), arguments.hits, arguments.seconds))
    if len(results) == 2:
        print(f"{'ratio to the baseline':<44}{'events/s':>18}{'CPU':>9}")
        for name, after in results[1].items():
            before = results[0][name]
            print(f"{name:<44}{after.rate / before.rate:>18.2f}{after.cpu_ms / before.cpu_ms:>9.2f}")


if __name__ == "__main__":
    main()
