"""Measure a store of a year of hits of 1 000 sites of very different size.

    python -m tests.bench.growth DIRECTORY --hits 32000000 [--seconds 5] [--more-days 205] [--only-load]

The hits of the largest site are a fifth of all; one site has 46 000 hits however many the others have. Rows of the
longest periods that have ended are written as the store leaves them; it sorts the others itself. Prints the figures of
a start, appends, queries, memory and disk. DIRECTORY is filled at the first run.
"""

import argparse
import time
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import requests

from analytics_store.duckdb_engine.engine import DuckDbEngine
from analytics_store.duckdb_engine.sorting import LENGTHS
from analytics_store.duckdb_engine.statements import read_sql
from analytics_store.settings import Settings
from tests.bench.store import SITE, Server
from tests.bench.store_appends import KINDS, send
from tests.support.generated_hits import HITS_PER_SESSION, generate_hits

SITES = 1_000
EXPONENT = 1.35
"""Of the law by which sites have hits: the n-th as many as the first by n to this power."""
SMALL_SITE = "5a11b109-0000-4000-8000-000000000001"
SMALL_HITS = 46_000
DAYS = 365
LAST = datetime.now(UTC).date()
SETTLED = LAST - timedelta(days=2)
YESTERDAY = LAST - timedelta(days=1)
PERIOD = max(LENGTHS)
SHIFT = DAYS - DAYS % PERIOD + PERIOD
"""Distance of hits that are copied to the time before the year, in days."""
MEMBERS = "member_status=undefined,free,paid"
POSTS = "post_uuids=8f14e45f-ceea-467f-ab87-1d4b0ac6e0a6,c4ca4238-a0b9-2382-0dcc-509a6f75849b"
QUERIES = (
    ("api_kpis", MEMBERS),
    ("api_top_pages", MEMBERS),
    ("api_top_sources", MEMBERS),
    ("api_top_locations", MEMBERS),
    ("api_kpis", ""),
    ("api_top_pages", ""),
    ("api_top_sources", ""),
    ("api_kpis", "pathname=/a-post-with-a-long-slug-number-7/"),
    ("api_top_pages", "source=source-100.example"),
    ("api_post_visitor_counts", POSTS),
    ("api_active_visitors", ""),
)
MACROS = f"""
CREATE TEMP MACRO site_of(i) AS CASE
    WHEN (hash(i + 17) % $sessions) < {SMALL_HITS / HITS_PER_SESSION:.0f} THEN '{SMALL_SITE}'
    WHEN place(i) = 1 THEN '{SITE}'
    ELSE md5(place(i)::VARCHAR)::UUID::VARCHAR
END;
CREATE TEMP MACRO lies_by_site(ts) AS epoch(ts) < $sorted;
"""
PLACE = f"""
CREATE TEMP MACRO place(i) AS
    floor(pow(
        1 - (1 - pow({SITES + 1}, {1 - EXPONENT})) * (hash(i) % 1000000007 / 1000000007), 1 / {1 - EXPONENT}
    ))::INT;
"""


