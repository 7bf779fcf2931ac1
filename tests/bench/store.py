"""Measure the store: generated hits loaded into its file, every endpoint queried over HTTP.

    python tests/bench/store.py --hits 1000000 [--days 91] [--repeat 5] [--keep DIRECTORY] [--baseline CHECKOUT]

Sessions have 1 to 20 hits; 500 pages have a long tail. Prints the least CPU time per endpoint and range, the size of
the file and the server's memory; with --baseline also those of another checkout. `store_appends.py` measures appends.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import requests

from analytics_store.duckdb_engine.engine import DuckDbEngine
from analytics_store.duckdb_engine.statements import read_sql
from analytics_store.settings import Settings
from tests.support.generated_hits import HITS_PER_SESSION, generate_hits, of_one_site
from tests.support.processes import free_port

SITE = "0d0f8d7e-5d0c-4d3f-9f57-0123456789ab"
LAST = date(2026, 11, 20)
SESSIONS_AT_ONCE = 100_000
QUERIES = {
    "api_kpis": "",
    "api_kpis, a page": "pathname=/a-post-with-a-long-slug-number-7/",
    "api_kpis, members": "member_status=undefined,free,paid",
    "api_kpis, source": "source=source-100.example",
    "api_top_pages": "",
    "api_top_pages, members": "member_status=undefined,free,paid",
    "api_top_pages, source": "source=source-100.example",
    "api_top_sources": "",
    "api_top_sources, members": "member_status=undefined,free,paid",
    "api_top_devices": "",
    "api_top_utm_sources": "",
    "api_top_utm_mediums": "",
    "api_top_utm_campaigns": "",
    "api_top_utm_terms": "",
    "api_top_utm_contents": "",
    "api_top_locations": "",
    "api_top_locations, members": "member_status=undefined,free,paid",
    "api_top_browsers": "",
    "api_top_os": "",
    "api_monitoring_ingestion": "",
    "api_monitoring_ingestion_aggregated": "",
}
ALL_TIME = {
    "api_active_visitors": "",
    "api_post_visitor_counts": "post_uuids=8f14e45f-ceea-467f-ab87-1d4b0ac6e0a6,c4ca4238-a0b9-2382-0dcc-509a6f75849b",
    "api_gift_link_visits": "",
}


def load(directory: Path, hits: int, days: int) -> None:
    """Fill the store's tables in the order in which hits arrive."""
    sessions = int(hits / HITS_PER_SESSION)
    start = datetime.combine(LAST - timedelta(days=days - 1), datetime.min.time())
    with duckdb.connect(str(directory / "store.duckdb"), config={"memory_limit": "1GB", "threads": 2}) as connection:
        connection.execute(read_sql("sql/schema.sql"))
        of_one_site(connection, SITE)
        for first in range(0, sessions, SESSIONS_AT_ONCE):
            generate_hits(connection, start, days, sessions, first, min(sessions, first + SESSIONS_AT_ONCE))
        connection.execute("CHECKPOINT")
        print("hits", connection.execute("SELECT count(*) FROM hits").fetchall()[0][0])


def settle(directory: Path) -> None:
    """Let the store do what it does in the background."""
    engine = DuckDbEngine(Settings(data_dir=directory))
    engine.open()
    while engine.has_unsettled(LAST - timedelta(days=2)):
        engine.settle(LAST - timedelta(days=2))
    engine.close()


def load_baseline(checkout: Path, directory: Path, hits: int, days: int) -> None:
    """Fill the tables of another checkout's store, by its own code."""
    script = f"import pathlib, tests.bench.store as store; store.load(pathlib.Path({str(directory)!r}), {hits}, {days})"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-c", script], cwd=checkout, env=environment, check=True)


