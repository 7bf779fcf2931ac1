"""Measure one event with Pub/Sub: the service that publishes it, and the worker that delivers it.

    make bench-pubsub BENCH="--seconds 30"

Google's emulator stands in for Pub/Sub and nginx for Tinybird. First the service publishes under the load of `make
bench-hits`; then a worker delivers all messages. CPU is the time of master and workers, per hit and per event. The
emulator limits the rates.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import hits
from tests.support.processes import free_port
from tests.support.pubsub_emulator import PROJECT, PubsubEmulator, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "page-hits"


def main() -> None:
    options = hits.parse_options()
    if name := missing():
        sys.exit(f"{name} is not installed.")
    wrk, nginx = hits.tool("wrk"), hits.tool("nginx")
    service_cpus, other_cpus = hits.share_cpus()
    with tempfile.TemporaryDirectory(prefix="traffic-analytics-bench-") as directory, contextlib.ExitStack() as stack:
        work = Path(directory)
        mix = work / "mix.tsv"
        mix.write_text("".join(hits.mixed_hits(random.Random(20))))
        upstream, port = free_port(), free_port()
        stack.enter_context(hits.running_nginx(nginx, work, upstream, other_cpus))
        emulator = stack.enter_context(running_emulator(work))
        shared = {"PROXY_TARGET": f"http://127.0.0.1:{upstream}/v0/events", "GOOGLE_CLOUD_PROJECT": PROJECT}
        shared |= {"PUBSUB_EMULATOR_HOST": emulator.address, "LOG_FORMAT": "json"}

        publisher = shared | {"PUBSUB_TOPIC_PAGE_HITS_RAW": NAME}
        log = work / "service.log"
        with hits.running_service(work, log, port, upstream, options.workers, service_cpus, publisher) as master:

            def load(seconds: int) -> dict[str, float]:
                return hits.run_wrk(wrk, mix, f"http://127.0.0.1:{port}", seconds, options.connections, other_cpus)

            load(options.warmup)
            before = hits.cpu_seconds(master)
            result = load(options.seconds)
            time.sleep(2)
            cpu = (hits.cpu_seconds(master) - before) / result["hits"] * 1e6
            rate = result["hits"] / result["seconds"]
            print(f"publishing {cpu:8.0f} µs CPU/hit, {rate:.0f} hits/s, p99 {result['p99']:.1f} ms")
            print(
                f"memory     {hits.memory_mb(master):8.0f} MB; not 2xx {result['refused']}, broken {result['broken']}"
            )

        worker = shared | {"WORKER_MODE": "true", "PUBSUB_SUBSCRIPTION_PAGE_HITS_RAW": NAME, "LOG_LEVEL": "info"}
        log = work / "worker.log"
        with hits.running_service(work, log, port, upstream, options.workers, service_cpus, worker) as master:
            started = time.monotonic()
            used = until_idle(master)
            seconds, memory = time.monotonic() - started, hits.memory_mb(master)
        stopped = [json.loads(line) for line in log.read_text().splitlines() if '"WorkerStopped"' in line]
        count = sum(record["delivered"] for record in stopped)
        print(f"delivering {used / count * 1e6:8.0f} µs CPU/event, {count} events in at most {seconds:.0f} s")
        print(f"memory     {memory:8.0f} MB")


def until_idle(master: int) -> float:
    """Wait until the processes are idle; returns their CPU time before, in seconds."""
    used = hits.cpu_seconds(master)
    while True:
        time.sleep(2)
        before, used = used, hits.cpu_seconds(master)
        if used - before < 0.1:
            return used


@contextlib.contextmanager
def running_emulator(work: Path) -> Iterator[PubsubEmulator]:
    with PubsubEmulator(work) as emulator:
        emulator.create(NAME)
        yield emulator


if __name__ == "__main__":
    main()
