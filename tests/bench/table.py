"""Compare the cost of a hit with that of a bare WSGI callable under the same worker, in one run.

    make bench-table BENCH="--rounds 5"

Each round measures every row in turn, in a server of its own with one worker process on one CPU; wrk and nginx, which
stands in for Tinybird, have the others. Printed are medians. Compare the ratios, since machines differ and may be
shared. The last lines are measured once: memory after the load, start to first answer, CPU of an idle worker, and
latencies of a steady stream from 16 clients.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.backlog import stream
from tests.bench.hits import (
    PROJECT,
    cpu_seconds,
    memory_mb,
    mixed_hits,
    run_wrk,
    running,
    running_nginx,
    running_service,
    share_cpus,
    tool,
    wait_for,
)
from tests.bench.worker import APP, CONF, WORKERS
from tests.support.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

FLASK_APP = """
from flask import Flask, Response, request

app = Flask(__name__)
BODY = b'{"successful_rows":1,"quarantined_rows":0}'

@app.get("/")
@app.post("/api/v1/page_hit")
def receive():
    request.get_data()
    return Response(BODY, 202, content_type="application/json")
"""
MANY = 32
"""Connections of a row without a number."""
SETTLE = 2.0
"""Time after a load of the service whose work counts as well, in seconds."""
DRAIN = 5.0
"""Time after a load in which the forwarder sends what is left and shortens the file, in seconds; not idle yet."""
IDLE = 10.0
"""Time for which an idle worker is measured, in seconds."""


class Row(NamedTuple):
    """Server to measure: a module and gunicorn's worker, or the service with an application and variables."""

    name: str
    app: str
    worker: str = ""
    delivery: str = "spool"
    one: bool = False  # measured with one connection as well


ROWS = [
    Row("bare WSGI callable, this worker", "bare:app", "BufferingWorker", one=True),
    Row("bare WSGI callable, gthread", "bare:app", "gthread"),
    Row("empty Flask view, gthread", "flask_app:app", "gthread"),
    Row("service, delivery does nothing", "tests.bench.no_delivery:app"),
    Row("service, DELIVERY=spool", "app:app", one=True),
    Row("service, DELIVERY=direct", "app:app", delivery="direct", one=True),
]


def main() -> None:
    options = parse_options()
    service_cpus, other_cpus = share_cpus()
    rows = [row for row in ROWS if options.only in row.name]
    costs: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="traffic-analytics-bench-") as name, contextlib.ExitStack() as stack:
        bench = Bench(Path(name), free_port(), service_cpus, other_cpus)
        stack.enter_context(running_nginx(tool("nginx"), bench.work, bench.upstream, other_cpus))
        for _ in range(options.rounds):
            for row in rows:
                for connections, cost in bench.measure(row, options.seconds).items():
                    costs.setdefault((row.name, connections), []).append(cost)
        for connections in (MANY, 1):
            print(
                f"\n{connections} connections: CPU per hit, and times the first row"
                if connections > 1
                else "\n1 connection"
            )
            print_rows({name: each for (name, number), each in costs.items() if number == connections})
        for row in (row for row in rows if not row.worker and row.one):
            print(f"\n{row.name}: {bench.other_figures(row, options.rate)}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row")
    parser.add_argument("--seconds", type=int, default=4, help="load per measurement")
    parser.add_argument("--only", default="", help="measure the rows with this text in their name")
    parser.add_argument("--rate", type=int, default=300, help="hits per second of the steady stream")
    return parser.parse_args()


def print_rows(costs: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(each) for name, each in costs.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:34} {median:6.0f} µs {median / first:6.2f}   ({min(costs[name]):.0f} to {max(costs[name]):.0f})")


class Bench:
    """Files, ports and CPUs of one run."""

    def __init__(self, work: Path, upstream: int, service_cpus: set[int], other_cpus: set[int]) -> None:
        self.work = work
        self.upstream = upstream
        self._service_cpus = service_cpus
        self._other_cpus = other_cpus
        self._wrk = tool("wrk")
        self._mix = work / "mix.tsv"
        self._lines = list(mixed_hits(random.Random(20)))
        self._mix.write_text("".join(self._lines))
        (work / "bare.py").write_text(APP)
        (work / "flask_app.py").write_text(FLASK_APP)
        (work / "conf.py").write_text(CONF)

    def measure(self, row: Row, seconds: int) -> dict[int, float]:
        """Return the CPU of one hit in microseconds, by the number of connections."""
        with self._server(row) as (master, port):
            self._load(port, 1, MANY)
            return {number: self._cost(row, master, port, seconds, number) for number in (MANY, 1)[: 1 + row.one]}

    def other_figures(self, row: Row, rate: int) -> str:
        started = time.monotonic()
        with self._server(row) as (master, port):
            start = time.monotonic() - started
            self._load(port, 3, MANY)
            time.sleep(DRAIN)
            memory = memory_mb(master)
            before = cpu_seconds(master)
            time.sleep(IDLE)
            idle = (cpu_seconds(master) - before) / IDLE
            latencies = sorted(stream(port, [line.split("\t") for line in self._lines], rate, 10))
        p50, p99 = (latencies[len(latencies) * part // 100] * 1e3 for part in (50, 99))
        return (
            f"{memory:.0f} MB (PSS of master and worker), {start:.2f} s to the first answer, {idle:.1%} CPU idle, "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms at {rate} hits/s"
        )

    def _cost(self, row: Row, master: int, port: int, seconds: int, connections: int) -> float:
        before = cpu_seconds(master)
        result = self._load(port, seconds, connections)
        if not row.worker:
            time.sleep(SETTLE)
        if result["refused"] or result["broken"]:
            sys.exit(f"{row.name}: {result['refused']} responses are not 2xx, {result['broken']} connections broke")
        return float((cpu_seconds(master) - before) / result["hits"] * 1e6)

    def _load(self, port: int, seconds: int, connections: int) -> dict[str, Any]:
        return run_wrk(self._wrk, self._mix, f"http://127.0.0.1:{port}", seconds, connections, self._other_cpus)

    @contextlib.contextmanager
    def _server(self, row: Row) -> Iterator[tuple[int, int]]:
        """Run a row's server; yields the process id of gunicorn's master, and the port."""
        port = free_port()
        if not row.worker:
            log, variables = self.work / "service.log", {"DELIVERY": row.delivery}
            with running_service(
                self.work, log, port, self.upstream, 1, self._service_cpus, variables, app=row.app
            ) as master:
                yield master, port
            return
        command = [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-k", WORKERS[row.worker]]
        environment = os.environ | {"PYTHONPATH": f"{self.work}:{PROJECT}"}
        options: dict[str, Any] = {"cwd": self.work, "env": environment, "stderr": subprocess.DEVNULL}
        with running([*command, "-b", f"127.0.0.1:{port}", row.app], self._service_cpus, **options) as process:
            wait_for(process, f"http://127.0.0.1:{port}/")
            yield process.pid, port


if __name__ == "__main__":
    main()
