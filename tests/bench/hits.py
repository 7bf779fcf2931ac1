"""Measure one page hit: rate, latency, CPU and memory of the service under a mix of real user agents.

    make bench-hits BENCH="--seconds 30"

The service runs as in production, with one worker; nginx stands in for Tinybird. CPU is the time of gunicorn's master
and all its children, including the work after a response. Compare CPU, since rates and latencies depend on the load of
the machine. With two CPUs or more, the service has one, and wrk and nginx share the others. The service reads the
environment, but not `.env`. With `--traces` the same nginx accepts the spans.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from tests.support.processes import free_port
from traffic_analytics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EMPTY: Mapping[str, str] = MappingProxyType({})
HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
HITS = 2000
"""Number of different hits in the mix."""
BOTS = 0.05
"""Share of hits from bots."""
WITH_REFERRER = 0.5
"""Share of hits with a referrer."""
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Directories where Debian installs nginx; often missing in PATH."""


def main() -> None:
    options = parse_options()
    wrk, nginx = tool("wrk"), tool("nginx")
    service_cpus, other_cpus = share_cpus()
    with tempfile.TemporaryDirectory(prefix="traffic-analytics-bench-") as name, contextlib.ExitStack() as stack:
        work = Path(name)
        mix = work / "mix.tsv"
        mix.write_text("".join(mixed_hits(random.Random(20))))  # the same hits in every run
        upstream, port = free_port(), free_port()
        stack.enter_context(running_nginx(nginx, work, upstream, other_cpus))
        log = work / "service.log"
        if options.traces:
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{upstream}"
        master = stack.enter_context(running_service(work, log, port, upstream, options.workers, service_cpus))

        def load(seconds: int) -> dict[str, Any]:
            return run_wrk(wrk, mix, f"http://127.0.0.1:{port}", seconds, options.connections, other_cpus)

        load(options.warmup)
        before = cpu_seconds(master)
        result = load(options.seconds)
        time.sleep(2)  # work after the last response counts as well
        cpu = (cpu_seconds(master) - before) / result["hits"] * 1e6
        print(f"rate       {result['hits'] / result['seconds']:8.0f} hits/s")
        print(f"p50        {result['p50']:8.1f} ms")
        print(f"p99        {result['p99']:8.1f} ms")
        print(f"CPU        {cpu:8.0f} µs/hit")
        print(f"memory     {memory_mb(master):8.0f} MB (PSS of master and workers)")
        print(f"not 2xx    {result['refused']:8.0f} of {result['hits']}")
        print(f"broken     {result['broken']:8.0f} connections")
        if result["refused"] or result["broken"]:
            print("\nLast lines of the service's log:", *log.read_text().splitlines()[-5:], sep="\n")
            sys.exit(1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="how long to measure")
    parser.add_argument("--warmup", type=int, default=3, help="seconds of load before")
    parser.add_argument("--connections", type=int, default=32, help="clients at a time")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the service")
    parser.add_argument("--traces", action="store_true", help="send spans")
    return parser.parse_args()


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if path is None:
        sys.exit(f"{name} is not installed. On Debian and Ubuntu: apt install wrk nginx-light")
    return path


