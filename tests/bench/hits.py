"""What one page hit costs: rate, latency, CPU and memory of the service under a mix of real user agents.

    make bench-hits BENCH="--seconds 30"

The service runs as in production, with one worker, in front of an nginx that answers in Tinybird's place. CPU is what
gunicorn's master and all its children use, after the answers too; it is the figure to compare, as rates
and latencies depend on what else the machine does. With two CPUs or more, the service has one and wrk and nginx share
the others. Variables of the service that are set in the environment reach it; `.env` does not. With `--traces` the same
nginx takes the spans.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import socket
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

from traffic_analytics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EMPTY: Mapping[str, str] = MappingProxyType({})
HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
HITS = 2000
BOTS = 0.05
WITH_REFERRER = 0.5
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian puts nginx, and which is not on everybody's PATH


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
        seen = load(options.seconds)
        time.sleep(2)  # what is done after the answer counts too
        cpu = (cpu_seconds(master) - before) / seen["hits"] * 1e6
        print(f"rate       {seen['hits'] / seen['seconds']:8.0f} hits/s")
        print(f"p50        {seen['p50']:8.1f} ms")
        print(f"p99        {seen['p99']:8.1f} ms")
        print(f"CPU        {cpu:8.0f} µs/hit")
        print(f"memory     {memory_mb(master):8.0f} MB (PSS of master and workers)")
        print(f"not 2xx    {seen['refused']:8.0f} of {seen['hits']}")
        print(f"broken     {seen['broken']:8.0f} connections")
        if seen["refused"] or seen["broken"]:
            print("\nLast lines of the service's log:", *log.read_text().splitlines()[-5:], sep="\n")
            sys.exit(1)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="how long to measure")
    parser.add_argument("--warmup", type=int, default=3, help="seconds of load before it")
    parser.add_argument("--connections", type=int, default=32, help="clients at a time")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the service")
    parser.add_argument("--traces", action="store_true", help="send spans")
    return parser.parse_args()


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if path is None:
        sys.exit(f"{name} is needed and was not found. On Debian and Ubuntu: apt install wrk nginx-light")
    return path


def share_cpus() -> tuple[set[int], set[int]]:
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def mixed_hits(chance: random.Random) -> Iterator[str]:
    """Make the mix: user agents by their share of real traffic, half of the hits referred, one in twenty a bot's."""
    agents = [json.loads(line) for line in (HERE.parent / "golden" / "user_agents.jsonl").read_text().splitlines()]
    bots = [text for crawler in CRAWLER_USER_AGENTS_DATA for text in crawler["instances"] if text.isascii()]
    referrers = list(json.loads((PROJECT / "traffic_analytics" / "data" / "referrers.json").read_text()))
    sites = [some_uuid(chance) for _ in range(50)]
    humans = chance.choices([agent["ua"] for agent in agents], [agent["weight"] for agent in agents], k=HITS)
    for human in humans:
        agent = chance.choice(bots) if chance.random() < BOTS else human
        site = chance.choice(sites)
        host = chance.choice([chance.choice(referrers), f"blog-{chance.randrange(1000)}.example/a/post"])
        path = "/" if chance.random() < 0.2 else f"/post-{chance.randrange(500)}/"
        address = ".".join(str(chance.randrange(1, 255)) for _ in range(4))
        body = {
            "timestamp": "2026-01-31T12:00:00.000Z",
            "action": "page_hit",
            "version": "1",
            "payload": {
                "user-agent": agent,
                "locale": chance.choice(["en-US", "en-GB", "de-DE", "fr-FR", "pt-BR"]),
                "location": chance.choice(["US", "GB", "DE", "FR", "BR", None]),
                "parsedReferrer": {
                    "url": f"https://{host}" if chance.random() < WITH_REFERRER else None,
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
                "event_id": some_uuid(chance),
                "site_uuid": site,
                "post_uuid": "undefined" if path == "/" else some_uuid(chance),
                "post_type": "null" if path == "/" else "post",
                "member_uuid": "undefined",
                "member_status": "undefined",
                "gift_link": "",
            },
        }
        yield "\t".join((agent, site, address, json.dumps(body))) + "\n"


def some_uuid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


@contextlib.contextmanager
def running(command: list[str], cpus: set[int], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on some CPUs, and end it."""
    process = subprocess.Popen(["taskset", "-c", ",".join(map(str, sorted(cpus))), *command], **how)
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
    work: Path, log: Path, port: int, upstream: int, workers: int, cpus: set[int], more: Mapping[str, str] = EMPTY
) -> Iterator[int]:
    """Run the service; gives the process id of gunicorn's master."""
    of_the_file = {each.metadata["name"]: "" for each in fields(Settings)}  # set, though empty: `.env` has no say
    environment = of_the_file | {
        "PROXY_TARGET": f"http://127.0.0.1:{upstream}/v0/events",
        "TINYBIRD_TRACKER_TOKEN": "bench-token",
        "LOG_LEVEL": "warn",
    }
    environment |= os.environ
    environment |= more
    environment |= {
        "PORT": str(port),
        "LISTEN_HOST": "127.0.0.1",
        "DATA_DIR": str(work / "data"),
        "WEB_CONCURRENCY": str(workers),
    }
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "app:app"]
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
    for _ in range(150):
        with contextlib.suppress(OSError), urlopen(url, timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise ConnectionError(f"{url} does not answer")


def run_wrk(wrk: str, mix: Path, url: str, seconds: int, connections: int, cpus: set[int]) -> dict[str, Any]:
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(HERE / "hits.lua"), url, "--", str(mix)]
    with running(command, cpus, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def process_tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat_fields(stat)[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def stat_fields(stat: Path) -> list[str]:
    return stat.read_text().rsplit(")", 1)[1].split()


def cpu_seconds(master: int) -> float:
    ticks = 0
    for pid in process_tree(master):
        user, system = stat_fields(Path(f"/proc/{pid}/stat"))[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(master: int) -> float:
    """Add up the memory of master and workers, what they share counted once (proportional set size)."""
    total = 0
    for pid in process_tree(master):
        match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        total += int(match[1]) if match else 0
    return total / 1024


if __name__ == "__main__":
    main()
