"""Ask the store and Ghost's own queries, on ClickHouse, the same random queries; report every difference.

    python -m tests.differential GHOST [--seed 1] [--queries 2000] [--sessions 1000]

GHOST is the folder core/server/data/tinybird of the npm package ghost. First Ghost's own tests are run on ClickHouse.
The status is 1 if a difference remains that decided_differences.py does not explain.
"""

import argparse
import json
import random
import sys
import tempfile
import zoneinfo
from collections import Counter
from collections.abc import Iterable
from datetime import UTC
from pathlib import Path
from urllib.parse import parse_qsl

from flask.testing import FlaskClient

from analytics_store import maintenance
from analytics_store.duckdb_engine import settling, sorting
from analytics_store.settings import Settings
from analytics_store.store import Store
from analytics_store.wiring import create_app
from tests.differential import decided_differences
from tests.differential.ghost import Event, Ghost, Row
from tests.differential.random_events import NOW, draw_events
from tests.differential.random_queries import draw_query
from tests.support.store import GOLDEN, ndjson

BATCHES = (1, 3, 20, 200, 400)
"""Sizes of the requests that bring the events to the store, in events."""
PERCENTILES = frozenset({"p50_latency_ms", "p95_latency_ms"})
SHOWN = 20
"""Differences that are printed."""


def read_lines(name: str) -> list[Event]:
    """Read a file of golden cases."""
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def comparable(rows: Iterable[Row]) -> Counter[str]:
    """Return rows in a form that ignores their order and the kinds of numbers."""
    return Counter(
        json.dumps({name: float(v) if isinstance(v, int | float) else v for name, v in row.items()}, sort_keys=True)
        for row in rows
    )


def check_ghosts_tests(ghost: Ghost) -> int:
    """Run Ghost's own tests on ClickHouse; return how many fail."""
    ghost.create()
    ghost.load([{"inserted_at": event["timestamp"], **event} for event in read_lines("analytics_events.ndjson")])
    for name in ("automation_run_events", "automation_run_step_events"):
        ghost.load_automation(name, read_lines(f"{name}.ndjson"))
    failed = 0
    for case in read_lines("pipes.jsonl"):
        params = dict(parse_qsl(case["params"], keep_blank_values=True))
        if case["status"] == 200 and comparable(ghost.ask(case["pipe"], params)) != comparable(case["rows"]):
            print("Ghost's own test fails:", case["pipe"], case["name"])
            failed += 1
    return failed


def load_store(client: FlaskClient, events: list[Event], rng: random.Random) -> None:
    """Send the events in random order and batches, a tenth of them twice."""
    sent = events + rng.sample(events, len(events) // 10)
    rng.shuffle(sent)
    while sent:
        size = rng.choice(BATCHES)
        response = client.post("/v0/events?name=analytics_events&wait=true", data=ndjson(sent[:size]))
        assert response.get_json() == {"successful_rows": len(sent[:size]), "quarantined_rows": 0}
        sent = sent[size:]


def maintain(store: Store) -> None:
    """Count the pages of all finished days, and sort all periods, however few hits they have."""
    settling.BUSY_SESSIONS = 1
    sorting.LEAST_HITS = 1
    for chore in (maintenance.settle, maintenance.sort):
        while chore(store) == maintenance.SECONDS_BETWEEN_STEPS:
            pass


def agree(params: dict[str, str], expected: list[Row], rows: list[Row]) -> bool:
    """Compare rows; `expected` is without skip and limit, as the order of equal counts is open.

    A percentile half way between two milliseconds is rounded by its last bit, which depends on the formula.
    """
    if len(rows) == len(expected):
        for theirs, ours in zip(expected, rows, strict=True):
            for name in PERCENTILES & ours.keys():
                if None not in (theirs[name], ours[name]) and abs(theirs[name] - ours[name]) <= 1:
                    ours[name] = theirs[name]
    if "limit" not in params:
        return comparable(expected) == comparable(rows)
    counts = sorted((row["visits"] for row in expected), reverse=True)
    page = slice(int(params["skip"]), int(params["skip"]) + int(params["limit"]))
    return [row["visits"] for row in rows] == counts[page] and comparable(rows) <= comparable(expected)


def main() -> int:
    """Ask and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ghost", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--sessions", type=int, default=1_000)
    arguments = parser.parse_args()
    zoneinfo.reset_tzpath(())
    failed = check_ghosts_tests(Ghost(arguments.ghost))
    rng = random.Random(arguments.seed)
    events = draw_events(rng, arguments.sessions)
    ghost = Ghost(arguments.ghost)
    decided_differences.apply(ghost)
    ghost.create()
    ghost.load(events)
    asked: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        app = create_app(Settings(data_dir=Path(directory), log_level="error"), clock=NOW.replace(tzinfo=UTC).timestamp)
        client = app.test_client()
        load_store(client, events, rng)
        maintain(app.extensions["store"])
        for _ in range(arguments.queries):
            pipe, params = draw_query(rng)
            if reason := decided_differences.find_reason_not_to_compare(ghost, pipe, params):
                asked[f"not compared: {reason}"] += 1
                continue
            everything = {name: value for name, value in params.items() if name not in {"skip", "limit"}}
            expected = ghost.ask(pipe, everything | {"limit": "1000000"}, NOW)
            rows = client.get(f"/v0/pipes/{pipe}.json", query_string=params).get_json()["data"]
            same = agree(params, expected, rows)
            asked["compared"] += 1
            asked["different"] += not same
            if not same and asked["different"] <= SHOWN:
                theirs, ours = comparable(expected), comparable(rows)
                print(pipe, params)
                print("  only Ghost:", *list(theirs - ours)[:5], "\n  only the store:", *list(ours - theirs)[:5])
        app.extensions["store"].close()
    print(f"{len(events)} events, seed {arguments.seed}")
    print("\n".join(f"{count:>7} {what}" for what, count in sorted(asked.items())))
    return 1 if asked["different"] or failed else 0


if __name__ == "__main__":
    sys.exit(main())