def share_cpus() -> tuple[set[int], set[int]]:
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def mixed_hits(rng: random.Random) -> Iterator[str]:
    """Generate the mix: user agents by their share of real traffic, some bots, some referrers."""
    agents = [json.loads(line) for line in (HERE.parent / "golden" / "user_agents.jsonl").read_text().splitlines()]
    bots = [text for crawler in CRAWLER_USER_AGENTS_DATA for text in crawler["instances"] if text.isascii()]
    referrers = list(json.loads((PROJECT / "traffic_analytics" / "data" / "referrers.json").read_text()))
    sites = [random_uuid(rng) for _ in range(50)]
    humans = rng.choices([agent["ua"] for agent in agents], [agent["weight"] for agent in agents], k=HITS)
    for human in humans:
        agent = rng.choice(bots) if rng.random() < BOTS else human
        site = rng.choice(sites)
        host = rng.choice([rng.choice(referrers), f"blog-{rng.randrange(1000)}.example/a/post"])
        path = "/" if rng.random() < 0.2 else f"/post-{rng.randrange(500)}/"
        address = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
        body = {
            "timestamp": "2026-01-31T12:00:00.000Z",
            "action": "page_hit",
            "version": "1",
            "payload": {
                "user-agent": agent,
                "locale": rng.choice(["en-US", "en-GB", "de-DE", "fr-FR", "pt-BR"]),
                "location": rng.choice(["US", "GB", "DE", "FR", "BR", None]),
                "parsedReferrer": {
                    "url": f"https://{host}" if rng.random() < WITH_REFERRER else None,
                    "source": None,
                    "medium": None,
                },
                "pathname": path,
                "href": f"https://blog.example{path}",
                "utm_source": None,
                "utm_medium": None,
                "utm_campaign": None,
                "utm_term": None,
                "utm_content": None,
                "event_id": random_uuid(rng),
                "site_uuid": site,
                "post_uuid": "undefined" if path == "/" else random_uuid(rng),
                "post_type": "null" if path == "/" else "post",
                "member_uuid": "undefined",
                "member_status": "undefined",
                "gift_link": "",
            },
        }
        yield "\t".join((agent, site, address, json.dumps(body))) + "\n"


def random_uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


@contextlib.contextmanager
def running(command: list[str], cpus: set[int], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on these CPUs, and stop it."""
    process = subprocess.Popen(["taskset", "-c", ",".join(map(str, sorted(cpus))), *command], **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def running_nginx(nginx: str, work: Path, port: int, cpus: set[int]) -> Iterator[None]:
    conf = work / "nginx.conf"
    conf.write_text((HERE / "nginx.conf").read_text().replace("127.0.0.1:PORT", f"127.0.0.1:{port}"))
    with running([nginx, "-p", str(work), "-c", str(conf)], cpus) as process:
        wait_for(process, f"http://127.0.0.1:{port}/")
        yield


@contextlib.contextmanager
def running_service(
    work: Path,
    log: Path,
    port: int,
    upstream: int,
    workers: int,
    cpus: set[int],
    variables: Mapping[str, str] = EMPTY,
    app: str = "app:app",
) -> Iterator[int]:
    """Run the service; yields the process id of gunicorn's master."""
    empty = {each.metadata["name"]: "" for each in fields(Settings)}  # overrides `.env`
    environment = empty | {
        "PROXY_TARGET": f"http://127.0.0.1:{upstream}/v0/events",
        "TINYBIRD_TRACKER_TOKEN": "bench-token",
        "LOG_LEVEL": "warn",
    }
    environment |= os.environ
    environment |= variables
    environment |= {
        "PORT": str(port),
        "LISTEN_HOST": "127.0.0.1",
        "DATA_DIR": str(work / "data"),
        "WEB_CONCURRENCY": str(workers),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", app]
    with (
        log.open("wb") as out,
        running(command, cpus, cwd=PROJECT, env=environment, stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_for(process, f"http://127.0.0.1:{port}/health")
        except ConnectionError:
            sys.exit(f"The service did not start:\n{log.read_text()}")
        yield process.pid


def wait_for(process: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(750):
        with contextlib.suppress(OSError), urlopen(url, timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise ConnectionError(f"{url} does not respond")


def run_wrk(wrk: str, mix: Path, url: str, seconds: int, connections: int, cpus: set[int]) -> dict[str, Any]:
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "hits.lua"), url, "--", str(mix)]
    with running(command, cpus, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def process_tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat_fields(stat)[1]), []).append(int(stat.parent.name))
    tree, todo = [], [pid]
    while todo:
        tree.append(todo.pop())
        todo += children.get(tree[-1], [])
    return tree


def stat_fields(stat: Path) -> list[str]:
    return stat.read_text().rsplit(")", 1)[1].split()


def cpu_seconds(master: int) -> float:
    ticks = 0
    for pid in process_tree(master):
        user, system = stat_fields(Path(f"/proc/{pid}/stat"))[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(master: int) -> float:
    """Return the proportional set size of master and workers, in MB; shared pages count once."""
    total = 0
    for pid in process_tree(master):
        match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(match[1]) if match else 0
    return total / 1024


if __name__ == "__main__":
    main()