def load(directory: Path, hits: int) -> None:
    """Fill the tables."""
    sessions = int(hits / HITS_PER_SESSION)
    first_day = LAST - timedelta(days=DAYS - 1)
    start = datetime.combine(first_day, datetime.min.time())
    first, end = ((day - date(1970, 1, 1)).days for day in (first_day, LAST + timedelta(days=1)))
    sorted_until = end - end % PERIOD
    begins = [first, *range(first - first % PERIOD + PERIOD, end, PERIOD), end]
    started = time.perf_counter()
    with duckdb.connect(str(directory / "store.duckdb"), config={"memory_limit": "3GB", "threads": 2}) as connection:
        connection.execute(read_sql("sql/schema.sql"))
        connection.execute(PLACE)
        connection.execute(MACROS.replace("$sessions", str(sessions)).replace("$sorted", str(sorted_until * 86_400)))
        for begin, stop in pairwise(begins):
            of_period = (sessions * (day - first) // DAYS for day in (begin, stop))
            generate_hits(connection, start, DAYS, sessions, *of_period)
            if stop <= sorted_until:
                connection.execute(
                    "INSERT INTO sorted_periods SELECT $begin, $days, count(*), 0 FROM hits WHERE ts >= $begin",
                    {"begin": date(1970, 1, 1) + timedelta(days=stop - PERIOD), "days": PERIOD},
                )
            print(f"  {stop - first} days, {time.perf_counter() - started:.0f} s", flush=True)
        connection.execute("CHECKPOINT")
    print(f"hits written in {time.perf_counter() - started:.0f} s", flush=True)


def maintain(directory: Path) -> None:
    """Do what the store does in the background: settle days, and sort periods."""
    engine = DuckDbEngine(Settings(data_dir=directory))
    engine.open()
    started, cpu = time.perf_counter(), time.process_time()
    while engine.has_unsettled(SETTLED):
        engine.settle(SETTLED)
    print(f"settled in {time.perf_counter() - started:.0f} s, {time.process_time() - cpu:.0f} of CPU", flush=True)
    started, cpu = time.perf_counter(), time.process_time()
    while engine.sort(YESTERDAY):
        pass
    engine.close()
    print(f"sorted in {time.perf_counter() - started:.0f} s, {time.process_time() - cpu:.0f} of CPU", flush=True)


def add_days(directory: Path, days: int) -> None:
    """Copy the rows of the last days to the time before the year, with identifiers of their own."""
    shift = f"INTERVAL {SHIFT} DAY"
    first = LAST - timedelta(days=days - 1)
    with duckdb.connect(str(directory / "store.duckdb"), config={"memory_limit": "2GB", "threads": 2}) as connection:
        ((least, numbers),) = connection.execute(
            "SELECT min(session_no), max(session_no) + 1 FROM sessions WHERE first_ts >= $first", {"first": first}
        ).fetchall()
        connection.execute(f"""
            INSERT INTO hits SELECT * REPLACE (
                session_no - {numbers} AS session_no, uuid() AS event_key, ts - {shift} AS ts,
                received_at - {shift} AS received_at, inserted_at - {shift} AS inserted_at
            ) FROM hits WHERE session_no >= {least};
            INSERT INTO sessions SELECT * REPLACE (
                session_no - {numbers} AS session_no, uuid() AS session_key,
                sha256((session_no - {numbers})::VARCHAR) AS session_id,
                first_ts - {shift} AS first_ts, last_ts - {shift} AS last_ts
            ) FROM sessions WHERE session_no >= {least};
        """)
        for table in ("settled_days", "page_days", "examined_days"):
            connection.execute(
                f"INSERT INTO {table} SELECT * REPLACE (day - {SHIFT} AS day) FROM {table} WHERE day >= $first",
                {"first": first},
            )
        connection.execute(
            f"INSERT INTO sorted_periods SELECT * REPLACE (first_day - {SHIFT} AS first_day)"
            " FROM sorted_periods WHERE first_day >= $first",
            {"first": first},
        )
        connection.execute("CHECKPOINT")


def ask(server: Server, site: str, days: int, repeat: int) -> None:
    """Print the least CPU milliseconds of each query."""
    session = requests.Session()
    first: date = LAST - timedelta(days=days - 1)
    for pipe, filters in QUERIES:
        query = f"site_uuid={site}&date_from={first}&date_to={LAST}&timezone=Europe/Berlin&{filters}"
        times = []
        for _ in range(repeat):
            started = server.cpu_ms()
            response = session.get(f"{server.url}/v0/pipes/{pipe}.json?{query}", timeout=120)
            times.append(server.cpu_ms() - started)
            assert response.status_code == 200, response.text
        rows = response.json()["statistics"]["rows_read"]
        print(f"  {pipe:<26}{filters[:14]:<16}{days:>4} d{min(times):>8.0f} ms   {rows} rows", flush=True)


def main() -> None:
    """Load, start, ask and send."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hits", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--more-days", type=int, default=0, help="hold the hits of the last days again before the year")
    parser.add_argument("--only-load", action="store_true")
    arguments = parser.parse_args()
    arguments.directory.mkdir(exist_ok=True)
    if not (arguments.directory / "store.duckdb").exists():
        load(arguments.directory, arguments.hits)
        if arguments.more_days:
            add_days(arguments.directory, arguments.more_days)
    maintain(arguments.directory)
    hits = arguments.hits * (DAYS + arguments.more_days) // DAYS
    size = sum(path.stat().st_size for path in arguments.directory.glob("store.duckdb*"))
    print(f"{hits} hits, {size / hits:.1f} bytes each", flush=True)
    if arguments.only_load:
        return
    started = time.perf_counter()
    server = Server(arguments.directory)
    try:
        print(f"start {time.perf_counter() - started:.1f} s, {server.cpu_ms():.0f} ms of the worker")
        for name, site in (("largest site", SITE), ("site of 46 000 hits", SMALL_SITE)):
            print(name)
            for days in (30, 365):
                ask(server, site, days, arguments.repeat)
        print(f"memory after the queries: {server.memory_mb():.0f} MB", flush=True)
        for kind in KINDS:
            measured = send(server, kind, arguments.seconds)
            print(f"  {kind.name:<44}{measured.rate:>8.0f} events/s{measured.cpu_ms:>8.3f} ms CPU", flush=True)
        print(f"memory after the appends: {server.memory_mb():.0f} MB")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
