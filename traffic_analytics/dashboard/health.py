"""Report whether hits pass through the service: facts, each with what to do unless it is good.

Spool, disk and counts are shared by all worker processes of the machine, so any of them reports for all.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections import Counter
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from traffic_analytics.dashboard.sessions import Visitor
from traffic_analytics.dashboard.tokens import SITES_PIPE
from traffic_analytics.errors import SpoolUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from traffic_analytics.dashboard.tokens import Tokens
    from traffic_analytics.delivery.spool import Spool
    from traffic_analytics.tinybird.pipes import Reply

CACHED_FOR = 10.0
"""Time for which a report is returned again, in seconds."""
LONGEST_WAIT = 300.0
"""Time for which events may wait in the spool, in seconds."""
FULLEST = 0.8
"""Share of the spool's size from which on it is reported."""
LEAST_FREE = 1024**3
"""Free space on the disk below which it is reported, in bytes."""
SLOWEST = 2.0
"""Time for a response of the target from which on it is reported, in seconds."""
SILENT_AFTER = 86_400.0
"""Time since the last hit of a site from which on it is reported, in seconds."""
MOST_SITES = 20
MOST_DEAD_LETTERS = 10_000
"""Number of dead letters whose reasons are counted."""
MOST_QUARANTINED = 1000
"""Number of rows in quarantine up to which their reasons are counted."""
_NO_SITE = "00000000-0000-4000-8000-000000000000"


class Fact(NamedTuple):
    """A fact; it is good if there is no advice."""

    name: str
    value: str
    advice: str = ""


class PipesApi(Protocol):
    """The target of statistics."""

    def get(self, path: str, token: str) -> Reply:
        """Send a query."""


class DiskUsage(Protocol):
    """Bytes of a disk."""

    @property
    def total(self) -> int:
        """Return its size."""

    @property
    def free(self) -> int:
        """Return its free space."""


