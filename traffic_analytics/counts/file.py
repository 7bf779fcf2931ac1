"""Store the counts of all worker processes in one file.

Invariants:
- The file holds UUIDs of sites, outcomes, rules and numbers. It holds nothing of a visitor.
- It is bounded: SITES sites, of which UNSERVED_SITES have no accepted hit, and DAYS days. Hits of all further sites are
  counted together.
- It only informs. If it is damaged it is made anew, and if it cannot be written the service continues without it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from traffic_analytics.counts.tally import OTHER_SITES, Kind
from traffic_analytics.errors import DamagedFile, ForeignFile
from traffic_analytics.hits.outcomes import ACCEPTED, Counted
from traffic_analytics.runtime.sqlite_file import SqliteFile
from traffic_analytics.runtime.uuids import is_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime
    from pathlib import Path

_log = logging.getLogger(__name__)

SITES = 1000
"""Sites that are counted one by one."""
UNSERVED_SITES = 100
"""Sites without an accepted hit that are counted one by one, such as those that ALLOWED_SITES does not list."""
DAYS = 8
"""Days that are stored, today included."""
START = "start"
"""Period from the start of the service until now; every other period is a UTC day."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS start (at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS hits (
  period TEXT NOT NULL, site TEXT NOT NULL, outcome TEXT NOT NULL, rule TEXT NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (period, site, outcome, rule)
) STRICT, WITHOUT ROWID
"""
PRAGMAS = ("synchronous = NORMAL",)
_ADD = """
INSERT INTO hits VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET number = number + excluded.number
"""

BySite = dict[str, dict[Counted, int]]
"""Numbers of hits by site and kind; OTHER_SITES stands for all sites that are counted together."""


class Counts(NamedTuple):
    """Numbers of hits since the start of the service, and on one UTC day."""

    started: str
    day: str
    since_start: BySite
    today: BySite


class CountFile:
    """File of counts, shared by all processes of a machine."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, SCHEMA, PRAGMAS, busy_timeout=2.0)
        self._is_usable = True

    def prepare(self) -> None:
        """Create the file; a damaged one is replaced, another program's is not. Without a file, nothing is stored."""
        try:
            self._prepare()
        except (DamagedFile, OSError) as failure:
            _log.error("hits are not counted: %s", failure, extra={"event": "CountsUnavailable"})
            self._is_usable = False

    def _prepare(self) -> None:
        try:
            self._file.prepare()
        except ForeignFile:
            raise
        except DamagedFile as error:
            _log.warning("the counts of hits begin anew: %s", error, extra={"event": "CountsLost"})
            self._file.discard()
            self._file.prepare()

    def begin(self, now: datetime) -> None:
        """Begin the period since the start anew. Call it once, before the worker processes start."""
        if not self._is_usable:
            return
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._file.open_another()) as connection:
            connection.executescript("BEGIN; DELETE FROM start; DELETE FROM hits WHERE period = 'start';")
            connection.execute("INSERT INTO start VALUES (?)", (f"{now:%Y-%m-%dT%H:%M:%SZ}",))
            connection.execute("COMMIT")

    def add(self, day: date, numbers: Mapping[Kind, int], *, oldest: date) -> None:
        """Add numbers to the day and the period since the start; delete days before `oldest`. Raises sqlite3.Error."""
        if not self._is_usable:
            return
        with self._file.lock:
            connection = self._file.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                known = dict(connection.execute("SELECT site, max(outcome = 'accepted') FROM hits GROUP BY site"))
                rows = [(*kind, number) for kind, number in fold(numbers, known).items()]
                for period in (START, day.isoformat()):
                    connection.executemany(_ADD, [(period, *row) for row in rows])
                # START is greater than every day.
                connection.execute("DELETE FROM hits WHERE period < ?", (oldest.isoformat(),))
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def read(self, day: date) -> Counts:
        """Return the counts of all processes. Raises sqlite3.Error."""
        periods: dict[str, BySite] = {START: {}, day.isoformat(): {}}
        with contextlib.closing(self._file.open_another()) as connection:
            rows = connection.execute(
                "SELECT period, site, outcome, rule, number FROM hits WHERE period IN (?, ?)", tuple(periods)
            )
            for period, site, outcome, rule, number in rows:
                periods[period].setdefault(site, {})[Counted(outcome, rule)] = number
            started = connection.execute("SELECT max(at) FROM start").fetchone()[0]
        return Counts(started or "", day.isoformat(), *periods.values())


def fold(numbers: Mapping[Kind, int], known: Mapping[str, int]) -> dict[Kind, int]:
    """Count hits of further sites together.

    `known` has the sites of the file: 1 if one has an accepted hit, else 0.
    """
    served = {site.lower() for site, outcome, _ in numbers if outcome == ACCEPTED.outcome}
    sites = {site for site in known if site != OTHER_SITES}
    unserved = len([site for site in sites if not known[site] and site not in served])
    folded: dict[Kind, int] = {}
    for kind, number in numbers.items():
        site = kind.site.lower()
        if site not in sites and site != OTHER_SITES:
            has_room = len(sites) < SITES and (site in served or unserved < UNSERVED_SITES)
            if has_room and is_uuid(site):
                sites.add(site)
                unserved += site not in served
            else:
                site = OTHER_SITES
        kept = kind._replace(site=site)
        folded[kept] = folded.get(kept, 0) + number
    return folded