class Server:
    """Store under gunicorn, as in production."""

    def __init__(self, directory: Path, checkout: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {"STORE_BIND": f"127.0.0.1:{self.port}", "STORE_DATA_DIR": str(directory)}
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "-c",
            "analytics_store/gunicorn.conf.py",
            "analytics_store.app:app",
        ]
        self.process = subprocess.Popen(command, env=environment, cwd=checkout, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{self.url}/health", timeout=5)
            except requests.ConnectionError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
            else:
                return

    def cpu_ms(self) -> float:
        """Return the CPU time of the worker's threads, in milliseconds."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        files = [file for pid in children for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(file.read_text().split()[0]) for file in files) / 1e6

    def memory_mb(self) -> float:
        """Return the resident memory of the worker, in MB."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in children)
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """Stop the server."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def measure(server: Server, days: int, repeat: int) -> dict[str, list[float]]:
    """Run all queries; prints and returns the least milliseconds of CPU, and prints the rows that each query reads."""
    session = requests.Session()
    spans = [span for span in (1, 30, 91, 365) if span <= days]
    print(f"{'milliseconds of CPU':<40}" + "".join(f"{span:>6} d" for span in spans) + "   rows read")
    found = {}
    for name, filters in [*QUERIES.items(), *ALL_TIME.items()]:
        pipe = name.partition(",")[0]
        least, read = [], []
        for span in spans if name in QUERIES else spans[-1:]:
            first = LAST - timedelta(days=span - 1)
            bounds = ("start_date", "end_date") if "monitoring" in pipe else ("date_from", "date_to")
            query = f"site_uuid={SITE}&{bounds[0]}={first}&{bounds[1]}={LAST}&timezone=Europe/Berlin&{filters}"
            times = []
            for _ in range(repeat):
                started = server.cpu_ms()
                response = session.get(f"{server.url}/v0/pipes/{pipe}.json?{query}", timeout=60)
                times.append(server.cpu_ms() - started)
                assert response.status_code == 200, response.text
            least.append(min(times))
            read.append(response.json()["statistics"]["rows_read"])
        print(f"{name:<40}" + "".join(f"{ms:>8.0f}" for ms in least) + f"   {read}", flush=True)
        found[name] = least
    return found


def event(now_ms: int) -> dict[str, object]:
    """Build an event in the service's format."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ms // 1000)) + f".{now_ms % 1000:03d}Z"
    page = int(500 * (uuid.uuid4().int % 1000 / 1000) ** 3)
    return {
        "timestamp": stamp, "action": "page_hit", "version": "1", "site_uuid": SITE,
        "session_id": f"{uuid.uuid4().int % 100_000:064x}",
        "payload": {
            "event_id": str(uuid.uuid4()), "site_uuid": SITE, "member_uuid": "undefined", "member_status": "undefined",
            "post_uuid": "undefined", "post_type": "post", "gift_link": "", "locale": "en-US", "location": "DE",
            "pathname": f"/{page}/", "href": f"https://blog.example/{page}/", "os": "macos", "browser": "chrome",
            "device": "desktop", "user-agent": "Mozilla/5.0 (an ordinary one)",
            "parsedReferrer": {"url": "https://www.google.com/", "source": None, "medium": None},
            "referrerUrl": "https://www.google.com/", "referrerSource": "Google", "referrerMedium": "search",
            "utm_source": None, "utm_medium": None, "utm_campaign": None, "utm_term": None, "utm_content": None,
            "meta": {"received_timestamp": stamp},
        },
    }  # fmt: skip


def main() -> None:
    """Load, query and send."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=91)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--baseline", type=Path)
    arguments = parser.parse_args()
    before: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.baseline:
            directory = Path(temporary) / "baseline"
            directory.mkdir()
            load_baseline(arguments.baseline.resolve(), directory, arguments.hits, arguments.days)
            before = run(directory, arguments, arguments.baseline.resolve())
        directory = arguments.keep or Path(temporary) / "store"
        directory.mkdir(exist_ok=True)
        if not (directory / "store.duckdb").exists():
            load(directory, arguments.hits, arguments.days)
        settle(directory)
        after = run(directory, arguments)
    if before:
        print("ratio to the baseline")
        for name, times in after.items():
            print(f"{name:<40}" + "".join(f"{ms / old:>8.2f}" for ms, old in zip(times, before[name], strict=True)))


def run(directory: Path, arguments: argparse.Namespace, checkout: Path | None = None) -> dict[str, list[float]]:
    """Start a checkout's store, run the queries and print its sizes."""
    print("bytes on disk", sum(path.stat().st_size for path in directory.glob("store.duckdb*")))
    server = Server(directory, checkout)
    try:
        found = measure(server, arguments.days, arguments.repeat)
        print(f"memory of the worker: {server.memory_mb():.0f} MB")
    finally:
        server.stop()
    return found


if __name__ == "__main__":
    main()