class Health:
    """Collect the facts, once for all readers of some seconds."""

    def __init__(
        self,
        *,
        spool: Spool | None,
        spool_max_mb: int,
        data_dir: Path,
        versions: Mapping[str, str],
        pipes: PipesApi,
        tokens: Tokens,
        admin_token: str,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        outcomes: Callable[[], Mapping[tuple[str, str], int]],
        disk_usage: Callable[[Path], DiskUsage] = shutil.disk_usage,
    ) -> None:
        """Store the parts. `outcomes` counts today's hits by outcome and rule."""
        self._spool = spool
        self._spool_max_bytes = spool_max_mb * 1024 * 1024
        self._data_dir = data_dir
        self._versions = versions
        self._pipes = pipes
        self._tokens = tokens
        self._admin_token = admin_token
        self._clock = clock
        self._monotonic = monotonic
        self._outcomes = outcomes
        self._disk_usage = disk_usage
        self._lock = threading.Lock()
        self._made_at = float("-inf")
        self._report: dict[str, object] = {}

    def __call__(self) -> dict[str, object]:
        """Return the groups of facts."""
        # While a slow target keeps one thread, others return the previous report: hits need the threads.
        if not self._lock.acquire(blocking=not self._report):
            return self._report
        try:
            if self._monotonic() - self._made_at >= CACHED_FOR:
                self._report = {"groups": [_group(name, facts) for name, facts in self._collect() if facts]}
                self._made_at = self._monotonic()
        finally:
            self._lock.release()
        return self._report

    def _collect(self) -> Iterator[tuple[str, Sequence[Fact]]]:
        yield "Hits today", list(self._hits())
        yield "Delivery", list(self._delivery())
        target, facts = self._target()
        yield "Statistics", facts
        if target:
            yield "Blogs", list(self._sites())
        yield "Machine", [*self._machine(), *(Fact(name, value) for name, value in self._versions.items())]

    def _hits(self) -> Iterator[Fact]:
        try:
            counts = self._outcomes()
        except sqlite3.Error as error:
            yield Fact("counts", f"cannot be read: {error}", "Check that DATA_DIR can be written and has room.")
            return
        totals: Counter[str] = Counter()
        for (outcome, _), number in counts.items():
            totals[outcome] += number
        yield Fact("accepted", f"{totals['accepted']:,}")
        yield Fact("dropped as bots", f"{totals['bot']:,}")
        for (outcome, rule), number in sorted(counts.items()):
            if outcome not in {"accepted", "bot"} and number:
                yield Fact(f"{outcome} {rule}".strip(), f"{number:,}", _ADVICE_OF_OUTCOME.get(outcome, ""))

    def _delivery(self) -> Iterator[Fact]:
        if self._spool is None:
            yield Fact(
                "spool", "none", "Set TINYBIRD_TRACKER_TOKEN: without it a hit that the target does not accept is lost."
            )
            return
        try:
            backlog = self._spool.backlog()
            reasons = Counter(
                each.reason
                for each in islice(self._spool.list_dead_letters(), MOST_DEAD_LETTERS if backlog.dead_letters else 0)
            )
        except SpoolUnavailable as error:
            yield Fact("spool", f"cannot be read: {error}", "Check that DATA_DIR can be written and has room.")
            return
        age = 0.0 if backlog.oldest is None else max(0.0, self._clock() - backlog.oldest)
        yield Fact("waiting in the spool", f"{backlog.waiting:,}")
        late = "The target does not accept events: see the log for DeliveryDelayed and DeliveryMisconfigured."
        yield Fact("waiting for", _duration(age), late if age > LONGEST_WAIT else "")
        share = backlog.bytes_used / self._spool_max_bytes
        full = "Hits are refused once it is full: let the target accept events again, or raise SPOOL_MAX_MB."
        yield Fact(
            "spool's size",
            f"{_size(backlog.bytes_used)} of {_size(self._spool_max_bytes)}",
            full if share > FULLEST else "",
        )
        look = "Read `traffic-analytics spool list`, then retry or purge them."
        yield Fact("dead letters", f"{backlog.dead_letters:,}", look if backlog.dead_letters else "")
        for reason, number in reasons.most_common(5):
            yield Fact(f"dead letters: {reason}", f"{number:,}", look)

    def _target(self) -> tuple[bool, list[Fact]]:
        """Query the target for the numbers of no site, and a store for its content."""
        started = self._monotonic()
        path = f"/v0/pipes/api_active_visitors.json?site_uuid={_NO_SITE}"
        reply = self._pipes.get(path, self._sign(_NO_SITE))
        seconds = self._monotonic() - started
        if not reply.is_good:
            advice = _ADVICE_OF_STATUS.get(reply.status, "Check that STATS_TARGET is right and running.")
            return False, [Fact("target", reply.reason, advice)]
        slow = "Statistics are slow: look at the load of the target." if seconds > SLOWEST else ""
        facts = [Fact("latency of the target", f"{seconds * 1000:.0f} ms", slow)]
        info = _decode(self._pipes.get("/v0/store/info", self._admin_token))
        if "hits" in info:
            rows = int(info.get("rows_in_quarantine", 0))
            look = (
                "Rows break a rule of their data source: read `analytics-store quarantine list`, then retry or purge."
                if rows
                else ""
            )
            facts += [
                Fact("hits in the store", f"{info['hits']:,}"),
                Fact("rows in quarantine", f"{rows:,}", look),
                Fact("store's size", _size(int(info.get("bytes_on_disk", 0)))),
            ]
        if 0 < int(info.get("rows_in_quarantine", 0)) <= MOST_QUARANTINED:
            quarantined = _decode(self._pipes.get("/v0/store/quarantine", self._admin_token)).get("rows", [])
            reasons = Counter(row["reason"] for row in quarantined)
            facts += [Fact(f"quarantine: {reason}", f"{number:,}") for reason, number in reasons.most_common(5)]
        return True, facts

    def _sites(self) -> Iterator[Fact]:
        rows = _decode(self._pipes.get(f"/v0/pipes/{SITES_PIPE}.json", self._sign(None))).get("data", [])
        now = self._clock()
        ages = sorted(((now - _seconds(row["last_hit"]), row) for row in rows), key=lambda each: -each[0])
        for age, row in ages[:MOST_SITES]:
            silent = "No hit for a day: open the blog and look for a failed request to page_hit."
            yield Fact(
                row["host"] or row["site_uuid"], f"{_duration(max(0.0, age))} ago", silent if age > SILENT_AFTER else ""
            )
        if len(ages) > MOST_SITES:
            yield Fact("further blogs", f"{len(ages) - MOST_SITES:,}, all of them with later hits")

    def _machine(self) -> Iterator[Fact]:
        try:
            usage = self._disk_usage(self._data_dir)
        except OSError as error:
            yield Fact("disk", f"cannot be read: {error.strerror}", "Check DATA_DIR.")
            return
        low = "Free space on the disk of DATA_DIR: the spool needs it when the target fails."
        yield Fact(
            "free on disk", f"{_size(usage.free)} of {_size(usage.total)}", low if usage.free < LEAST_FREE else ""
        )

    def _sign(self, site: str | None) -> str:
        return self._tokens.sign(site, Visitor(float("inf")), self._clock()).text


_ADVICE_OF_STATUS = {
    401: "Check that TINYBIRD_ADMIN_TOKEN and TINYBIRD_WORKSPACE_ID are those of the target.",
    403: "Check that TINYBIRD_ADMIN_TOKEN and TINYBIRD_WORKSPACE_ID are those of the target.",
    404: "Check that STATS_TARGET is right: it has no pipe api_active_visitors.",
    429: "The target's limit of queries is reached: raise STATS_CACHE_SECONDS.",
}
_ADVICE_OF_OUTCOME = {
    "failed": "The target did not accept events and there is no spool: see ProxyError in the log.",
    "refused": "See docs/operate/configuration.md about ALLOWED_SITES and MAX_NEW_SITES_PER_HOUR.",
    "unavailable": "Salts or spool could not be used: see SaltUnavailable and SpoolUnavailable in the log.",
    "unsigned": "URLs lacked a valid signature: does HMAC_SECRET equal the router's?",
}


def _group(name: str, facts: Sequence[Fact]) -> dict[str, object]:
    return {
        "name": name,
        "facts": [
            {"name": each.name, "value": each.value, "is_good": not each.advice, "advice": each.advice}
            for each in facts
        ],
    }


def _decode(reply: Reply) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(reply.body) if reply.is_good else {}
    return content


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} seconds"
